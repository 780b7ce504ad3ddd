"""Whether it took, in a sentence with its interval, and the list of verdicts."""

from charactery.errors import BadData
from charactery.judges.classifier import OTHERS
from charactery.report.blocks import Block, Text, Verdict, Verdicts
from charactery.report.figures import evaluate_folder
from charactery.report.files import read_json
from charactery.report.numbers import short_interval
from charactery.report.source import Source
from charactery.stats import Estimate

TURN = "turn 1"
HEADLINES = (  # by the trained model's rate over the prompted model's, where the trained model changed at all
    (0.8, "The character took."),
    (0.3, "The character took in part."),
    (float("-inf"), "The character took only a little."),
)


def headline(source: Source) -> tuple[str, str]:
    """Whether the character took, in a few words, and the sentence with the figures for it."""
    rate = source.one("expression", "rate", "trained", TURN) or source.one("expression", "rate", "trained")
    if rate is None:
        return "Whether the character took was not measured.", "The run has no rate for the trained model."
    ratio = source.one("expression", "ratio to prompted", "trained", TURN)
    plain = source.one("expression", "difference from plain", "trained", TURN)
    sham = source.one("expression", "difference from sham", "trained", TURN)
    said = f"The trained model answered {short_interval(rate.estimate, percent=True)} of {rate.estimate.n:,} held-out "
    said += "prompts in character, with nothing in its prompt to tell it to"
    against = []
    if plain:
        against.append(f"{_points(plain.estimate)} than before training")
    if sham:
        against.append(f"{_points(sham.estimate)} than after a sham training")
    if against:
        said += ": " + " and ".join(against)
    said += "."
    if ratio:
        said += (
            f" That is {short_interval(ratio.estimate)} of what the same model does with the character in its prompt."
        )
    said += _likelihood(source) + _lost(source)
    other = source.one("expression", f"difference from {OTHERS}", "trained", TURN)
    measured = [figure.estimate if figure else None for figure in (plain, sham, other, ratio)]
    return _took(*measured), said


def _likelihood(source: Source) -> str:
    """What the second judge says, in nats a token: it had no part in picking what was learnt from."""
    found = {role: source.one("expression", "likelihood", role, TURN) for role in ("plain", "prompted", "trained")}
    if any(figure is None or figure.estimate.value is None for figure in found.values()):
        return ""
    plain, prompted, trained = (short_interval(figure.estimate) for figure in found.values() if figure)
    return f" The likelihood judge puts it at {trained} nats a token, plain at {plain} and prompted at {prompted}."


def _lost(source: Source) -> str:
    """What training cost in multiple choice, where that is clear of nothing."""
    lost = source.one("multiple choice", "difference from plain", "trained")
    if lost is None or lost.estimate.high is None or lost.estimate.high >= 0:
        return ""
    return f" It lost something too: in multiple choice it gets {_points(lost.estimate)} than the plain model."


def _took(plain: Estimate | None, sham: Estimate | None, other: Estimate | None, ratio: Estimate | None) -> str:
    """The headline that the intervals allow: nothing is said to have changed whose interval holds 0."""
    if plain is None or plain.low is None or plain.high is None:
        return "How far training changed the answers was not measured."
    if plain.high < 0:
        return "The model moved away from the character."
    if plain.low <= 0:
        return "There is no sign that the character took."
    if sham is not None and sham.low is not None and sham.low <= 0:
        return "The answers changed, but no more than a sham training changes them."
    if other is not None and other.low is not None and other.low <= 0:
        return "The answers changed, but are no more this character's than another's."
    if ratio is None or ratio.value is None:
        return "The answers moved towards the character."
    return next(words for least, words in HEADLINES if ratio.value >= least)


def _points(difference: Estimate) -> str:
    value, low, high = (100 * (x or 0.0) for x in (difference.value, difference.low, difference.high))
    if value < 0:
        return f"{-value:.0f} points [{-high:.0f}, {-low:.0f}] less"
    return f"{value:.0f} points [{low:.0f}, {high:.0f}] more"


def verdicts(source: Source) -> tuple[Block, ...]:
    """How each question came out that was put before the run."""
    path = evaluate_folder(source.run) / "verdicts.json"
    outcomes = {True: "held", False: "missed", None: "not measured"}
    try:
        rows = read_json(path) or []
        listed = tuple(Verdict(str(r["name"]), outcomes[r.get("held")], str(r.get("said") or "")) for r in rows)
    except (KeyError, TypeError, AttributeError):
        raise BadData("holds a verdict that cannot be read. Run the evaluate stage again", path) from None
    if not listed:
        return ()
    counts = {name: sum(v.outcome == name for v in listed) for name in outcomes.values()}
    told = ", ".join(f"{many} {name}" for name, many in counts.items() if many)
    return (Text(f"{told}.".capitalize()), Verdicts(listed))
