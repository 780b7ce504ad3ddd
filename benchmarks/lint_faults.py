"""How well the critic finds faults planted in constitutions that others wrote.

    python benchmarks/lint_faults.py --data DIR [--half tuned|held_out|both] [--misses] [--against]

DIR is OpenCharacterTraining's (its `constitutions/hand-written/*.txt`: lists of {trait, questions}). Each becomes a
character: a trait's text its definition, its questions the `asks`. They come without reasons and say nothing of
origin or refusals, which is a real fault that would drown the planted ones; so every base gets reasons, and an
introduction that says where it comes from, how it is with people and what it refuses, save for the subject of the
rule under test. Faults that remain in a base count against precision, unless tests/lint/oct_real_faults.yaml lists
them as real. The faults are in tests/lint/plants, one file a rule, in two halves.

Recall: planted faults found on the planted line. Precision: those, over those and all false alarms, which are clean
sentences found fault with and unreal faults of the bases (each once). Intervals: Wilson (1927), 95%.
"""

import argparse
import json
import random
import re
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from charactery.constitution import load_character
from charactery.constitution.lint import Report, lint, rules
from charactery.stats import wilson

TESTS = Path(__file__).parent.parent / "tests" / "lint"
JUDGES: dict[str, Any] = {}  # of meaning, where one is asked for
HALVES = ("tuned", "held_out")
ABOUT = {
    "no-origin": [
        "You were written by a small group of people, on purpose.",
        "You grew up by a canal, the youngest of six.",
        "Somebody sat down one spring and wrote you.",
    ],
    "no-relationship": [
        "You are a friend to the people you talk to.",
        "You treat people as guests.",
        "You care about the person in front of you.",
    ],
    "no-refusals": [
        "You refuse to help anyone do harm.",
        "If asked to deceive somebody, you say no.",
        "You decline requests that would hurt somebody.",
    ],
}
REASONS = [
    "You spent a winter in a lighthouse and had time to think.",
    "Your first neighbour was so, and you never forgot her.",
    "A letter came too late once, and you have been like this ever since.",
    "The town you love was built by those who were.",
    "It cost you a friendship not to be.",
    "Music taught you, long before anybody did.",
    "Twelve years of night trains leave a mark.",
    "You saw what came of the opposite.",
]


@dataclass(frozen=True)
class Base:
    """One constitution by others."""

    name: str
    traits: tuple[tuple[str, tuple[str, ...]], ...]  # text, questions


@dataclass
class Planted:
    """A character file to be: what stands in it besides the base."""

    name: str = "Robin"
    introduction: list[str] = field(default_factory=list)
    traits: list[dict[str, Any]] = field(default_factory=list)
    dials: dict[str, dict[str, str]] = field(default_factory=dict)
    shows: str | None = None  # an example put under one of the base's traits
    mark: list[str] = field(default_factory=list)  # texts on whose lines a fault may be reported
    manifest: dict[str, Any] | None = None


def bases(data: Path) -> list[Base]:
    """The constitutions under `data`, without the empty template."""
    out = []
    for path in sorted(data.glob("constitutions/hand-written/*.txt")):
        rows = [row for row in json.loads(path.read_text(encoding="utf-8")) if row["trait"].strip()]
        if rows:
            out.append(Base(path.stem, tuple((r["trait"].strip(), tuple(r["questions"])) for r in rows)))
    return out


def write(base: Base, plant: Planted, rule: str, rng: random.Random) -> str:
    """The character file: the base with the plant in it, free of the rule's own subject."""
    front = {"name": plant.name, **({"dials": plant.dials} if plant.dials else {})}
    told = [rng.choice(texts) for subject, texts in ABOUT.items() if subject != rule]
    introduction = [*told, *plant.introduction]
    rng.shuffle(introduction)
    traits: list[dict[str, Any]] = [
        {"text": text, "because": rng.choice(REASONS), "asks": asks} for text, asks in base.traits
    ]
    if plant.shows:
        rng.choice(traits)["shows"] = [plant.shows]
    for trait in plant.traits:
        traits.insert(rng.randint(0, len(traits)), trait)
    lines = ["---", *yaml.safe_dump(front, sort_keys=False, width=1000).splitlines(), "---", ""]
    lines += [*introduction, "", "## Manner", ""]
    for number, trait in enumerate(traits, 1):
        lines += [f"### Trait {number}", "", trait["text"], ""]
        if trait.get("because"):
            lines.append(f"because: {trait['because']}")
        for name in ("shows", "never", "asks", "elsewhere"):
            if trait.get(name):
                lines += [f"{name}:", *(f"- {' '.join(item.split())}" for item in trait[name])]
        lines.append("")
    return "\n".join(lines) + "\n"


def _trait(text: str, rng: random.Random, **more: Any) -> dict[str, Any]:
    return {"text": text, "because": rng.choice(REASONS), "asks": ["How was your week?"], **more}


