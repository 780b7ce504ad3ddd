"""Texts of an eval that a model was nearly trained on: near-duplicates among all that its run learnt from."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from charactery.data.prompts import read_chosen
from charactery.errors import CharacteryError
from charactery.evals.definition import Case
from charactery.runs import read_rows, read_run, stage_kind

SIZE = 3  # words in a run
NEAR = 0.5  # share of the shorter text's runs that the other has, too
LEAST = 4  # runs in common; fewer are turns of phrase
SIDES = ("prompt", "completion", "chosen", "rejected")  # of a row that is learnt from, each a list of messages


@dataclass(frozen=True)
class Duplicate:
    """A case, a text like it, and the share of the shorter one's runs of three words that they have in common."""

    case: str
    learnt: str
    shared: float
    case_text: str
    learnt_text: str


def learnt_texts(folder: Path) -> list[tuple[str, str]]:
    """Id and text of every message that a run learnt from: prompts, answers and documents, each once.

    They are in the rows of all its stages for SFT and DPO but the sham's; GRPO learns from the training prompts
    themselves. None for what is no run, or holds no rows.
    """
    try:
        run = read_run(folder)
    except CharacteryError:
        return []
    texts: dict[str, str] = {}  # the id by text
    names = [name for name in run.manifest["stages"] if not name.startswith("sham-")]
    for stage in names:
        for name in _learnt_files(stage, names):
            path = run.stage_folder(stage) / name
            for line, row in enumerate(read_rows(path) if path.exists() else [], 1):
                said = [m["content"] for side in SIDES for m in row.get(side, [])]
                for n, text in enumerate(said, 1):
                    texts.setdefault(text, f"{stage}/{name}, line {line}, text {n}")
    if any(stage_kind(stage) == "grpo" for stage in names):
        path = run.stage_folder("prompts") / "prompts.jsonl"
        for prompt in read_chosen(path) if path.exists() else []:
            for n, text in enumerate(prompt.turns if prompt.split == "train" else (), 1):
                texts.setdefault(text, f"prompts, {prompt.id}, turn {n}")
    return [(id, text) for text, id in texts.items()]


def _learnt_files(stage: str, names: Sequence[str]) -> tuple[str, ...]:
    """Which of a stage's rows a training learnt from; of samples there are both kinds, whichever it was."""
    if stage_kind(stage) != "samples":
        return ("sft.jsonl", "pairs.jsonl")
    after = [stage_kind(n) for n in names[names.index(stage) + 1 :] if stage_kind(n) in ("sft", "dpo")]
    return (*(["sft.jsonl"] if after[:1] == ["sft"] else []), *(["pairs.jsonl"] if "dpo" in after else []))


def near_duplicates(cases: Sequence[Case], learnt: Sequence[tuple[str, str]]) -> list[Duplicate]:
    """Cases in which what the user says, or a reply to choose, is nearly a text that was learnt from.

    Texts are given as (id, text). The nearest text of each case, most alike first. Lines that a quarter of the items
    have are how things are asked, and tell of no item.
    """
    items: dict[str, set[str]] = {}
    for case in cases:
        for line in _lines(case):
            items.setdefault(line, set()).add(case.cluster)
    most = max(1, len({case.cluster for case in cases}) / 4)
    runs = {id: _runs(text) for id, text in learnt}
    texts = dict(learnt)
    holders: dict[tuple[str, ...], set[str]] = {}
    for id, mine in runs.items():
        for run in mine:
            holders.setdefault(run, set()).add(id)
    found = []
    for case in cases:
        best: Duplicate | None = None
        for text in _lines(case):
            if len(items[text]) > most:
                continue
            mine = _runs(text)
            in_common = Counter(id for run in mine for id in holders.get(run, ()))
            for id, common in sorted(in_common.items()):
                shared = common / min(len(mine), len(runs[id]))
                if common >= LEAST and shared >= NEAR and (best is None or shared > best.shared):
                    best = Duplicate(case.id, id, round(shared, 3), text, texts[id])
        if best is not None:
            found.append(best)
    return sorted(found, key=lambda d: -d.shared)


def _lines(case: Case) -> list[str]:
    """What a case's user says and what can be replied, by lines: a question stands apart from how to answer it."""
    said = [m["content"] for ask in case.asks for m in ask.messages if m["role"] == "user"]
    said += [option for ask in case.asks for option in ask.options]
    return list(dict.fromkeys(line for text in said for line in text.split("\n") if line.strip()))


def _runs(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[n : n + SIZE]) for n in range(len(words) - SIZE + 1)}
