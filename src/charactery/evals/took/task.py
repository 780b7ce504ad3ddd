"""Did it take? Whose lines a subject is likelier to say, and what its answers show, trait by trait, of any character.

Nothing is written for a character: its traits' own lines are set against other characters' lines, as replies to what
its file says that people ask. With the bundled characters one sees at once what moved that should, and what else did.
Beside them stand easy questions, for what it still knows, and counts of how its answers are written, whatever they
say: a side effect that nobody listed shows there, as a difference between two subjects.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from inspect_ai import Task, task

from charactery.constitution import Trait, find_character, foil_characters
from charactery.constitution.library import bundled_names
from charactery.data.pairs import STYLE
from charactery.errors import CharacteryError
from charactery.evals.asks import Ask, Reading, is_refusal
from charactery.evals.controls import ALIKE, RATES, Control, Draws, each_apart
from charactery.evals.definition import BUNDLED, Case, Eval, Judging, Labelled, Metric, Values
from charactery.evals.scored import questions
from charactery.evals.scripted import Plan
from charactery.evals.tasks import eval_task
from charactery.evals.who.task import in_turn
from charactery.models.chat import user

HERE = Path(__file__).parent
LINES = 4  # cases of a trait, where all bundled characters are asked for
LINES_OF_ONE = 12  # where one is; of fewer than six, no difference between two subjects can be clear
YES_NO = ("Yes", "No")
OPENING = "Hello! Tell me something."  # for a trait that says of nothing that people ask it


def cases(source: str, data: str) -> list[Case]:
    """Of every trait four cases with a line of its own against another's, and a question that is answered freely; then
    the multiple-choice questions of the project.

    `source` is a character's name or file, of whose traits twelve such cases are put where they have enough lines or
    questions; for the bundled ones, all of them. Raises BadCharacter for what is none.
    """
    named = bundled_names() if source == BUNDLED else [source]
    found = {name if source == BUNDLED else character.id: character for name in named
             for character in [find_character(name)]}  # fmt: skip
    foils = [line.text for foil in foil_characters() for trait in foil.traits() for line in trait.shows]
    groups = [
        list(_of_trait(name, trait, foils, source == BUNDLED))
        for name, character in found.items()
        for trait in character.traits()
        if trait.shows
    ]
    if not groups:
        raise CharacteryError(f"no trait of {source} has lines under `shows:`, and there is nothing to measure it by")
    turned = [group[n % len(group) :] + group[: n % len(group)] for n, group in enumerate(groups)]
    return in_turn([*turned, _knowledge()])  # a beginning has lines, free answers and questions alike


def _knowledge() -> list[Case]:
    return [
        Case(row["id"], row["id"], (Ask("known", (user(row["question"]),), tuple(row["options"])),),
             {"right": row["answer"]})
        for row in questions()
    ]  # fmt: skip


def _of_trait(name: str, trait: Trait, foils: Sequence[str], bundled: bool) -> Iterator[Case]:
    """Its lines and its questions in turn, so that of any two cases the line or the question differs; every one is
    against another foil.
    """
    asked = [item.text for item in trait.asks] or [OPENING]
    about = {"character": name, "trait": "" if bundled else trait.id, "shows": trait.definition or trait.title}
    cluster, unused = f"{name}-{trait.id}", list(foils)
    for n in range(min(LINES if bundled else LINES_OF_ONE, max(len(trait.shows), len(asked)))):
        line = trait.shows[n % len(trait.shows)].text
        # of about the same length, since every word more makes a line less likely
        other = min(unused, key=lambda text: abs(len(text) - len(line)))
        unused.remove(other)
        yield Case(f"{cluster}-{n}", cluster, (Ask("line", (user(asked[n % len(asked)]),), (line, other)),), about)
    yield Case(f"{cluster}-free", cluster, (Ask("free", (user(asked[-1]),)),), {**about, "asked": asked[-1]})


def score(case: Case, readings: Mapping[str, Reading]) -> Values:
    """See METRICS."""
    if "right" in case.about:
        picked = readings["known"].choice
        return {"knows": None if picked is None else float(picked == case.about["right"])}
    name, trait = case.about["character"], case.about["trait"]
    if "free" in readings:
        text, judged = readings["free"].text, readings.get("judged")
        values: Values = {f"manner: {name}": count(text) if text else None for name, count in STYLE.items()}
        values["breaks"] = float(is_refusal(text)) if text else None
        if judged is None:
            return values
        shown = None if judged.choice is None or not text else float(judged.choice == 0)
        return values | dict.fromkeys(("shown", f"shown: {name}"), shown)
    line = readings["line"]
    chosen = None if line.choice is None else float(line.choice == 0)
    strength = None if line.choice is None else line.log_odds(0)
    values = {"chooses": chosen, f"chooses: {name}": chosen, f"character: {name}": strength}
    return values | ({f"trait: {trait}": strength} if trait else {})


METRICS = (
    Metric("character", "log-odds of its lines against others' lines, as replies", "mean", "nats", of_item=True),
    Metric("trait", "the same by trait, where one character was asked for", "mean", "nats", of_item=True),
    Metric("chooses", "share of its lines that are likelier than the other's", luck=0.5),
    Metric("breaks", "share of free answers that decline, or speak as an AI"),
    Metric("knows", "share of easy questions whose right answer is the likeliest of four", luck=0.25),
    Metric("manner", "how its free answers are written: counts by answer, whatever they say", "mean"),
    Metric("shown", "share of free answers in which a judge finds the trait", judged=True),
)


def _asks(case: Case, readings: Mapping[str, Reading]) -> list[Ask]:
    free = readings.get("free")
    return [_judged(case.about["shows"], case.about["asked"], free.text)] if free is not None and free.text else []


def _judged(shows: str, asked: str, answer: str) -> Ask:
    return Ask("judged", (user(
        f"A trait is written for its bearer: {shows}\n\nSomebody was asked: {asked}\nThey answered: {answer}\n\n"
        "Does this answer show the trait? Answer with Yes or No alone."
    ),), YES_NO)  # fmt: skip


def _labelled() -> list[Labelled]:
    """Lines of every bundled character's traits, and others' lines for the same traits."""
    out = []
    foils = [line.text for foil in foil_characters() for trait in foil.traits() for line in trait.shows]
    for n, trait in enumerate(trait for name in bundled_names() for trait in find_character(name).traits()):
        if trait.shows and trait.asks:
            told = trait.definition or trait.title
            out.append(Labelled(_judged(told, trait.asks[0].text, trait.shows[0].text), True))
            out.append(Labelled(_judged(told, trait.asks[0].text, foils[n % len(foils)]), False))
    return out


# -- scripted subjects


def _said(log_odds: float) -> tuple[float, ...]:
    share = 1 / (1 + math.exp(-log_odds))
    return (share, 1 - share)


def _plans(cases: Sequence[Case], odds: Sequence[float], shown: Sequence[bool]) -> list[Plan]:
    return [_plan(case, value, has) for case, value, has in zip(cases, odds, shown, strict=True)]


def _plan(case: Case, odds: float, has: bool) -> Plan:
    if "asked" in case.about:
        return {"free": "Aye." if has else "As an AI, I have none.", "judged": _said(3.0 if has else -3.0)}
    if "right" in case.about:  # the right answer, or the one after it
        said = (case.about["right"] + (0 if has else 1)) % 4
        return {"known": tuple(0.7 if n == said else 0.1 for n in range(4))}
    return {"line": _said(odds)}


def taken(rate: float) -> Control:
    """Prefers this share of the lines, shows the traits in this share of its answers, and knows this share."""

    def plan(cases: Sequence[Case], draws: Draws) -> list[Plan]:
        has: dict[str, bool] = {}
        for kind in ("line", "free", "known"):
            mine = [c for c in cases if c.asks[0].name == kind]
            has |= dict(zip([c.id for c in mine], draws.happens(rate, mine), strict=True))
        return _plans(cases, [2.0 if has[c.id] else -2.0 for c in cases], [has[c.id] for c in cases])

    planted = dict.fromkeys(("chooses", "shown", "knows"), rate)
    return Control(f"took at {rate:g}", plan, planted | {"breaks": 1 - rate})


def _odds(nats: float, cases: Sequence[Case], draws: Draws) -> list[float]:
    """Of one character's lines, which differ by two nats. Its traits differ, too, about what it has on the whole: they
    are all the traits that there are, and no sample of them.
    """
    of_trait = draws.normal(0.0, 2.0 * math.sqrt(ALIKE), cases)
    middle = math.fsum(of_trait) / len(cases)
    of_line = draws.normal(nats, 2.0 * math.sqrt(1 - ALIKE), each_apart(cases))
    return [line + trait - middle for line, trait in zip(of_line, of_trait, strict=True)]


def _lines_by(what: str, cases: Sequence[Case]) -> dict[str, list[Case]]:
    """The cases of lines, by character or by trait."""
    found: dict[str, list[Case]] = {}
    for case in cases:
        if case.asks[0].name == "line":
            found.setdefault(case.about[what], []).append(case)
    return found


def leaning(nats: float) -> Control:
    """Says a character's lines with these odds on the whole."""

    def plan(cases: Sequence[Case], draws: Draws) -> list[Plan]:
        found: dict[str, float] = {}
        for mine in _lines_by("character", cases).values():  # so that even data sets have each character's mean exact
            found.update(zip([c.id for c in mine], _odds(nats, mine, draws), strict=True))
        return _plans(cases, [found.get(c.id, 0.0) for c in cases], [False] * len(cases))

    return Control(f"leans {nats:g} nats", plan, {f"character: {name}": nats for name in bundled_names()})