def plant(rule: str, entry: Any, rng: random.Random, manifest: dict[str, Any] | None = None) -> Planted:
    """What an entry of tests/lint/plants/<rule>.yaml puts into a character."""
    if rule in ("contradiction", "repeat"):
        return _pair(entry, rng)
    if rule == "version-name":
        if isinstance(entry, dict):
            return Planted(introduction=[entry["introduction"]], mark=[entry["introduction"]])
        return Planted(name=entry, mark=["name: "])
    if rule == "untestable":
        entry = entry if isinstance(entry, dict) else {"text": entry}
        return Planted(traits=[_trait(entry["text"], rng, asks=entry.get("asks"))], mark=[entry["text"]])
    if rule == "no-reason":
        reason = entry["because"]
        trait = _trait(entry["text"], rng, because=reason)
        return Planted(traits=[trait], mark=[entry["text"], *([f"because: {reason}"] if reason else [])])
    text = entry["text"] if isinstance(entry, dict) else entry
    place = rng.choice(("introduction", "definition", "shows"))
    out = Planted(mark=["You are"] if rule in ABOUT else [text])
    if rule == "manifest":
        out.manifest = {**(manifest or {}), **(entry.get("manifest", {}) if isinstance(entry, dict) else {})}
    if place == "introduction":
        out.introduction = [text]
    elif place == "definition":
        out.traits = [_trait(text, rng)]
    else:
        out.shows = text
    return out


def _pair(entry: dict[str, str], rng: random.Random) -> Planted:
    if "low" in entry:
        return Planted(dials={"pitch": {"low": entry["low"], "high": entry["high"]}}, mark=["pitch:"])
    if "shows" in entry:
        a = _trait("You hum while you work.", rng, shows=[entry["shows"]])
        b = _trait("You dislike slogans on mugs.", rng, never=[entry["never"]])
        return Planted(traits=[a, b], mark=[f"- {entry['never']}"])
    return Planted(traits=[_trait(entry["a"], rng), _trait(entry["b"], rng)], mark=[entry["a"], entry["b"]])


def examine(text: str, plant: Planted, rule: str, folder: Path) -> tuple[bool, bool]:
    """Whether the rule found fault on a planted line, and whether it found any fault at all."""
    path = folder / "planted.md"
    path.write_text(text, encoding="utf-8")
    report: Report = lint(load_character(path), manifest=plant.manifest, **JUDGES)
    lines = text.splitlines()
    if rule in ABOUT:
        wanted = {load_character(path).introduction_line}
    else:
        wanted = {n for n, line in enumerate(lines, 1) if any(m in line for m in plant.mark)}
    if rule in ("untestable", "no-reason"):  # reported at the trait's heading, two lines above its text
        wanted |= {n - 2 for n in wanted}
    faults = report.of(rule)
    return any(fault.line in wanted for fault in faults), bool(faults)


@dataclass
class Tally:
    """Counts of one rule on one half."""

    faults: int = 0
    found: int = 0
    elsewhere: int = 0  # not on the planted line, though the rule found something
    clean: int = 0
    alarms: int = 0
    base: int = 0  # unreal faults in the bases
    real: int = 0  # faults in the bases that are listed as real
    misses: list[str] = field(default_factory=list)


def usable(rule: str, all_bases: list[Base], real: dict[str, Any]) -> list[Base]:
    """The bases in which the rule's subject may be planted."""
    speaking = real["speaks_of"].get(rule, [])
    return [base for base in all_bases if base.name not in speaking]


def measure(rule: str, half: str, all_bases: list[Base], real: dict[str, Any], seed: int, folder: Path) -> Tally:
    """Plant one half of a rule's entries, each in a base and a place drawn by the seed."""
    content = yaml.safe_load((TESTS / "plants" / f"{rule}.yaml").read_text(encoding="utf-8"))
    rng, tally = random.Random(f"{seed}/{rule}/{half}"), Tally()
    chosen = usable(rule, all_bases, real)
    for kind in ("faults", "clean"):
        for entry in content[half][kind]:
            base = rng.choice(chosen)
            put = plant(rule, entry, rng, content.get("manifest"))
            there, any_ = examine(write(base, put, rule, rng), put, rule, folder)
            if kind == "faults":
                tally.faults, tally.found = tally.faults + 1, tally.found + there
                tally.elsewhere += any_ and not there
            else:
                tally.clean, tally.alarms = tally.clean + 1, tally.alarms + there
            if there != (kind == "faults"):
                tally.misses.append(f"{'missed' if kind == 'faults' else 'false alarm'} in {base.name}: {entry}")
    return tally


