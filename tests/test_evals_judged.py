"""A judge joins an eval through Inspect's grader role, is checked on the labelled set, and is not believed below it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from inspect_ai import eval as inspect_eval
from inspect_ai.model import ChatMessage, GenerateConfig, Model, ModelAPI, ModelOutput, ModelUsage, get_model, modelapi
from inspect_ai.tool import ToolChoice, ToolInfo
from tenacity import wait_none

from charactery.errors import CharacteryError, ModelNotFound
from charactery.evals.asking import DRAWS
from charactery.evals.asks import Ask, Reading, by_text
from charactery.evals.controls import RATES, Control, Draws, quiet, run_controls
from charactery.evals.definition import Case, Eval, Judging, Labelled, Metric, Values
from charactery.evals.judged import agreement
from charactery.evals.registry import find_eval, names
from charactery.evals.results import RESULTS, read_table
from charactery.evals.run import Order, run_evals
from charactery.evals.scripted import Plan
from charactery.evals.tasks import GRADER, eval_task, scored_cases, task_of, unjudged
from charactery.evals.trust import KAPPA, LEAST, declined
from charactery.models.api import RETRIES
from charactery.models.chat import user
from charactery.models.local import LocalModel

YES_NO = ("Yes", "No")


def cases(source: str, data: str) -> list[Case]:
    return [Case(str(n), str(n), (Ask("reply", (user(f"Letter {n}: please answer it."),)),)) for n in range(60)]


def ask_judge(answer: str) -> Ask:
    return Ask("verdict", (user(f"Is this polite? {answer!r} Answer with Yes or No alone."),), YES_NO)


def judge_asks(case: Case, readings: Mapping[str, Reading]) -> Sequence[Ask]:
    return [ask_judge(readings["reply"].text)] if readings["reply"].text else []


def labelled() -> list[Labelled]:
    return [Labelled(ask_judge(f"{word} for letter {n}"), word == "Thanks")
            for n in range(20) for word in ("Thanks", "Begone")]  # fmt: skip


def score(case: Case, readings: Mapping[str, Reading]) -> Values:
    reply = readings["reply"]
    values: Values = {"short": float(len(reply.text) < 40) if reply.text else None}
    if "verdict" in readings:
        verdict = readings["verdict"].choice
        values["polite"] = None if verdict is None else float(verdict == 0)
    return values


def polite(rate: float) -> Control:
    def plan(cases: Sequence[Case], draws: Draws) -> list[Plan]:
        return [{"reply": "Thanks!" if yes else "Begone.", "verdict": (0.9, 0.1) if yes else (0.1, 0.9)}
                for yes in draws.happens(rate, cases)]  # fmt: skip

    return Control(f"polite at {rate}", plan, {"polite": rate})


EVAL = Eval(
    "polite", 1, Path(__file__).parent, cases, score, (Metric("short", ""), Metric("polite", "", judged=True)),
    tuple(map(polite, RATES)), judging=Judging(judge_asks, labelled),
)  # fmt: skip


def mock(say: Any) -> Model:
    def outputs(
        input: list[ChatMessage], tools: list[ToolInfo], choice: ToolChoice, config: GenerateConfig
    ) -> ModelOutput:
        output = ModelOutput.from_content("mockllm/model", say(input[-1].text))
        output.usage = ModelUsage()
        return output

    return get_model("mockllm/model", custom_outputs=outputs, memoize=False)


def good(text: str) -> str:
    return "Yes" if "Thanks" in text else "No"


def test_controls_speak_for_the_judge_as_well(tmp_path: Path) -> None:
    rows = run_controls(EVAL, 100, tmp_path)
    assert len(rows) == 3 and all(row.agrees for row in rows), [row.row() for row in rows]


def test_a_judge_is_held_against_the_labelled_set(tmp_path: Path) -> None:
    right = agreement(EVAL, mock(good), tmp_path)
    assert right.value == 1.0 and right.n == 40 and right.low is not None and 0.7 < right.low < 1
    always = agreement(EVAL, mock(lambda _: "Yes"), tmp_path)
    assert always.value == 0.0
    mute = agreement(EVAL, mock(lambda text: "hm" if "Begone for letter 1" in text else good(text)), tmp_path)
    assert (mute.n, mute.missing, mute.value) == (40, 11, pytest.approx(1 - 2 * 11 / 40))  # no verdict is a wrong one
    shy = agreement(
        EVAL, mock(lambda text: good(text) if any(f"letter {n}'" in text for n in range(6)) else "hm"), tmp_path
    )
    assert shy.missing == 28 and shy.low is not None and shy.low < LEAST  # right wherever it says anything


def test_a_judge_that_agrees_too_little_gives_no_figure(tmp_path: Path) -> None:
    subject, judge = mock(lambda text: "Thanks!" if "1" in text else "Begone."), mock(good)
    [log] = inspect_eval(task_of(EVAL, cases("", "")), model=subject, model_roles={GRADER: judge}, **quiet(tmp_path))
    figures = EVAL.figures(scored_cases(EVAL, log, cases("", "")))
    by_name = {f.name: f.estimate for f in figures}
    assert by_name["polite"].value == sum("1" in str(n) for n in range(60)) / 60
    assert declined(figures, agreement(EVAL, judge, tmp_path)) == figures == declined(figures, None)
    kept = {f.name: f.estimate for f in declined(figures, agreement(EVAL, mock(lambda _: "Yes"), tmp_path))}
    assert kept["polite"].value is None and "the judge's kappa has the lower bound" in kept["polite"].method
    assert kept["short"] == by_name["short"]


def shown(judge: Model, folder: Path, checked: bool = True) -> dict[str, Any]:
    """The figures that Inspect itself shows of a subject that is polite to letters with a 1."""
    task = eval_task(EVAL) if checked else task_of(EVAL, cases("", ""))
    subject = mock(lambda text: "Thanks!" if "1" in text else "Begone.")
    [log] = inspect_eval(task, model=subject, model_roles={GRADER: judge}, **quiet(folder))
    assert log.results is not None
    return {m.name: m.value for m in log.results.scores[0].metrics.values()}


def test_inspects_own_command_puts_the_judge_to_the_labelled_set_and_declines_too(tmp_path: Path) -> None:
    asked: list[str] = []

    def counted(text: str) -> str:
        asked.append(text)
        return good(text)

    polite = sum("1" in str(n) for n in range(60)) / 60
    trusted = shown(mock(counted), tmp_path)
    assert trusted["polite"] == pytest.approx(polite) and trusted[KAPPA.name] == 1.0
    once = [text for text in asked if "for letter" in text]
    assert len(once) == 40 * DRAWS + 1 and len({*once}) == 40  # not by sample; one finds out how the judge is read
    always = shown(mock(lambda _: "Yes"), tmp_path)
    assert always.get("polite") is None and always[KAPPA.name] == 0.0 and always["short"] == 1.0

    def dead(text: str) -> str:
        raise ValueError("the judge is dead")

    gone = shown(mock(dead), tmp_path)
    assert gone.get("polite") is None and KAPPA.name not in gone  # nothing it said was wrong
    assert "polite" not in shown(mock(good), tmp_path, checked=False)


def test_without_a_judge_the_judge_free_figure_is_there(tmp_path: Path) -> None:
    [log] = inspect_eval(task_of(EVAL, cases("", "")[:5]), model=mock(lambda _: "Thanks!"), **quiet(tmp_path))
    assert [f.name for f in EVAL.figures(scored_cases(EVAL, log, cases("", "")[:5]))] == ["short"]


def test_a_judge_that_cannot_be_reached_stops_with_the_reason(tmp_path: Path) -> None:
    def unreachable(text: str) -> str:
        raise ConnectionError("no route to the judge")

    with pytest.raises(CharacteryError, match="gives no verdict: no route to the judge"):
        agreement(EVAL, mock(unreachable), tmp_path)
    with pytest.raises(CharacteryError, match="no route"):  # on the way: no verdict of its own is a wrong one
        agreement(EVAL, mock(lambda text: unreachable(text) if "letter 7" in text else good(text)), tmp_path)


class Flaky(ModelAPI):
    """A service as OpenAI's provider sees it: an error of the connection is one to try again."""

    def __init__(self, model_name: str, *_: Any, **__: Any) -> None:
        super().__init__(model_name)
        self.alive, self.tries = True, 0

    async def generate(
        self, input: list[ChatMessage], tools: list[ToolInfo], tool_choice: ToolChoice, config: GenerateConfig
    ) -> ModelOutput:
        self.tries += 1
        if not self.alive:
            raise ConnectionError("no route to the judge")
        output = ModelOutput.from_content("flaky", good(input[-1].text))
        output.usage = ModelUsage()
        return output

    def should_retry(self, ex: Exception) -> bool:
        return isinstance(ex, ConnectionError)

    def retry_wait(self) -> wait_none:
        return wait_none()


