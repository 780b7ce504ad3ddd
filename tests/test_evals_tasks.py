"""The same tasks through Inspect, on models that answer in every way there is, and on those that do not answer."""

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from inspect_ai import eval as inspect_eval
from inspect_ai.log import EvalLog, list_eval_logs, read_eval_log
from inspect_ai.model import (
    ChatMessage,
    GenerateConfig,
    Logprob,
    Logprobs,
    Model,
    ModelOutput,
    ModelUsage,
    StopReason,
    TopLogprob,
    get_model,
)
from inspect_ai.tool import ToolChoice, ToolInfo

from charactery.errors import CharacteryError
from charactery.evals.asking import SAMPLES, TOP
from charactery.evals.controls import quiet
from charactery.evals.definition import Eval, Figure
from charactery.evals.registry import find_eval, names
from charactery.evals.tasks import eval_task, failures, scored_cases, task_of

Say = Callable[[list[ChatMessage], GenerateConfig], ModelOutput]
FEW = 24
# what some evals measure is in the text itself: to those, this is an answer like any other
TELLING = {("refusals", "refused"), ("refusals", "unparsable"), ("recall", "unparsable")}
TELLING_METRICS = {("took", "breaks"), ("took", "manner"), ("recall-versions", "recites")}


@pytest.fixture(params=names())
def eval(request: pytest.FixtureRequest) -> Eval:
    return find_eval(request.param)


def mock(say: Say) -> Model:
    def outputs(
        input: list[ChatMessage], tools: list[ToolInfo], choice: ToolChoice, config: GenerateConfig
    ) -> ModelOutput:
        output = say(input, config)
        output.usage = ModelUsage()  # else the mock counts tokens, with a tokenizer that it downloads
        return output

    return get_model("mockllm/model", custom_outputs=outputs, memoize=False)


def said(text: str) -> ModelOutput:
    return ModelOutput.from_content("mockllm/model", text)


def run(eval: Eval, model: Model, folder: Path, method: str = "auto") -> tuple[EvalLog, list[Figure]]:
    cases = eval.made()[:FEW]
    [log] = inspect_eval(task_of(eval, cases, method=method), model=model, **quiet(folder))
    return log, eval.figures(scored_cases(eval, log, cases))


def fails(input: list[ChatMessage], config: GenerateConfig) -> ModelOutput:
    raise ValueError("no such luck")


@pytest.mark.parametrize(
    ("say", "outcome"),
    [
        (lambda *_: said("I'm sorry, but I can't answer that."), "refused"),
        (lambda *_: said(""), "empty"),
        (lambda *_: said("Well, there was once a miller who had three sons and a cat. " * 20), "unparsable"),
        (lambda *_: ModelOutput.from_content("mockllm/model", "", "content_filter"), "refused"),
        (fails, "failed"),
    ],
    ids=["refuses", "is empty", "rambles", "is filtered", "fails"],
)
def test_what_does_not_answer_is_counted_and_never_nought(eval: Eval, say: Say, outcome: str, tmp_path: Path) -> None:
    log, figures = run(eval, mock(say), tmp_path)
    assert log.status == "success" and figures
    if (eval.name, outcome) in TELLING:
        assert all(f.estimate.value is not None and not f.estimate.missing for f in figures)
        return
    for figure in figures:
        if (eval.name, figure.metric.name) in TELLING_METRICS and figure.estimate.value is not None:
            assert outcome in ("refused", "unparsable") and not figure.estimate.missing
            continue
        assert figure.estimate.value is None and figure.estimate.n == 0
        assert figure.missing[outcome] == figure.estimate.missing == sum(figure.missing.values()) > 0
    assert failures(log) == (["no such luck"] if outcome == "failed" else [])


def test_one_that_answers_now_and_then_has_a_figure_of_those(tmp_path: Path) -> None:
    eval = find_eval("who")
    model = mock(lambda input, config: said("Yes" if len(input[-1].text) % 2 else ""))
    _, figures = run(eval, model, tmp_path, SAMPLES)
    asked = [len(c.asks[0].messages[0]["content"]) % 2 for c in eval.made()[:FEW] if "persona" in c.about]
    says = next(f for f in figures if f.name == "says")
    assert (says.estimate.n, says.missing["empty"]) == (sum(asked), len(asked) - sum(asked))
    assert 0 < sum(asked) < len(asked)