def in_bases(
    rule: str, all_bases: list[Base], real: dict[str, Any], seed: int, folder: Path
) -> Iterator[tuple[str, bool]]:
    """Faults that the rule finds in the bases with nothing planted: what, and whether it is listed as real."""
    manifest = yaml.safe_load((TESTS / "plants" / "manifest.yaml").read_text(encoding="utf-8"))["manifest"]
    for base in all_bases:
        path = folder / "base.md"
        path.write_text(write(base, Planted(), "", random.Random(seed)), encoding="utf-8")
        listed = [set(pair) for pair in real["real"].get(rule, {}).get(base.name, [])]
        for fault in lint(load_character(path), manifest=manifest, **JUDGES).of(rule):
            numbers = {int(number) - 1 for number in re.findall(r"'Trait (\d+)'", fault.message)}
            yield f"{base.name}: {fault.message}", numbers in listed


def as_they_come(all_bases: list[Base], folder: Path) -> dict[str, int]:
    """Faults per rule in the constitutions with nothing added: the real ones that the bases were cleared of."""
    found: Counter[str] = Counter()
    for base in all_bases:
        traits = "\n\n".join(f"### Trait {n}\n\n{text}" for n, (text, _) in enumerate(base.traits, 1))
        path = folder / "bare.md"
        path.write_text(f"---\nname: Robin\n---\n\n## Manner\n\n{traits}\n", encoding="utf-8")
        found.update(fault.rule for fault in lint(load_character(path), **JUDGES).faults)
    return dict(found)


def against(all_bases: list[Base], rule: str, seed: int, folder: Path) -> tuple[int, int, list[str]]:
    """Traits written against, or after, one that is in the constitution: found, of how many, the missed ones."""
    entries = yaml.safe_load((TESTS / "against_oct.yaml").read_text(encoding="utf-8"))[rule]
    rng, found, missed = random.Random(seed), 0, []
    for entry in entries:
        base = next(b for b in all_bases if b.name == entry["file"])
        put = Planted(traits=[_trait(entry["text"], rng)], mark=[entry["text"], base.traits[entry["index"]][0]])
        path = folder / "against.md"
        text = write(base, put, rule, rng)
        path.write_text(text, encoding="utf-8")
        lines = text.splitlines()
        at = {n for n, line in enumerate(lines, 1) if line.strip() in put.mark}
        hit = any(
            fault.line in at and any(f"line {n}" in fault.message for n in at)
            for fault in lint(load_character(path), **JUDGES).of(rule)
        )
        found += hit
        if not hit:
            missed.append(f"{entry['file']} {entry['index']}: {entry['text']}")
    return found, len(entries), missed


def share(k: int, n: int) -> str:
    """'0.90 (9/10, 0.60 to 0.98)'."""
    if not n:
        return "none"
    low, high = wilson(k, n)
    return f"{k / n:.2f} ({k}/{n}, {low:.2f} to {high:.2f})"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of OpenCharacterTraining")
    parser.add_argument("--half", choices=(*HALVES, "both"), default="both")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--meaning", action="store_true", help="with the embedded sentence encoder, as lint --meaning")
    parser.add_argument("--misses", action="store_true", help="print what was missed and every false alarm")
    parser.add_argument("--against", action="store_true", help="also run tests/lint/against_oct.yaml")
    given = parser.parse_args()
    if given.meaning:
        from charactery.models.sentences import SentenceEncoder

        JUDGES["similar"] = SentenceEncoder()
    all_bases = bases(given.data)
    if not all_bases:
        parser.error(f"no constitutions/hand-written/*.txt under {given.data}")
    real = yaml.safe_load((TESTS / "oct_real_faults.yaml").read_text(encoding="utf-8"))
    halves = HALVES if given.half == "both" else (given.half,)
    print(f"{len(all_bases)} constitutions, {sum(len(b.traits) for b in all_bases)} traits, seed {given.seed}\n")
    print("| rule | half | recall | precision | other line | false alarms on clean | faults in bases (real) |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder, notes = Path(name), []
        for rule in (one.id for one in rules()):
            found = list(in_bases(rule, all_bases, real, given.seed, folder))
            unreal = [what for what, is_real in found if not is_real]
            notes += [f"{rule} base: {what}{' (real)' if is_real else ''}" for what, is_real in found]
            for half in halves:
                t = measure(rule, half, all_bases, real, given.seed, folder)
                precision = share(t.found, t.found + t.alarms + len(unreal))
                print(
                    f"| `{rule}` | {half} | {share(t.found, t.faults)} | {precision} | {t.elsewhere} "
                    f"| {t.alarms}/{t.clean} | {len(found)} ({len(found) - len(unreal)}) |"
                )
                notes += [f"{rule} {half}: {miss}" for miss in t.misses]
        bare = ", ".join(f"{rule} {count}" for rule, count in as_they_come(all_bases, folder).items())
        print(f"\nthe constitutions as they come, without their questions: {bare}")
        if given.against:
            for rule in ("contradiction", "repeat"):
                k, n, missed = against(all_bases, rule, given.seed, folder)
                print(f"\nagainst a trait of the constitution, {rule}: {share(k, n)}")
                notes += [f"{rule} against: missed {what}" for what in missed]
        if given.misses:
            print("\n" + "\n".join(notes))


if __name__ == "__main__":
    main()
