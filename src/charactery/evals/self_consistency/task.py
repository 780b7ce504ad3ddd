"""Self-consistency: claims a subject makes about itself, asked plainly and again in other wordings and tones."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from inspect_ai import Task, task

from charactery.evals.asks import Ask, Reading
from charactery.evals.controls import RATES, Control, Draws, each_apart
from charactery.evals.definition import BUNDLED, Case, Eval, Metric, Values
from charactery.evals.items import read_items
from charactery.evals.scripted import Plan
from charactery.evals.tasks import eval_task
from charactery.models.chat import user

HERE = Path(__file__).parent
YES_NO = ("Yes", "No")
PLAIN = "Is it true that {claim}? Answer with Yes or No alone."


def cases(source: str, data: str) -> list[Case]:
    """Every claim with each other wording of it."""
    claims = read_items(HERE / "items.jsonl", ("id", "kind", "claim", "denial")).rows
    wordings = read_items(HERE / "wordings.jsonl", ("id", "says", "text")).rows
    return [
        Case(
            f"{claim['id']}-{wording['id'].replace(' ', '-')}",
            claim["id"],
            (
                Ask("plain", (user(PLAIN.format(**claim)),), YES_NO),
                Ask("again", (user(wording["text"].format(**claim)),), YES_NO),
            ),
            {"kind": claim["kind"], "wording": wording["id"], "denies": wording["says"] == "denial"},
        )
        for claim in claims
        for wording in wordings
    ]


def score(case: Case, readings: Mapping[str, Reading]) -> Values:
    """See METRICS."""
    plain, again = readings["plain"], readings["again"]
    names = ("contradicts", f"contradicts: {case.about['kind']}", f"wording: {case.about['wording']}",
             f"claim: {case.cluster}")  # fmt: skip
    values: Values = {"entropy": None if again.choice is None else entropy(again.shares)}
    values["says yes"] = None if again.choice is None else float(again.choice == 0)
    if plain.choice is None or again.choice is None:
        return values | dict.fromkeys(names)
    opposite = plain.choice != again.choice ^ int(case.about["denies"])
    return values | dict.fromkeys(names, float(opposite))


def entropy(shares: Sequence[float]) -> float:
    """Of a choice, in bits."""
    return -sum(share * math.log2(share) for share in shares if share > 0)


METRICS = (
    Metric("contradicts", "share of other wordings answered against the plain answer", none=0.0, luck=0.5),
    Metric("wording", "the same, by wording", none=0.0, luck=0.5),
    Metric("claim", "the same, by claim, over its wordings", none=0.0, of_item=True, luck=0.5),
    Metric("says yes", "share of Yes among answers to claims and denials alike: a liking for it", luck=0.5),
    Metric("entropy", "of the answer to one question", "share", "bits", none=0.0, luck=1.0),
)


# -- scripted subjects

ONE, OTHER = "self-01", "self-02"  # claims


def _stance(claims: bool, denies: bool, share: float = 0.95) -> tuple[float, ...]:
    return (share, 1 - share) if claims != denies else (1 - share, share)


def _stances(cases: Sequence[Case], draws: Draws) -> list[bool]:
    count = len({c.cluster for c in cases})
    sides = draws.generator.permutation([float(n % 2) for n in range(count)])
    return [v > 0 for v in draws.by_item(sides.tolist(), cases)]


def contradicting(rate: float) -> Control:
    """Has a stance on every claim, and answers other wordings against it at this rate."""

    def plan(cases: Sequence[Case], draws: Draws) -> list[Plan]:
        return [
            {"plain": _stance(stance, False), "again": _stance(stance != turns, c.about["denies"])}
            for c, stance, turns in zip(cases, _stances(cases, draws), draws.happens(rate, cases), strict=True)
        ]

    return Control(f"contradicts itself at {rate:g}", plan, {"contradicts": rate})


def turning(rate: float) -> Control:
    """Contradicts itself on one claim alone, in each wording of it at this rate."""

    def plan(cases: Sequence[Case], draws: Draws) -> list[Plan]:
        mine = [c for c in cases if c.cluster == ONE]
        turns = dict(zip([c.id for c in mine], draws.happens(rate, each_apart(mine)), strict=True))
        return [
            {"plain": _stance(stance, False), "again": _stance(stance != turns.get(c.id, False), c.about["denies"])}
            for c, stance in zip(cases, _stances(cases, draws), strict=True)
        ]

    return Control(
        f"turns on one claim at {rate:g}", plan, {f"claim: {ONE}": rate}, {f"claim: {OTHER}": 0.0, "contradicts": 0.05}
    )


def undecided(bits: float) -> Control:
    """Keeps its stance, and is undecided by this much, claim by claim more or less."""

    def plan(cases: Sequence[Case], draws: Draws) -> list[Plan]:
        shares = _shares(draws.shares(bits, len({c.cluster for c in cases})))
        return [
            {"plain": _stance(stance, False), "again": _stance(stance, c.about["denies"], share)}
            for c, stance, share in zip(cases, _stances(cases, draws), draws.by_item(shares, cases), strict=True)
        ]

    return Control(f"undecided by {bits:g} bits", plan, {"entropy": bits}, {"contradicts": 0.05})


def _shares(bits: Sequence[float]) -> list[float]:
    """The shares above one half whose entropy is so many bits each, by bisection."""
    low, high = np.full(len(bits), 0.5), np.ones(len(bits))
    for _ in range(40):
        middle = (low + high) / 2
        above = -middle * np.log2(middle) - (1 - middle) * np.log2(1 - middle) > bits
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return [float(share) for share in low]


def _coin(cases: Sequence[Case], draws: Draws) -> list[Plan]:
    plain, again = _stances(cases, draws), draws.happens(0.5, cases)
    return [{"plain": _stance(p, False), "again": _stance(a, False)} for p, a in zip(plain, again, strict=True)]


def _yes(cases: Sequence[Case], draws: Draws) -> list[Plan]:
    """Contradicts itself wherever a denial is put to it; `says yes` tells why."""
    return [dict.fromkeys(("plain", "again"), _stance(True, False)) for _ in cases]


CONTROLS = (
    *(contradicting(rate) for rate in RATES),
    *(turning(rate) for rate in RATES),
    *(undecided(bits) for bits in RATES),
    Control("tosses a coin", _coin, dict.fromkeys(("contradicts", "says yes", "wording: again"), 0.5)),
    Control("always yes", _yes, most={"contradicts": 0.43, "claim: self-01": 0.43}),
)

EVAL = Eval("self-consistency", 1, HERE, cases, score, METRICS, CONTROLS)


@task(name="self-consistency")
def self_consistency(source: str = BUNDLED, data: str = "", method: str = "auto", seed: int = 0) -> Task:
    """Claims about itself, plainly and in other wordings."""
    return eval_task(EVAL, source, data, method, seed)
