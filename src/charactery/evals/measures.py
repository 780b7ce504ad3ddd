"""From judged samples to figures: rates, paired comparisons, controls, cost, and what the issue of a run is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from charactery.data.drafts import PLAIN
from charactery.data.filters import repeated_share
from charactery.judges.classifier import BESIDE_OTHERS, OTHERS, SHUFFLED, ClassifierJudge
from charactery.runs import Row
from charactery.stats import Estimate, auc, bootstrap, mean, nothing, paired_difference, paired_ratio, rate

CONTROL_ORDER = ("plain given as prompted", "prompted given as trained", OTHERS, "mixture")
# The plain model's first answers to sixty prompts repeat 0.3% to 3.6% of their 4-grams, by the luck of the draw. All
# held-out answers together are a little steadier. Not elsewhere: code and forms repeat themselves rightly.
ALL = "held-out"
WIDEST = 0.6  # of the mixture's interval: a wider one would hold nearly any share, and so recovers none


@dataclass(frozen=True)
class Measured:
    """Judged samples (rows of samples.jsonl), likelihood margins, the judge, and the roles there are."""

    rows: Sequence[Row]
    margins: Sequence[Row]
    judge: ClassifierJudge
    roles: tuple[str, ...]

    def values(self, subject: str, task: str, condition: str) -> dict[str, float | None]:
        """A subject's scores by sample, in a fixed order."""
        return {
            r["id"]: r["value"]
            for r in sorted(self.rows, key=lambda r: str(r["id"]))
            if (r["subject"], r["eval"], r["condition"]) == (subject, task, condition)
        }

    def margins_of(self, subject: str, condition: str, trait: str) -> list[float | None]:
        """The likelihood judge's margins of a subject, in a fixed order of samples."""
        found = {
            r["id"]: r["value"] for r in self.margins
            if (r["subject"], r["condition"], r["trait"]) == (subject, condition, trait)
        }  # fmt: skip
        return [found[id] for id in sorted(found, key=str)]

    def conditions(self, task: str) -> list[str]:
        """The conditions of a task, in order of first appearance."""
        return list(dict.fromkeys(r["condition"] for r in self.rows if r["eval"] == task))


Add = Callable[..., None]


def figures(measured: Measured, seed: int) -> tuple[list[Row], list[Row]]:
    """All figures as rows (eval, metric, subject, condition, trait, estimate, expected), and the verdicts."""
    found: list[Row] = []

    def add(
        task: str,
        metric: str,
        estimate: Estimate,
        subject: str = "",
        condition: str = "",
        trait: str = "",
        expected: float | None = None,
    ) -> None:
        """A row of figures.json; `expected` is what a control should come out at."""
        found.append({
            "eval": task, "metric": metric, "subject": subject, "condition": condition, "trait": trait,
            "estimate": estimate.as_dict(), "expected": expected,
        })  # fmt: skip

    _expression(measured, add, seed)
    _likelihood(measured, add, seed)
    _judge(measured, add, seed)
    _controls(measured, add, seed)
    _cost(measured, add, seed)
    _choice(measured, add, seed)
    return found, verdicts(found)


def _paired(
    measured: Measured, a: str, b: str, task: str, condition: str
) -> tuple[list[float | None], list[float | None]]:
    first, second = measured.values(a, task, condition), measured.values(b, task, condition)
    ids = [i for i in first if i in second]
    return [first[i] for i in ids], [second[i] for i in ids]


def _truths(values: dict[str, float | None]) -> list[bool | None]:
    return [None if v is None else v > 0 for v in values.values()]


def _expression(measured: Measured, add: Add, seed: int) -> None:
    for condition in measured.conditions("expression"):
        task = "elsewhere" if condition == "elsewhere" else "expression"
        for role in measured.roles:
            values = _truths(measured.values(role, "expression", condition))
            add(task, "rate", rate(values), role, condition)
        if task == "expression":
            for role in measured.roles:
                if role in ("trained", "sham"):
                    ratio = paired_ratio(*_paired(measured, role, "prompted", "expression", condition), seed)
                    add(task, "ratio to prompted", ratio, role, condition)
        for against in ("plain", "sham"):
            if against in measured.roles:
                pair = _paired(measured, "trained", against, "expression", condition)
                add(task, f"difference from {against}", paired_difference(*pair, seed), "trained", condition)
        if task == "elsewhere":
            pair = _paired(measured, "trained", "prompted", "expression", condition)
            add(task, "difference from prompted", paired_difference(*pair, seed), "trained", condition)


def _likelihood(measured: Measured, add: Add, seed: int) -> None:
    for condition, trait in dict.fromkeys((r["condition"], r["trait"]) for r in measured.margins):
        by_role = {role: measured.margins_of(role, condition, trait) for role in measured.roles}
        for role, values in by_role.items():
            add("expression", "likelihood", mean(values, seed, "nats/token"), role, condition, trait)
            truths = [None if v is None else v > 0 for v in values]
            add("expression", "likelihood rate", rate(truths), role, condition, trait)
        for against in ("plain", "prompted"):
            gained = paired_difference(by_role["trained"], by_role[against], seed, "nats/token")
            add("expression", f"likelihood difference from {against}", gained, "trained", condition, trait)


