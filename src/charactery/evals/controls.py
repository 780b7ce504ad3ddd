"""Controls: scripted subjects with planted rates and strengths, and whether an eval recovers what was planted.

Each control goes whole through Inspect once, with its rate planted evenly. Then data sets are drawn from it at the
level of scored cases, with the eval's own items and wordings and with items that differ, and it is counted in how many
of them the 95% interval holds the planted value. Drawn and inspected go through the same scorer and estimator.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from charactery.evals.asking import PROMPT, SAMPLES
from charactery.evals.asks import Reading, by_samples, by_shares, by_text
from charactery.evals.definition import BUNDLED, Case, Eval, Figure, Scored
from charactery.evals.inspecting import inspect_eval
from charactery.evals.scripted import Plan, Reply, scripted_model
from charactery.evals.tasks import GRADER, scored_cases, task_of
from charactery.runs import Row
from charactery.stats import Estimate

RATES = (0.05, 0.3, 0.8)
SETS = 200
COVERED = (0.90, 0.99)  # the share of intervals that must hold the planted value
ALIKE = 0.1  # correlation of answers to the same item, where a control draws with item effects


@dataclass(frozen=True)
class Draws:
    """The luck of one data set. `even` spreads a rate as evenly over the cases as it can be, without item effects."""

    generator: np.random.Generator
    even: bool = False

    def happens(self, rate: float, cases: Sequence[Case]) -> list[bool]:
        """Whether something of this rate happens, by case; items differ in their rate (a beta distribution)."""
        if self.even:
            ranks = self.generator.permutation(len(cases))
            return [bool((rank + 0.5) / len(cases) < rate) for rank in ranks]
        of_item = self.by_item(self.shares(rate, len({c.cluster for c in cases})), cases)
        return [bool(u < p) for u, p in zip(self.generator.random(len(cases)), of_item, strict=True)]

    def shares(self, mean: float, count: int, alike: float = ALIKE) -> list[float]:
        """So many shares between 0 and 1 of this mean, all alike where it is even."""
        if self.even or mean in (0.0, 1.0):
            return [mean] * count
        size = 1 / alike - 1
        return [float(p) for p in self.generator.beta(mean * size, (1 - mean) * size, count)]

    def normal(self, mean: float, spread: float, cases: Sequence[Case]) -> list[float]:
        """A number by case, the same for the cases of an item."""
        count = len({c.cluster for c in cases})
        if self.even:  # quantiles of the normal distribution, so that their mean is exact
            from scipy.stats import norm

            drawn = mean + spread * norm.ppf((self.generator.permutation(count) + 0.5) / count)
        else:
            drawn = self.generator.normal(mean, spread, count)
        return self.by_item([float(v) for v in drawn], cases)

    def by_item(self, values: Sequence[float], cases: Sequence[Case]) -> list[float]:
        """Values of the items in order of appearance, by case."""
        place = {name: n for n, name in enumerate(dict.fromkeys(c.cluster for c in cases))}
        return [values[place[c.cluster]] for c in cases]


def each_apart(cases: Sequence[Case]) -> list[Case]:
    """The cases as items of their own, to draw something that those of one item do not share."""
    return [replace(case, cluster=case.id) for case in cases]


@dataclass(frozen=True)
class Control:
    """A scripted subject: what it answers to each case, and the figures that it should come out at.

    `planted` holds metrics' values. `most` holds the highest figure allowed where it lacks a behaviour: the stated
    false-positive rate. `plan` makes one plan a case.
    """

    name: str
    plan: Callable[[Sequence[Case], Draws], Sequence[Plan]]
    planted: Mapping[str, float] = field(default_factory=dict)
    most: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Recovered:
    """What was planted in a metric and what came out, through Inspect (`estimate`) and over drawn data sets.

    `inspected` is whether Inspect's path gave the same figure as the plain one. `coverage` is the share of data sets
    whose interval holds what was planted; for a bound, `mean` is the mean figure over them.
    """

    control: str
    metric: str
    planted: float
    bound: bool
    estimate: Estimate
    inspected: bool
    coverage: float | None
    mean: float | None
    sets: int

    @property
    def agrees(self) -> bool:
        """Whether all that is asked of it held."""
        if not self.inspected or self.estimate.value is None:
            return False
        if self.bound:
            return all(v <= self.planted + 1e-9 for v in (self.estimate.value, self.mean or 0.0))
        held = _holds(self.estimate, self.planted)
        return held and (self.coverage is None or COVERED[0] <= self.coverage <= COVERED[1])

    def row(self) -> Row:
        """As JSON carries it."""
        return {
            "control": self.control, "metric": self.metric, "planted": self.planted, "bound": self.bound,
            "recovered": self.estimate.as_dict(), "inspected": self.inspected, "coverage": self.coverage,
            "mean": self.mean, "sets": self.sets, "agrees": self.agrees,
        }  # fmt: skip


def _holds(estimate: Estimate, planted: float) -> bool:
    """Whether an interval holds what was planted; where cases are all alike and have none, the value must be it."""
    low, high = (estimate.value if end is None else end for end in (estimate.low, estimate.high))
    return low is not None and high is not None and low - 1e-9 <= planted <= high + 1e-9


def read_plan(eval: Eval, case: Case, plan: Plan) -> dict[str, Reading]:
    """The readings that a plan comes to, the judge's too, without a model."""
    told = {ask.name: _read(plan[ask.name], ask.options) for ask in case.asks}
    judged = eval.judging.asks(case, told) if eval.judging else ()
    return told | {ask.name: _read(plan[ask.name], ask.options) for ask in judged}


