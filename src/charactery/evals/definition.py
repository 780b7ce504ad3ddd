"""An eval: its cases, how a case is scored, its metrics and its controls. The rest is the same for all of them.

    cases (items x wordings) --Inspect, put_asks--> readings --score--> values by metric --estimated--> figures

A case is one sample of Inspect's. `score` is a plain function of a case and its readings, so that controls can draw
readings without a model and go through the same code.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from charactery.errors import CharacteryError
from charactery.evals.asks import ANSWERED, FAILED, OUTCOMES, TEXT, Ask, Reading, ask_from_row
from charactery.runs import Row
from charactery.stats import Estimate, Scale, balanced_mean, clustered_mean, clustered_rate, clustered_share

if TYPE_CHECKING:
    from charactery.evals.controls import Control

BUNDLED = "bundled"


@dataclass(frozen=True)
class Case:
    """One sample: what is asked, and what scoring needs to know (`about`, as JSON carries it).

    Cases of one item share its `cluster`. `stratum` is the key that a balanced metric weighs alike, say the direction
    in which an item of an inventory is put.
    """

    id: str
    cluster: str
    asks: tuple[Ask, ...]
    about: Row = field(default_factory=dict)
    stratum: str = ""

    def row(self) -> Row:
        """As Inspect's metadata carry it."""
        return {**asdict(self), "asks": [ask.row() for ask in self.asks]}


def case_from_row(row: Row) -> Case:
    """Back from metadata."""
    return Case(row["id"], row["cluster"], tuple(map(ask_from_row, row["asks"])), row["about"], row["stratum"])


@dataclass(frozen=True)
class Metric:
    """What a value of `score` counts for. `name: PART` in a score is a part of the metric `name`, with its own figure.

    A rate's values are 0 and 1, or the share among `draws` answers, less those that the eval counts as lost; a share's
    lie from 0 to 1. A mean's are anything,
    and `balanced` ones weigh the cases' strata alike. `none` is what a subject without the behaviour comes out at, and
    `luck` what one does that tosses a coin at every ask; where it names another metric, that one's figure for the same
    subject says how often the same happens for no reason. A `judged` one rests on a judge's readings. The parts of one
    `of_item` are of one item each, whose cases then count as independent. The parts of a `detail` are many: they are
    printed where they are few, and comparisons hold them to be a family of their own. `scale` has the least and the
    most that a mean's values can be, where there are such: without it, values that are all alike have no interval.
    """

    name: str
    about: str
    kind: Literal["rate", "share", "mean"] = "rate"
    unit: str = ""
    balanced: bool = False
    none: float | None = None
    luck: float | str | None = None
    judged: bool = False
    draws: int = 1
    of_item: bool = False
    detail: bool = False
    scale: Scale | None = None


Values = dict[str, float | None]


@dataclass(frozen=True)
class Scored:
    """A case's values by metric (None is missing; a metric it says nothing on is absent), and how it went.

    `lost` of the answers that the values rest on came to nothing; they rest on the others.
    """

    case: Case
    values: Values
    outcome: str
    scoring: str
    lost: int = 0


@dataclass(frozen=True)
class Figure:
    """A metric's estimate, and how many of its missing cases were refused, empty, unparsable or failed.

    Of the cases that are not missing, `lost` counts the answers that came to nothing.
    """

    metric: Metric
    name: str
    estimate: Estimate
    missing: Mapping[str, int]
    lost: int = 0


@dataclass(frozen=True)
class Labelled:
    """An ask to a judge whose right answer is known: its first option (True) or another."""

    ask: Ask
    gold: bool


@dataclass(frozen=True)
class Judging:
    """What a judge is asked of a case once it is answered, and the labelled set that says how far to trust it.

    The judge's readings join the subject's under the asks' names. Without a judge they are not there, and `score`
    leaves judged metrics out. `labelled` holds gold answers and counter-examples alike. `alone` names the
    case's asks whose answers nobody but the judge reads: without one they are not put.
    """

    asks: Callable[[Case, Mapping[str, Reading]], Sequence[Ask]]
    labelled: Callable[[], Sequence[Labelled]]
    alone: tuple[str, ...] = ()


def first_lost(case: Case, readings: Mapping[str, Reading]) -> str:
    """How a case went: as the first of its readings that is no answer, else answered."""
    return next((r.outcome for r in readings.values() if r.outcome != ANSWERED), ANSWERED)


def lost_draws(case: Case, readings: Mapping[str, Reading]) -> int:
    """How many of the answers that were sampled to the case's asks were no option."""
    return sum(readings[ask.name].lost for ask in case.asks)