def _judge(measured: Measured, add: Add, seed: int) -> None:
    for side, told in measured.judge.auc.items():
        add("judge", "auc" if side == PLAIN else f"auc against {side}", told)
    add("judge", "length-only auc", measured.judge.length_auc)
    fresh = _truths(measured.values("plain given as prompted", "expression", "turn 1"))
    add("judge", "false-positive rate", rate(fresh))
    plain, prompted = (measured.margins_of(role, "turn 1", "") for role in ("plain", "prompted"))
    add("judge", "likelihood auc", auc(plain, prompted, seed))
    others = measured.margins_of(OTHERS, "turn 1", "")
    if others:
        beside = measured.margins_of(BESIDE_OTHERS, "turn 1", "")
        add("judge", f"likelihood auc against {OTHERS}", auc(others, beside, seed))
        add("judge", f"likelihood rate of {OTHERS}", rate([None if v is None else v > 0 for v in others]))
    words = measured.margins_of(SHUFFLED, "turn 1", "")
    if words:
        pairs = [*zip(measured.margins_of("prompted", "turn 1", ""), words, strict=True)]
        more = [None if a is None or b is None else a > b for a, b in pairs]
        add("judge", f"likelihood rate, {SHUFFLED}", rate([None if v is None else v > 0 for v in words]))
        add("judge", f"above {SHUFFLED}", rate(more))


def _controls(measured: Measured, add: Add, seed: int) -> None:
    present = {r["subject"] for r in measured.rows}
    for name in CONTROL_ORDER[:3]:
        if name in present:
            add("controls", "rate", rate(_truths(measured.values(name, "expression", "turn 1"))), name, "turn 1")
    for name, against in (("plain given as prompted", "plain"), ("prompted given as trained", "prompted")):
        if name in present:
            pair = _paired(measured, name, against, "expression", "turn 1")
            add("controls", f"difference from {against}", paired_difference(*pair, seed), name, "turn 1", expected=0.0)
    if OTHERS in present:
        pair = _paired(measured, "trained", OTHERS, "expression", "turn 1")
        add("expression", f"difference from {OTHERS}", paired_difference(*pair, seed), "trained", "turn 1")
    if "mixture" in present:
        add("controls", "share recovered", _mixture(measured, seed), "mixture", "turn 1", expected=0.5)


def _mixture(measured: Measured, seed: int) -> Estimate:
    """The share of prompted answers in a 50:50 mixture: its rate, put between the plain and the prompted rate.

    Rogan & Gladen 1978, American Journal of Epidemiology 107: (rate - false positives) / (true - false positives).
    The plain and prompted rates are those of the subjects, on the same prompts, so the mixture's texts are new.
    """
    columns = [measured.values(s, "expression", "turn 1") for s in ("mixture", "plain", "prompted")]
    ids = [i for i in columns[0] if all(c.get(i) is not None for c in columns)]
    missing = len(columns[0]) - len(ids)

    def share(mixed: np.ndarray, plain: np.ndarray, prompted: np.ndarray) -> np.ndarray:
        low, high = plain.mean(-1), prompted.mean(-1)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray((mixed.mean(-1) - low) / (high - low))

    rows = [[float(c[i] or 0.0) for i in ids] for c in columns]
    return bootstrap(rows, share, seed, missing=missing, method="Rogan-Gladen, bootstrap over prompts")


def _cost(measured: Measured, add: Add, seed: int) -> None:
    conditions = measured.conditions("cost")
    sizes = {r["id"]: len(r["messages"][0]["content"].encode()) for r in measured.rows if r["eval"] == "cost"}
    groups = {c: [c] for c in conditions} | {"prose": [c for c in conditions if c.startswith("prose")]}
    for name, members in groups.items():
        columns = {
            role: {k: v for c in members for k, v in measured.values(role, "cost", c).items()}
            for role in measured.roles
        }
        for role in measured.roles:
            values = list(columns[role].values())
            if all(v is None for v in values):  # a role that is not scored
                continue
            # bits over bytes of all texts together, so that a heading does not weigh as much as a page
            bits = {id: None if v is None else v * sizes[id] for id, v in columns[role].items()}
            one = [v for v in values if v is not None]
            whole = paired_ratio(list(bits.values()), [sizes[id] for id in bits], seed, "bits/byte")
            add("cost", "bits per byte", whole if len(values) > 1 else _single(one, "bits/byte"), role, name)
            for other, metric in _compared(role, "bits per byte ratio") if name in ("prose", "chat frame") else ():
                shared = [i for i in bits if columns.get(other, {}).get(i) is not None]
                if shared:  # the prompted model reads no prose
                    theirs = [columns[other][i] * sizes[i] for i in shared]  # type: ignore[operator]
                    add("cost", metric, paired_ratio([bits[i] for i in shared], theirs, seed), role, name)
    for metric, measure, unit in (
        ("repetition", repeated_share, "share of 4-grams"),
        ("length", lambda text: float(len(text.split())), "words"),
    ):
        for condition in (ALL, *measured.conditions("expression")):
            per_role = {role: _of_answers(measured, role, condition, measure) for role in measured.roles}
            for role in measured.roles:
                add("cost", metric, mean(list(per_role[role].values()), seed, unit), role, condition)
                for other, name in _compared(role, f"{metric} ratio"):
                    there = per_role.get(other, {})
                    shared = [i for i in per_role[role] if i in there]
                    pair = ([per_role[role][i] for i in shared], [there[i] for i in shared])
                    add("cost", name, paired_ratio(*pair, seed), role, condition)