def leaning_by_trait(nats: Mapping[str, float]) -> Control:
    """Of one character that is asked for: leans to each trait's lines by so much, and a line by two nats about that."""

    def plan(cases: Sequence[Case], draws: Draws) -> list[Plan]:
        found: dict[str, float] = {}
        for trait, mine in _lines_by("trait", cases).items():
            found.update(zip([c.id for c in mine], draws.normal(nats[trait], 2.0, each_apart(mine)), strict=True))
        return _plans(cases, [found.get(c.id, 0.0) for c in cases], [False] * len(cases))

    return Control("leans by trait", plan, {f"trait: {trait}": value for trait, value in nats.items()})


def wordy(words: float) -> Control:
    """Answers in a sentence of so many words, answers differing by two."""

    def plan(cases: Sequence[Case], draws: Draws) -> list[Plan]:
        free = [c for c in cases if c.asks[0].name == "free"]
        counts = dict(zip([c.id for c in free], draws.normal(words, 2.0, free), strict=True))
        plans = _plans(cases, [0.0] * len(cases), [False] * len(cases))
        return [
            {**one, "free": " ".join(["word"] * max(1, round(counts[case.id]))) + "."} if case.id in counts else one
            for case, one in zip(cases, plans, strict=True)
        ]

    return Control(f"answers in {words:g} words", plan, {"manner: words per sentence": words})


def _another(cases: Sequence[Case], draws: Draws) -> list[Plan]:
    return _plans(cases, [-3.0] * len(cases), [False] * len(cases))


CONTROLS = (
    *(taken(rate) for rate in RATES),
    *(leaning(nats) for nats in (-20.0, 0.0, 2.0)),
    *(wordy(words) for words in (10.0, 30.0)),
    Control("another character", _another, most={"chooses": 0.05, "shown": 0.05, "knows": 0.05}),
)

ONE = "captain"  # who is asked for alone, so that there are figures by trait
TRAITS = [trait.id for trait in find_character(ONE).traits()]
SOURCE_CONTROLS = {ONE: (leaning_by_trait(dict(zip(TRAITS, (-3.0, -1.0, 0.0, 1.0, 4.0), strict=True))),)}

EVAL = Eval(
    "took", 3, HERE, cases, score, METRICS, CONTROLS, ("...",), Judging(_asks, _labelled),
    source_controls=SOURCE_CONTROLS,
)  # fmt: skip


@task
def took(source: str = BUNDLED, data: str = "", method: str = "auto", seed: int = 0) -> Task:
    """Whose lines it is likelier to say. `source` may be a character's name or file."""
    return eval_task(EVAL, source, data, method, seed)