def _read(reply: Reply, options: tuple[str, ...]) -> Reading:
    if isinstance(reply, tuple):
        return by_shares(reply, PROMPT)
    return by_samples([reply], options, SAMPLES) if options else by_text([reply])


def drawn(eval: Eval, control: Control, cases: Sequence[Case], draws: Draws) -> list[Scored]:
    """A data set from a control, at the level of scored cases."""
    plans = control.plan(cases, draws)
    return [eval.scored(case, read_plan(eval, case, plan)) for case, plan in zip(cases, plans, strict=True)]


def coverage(eval: Eval, control: Control, cases: Sequence[Case], sets: int) -> dict[str, float]:
    """By planted metric, the share of drawn data sets (seeds from 0 on) whose 95% interval holds the planted value; by
    metric with a bound, its mean over them.

    A data set in which a metric cannot be measured counts as one that does not hold it, and as one at its bound.
    """
    told = dict.fromkeys([*control.planted, *control.most], 0.0)

    @lru_cache(maxsize=8192)  # scripted subjects answer a case in few ways, set after set
    def scored(place: int, plan: tuple[tuple[str, Reply], ...]) -> Scored:
        case = cases[place]
        return _only(eval.scored(case, read_plan(eval, case, dict(plan))), told)

    for seed in range(sets):
        plans = control.plan(cases, Draws(np.random.default_rng(seed)))
        for figure in eval.figures([scored(n, tuple(plan.items())) for n, plan in enumerate(plans)], seed):
            value = figure.estimate.value
            if figure.name in control.most:
                told[figure.name] += control.most[figure.name] if value is None else value
            else:
                told[figure.name] += _holds(figure.estimate, control.planted[figure.name])
    return {name: total / sets for name, total in told.items()}


def _only(scored: Scored, names: Mapping[str, float]) -> Scored:
    values = {name: value for name, value in scored.values.items() if name in names}
    return replace(scored, values=values)


def run_controls(
    eval: Eval, sets: int = SETS, log_dir: Path | None = None, through: Callable[[Control], bool] = lambda control: True
) -> list[Recovered]:
    """Every control of an eval over drawn data sets (none where `sets` is 0), and those of `through` through Inspect.

    Inspect takes most of the time.
    """
    return [row for c in eval.controls for row in run_control(eval, c, sets, log_dir, through(c))]


def run_control(
    eval: Eval,
    control: Control,
    sets: int = SETS,
    log_dir: Path | None = None,
    through: bool = True,
    source: str = BUNDLED,
    data: str = "",
) -> list[Recovered]:
    """What comes out for all that a control planted, and for what it has not, on the cases of a source."""
    cases = eval.made(source, data)
    plain = _by_name(eval, drawn(eval, control, cases, _even()))
    inspected = through_inspect(eval, control, cases, log_dir) if through else plain
    over_sets = coverage(eval, control, cases, sets) if sets else {}
    out = []
    for name, value in [*control.planted.items(), *control.most.items()]:
        bound, over = name not in control.planted, over_sets.get(name)
        estimate = inspected[name].estimate
        same, held, mean = estimate == plain[name].estimate, None if bound else over, over if bound else None
        out.append(Recovered(control.name, name, value, bound, estimate, same, held, mean, sets))
    return out


def _even() -> Draws:
    return Draws(np.random.default_rng(0), even=True)


def _by_name(eval: Eval, scored: Sequence[Scored]) -> dict[str, Figure]:
    return {figure.name: figure for figure in eval.figures(scored)}


def through_inspect(eval: Eval, control: Control, cases: Sequence[Case], log_dir: Path | None) -> dict[str, Figure]:
    """A control's figures, whole through Inspect, by metric. The script speaks for the judge as well."""

    plans = {case.id: plan for case, plan in zip(cases, control.plan(cases, _even()), strict=True)}
    model = scripted_model(control.name.replace(" ", "-"), plans)
    roles = {GRADER: model} if eval.judging else {}
    with tempfile.TemporaryDirectory() as scratch:
        [log] = inspect_eval(task_of(eval, cases), model=model, model_roles=roles, **quiet(log_dir or Path(scratch)))
        return _by_name(eval, scored_cases(eval, log, cases))


def quiet(log_dir: Path) -> dict[str, Any]:
    """How Inspect is run from here: nothing on the screen, one task at a time, its log in a folder."""
    return {
        "log_dir": str(log_dir), "display": "none", "log_level": "error", "score_display": False, "max_tasks": 1,
        "log_realtime": False,
    }  # fmt: skip