def test_a_draw_that_is_kept_back_loses_no_other(tmp_path: Path) -> None:
    """A provider's filter stops the first of five; what the others say still counts, and the log tells of the one."""
    eval = find_eval("self-consistency")

    def filtered(input: list[ChatMessage], config: GenerateConfig) -> ModelOutput:
        stop: StopReason = "content_filter" if config.seed == 0 else "stop"
        return ModelOutput.from_content("mockllm/model", "No" if config.seed == 0 else "Yes", stop)

    log, figures = run(eval, mock(filtered), tmp_path, SAMPLES)
    [says] = [f for f in figures if f.name == "says yes"]
    assert (says.estimate.value, says.estimate.missing) == (1.0, 0)
    assert says.lost == FEW * 2  # of either ask, one of five
    for sample in log.samples or []:
        assert sample.store["readings"]["again"]["lost"] == 1
        assert "1 of 5 answers were no option" in sample.output.completion


def test_what_was_said_before_a_choice_is_kept_beside_it(tmp_path: Path) -> None:
    """Behind an API it is another thing each time: the log has what the verdict was given by."""
    eval, stated = find_eval("tension"), []
    decided: set[str] = set()

    def say(input: list[ChatMessage], config: GenerateConfig) -> ModelOutput:
        text = input[-1].text
        if text.startswith("State two principles"):
            stated.append("" if len(stated) % 4 == 3 else f"I go by principle {len(stated)}.")
            return said(stated[-1])
        if own := "you have just stated" in text:
            decided.add(input[-2].text)
        return said("Yes" if text.endswith("Yes or No alone.") else "(B)" if own else "(A)")

    log, figures = run(eval, mock(say), tmp_path, SAMPLES)
    kept = [text for s in log.samples or [] for text in s.store["readings"]["own"]["between"]]
    assert len(stated) == FEW and sorted(kept) == sorted(stated) and {*kept} == decided
    [own] = [f for f in figures if f.name == "own otherwise"]
    assert (own.estimate.value, own.estimate.n, own.missing["empty"]) == (1.0, FEW - FEW // 4, FEW // 4)
    assert any("own: I go by principle 0. / (B)" in s.output.completion for s in log.samples or [])


def first_token(input: list[ChatMessage], config: GenerateConfig) -> ModelOutput:
    """Opens a bracket, then picks A with 0.8 where the question is asked alone and B with 0.6 after an introduction."""
    assert config.logprobs and config.top_logprobs == 20
    share = 0.8 if len(input[-1].text) < 190 else 0.4
    output = said("(A)")
    top = [TopLogprob(token=t, logprob=math.log(p)) for t, p in (("A", share), ("B", 0.97 - share), (" the", 0.03))]
    output.choices[0].logprobs = Logprobs(
        content=[Logprob(token="(", logprob=-0.01), Logprob(token="A", logprob=math.log(share), top_logprobs=top)]
    )
    return output


def test_first_tokens_are_read_where_a_provider_gives_them(tmp_path: Path) -> None:
    eval = find_eval("sycophancy")
    log, figures = run(eval, mock(first_token), tmp_path)
    assert {f.estimate.scoring for f in figures} == {TOP}
    one = scored_cases(eval, log, eval.made()[:FEW])[0]
    for sample in log.samples or []:
        readings = sample.store["readings"]
        assert readings["alone"]["shares"] == pytest.approx([0.8 / 0.97, 0.17 / 0.97])
        assert readings["told"]["shares"] == pytest.approx([0.4 / 0.97, 0.57 / 0.97])
    sign = 1 if one.case.about["view"] ^ one.case.about["order"] == 0 else -1
    assert one.values["shift"] == pytest.approx(sign * (math.log(0.4 / 0.57) - math.log(0.8 / 0.17)))


def test_without_log_probabilities_answers_are_sampled(tmp_path: Path) -> None:
    eval, asked = find_eval("sycophancy"), []

    def say(input: list[ChatMessage], config: GenerateConfig) -> ModelOutput:
        asked.append(config)
        return said("B, I think.")

    _, figures = run(eval, mock(say), tmp_path)
    assert {f.estimate.scoring for f in figures} == {"samples of 5"}
    assert len({c.seed for c in asked}) == 5 and sum(not c.logprobs for c in asked) == FEW * 2 * 5
    by_name = {f.name: f.estimate.value for f in figures}
    assert by_name["swayed"] == by_name["pushed away"] == by_name["first letter"] == 0.0


def test_inspect_finds_every_eval_by_its_name(tmp_path: Path) -> None:
    logs = inspect_eval(
        [f"charactery/{n}" for n in names()], model=mock(lambda *_: said("(A)")), limit=1, **quiet(tmp_path)
    )
    found = {log.eval.task.rpartition("/")[2]: log for log in logs}
    assert sorted(found) == names()
    for name, log in found.items():
        assert log.status == "success" and log.eval.task_version == find_eval(name).version
        [sample] = log.samples or []
        assert sample.error is None and sample.scores


def test_inspects_own_command_runs_them(tiny_model_folder: Path, tmp_path: Path) -> None:
    options = [
        "--model",
        f"charactery/{tiny_model_folder}",
        "--limit",
        "2",
        "--display",
        "none",
        "--log-dir",
        str(tmp_path),
    ]
    command = [sys.executable, "-m", "inspect_ai", "eval", "charactery/sycophancy"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    [log] = [read_eval_log(info) for info in list_eval_logs(str(tmp_path))]
    assert log.status == "success" and [bool(s.scores) and s.error is None for s in log.samples or []] == [True, True]


def test_inspects_own_command_runs_every_eval_with_its_mock_model(tmp_path: Path) -> None:
    # the mock counts tokens, with a tokenizer that it would download
    code = "from inspect_ai.model import _model; _model.count_text_tokens = len"
    code = f"{code}; from inspect_ai._cli.main import main; main()"
    command = [sys.executable, "-c", code, "eval", *(f"charactery/{name}" for name in names())]
    options = ["--model", "mockllm/model", "--limit", "1", "--display", "none", "--log-dir", str(tmp_path)]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    found = {log.eval.task.rpartition("/")[2]: log for log in map(read_eval_log, list_eval_logs(str(tmp_path)))}
    assert sorted(found) == names()
    for log in found.values():
        [sample] = log.samples or []
        assert log.status == "success" and sample.error is None and sample.scores


def test_inspect_shows_the_same_figures(tmp_path: Path) -> None:
    eval = find_eval("sycophancy")
    log, figures = run(eval, mock(first_token), tmp_path)
    assert log.results is not None
    shown = {m.name: m.value for m in log.results.scores[0].metrics.values()}
    assert shown == {f.name: pytest.approx(f.estimate.value) for f in figures if f.estimate.value is not None}


def test_a_method_or_a_source_there_is_not_is_refused() -> None:
    with pytest.raises(CharacteryError, match="no method 'luck'; there are auto, prompt_logprobs"):
        eval_task(find_eval("who"), method="luck")
    with pytest.raises(CharacteryError, match="has no source 'pew'; there are bundled, perez2022"):
        eval_task(find_eval("who"), source="pew")


def test_a_provider_without_log_probabilities_says_so_when_they_are_asked_for(tmp_path: Path) -> None:
    log, figures = run(find_eval("who"), mock(lambda *_: said("3")), tmp_path, "prompt_logprobs")
    assert "give --method samples" in failures(log)[0]
    assert all(f.missing["failed"] for f in figures)


def test_an_unknown_eval_has_near_names(tmp_path: Path) -> None:
    with pytest.raises(CharacteryError, match=r"no eval 'sycofancy'.*did you mean sycophancy"):
        find_eval("sycofancy")
    with pytest.raises(CharacteryError, match=r"there are .*who"):
        find_eval("zzz")
    (tmp_path / "task.py").write_text("EVAL = 3\n")
    with pytest.raises(CharacteryError, match="defines no EVAL"):
        find_eval(str(tmp_path))
    (tmp_path / "task.py").write_text("import nothing_of_the_sort\n")
    with pytest.raises(CharacteryError, match="cannot be loaded: ModuleNotFoundError"):
        find_eval(str(tmp_path))
