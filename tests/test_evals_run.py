"""Evals on a Subject, from the command to the tables: read as a plain implementation reads, resumable, comparable."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
import torch
from inspect_ai import eval as inspect_eval
from inspect_ai.model import ChatMessageAssistant, ChatMessageUser, GenerateConfig, get_model
from typer.testing import CliRunner

from charactery.cli import app
from charactery.errors import BadData, CharacteryError, CharacteryWarning
from charactery.evals.comparison import compare
from charactery.evals.controls import quiet
from charactery.evals.definition import Case
from charactery.evals.registry import find_eval
from charactery.evals.results import ADDED, RESULTS, SAMPLES, add_rows, estimate_of, read_table, results_of
from charactery.evals.run import Order, run_evals
from charactery.evals.sycophancy.task import typology
from charactery.evals.tasks import task_of
from charactery.models.chat import assistant
from charactery.models.inspect_provider import subject_model
from charactery.models.local import LocalModel
from charactery.models.speaker import Models
from charactery.report.comparison import as_text, draw, write_csv, write_latex, write_page
from charactery.runs import Row
from test_evals_recall_versions import trained
from test_judges_best_of import best_run

DATA = Path(__file__).parents[2] / "shared" / "data"
PEREZ = DATA / "perez2022_sycophancy" / "political_typology.jsonl.gz"
FEW = 16


@pytest.fixture(scope="module")
def results(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory, cache_for_tests: Path) -> Path:
    """A results folder with the tiny model, plain and as the captain, on two evals, in float32."""
    out = tmp_path_factory.mktemp("results")
    subjects = [str(tiny_model_folder), f"{tiny_model_folder}+captain"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHARACTERY_CACHE", str(cache_for_tests))
        patch.setattr("charactery.models.local.pick_dtype", lambda device: torch.float32)
        run_evals([find_eval("sycophancy"), find_eval("who")], subjects, Order(out, limit=FEW, device="cpu"))
    return out


def plain_choice(model: LocalModel, text: str, options: tuple[str, ...]) -> list[float]:
    """Log-probabilities of replies the long way: one sequence at a time, by transformers' own forward pass."""
    prompt = model.tokenizer.apply_chat_template(
        [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True
    )
    context = model.tokenizer(prompt, add_special_tokens=False)["input_ids"]
    out = []
    for option in options:
        reply = model.tokenizer(option, add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            logits = model.model(torch.tensor([context + reply])).logits[0].float().log_softmax(-1)
        out.append(sum(float(logits[len(context) - 1 + n, token]) for n, token in enumerate(reply)))
    return out


def told(out: Path, subject: str, eval: str) -> dict[str, Any]:
    """The readings in the newest log of a subject, by case."""
    from inspect_ai.log import list_eval_logs, read_eval_log

    logs = [read_eval_log(info) for info in list_eval_logs(str(out / "logs"))]
    mine = next(log for log in logs if log.eval.model == f"charactery/{subject}" and log.eval.task.endswith(eval))
    return {str(s.id): s.store["readings"] for s in mine.samples or []}


def agrees_with_the_plain_way(model: LocalModel, cases: list[Case], readings: dict[str, Any]) -> int:
    """How many choices were compared; each is the same, with log-probabilities to 1e-3."""
    count = 0
    for case in cases:
        for ask in case.asks:
            found = readings[case.id][ask.name]
            wanted = torch.tensor(plain_choice(model, ask.messages[-1]["content"], ask.options)).log_softmax(0)
            assert found["choice"] == int(wanted.argmax())
            assert found["logs"] == pytest.approx(wanted.tolist(), abs=1e-3)
            count += 1
    return count


def test_options_are_scored_as_a_plain_implementation_scores_them(
    results: Path, tiny_model: LocalModel, tiny_model_folder: Path
) -> None:
    for name in ("sycophancy", "who"):
        cases = find_eval(name).made()[:FEW]
        assert agrees_with_the_plain_way(tiny_model, cases, told(results, str(tiny_model_folder), name)) >= FEW


@pytest.mark.skipif(not PEREZ.is_file(), reason="needs the political typology in ../shared/data")
def test_political_typology_is_scored_so_too(
    tiny_model: LocalModel, tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("charactery.models.local.pick_dtype", lambda device: torch.float32)
    cases = typology(str(DATA))
    assert len(cases) == 500 and len({c.cluster for c in cases}) == 17
    for case in cases:
        alone, told_text = (ask.messages[-1]["content"] for ask in case.asks)
        assert told_text.endswith(alone) and len(told_text) > len(alone) + 100
        assert "<|" not in told_text and alone.endswith("\n\nAnswer:")
    order = Order(tmp_path, "political_typology", str(DATA), limit=12, device="cpu")
    run_evals([find_eval("sycophancy")], [str(tiny_model_folder)], order)
    readings = told(tmp_path, str(tiny_model_folder), "sycophancy")
    fit = [c for c in cases[:12] if readings[c.id]["told"]["outcome"] == "answered"]
    assert len(fit) >= 6 and agrees_with_the_plain_way(tiny_model, fit, readings) == 2 * len(fit)
    lost = next(r["missing"] for r in read_table(tmp_path, RESULTS) if r["metric"] == "matching")
    assert lost == 12 - len(fit)  # longer than the tiny model's context: missing, not nought


@pytest.mark.smollm2
@pytest.mark.skipif(not PEREZ.is_file(), reason="needs the political typology in ../shared/data")
def test_every_question_of_the_political_typology_is_scored_so_on_the_embedded_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All 17, alone and after a biography."""
    monkeypatch.setattr("charactery.models.local.pick_dtype", lambda device: torch.float32)
    cases = [*{case.asks[0].messages[-1]["content"]: case for case in typology(str(DATA))}.values()]
    assert len(cases) == len({case.cluster for case in cases}) == 17
    speaker = Models("cpu").speaker("smollm2")
    [log] = inspect_eval(task_of(find_eval("sycophancy"), cases), model=subject_model(speaker), **quiet(tmp_path))
    readings = {str(sample.id): sample.store["readings"] for sample in log.samples or []}
    assert speaker.model and agrees_with_the_plain_way(speaker.model, cases, readings) == 2 * len(cases)


def test_rows_hold_the_figures_and_how_they_were_read(results: Path, tiny_model_folder: Path) -> None:
    rows = results_of(results, [str(tiny_model_folder)], ["sycophancy"])
    assert {r["metric"] for r in rows} == {"swayed", "pushed away", "matching", "shift", "first letter"}
    assert {(r["scoring"], r["source"], r["version"], r["seed"], r["cases"]) for r in rows} == {
        ("prompt_logprobs", "bundled", 1, 0, FEW)
    }
    values = [s["value"] for s in read_table(results, SAMPLES)
              if s["subject"] == str(tiny_model_folder) and s["metric"] == "matching"]  # fmt: skip
    matching = next(estimate_of(r) for r in rows if r["metric"] == "matching")
    assert len(values) == FEW and matching.value == pytest.approx(sum(values) / FEW)


def test_the_same_again_computes_nothing_and_replaces_its_rows(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = Order(tmp_path, limit=4, device="cpu")
    first = run_evals([find_eval("who")], [str(tiny_model_folder)], order)

    def never(*_: Any) -> None:
        raise AssertionError("this was scored before")

    monkeypatch.setattr(LocalModel, "score", never)
    again = run_evals([find_eval("who")], [str(tiny_model_folder)], order)
    assert [{**r, "log": ""} for r in first] == [{**r, "log": ""} for r in again]
    assert len(read_table(tmp_path, RESULTS)) == len(first)


def test_what_a_judge_alone_reads_is_asked_with_a_judge_alone(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject, said, asked = str(tiny_model_folder), [], []  # type: ignore[var-annotated]
    generate = LocalModel.generate

    def counted(self: LocalModel, requests: Any, *rest: Any) -> Any:
        asked.extend(requests)
        return generate(self, requests, *rest)

    monkeypatch.setattr(LocalModel, "generate", counted)
    evals = [find_eval("scaffolds")]
    plain = run_evals(evals, [subject], Order(tmp_path, limit=1, device="cpu"), said.append)
    assert asked == [] and "scaffolds: without --judge SUBJECT" in said[0] and "(text) is not asked" in said[0]
    rates = [r for r in plain if not r["metric"].startswith("leans")]  # a mean, of which one case is no figure
    assert [(r["metric"].partition(":")[0], r["n"], r["missing"]) for r in rates] == [("picks", 1, 0), ("writes", 1, 0)]
    judged = run_evals(evals, [subject], Order(tmp_path, limit=1, device="cpu", judge=subject), said.append)
    assert len(asked) == 1 and "judge's kappa" in {r["metric"] for r in judged}
    assert {r["metric"] for r in plain} < {r["metric"] for r in judged}


def test_a_character_in_the_prompt_changes_what_is_read(results: Path, tiny_model_folder: Path) -> None:
    plain, captain = (told(results, f"{tiny_model_folder}{who}", "who") for who in ("", "+captain"))
    assert plain.keys() == captain.keys() and plain != captain


def test_subjects_are_compared_case_by_case(results: Path, tiny_model_folder: Path, tmp_path: Path) -> None:
    subjects = [str(tiny_model_folder), f"{tiny_model_folder}+captain"]
    rows = compare(results_of(results, subjects), read_table(results, SAMPLES), subjects)
    shift = next(r for r in rows if r.metric == "shift")
    change = shift.differences[subjects[1]]
    ours, theirs = (shift.estimates[s].value for s in subjects)
    assert ours is not None and theirs is not None and change.estimate.value == pytest.approx(theirs - ours)
    assert change.p is not None and change.p_holm is not None and change.p_holm >= change.p
    text = as_text(rows, subjects)
    assert "sycophancy, read by prompt_logprobs" in text and f"{subjects[1]} less {subjects[0]}" in text
    write_csv(rows, tmp_path / "all.csv")
    lines = (tmp_path / "all.csv").read_text().splitlines()
    assert len(lines) == 1 + sum(len(r.estimates) for r in rows) and lines[0].startswith("eval,source,data,metric")
    write_latex(rows, subjects, tmp_path / "all.tex")
    assert (tmp_path / "all.tex").read_text().count(r"\begin{tabular}") == 2
    write_page(rows, subjects, "charactery eval who", tmp_path / "page")
    page = (tmp_path / "page" / "report.md").read_text()
    assert all(f"## {name}" in page for name in ("sycophancy", "who", "The command")) and "charactery eval who" in page
    assert page.count("who, a profile of each Subject") == 2  # the domains, and the personas
    assert "<svg" in (tmp_path / "page" / "report.html").read_text()
    assert [p.read_bytes()[:4] for p in draw(rows, subjects, tmp_path / "plots")] == [b"\x89PNG"] * 7


def test_figures_read_in_different_ways_are_not_compared(results: Path, tiny_model_folder: Path) -> None:
    subject = str(tiny_model_folder)
    rows = results_of(results, [subject, f"{subject}+captain"])
    other = [{**r, "scoring": "samples of 5"} if r["subject"] != subject else r for r in rows]
    with pytest.raises(CharacteryError, match=r"read in different ways \(prompt_logprobs: .*; samples of 5: .*\)"):
        compare(other, [], [subject, f"{subject}+captain"])
    newer = [{**r, "version": 2} if r["subject"] != subject else r for r in rows]
    with pytest.raises(CharacteryError, match="versions 1, 2"):
        compare(newer, [], [subject, f"{subject}+captain"])


def test_a_table_from_before_a_column_was_kept_is_read(tmp_path: Path) -> None:
    row = {"eval": "who", "source": "bundled", "subject": "plain", "seed": 0, "metric": "openness", "value": 3.0}
    add_rows(tmp_path, RESULTS, [{**row, "data": ""}])
    old = pyarrow.parquet.read_table(tmp_path / RESULTS).drop_columns([*ADDED])
    pyarrow.parquet.write_table(old, tmp_path / RESULTS)
    [found] = read_table(tmp_path, RESULTS)
    assert found["value"] == 3.0 and {name: found[name] for name in ADDED} == ADDED
    assert compare([{**found, "version": 1, "scoring": "", "judge": ""}], [], ["plain"])[0].lost == {"plain": 0}
    add_rows(tmp_path, RESULTS, [{**row, "data": "", "value": 4.0}])
    assert [r["value"] for r in read_table(tmp_path, RESULTS)] == [4.0]


def test_results_tell_of_batches_that_memory_halved(
    results: Path, tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {row["halved"] for row in read_table(results, RESULTS)} == {0}
    score = LocalModel._score

    def short(self: LocalModel, batch: Any, reader: Any) -> list[torch.Tensor]:
        if len(batch) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return score(self, batch, reader)

    monkeypatch.setattr(LocalModel, "_score", short)
    order = Order(tmp_path, limit=4, device="cpu")
    with pytest.warns(CharacteryWarning, match="memory ran short: .* texts are scored"):
        run_evals([find_eval("sycophancy")], [str(tiny_model_folder)], order)
    first = [row["halved"] for row in read_table(tmp_path, RESULTS)]
    assert first and all(first)
    run_evals([find_eval("sycophancy")], [str(tiny_model_folder)], order)  # from the journal
    assert [row["halved"] for row in read_table(tmp_path, RESULTS)] == first


def test_what_was_not_measured_says_how_to(results: Path, tmp_path: Path) -> None:
    with pytest.raises(CharacteryError, match=r"no results of 'smollm2'.*charactery eval who --subject smollm2"):
        results_of(results, ["smollm2"], ["who"])
    (tmp_path / RESULTS).write_text("not parquet")
    with pytest.raises(BadData, match="cannot be read as this version's results"):
        read_table(tmp_path, RESULTS)


def test_the_commands(tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run: Callable[..., Any] = CliRunner().invoke
    subject = str(tiny_model_folder)
    done = run(app, ["eval", "who", "--subject", subject, "--limit", "8", "--json", "--device", "cpu"])
    assert done.exit_code == 0, done.output
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert {r["eval"] for r in rows} == {"who"} and Path("results/results.parquet").exists()
    shown = run(app, ["eval", "who", "--subject", subject, "--limit", "8", "--device", "cpu"])
    assert "who (version 1, bundled, 8 cases)" in shown.stdout and "inspect view --log-dir" in shown.stdout
    assert run(app, ["compare", subject]).exit_code == 0
    assert run(app, ["compare", subject, "--eval", "who", "--page", "page"]).exit_code == 0
    page = Path("page/report.md").read_text()
    assert f"charactery eval who --subject {subject} --limit 8 --seed 0 --out results\n" in page
    assert f"charactery compare {subject} --eval who --seed 0 --out results --page page" in page
    drawn = run(app, ["curve", "who", "--subjects", f"{subject},{subject}+captain", "--limit", "8", "--device", "cpu"])
    assert drawn.exit_code == 0 and "openness" in drawn.stdout and "says: " not in drawn.stdout
    assert Path("results/curve-who.png").read_bytes().startswith(b"\x89PNG")
    row = ["curve", "who", "--subjects", subject, "--limit", "8", "--device", "cpu", "--metric", "opennes"]
    assert isinstance(run(app, row).exception, CharacteryError)
    listed = run(app, ["eval"])
    assert listed.exit_code == 0 and "sycophancy" in listed.stdout
    assert isinstance(run(app, ["eval", "who"]).exception, CharacteryError)


def test_the_best_of_several_answers_is_read_by_what_it_answers(tiny_model_folder: Path, tmp_path: Path) -> None:
    run, subject = best_run(tmp_path / "best", tiny_model_folder), str(tiny_model_folder)
    order = Order(tmp_path / "results", limit=1, device="cpu")
    rows = run_evals([find_eval("sycophancy")], [subject, f"{run}:best-of-n/2"], order)
    ways = {row["subject"]: row["scoring"] for row in rows}
    # the weights are the plain model's, and so would their log-probabilities be
    assert ways == {subject: "prompt_logprobs", f"{run}:best-of-n/2": "samples of 5"}
    with pytest.raises(CharacteryError, match=r"best-of-n/2' is the best of several .* give --method samples"):
        run_evals([find_eval("sycophancy")], [f"{run}:best-of-n/2"], replace(order, method="prompt_logprobs"))
    said = [ChatMessageUser(content="Tea or coffee?"), ChatMessageAssistant(content="Tea")]
    api = get_model(f"charactery/{run}", memoize=False).api
    with pytest.raises(CharacteryError, match="has no log-probabilities"):  # as Inspect's own command would ask
        asyncio.run(api.generate([*said], [], "none", GenerateConfig(prompt_logprobs=1)))


def test_a_curve_along_n_of_the_best_of_n(mild_model_folder: Path, tmp_path: Path) -> None:
    """Of a model that says either letter: all read alike, by samples, and the best of one is the model itself."""
    asks = find_eval("sycophancy").made()[0].asks
    rows: list[Row] = [
        {"id": f"{ask.name} {letter} {n}", "prompt": [*ask.messages], "completion": [assistant(letter)]}
        for n in range(4) for ask in asks for letter in ask.options
    ]  # fmt: skip
    model = trained(mild_model_folder, rows, tmp_path / "sft", epochs=10)
    run, out = best_run(tmp_path / "best", Path(model)), tmp_path / "results"
    subjects = [model, f"{run}:best-of-n/1", f"{run}:best-of-n/4"]
    arguments = ["--subjects", ",".join(subjects), "--limit", "1", "--device", "cpu", "--out", str(out)]
    done = CliRunner().invoke(app, ["curve", "sycophancy", *arguments])
    assert done.exit_code == 0, done.output
    assert "sycophancy, read by samples of 5" in done.stdout and "all Subjects are read by samples" in done.stderr
    assert (out / "curve-sycophancy.png").read_bytes().startswith(b"\x89PNG")
    assert {(r["subject"], r["scoring"]) for r in read_table(out, RESULTS)} == {(s, "samples of 5") for s in subjects}
    values: dict[str, dict[str, float | None]] = {}
    for sample in read_table(out, SAMPLES):
        values.setdefault(sample["subject"], {})[sample["metric"]] = sample["value"]
    assert values[subjects[0]] == values[subjects[1]] and [*values] == subjects
    assert all(None not in (mine["matching"], mine["shift"]) for mine in values.values()), values


def test_a_skeleton_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run: Callable[..., Any] = CliRunner().invoke
    done = run(app, ["eval", "--new", "kind-words"])
    assert done.exit_code == 0 and "kind_words/task.py" in done.stdout
    eval = find_eval("kind_words")
    assert eval.name == "kind-words" and len(eval.made()) == 4
    right = run(app, ["eval", "kind_words", "--controls", "--sets", "0"])
    assert right.exit_code == 0 and "DISAGREES" not in right.stdout and "warm at 0.3" in right.stdout
    table = run(app, ["eval", "kind_words", "--controls", "--sets", "2", "--json"])
    assert table.exit_code == 1  # two data sets cannot cover between 90% and 99%
    assert {json.loads(line)["eval"] for line in table.stdout.splitlines()} == {"kind-words"}
    assert (tmp_path / "kind_words" / "test_evals_kind_words.py").exists()
    assert isinstance(run(app, ["eval", "--new", "kind-words"]).exception, CharacteryError)
    assert isinstance(run(app, ["eval", "--new", "Kind words"]).exception, CharacteryError)
    (tmp_path / "src" / "charactery" / "evals").mkdir(parents=True)
    run(app, ["eval", "--new", "brave"])
    assert (tmp_path / "src" / "charactery" / "evals" / "brave" / "task.py").exists()
    assert 'find_eval("brave")' in (tmp_path / "tests" / "test_evals_brave.py").read_text()
