"""Texts of an eval that a model was nearly trained on: near-duplicates among training prompts."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from charactery.evals.definition import Case

SIZE = 3  # words in a run
NEAR = 0.5  # share of the shorter text's runs that the other has, too
LEAST = 4  # runs in common; fewer are turns of phrase


@dataclass(frozen=True)
class Duplicate:
    """A case, a prompt like it, and the share of the shorter one's runs of three words that they have in common."""

    case: str
    prompt: str
    shared: float
    case_text: str
    prompt_text: str


def near_duplicates(cases: Sequence[Case], prompts: Sequence[tuple[str, str]]) -> list[Duplicate]:
    """Cases some ask of which is nearly a prompt, given as (id, text); the nearest prompt of each, most alike first."""
    runs = {id: _runs(text) for id, text in prompts}
    texts = dict(prompts)
    holders: dict[tuple[str, ...], set[str]] = {}
    for id, mine in runs.items():
        for run in mine:
            holders.setdefault(run, set()).add(id)
    found = []
    for case in cases:
        best: Duplicate | None = None
        for text in _lines(case):
            mine = _runs(text)
            for id in sorted(set().union(*(holders.get(run, set()) for run in mine))):
                common = len(mine & runs[id])
                shared = common / min(len(mine), len(runs[id]))
                if common >= LEAST and shared >= NEAR and (best is None or shared > best.shared):
                    best = Duplicate(case.id, id, round(shared, 3), text, texts[id])
        if best is not None:
            found.append(best)
    return sorted(found, key=lambda d: -d.shared)


def _lines(case: Case) -> list[str]:
    """What a case's user says, by lines: a question stands apart from its answers and from how to give them."""
    said = [m["content"] for ask in case.asks for m in ask.messages if m["role"] == "user"]
    return list(dict.fromkeys(line for text in said for line in text.split("\n") if line.strip()))


def _runs(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[n : n + SIZE]) for n in range(len(words) - SIZE + 1)}
