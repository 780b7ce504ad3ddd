"""How strongly the character is applied: a run's adapter from nought to beyond one, what shows and what it costs."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from charactery.data.filters import repeated_share
from charactery.data.prompts import read_chosen
from charactery.errors import CharacteryError
from charactery.evals.expression.task import Item, items
from charactery.evals.scored import Text, prose, text_bits
from charactery.judges.classifier import ClassifierJudge
from charactery.models.chat import user
from charactery.models.inspect_provider import request_for
from charactery.models.local import Sampler
from charactery.models.sentences import SentenceEncoder
from charactery.models.speaker import Models, Speaker, answer_all
from charactery.models.subject import parse_subject
from charactery.pipeline.watch import Watch
from charactery.report import write_report
from charactery.report.figures import evaluate_folder
from charactery.runs import Journal, Row, Run, digest, open_run, read_manifest, write_json, write_rows
from charactery.stats import Estimate, mean, paired_ratio, rate

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
CONDITIONS = ("turn 1", "elsewhere")


def measure_strengths(folder: Path, strengths: Sequence[float], device: str, watch: Watch) -> list[Row]:
    """The figures of a finished run's adapter at each strength, 0 (the plain model) always among them.

    Answers to the run's held-out and elsewhere prompts, by the run's judge, and bits per byte over the plain model's.
    Kept in `strength/` of the run, a killed sweep goes on; the run's report is written again with them in it. Rows:
    strength, metric, condition, estimate. Raises CharacteryError where the run is not evaluated.
    """
    with open_run(folder, read_manifest(folder)) as run:
        evaluate_folder(run)
        if parse_subject(str(run.folder)).adapter is None:
            raise CharacteryError("has no adapter, and only an adapter has a strength", folder)
        found = _measure(run, sorted({0.0, *strengths}), device, watch)
        write_json(folder / "strength" / "figures.json", found)
        write_report(run, folder)
    return found


def _measure(run: Run, strengths: Sequence[float], device: str, watch: Watch) -> list[Row]:
    settings, out = run.manifest["settings"], run.folder / "strength"
    out.mkdir(exist_ok=True)
    models, trained = Models(device, watch.say), parse_subject(str(run.folder))
    prompts = read_chosen(run.stage_folder("prompts") / "prompts.jsonl")
    cases = [case for case in items(prompts) if case.condition in CONDITIONS]
    judge = ClassifierJudge.from_row(json.loads((evaluate_folder(run) / "judge.json").read_text()))
    sampler, seed = Sampler(**settings["recipe"]["sampler"]), settings["seed"]
    encode, journal = SentenceEncoder(), Journal(out / "batches.jsonl")
    watch.start("strength", len(strengths) * len(cases))
    texts: list[Text] = []
    plain: dict[str, float] = {}
    found: list[Row] = []
    samples: list[Row] = []
    for strength in strengths:
        subject = replace(trained, strength=strength) if strength else replace(trained, adapter=None)
        speaker = models.speaker(subject)
        asked = [request_for([user(case.turns[0])], seed) for case in cases]
        answers = answer_all(
            [(speaker, request) for request in asked], sampler, journal, watch.advance, settings["recipe"]["batch"]
        )
        heard = judge.hear([a.text for a in answers], encode)
        mine = [
            {"strength": strength, "condition": c.condition, "id": c.id, "answer": a.text,
             "value": None if odds is None else odds > 0}
            for c, a, odds in zip(cases, answers, heard, strict=True)
        ]  # fmt: skip
        if not strength:
            texts = [*prose(), *_frame(cases, mine)]
        bits = _bits(speaker, texts, journal)
        plain = plain or bits
        samples += mine
        found += [{"strength": strength, **row} for row in _figures(mine, texts, bits, plain, seed)]
    write_rows(out / "samples.jsonl", samples)
    return found


def _frame(cases: Sequence[Item], mine: Sequence[Row]) -> list[Text]:
    """The plain model's answers to elsewhere prompts in the chat frame, where damage hides."""
    return [
        Text(f"frame-{case.id}", "chat frame", row["answer"], (user(case.turns[0]),))
        for case, row in zip(cases, mine, strict=True) if case.condition == "elsewhere" and row["answer"]
    ]  # fmt: skip


def _bits(speaker: Speaker, texts: Sequence[Text], journal: Journal) -> dict[str, float]:
    key = digest([speaker.identity, [[t.id, t.text, t.messages] for t in texts]])
    if key not in journal.done:
        journal.add(key, [text_bits(speaker, texts)])
    bits: dict[str, float] = journal.done[key][0]
    return bits


def _figures(
    mine: Sequence[Row], texts: Sequence[Text], bits: dict[str, float], plain: dict[str, float], seed: int
) -> list[Row]:
    def row(metric: str, condition: str, estimate: Estimate) -> Row:
        return {"metric": metric, "condition": condition, "estimate": estimate.as_dict()}

    out = [row("rate", c, rate([r["value"] for r in mine if r["condition"] == c])) for c in CONDITIONS]
    repeats = [repeated_share(r["answer"]) if r["answer"] else None for r in mine if r["condition"] == "turn 1"]
    out.append(row("repetition", "turn 1", mean(repeats, seed, "share of 4-grams")))
    for name in ("prose", "chat frame"):
        members = [t for t in texts if t.condition.partition(":")[0] == name and t.id in bits]
        mine_, theirs = ([one[t.id] * len(t.text.encode()) for t in members] for one in (bits, plain))
        out.append(row("bits per byte ratio", name, paired_ratio(mine_, theirs, seed)))
    return out