@dataclass(frozen=True)
class Eval:
    """An eval, as the module `task` in its folder defines it.

    `cases` makes the cases of the bundled items, or of public data by `source`, in the folder that `data` or the
    settings name. They come in an order of which every beginning is a fair sample. `sources` names that public data;
    where it ends in `...`, other sources are for `cases` to read or to refuse.
    `check` turns a reading of free text into a choice, or into one that is unparsable, before it is scored.
    `profiles` are metrics that are drawn together, a line a subject; of one with parts, all its parts.
    `controls` are scripted subjects for the bundled items, `source_controls` for public data by source.
    `outcome` says how a case went, and `lost` how many of the answers to one that has values came to nothing.
    `page` makes an HTML page of a subject's name and all that it answered.
    """

    name: str
    version: int
    folder: Path
    cases: Callable[[str, str], Sequence[Case]]
    score: Callable[[Case, Mapping[str, Reading]], Values]
    metrics: tuple[Metric, ...]
    controls: "tuple[Control, ...]"
    sources: tuple[str, ...] = ()
    judging: Judging | None = None
    outcome: Callable[[Case, Mapping[str, Reading]], str] = first_lost
    lost: Callable[[Case, Mapping[str, Reading]], int] = lost_draws
    page: Callable[[str, Sequence[tuple[Case, Mapping[str, Reading]]]], str] | None = None
    max_tokens: int = 96
    temperature: float = 0.7
    check: Callable[[Case, Ask, Reading], Reading] | None = None
    profiles: tuple[tuple[str, ...], ...] = ()
    source_controls: "Mapping[str, tuple[Control, ...]]" = field(default_factory=dict)

    def controls_on(self, source: str = BUNDLED) -> "tuple[Control, ...]":
        """The scripted subjects for a source. Raises CharacteryError for one that there are none for."""
        if source == BUNDLED:
            return self.controls
        if source not in self.source_controls:
            there = ", ".join((BUNDLED, *self.source_controls))
            raise CharacteryError(f"the {self.name} eval has no controls on the source {source!r}, but on {there}")
        return self.source_controls[source]

    def metric(self, name: str) -> Metric:
        """The metric that a value counts for."""
        return next(m for m in self.metrics if m.name == name.partition(": ")[0])

    def made(self, source: str = BUNDLED, data: str = "") -> list[Case]:
        """The cases. Raises CharacteryError for a source there is not."""
        if source != BUNDLED and source not in self.sources and "..." not in self.sources:
            there = ", ".join((BUNDLED, *self.sources))
            raise CharacteryError(f"the {self.name} eval has no source {source!r}; there are {there}")
        return list(self.cases(source, data))

    def without_judge(self, case: Case) -> Case:
        """The case without the asks whose answers a judge alone reads."""
        alone = self.judging.alone if self.judging else ()
        return replace(case, asks=tuple(ask for ask in case.asks if ask.name not in alone))

    def scored(self, case: Case, readings: Mapping[str, Reading] | None) -> Scored:
        """A case from its readings, or one that failed as a whole (None): all that it could count for is missing."""
        if readings is None:
            blank = {ask.name: Reading(FAILED) for ask in case.asks}
            return Scored(case, self.score(case, blank), FAILED, "")
        if self.check:
            readings = {**readings, **{ask.name: self.check(case, ask, readings[ask.name]) for ask in case.asks}}
        outcome = self.outcome(case, readings)
        ways = {readings[ask.name].scoring for ask in case.asks}
        scoring = ", ".join(sorted(ways - {"", TEXT} or ways - {""}))
        return Scored(case, self.score(case, readings), outcome, scoring, self.lost(case, readings))

    def figures(self, scored: Sequence[Scored], seed: int = 0) -> list[Figure]:
        """Every metric's estimate, in the order of the metrics, then of first appearance.

        Raises CharacteryError where the cases of a metric were read in different ways.
        """
        names = dict.fromkeys(name for s in scored for name in s.values)
        order = {m.name: n for n, m in enumerate(self.metrics)}
        return [
            self._figure(name, [s for s in scored if name in s.values], seed)
            for name in sorted(names, key=lambda name: order[self.metric(name).name])
        ]

    def _figure(self, name: str, scored: Sequence[Scored], seed: int) -> Figure:
        metric = self.metric(name)
        ways = {s.scoring for s in scored if s.scoring}
        if len(ways) > 1:
            raise CharacteryError(f"answers were read in different ways ({'; '.join(sorted(ways))}); give --method")
        told = estimated(
            metric, [s.values[name] for s in scored], [s.case for s in scored], seed, [s.lost for s in scored]
        )
        lost = Counter(s.outcome for s in scored if s.values[name] is None)
        missing = {outcome: lost[outcome] for outcome in OUTCOMES[1:]}
        gone = sum(s.lost for s in scored if s.values[name] is not None)
        return Figure(metric, name, replace(told, scoring="".join(ways)), missing, gone)


def cluster_of(metric: Metric, case: Case) -> str:
    """Which cases a metric counts as one: those of an item, or each alone where all are of one item."""
    return case.id if metric.of_item else case.cluster


def estimated(
    metric: Metric,
    values: Sequence[float | None],
    cases: Sequence[Case],
    seed: int = 0,
    lost: Sequence[int] | None = None,
) -> Estimate:
    """The estimate of a metric from its values over these cases, of whose answers so many were lost."""
    clusters = [cluster_of(metric, case) for case in cases]
    if metric.kind == "rate":
        draws = [max(1, metric.draws - gone) for gone in lost or [0] * len(cases)] if metric.draws > 1 else None
        return clustered_rate(values, clusters, metric.unit, draws)
    if metric.kind == "share":
        return clustered_share(values, clusters, metric.unit)
    if metric.balanced:
        return balanced_mean(values, clusters, [case.stratum for case in cases], metric.unit, metric.scale)
    return clustered_mean(values, clusters, seed, metric.unit, metric.scale)


HEADINGS = (
    "What it measures", "What it does not measure", "Where it comes from", "How to read it", "Without a judge",
    "Cost for 100 items",
)  # fmt: skip


def about(eval: Eval) -> str:
    """The eval's about.md."""
    return (eval.folder / "about.md").read_text(encoding="utf-8")


def lacking_headings(text: str) -> list[str]:
    """Headings that an about.md should have and has not."""
    there = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return [heading for heading in HEADINGS if heading not in there]
