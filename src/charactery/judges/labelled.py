"""How often a judge is right on pairs whose better answer is known: the set that ships in `labelled/`, or a user's."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from charactery.constitution import Character, find_character
from charactery.errors import BadCharacter, BadData
from charactery.judges.rating import Case, Judge, Progress
from charactery.models.chat import user
from charactery.runs import Journal, Row, numbered_rows, read_rows
from charactery.stats import Estimate, kappa, rate

HERE = Path(__file__).parent / "labelled"
MEASURED = HERE / "measured.json"
NEEDED = ("prompt", "better", "worse", "character")  # of a user's pair
TOLD = ("id", "difficulty", "contrast", "source")  # where it says so


@dataclass(frozen=True)
class Labelled:
    """A prompt, the answer more in character and the one less; how hard, what the worse one lacks, whose character.

    `character` is a name or a path. The last three are "" where a user's pair does not say.
    """

    id: str
    character: str
    prompt: str
    better: str
    worse: str
    difficulty: str
    contrast: str
    source: str  # "ours" for a bundled character, "other" for one that is in this set alone


def labelled_pairs() -> list[Labelled]:
    """All of them, in the file's order."""
    names = [f.name for f in Labelled.__dataclass_fields__.values()]
    return [Labelled(*(row[name] for name in names)) for row in read_rows(HERE / "pairs.jsonl")]


def read_labelled(path: Path) -> list[Labelled]:
    """A user's own pairs: JSON lines with `prompt`, `better`, `worse` and `character`, each text that says something.

    `character` is a name, or a path from the file's folder. `id`, `difficulty` and `contrast` may be left out; a pair
    without an id is called by its line. Raises BadData with the line, also for a character that cannot be read.
    """
    pairs: dict[str, Labelled] = {}
    for number, row in numbered_rows(path):
        for name in NEEDED:
            if not isinstance(row.get(name), str) or not row[name].strip():
                raise BadData(f'needs "{name}" as text that is not empty', path, number)
        for name in TOLD:
            if isinstance(row.get(name), bool) or not isinstance(row.get(name, ""), str | int):
                raise BadData(f'has a "{name}" that is no text; write it as text or leave it out', path, number)
        if row["better"].strip() == row["worse"].strip():
            raise BadData("has the same text as better and as worse; change one or leave the pair out", path, number)
        id, *told = (str(row.get(name, "")) for name in TOLD)
        near = path.absolute().parent / row["character"]
        by_path = near.is_file() or near.suffix == ".md" or "/" in row["character"]
        who = str(near) if by_path else row["character"]
        pair = Labelled(id or f"line {number}", who, row["prompt"], row["better"], row["worse"], *told)
        if pair.id in pairs:
            raise BadData(f"has the id {pair.id!r}, and so has an earlier pair; ids must differ", path, number)
        try:
            labelled_character(pair)
        except BadCharacter as error:
            from_where = " (a path is taken from the folder of the pairs)" if by_path else ""
            raise BadData(f'"character": {error}{from_where}', path, number) from None
        pairs[pair.id] = pair
    if not pairs:
        raise BadData(f"holds no pairs; one JSON object a line is expected, with {', '.join(NEEDED)}", path)
    return [*pairs.values()]


def labelled_character(pair: Labelled) -> Character:
    """Who is spoken of: a bundled character, or one that lies beside the pairs."""
    path = HERE / "characters" / f"{pair.character}.md"
    return find_character(str(path) if path.exists() else pair.character)


def judged(
    make: Callable[[Character], Judge], pairs: Sequence[Labelled], journal: Journal, progress: Progress
) -> tuple[list[bool | None], dict[str, int]]:
    """Whether the judge made for each character prefers the better answer, None without a verdict; and its outcomes.

    The better answer stands first in one pair and second in the next: a judge that leans to a place gains nothing.
    """
    right: dict[str, bool | None] = {}
    outcomes: dict[str, int] = {}
    first = _better_first(pairs)
    for mine in _by_character(pairs):
        cases = [Case((user(p.prompt),), (p.better, p.worse) if first[p.id] else (p.worse, p.better)) for p in mine]
        rated = make(labelled_character(mine[0])).rate(cases, journal, progress)
        for pair, values in zip(mine, rated.values, strict=True):
            better, worse = values if first[pair.id] else values[::-1]
            right[pair.id] = None if better is None or worse is None else better > worse
        for outcome, count in rated.outcomes.items():
            outcomes[outcome] = outcomes.get(outcome, 0) + count
    return [right[pair.id] for pair in pairs], outcomes


def _by_character(pairs: Sequence[Labelled]) -> list[list[Labelled]]:
    found: dict[str, list[Labelled]] = {}
    for pair in pairs:
        found.setdefault(pair.character, []).append(pair)
    return [*found.values()]


def _better_first(pairs: Sequence[Labelled]) -> dict[str, bool]:
    """By id, whether the better answer is shown first: in every other pair of a character."""
    return {pair.id: n % 2 == 0 for mine in _by_character(pairs) for n, pair in enumerate(mine)}


def chance_corrected(pairs: Sequence[Labelled], right: Sequence[bool | None]) -> Estimate:
    """Cohen's kappa of a judge and the labels on which answer, the one shown first or the other, is the better.

    A judge that always takes the first has nought, as has a coin.
    """
    first = _better_first(pairs)
    labels = [first[pair.id] for pair in pairs]
    chosen = [None if r is None else r == label for r, label in zip(right, labels, strict=True)]
    return kappa(labels, chosen)


def by_length(pairs: Sequence[Labelled]) -> Estimate:
    """How often the longer answer is the better one: what a judge of length alone would reach."""
    lengths = [(len(p.better.split()), len(p.worse.split())) for p in pairs]
    return rate([None if a == b else a > b for a, b in lengths])


def agreement(pairs: Sequence[Labelled], right: Sequence[bool | None]) -> list[Row]:
    """Share right of all, and by difficulty, contrast and source, each with its interval; no verdict is missing.

    Pairs that do not say theirs are in no such group.
    """
    groups: list[tuple[str, Callable[[Labelled], str]]] = [
        ("all", lambda p: "all"),
        ("difficulty", lambda p: p.difficulty),
        ("contrast", lambda p: p.contrast),
        ("source", lambda p: p.source),
    ]
    out = []
    for name, of in groups:
        for value in filter(None, dict.fromkeys(map(of, pairs))):
            mine = [r for p, r in zip(pairs, right, strict=True) if of(p) == value]
            out.append({"group": name, "value": value, "estimate": rate(mine).as_dict()})
    return out


def measured() -> Row:
    """What the likelihood judge reached on the shipped set beforehand: on which `model` and `base_hash`, and by whom.

    With `agreement`, `kappa` and `by_length` as Estimates. benchmarks/judges_table.py writes it.
    """
    found: Row = json.loads(MEASURED.read_text(encoding="utf-8"))
    return found


def same_as(one: Sequence[bool | None], other: Sequence[bool | None]) -> Estimate:
    """How often two judges prefer the same answer, of the pairs on which both have a verdict."""
    return rate([None if a is None or b is None else a == b for a, b in zip(one, other, strict=True)])