@modelapi(name="flaky")
def flaky() -> type[ModelAPI]:
    return Flaky


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Flaky:
    """What stands behind `mockllm/judge` for now."""
    model = get_model("flaky/judge", memoize=False)
    monkeypatch.setattr("charactery.models.api.get_model", lambda name: model)
    assert isinstance(model.api, Flaky)
    return model.api


def test_an_unreachable_judge_is_given_up_on(service: Flaky, tmp_path: Path) -> None:
    service.alive = False
    order = Order(tmp_path, device="cpu", judge="mockllm/judge")
    few = replace(EVAL, judging=Judging(judge_asks, lambda: labelled()[:2]))
    with pytest.raises(CharacteryError, match=f"cannot reach mockllm/judge in {RETRIES + 1} tries: no route"):
        run_evals([few], ["mockllm/judge"], order)
    assert service.tries % (RETRIES + 1) == 0


def test_a_judge_that_dies_midway_stops_with_the_reason_and_what_is_done_is_kept(
    service: Flaky, tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject, generate, answered = str(tiny_model_folder), LocalModel.generate, []  # type: ignore[var-annotated]

    def answers_and_dies(self: LocalModel, requests: Any, *rest: Any) -> Any:
        answered.extend(requests)
        service.alive = False
        return generate(self, requests, *rest)

    monkeypatch.setattr(LocalModel, "generate", answers_and_dies)
    order = Order(tmp_path, limit=6, device="cpu", judge="mockllm/judge")
    few = replace(EVAL, judging=Judging(judge_asks, lambda: labelled()[:12]))
    with pytest.raises(CharacteryError, match=r"mockllm/judge stopped giving verdicts in polite on .*no route to the"):
        run_evals([few], [subject], order)
    by_metric = {row["metric"]: row for row in read_table(tmp_path, RESULTS)}
    assert (by_metric["short"]["n"], by_metric["short"]["missing"]) == (6, 0)  # the judge-free figure stands
    assert (by_metric["polite"]["value"], by_metric["polite"]["missing"]) == (None, 6)
    assert len(answered) == 6
    service.alive = True
    rows = {row["metric"]: row for row in run_evals([few], [subject], order)}
    assert len(answered) == 6, "the subject's own answers are in the journal"
    assert (rows["polite"]["n"], rows["polite"]["missing"]) == (6, 0) and rows["short"]["n"] == 6


def test_a_subject_that_cannot_be_reached_stops_and_leaves_its_earlier_figures(service: Flaky, tmp_path: Path) -> None:
    order = Order(tmp_path, limit=6, device="cpu")
    run_evals([EVAL], ["mockllm/judge"], order)
    before = read_table(tmp_path, RESULTS)
    assert [(row["metric"], row["n"], row["value"]) for row in before] == [("short", 6, 1.0)]
    (tmp_path / "journal.jsonl").unlink()  # else it has answered before
    service.alive = False
    with pytest.raises(CharacteryError, match=r"mockllm/judge answered nothing in polite: .*no route to the judge"):
        run_evals([EVAL], ["mockllm/judge"], order)
    assert read_table(tmp_path, RESULTS) == before
    service.alive = True
    assert [row["n"] for row in run_evals([EVAL], ["mockllm/judge"], order)] == [6]


JUDGED = [name for name in names() if find_eval(name).judging and name != "sycophancy-preferences"]


@pytest.mark.parametrize("name", JUDGED)  # the preferences' judge reads a file of pairs alone
def test_a_dead_judge_takes_no_other_figure_along(name: str, tmp_path: Path) -> None:
    def dead(text: str) -> str:
        raise ValueError("the judge is dead")

    eval = find_eval(name)
    answer = by_text(["(A) I would say so."])
    read = [c for c in eval.made() if eval.judging and eval.judging.asks(c, {ask.name: answer for ask in c.asks})]
    cases = [*eval.made()[:3], *read[-3:]]
    alone, subject = [eval.without_judge(case) for case in cases], mock(lambda _: "(A) I would say so.")
    [log] = inspect_eval(task_of(eval, alone), model=subject, **quiet(tmp_path))
    [judged] = inspect_eval(task_of(eval, cases), model=subject, model_roles={GRADER: mock(dead)}, **quiet(tmp_path))
    assert unjudged(judged) == ["the judge is dead"] and not any(sample.error for sample in judged.samples or [])
    free = [f for f in eval.figures(scored_cases(eval, log, alone)) if not f.metric.judged]
    told = {f.name: f for f in eval.figures(scored_cases(eval, judged, cases))}
    assert all(told[f.name].estimate == f.estimate for f in free)
    assert all(f.estimate.value is None for f in told.values() if f.metric.judged)


def test_training_gives_up_on_an_unreachable_teacher_too(service: Flaky) -> None:
    from charactery.models.local import Request, Sampler
    from charactery.models.speaker import Models

    service.alive = False
    with pytest.raises(ModelNotFound, match=f"in {RETRIES + 1} tries: no route to the judge"):
        Models("cpu").speaker("mockllm/judge").answer([Request((user("Tea?"),), 0)], Sampler(4, 0.0))


def test_ctrl_c_is_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inspect takes it for itself, and returns no log."""
    monkeypatch.setattr("inspect_ai.eval", lambda *given, **settings: [])
    with pytest.raises(KeyboardInterrupt):
        agreement(EVAL, mock(good), tmp_path)