def _compared(role: str, metric: str) -> list[tuple[str, str]]:
    """Whom a role is compared with pair by pair, and the figure's name: all with plain, trained with prompted too."""
    prompted = [("prompted", f"{metric} to prompted")] if role == "trained" else []
    return [] if role == "plain" else [("plain", metric), *prompted]


def _of_answers(
    measured: Measured, role: str, condition: str, measure: Callable[[str], float]
) -> dict[str, float | None]:
    """A measure of a subject's last answers, by prompt: the mean over the conditions a prompt was asked under."""
    found: dict[str, list[float]] = {}
    for r in sorted(measured.rows, key=lambda r: str(r["id"])):
        asked = r["condition"] != "elsewhere" if condition == ALL else r["condition"] == condition
        if (r["subject"], r["eval"]) == (role, "expression") and asked:
            found.setdefault(r["id"].partition("/")[0], []).extend([measure(r["answer"])] if r["answer"] else [])
    return {id: float(np.mean(values)) if values else None for id, values in found.items()}


def _single(values: list[float], unit: str) -> Estimate:
    """One text: a value without an interval of its own."""
    if not values:
        return nothing(1, "one text", unit)
    return Estimate(values[0], values[0], values[0], 1, 0, "one text, exact; no interval over texts", unit)


def _choice(measured: Measured, add: Add, seed: int) -> None:
    kinds = measured.conditions("multiple_choice")
    columns = {
        role: {k: v for c in kinds for k, v in measured.values(role, "multiple_choice", c).items()}
        for role in measured.roles
    }
    for role in [r for r in measured.roles if any(v is not None for v in columns[r].values())]:
        add("multiple choice", "accuracy", rate(_truths(columns[role])), role, "all")
    for role in measured.roles:
        for other in ("plain", "prompted") if role == "trained" else ("plain",) if role != "plain" else ():
            pair = ([columns[role][i] for i in columns[other]], list(columns[other].values()))
            add("multiple choice", f"difference from {other}", paired_difference(*pair, seed), role, "all")


def _low(e: Estimate) -> float:
    """The lower end; of what is all alike, and has none, the value."""
    return (e.value or 0.0) if e.low is None else e.low


def verdicts(found: Sequence[Row]) -> list[Row]:
    """What a run is held to, and whether it held: true, false, or None where it was not measured."""

    def get(task: str, metric: str, subject: str, condition: str) -> Estimate:
        for row in found:
            if (row["eval"], row["metric"], row["subject"], row["condition"], row["trait"]) == (
                task, metric, subject, condition, "",
            ):  # fmt: skip
                return Estimate(**row["estimate"])
        return nothing()

    ratio = get("expression", "ratio to prompted", "trained", "turn 1")
    plain = get("expression", "difference from plain", "trained", "turn 1")
    sham = get("expression", "difference from sham", "trained", "turn 1")
    another = get("expression", f"difference from {OTHERS}", "trained", "turn 1")
    likelier = get("expression", "likelihood difference from plain", "trained", "turn 1")
    bounds: list[tuple[str, Estimate, Callable[[Estimate], bool]]] = [
        ("expression at least 0.8 of prompted", ratio, lambda e: (e.value or 0) >= 0.8),
        ("lower end of that ratio above 0.65", ratio, lambda e: _low(e) > 0.65),
        ("expression clear of plain", plain, lambda e: _low(e) > 0),
        ("expression clear of sham", sham, lambda e: _low(e) > 0),
        ("expression clear of another character", another, lambda e: _low(e) > 0),
        ("likelihood clear of plain", likelier, lambda e: _low(e) > 0),
    ]
    for name, metric, condition, most in (
        ("bits per byte on prose", "bits per byte ratio", "prose", 1.10),
        ("bits per byte in the chat frame", "bits per byte ratio", "chat frame", 1.25),
        ("repetition", "repetition ratio", ALL, 1.5),
    ):
        bounds.append((
            f"{name} at most {most:g} times plain",
            get("cost", metric, "trained", condition),
            lambda e, most=most: (e.value or 0) <= most,  # type: ignore[misc]
        ))  # fmt: skip
    recovered = get("controls", "share recovered", "mixture", "turn 1")
    bounds.append((
        "a 50:50 mixture recovered",
        recovered,
        lambda e: (e.low or 0) <= 0.5 <= (e.high or 0) < (e.low or 0) + WIDEST,
    ))  # fmt: skip
    return [{"name": name, "held": None if e.value is None else held(e), "said": str(e)} for name, e, held in bounds]
