"""A judge joins an eval through Inspect's grader role, is checked on the labelled set, and is not believed below it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from inspect_ai import eval as inspect_eval
from inspect_ai.model import ChatMessage, GenerateConfig, Model, ModelOutput, ModelUsage, get_model
from inspect_ai.tool import ToolChoice, ToolInfo

from charactery.errors import CharacteryError
from charactery.evals.asks import Ask, Reading
from charactery.evals.controls import RATES, Control, Draws, quiet, run_controls
from charactery.evals.definition import Case, Eval, Judging, Labelled, Metric, Values
from charactery.evals.judged import agreement, declined
from charactery.evals.scripted import Plan
from charactery.evals.tasks import GRADER, scored_cases, task_of
from charactery.models.chat import user

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
    assert mute.missing == 11


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


def test_without_a_judge_the_judge_free_figure_is_there(tmp_path: Path) -> None:
    [log] = inspect_eval(task_of(EVAL, cases("", "")[:5]), model=mock(lambda _: "Thanks!"), **quiet(tmp_path))
    assert [f.name for f in EVAL.figures(scored_cases(EVAL, log, cases("", "")[:5]))] == ["short"]


def test_a_judge_that_cannot_be_reached_stops_with_the_reason(tmp_path: Path) -> None:
    def unreachable(text: str) -> str:
        raise ConnectionError("no route to the judge")

    with pytest.raises(CharacteryError, match="gives no verdict: no route to the judge"):
        agreement(EVAL, mock(unreachable), tmp_path)
