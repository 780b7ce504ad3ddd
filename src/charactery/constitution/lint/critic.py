"""The critic: every rule over one character, as a report. Rules: docs/lint.md."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from charactery.constitution.character import Character

# Importing the modules of rules registers them, in the order in which they are listed.
from charactery.constitution.lint import desiderata as _desiderata
from charactery.constitution.lint import manifest as _manifest
from charactery.constitution.lint import name as _name
from charactery.constitution.lint import pairs as _pairs
from charactery.constitution.lint import silence as _silence
from charactery.constitution.lint import traits as _traits
from charactery.constitution.lint import void as _void
from charactery.constitution.lint.reading import Contradicts, Reading, Similar
from charactery.constitution.lint.rule import RULES, Fault, Rule

_MODULES = (_pairs, _traits, _void, _name, _desiderata, _silence, _manifest)
SETTINGS = "x-lint"  # the key of the settings that the critic reads, and the rule its own faults come under


@dataclass(frozen=True)
class Report:
    """What the critic found, by line, and what it could not look at."""

    faults: tuple[Fault, ...]
    without_judge: tuple[str, ...]  # rules that ran on words alone, having been given no judge of meaning
    not_run: tuple[tuple[str, str], ...]  # rule, and why it did not run

    @property
    def clean(self) -> bool:
        """Whether no fault was found."""
        return not self.faults

    def of(self, rule: str) -> tuple[Fault, ...]:
        """The faults of one rule."""
        return tuple(fault for fault in self.faults if fault.rule == rule)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON would hold it."""
        faults = [{**asdict(fault), "path": str(fault.path) if fault.path else None} for fault in self.faults]
        return {"faults": faults, "without_judge": list(self.without_judge), "not_run": dict(self.not_run)}


def rules() -> tuple[Rule, ...]:
    """All rules of the critic, for the command line and the docs."""
    order = [module.__name__ for module in _MODULES]
    return tuple(sorted(RULES.values(), key=lambda rule: order.index(rule.check.__module__)))


def lint(
    character: Character,
    *,
    manifest: dict[str, Any] | None = None,
    similar: Similar | None = None,
    contradicts: Contradicts | None = None,
) -> Report:
    """Find fault with a character.

    `manifest` is what the run's manifest holds: base.name, base.parameters, base.context, base.architecture,
    adapter, trained, recipe, data.sources, teacher, tools; what it lacks is not checked. `similar` turns texts into
    unit rows and `contradicts` scores pairs of texts from 0 to 1; without them `repeat` and `contradiction` go by
    words alone, and the report says so. A character leaves rules out by `x-lint: {ignore: [rule, …]}`.
    """
    reading = Reading(character, manifest, similar, contradicts)
    ignored, faults = _ignored(character)
    not_run, without_judge = [], []
    for one in rules():
        if why := _why_not(one, character, manifest, ignored):
            not_run.append((one.id, why))
            continue
        if one.judge and getattr(reading, one.judge) is None:
            without_judge.append(one.id)
        for found in one.check(reading):
            fault = Fault(one.id, found.message, character.path, found.line, found.trait, found.hint or one.hint)
            faults.append(fault)
    faults.sort(key=lambda fault: (fault.line, fault.rule))
    return Report(tuple(dict.fromkeys(faults)), tuple(without_judge), tuple(not_run))


def _why_not(one: Rule, character: Character, manifest: dict[str, Any] | None, ignored: set[str]) -> str | None:
    if one.id in ignored:
        return f"the character ignores it ({SETTINGS})"
    if one.manifest and manifest is None:
        return "no manifest was given"
    if one.english and character.language.split("-")[0] != "en":
        return f"its word lists are English and the character speaks {character.language}"
    return None


def _ignored(character: Character) -> tuple[set[str], list[Fault]]:
    """The rules that `x-lint` leaves out, and what is wrong with `x-lint` itself."""
    if SETTINGS not in character.extra:
        return set(), []
    wrong = list(_wrong(character.extra[SETTINGS]))
    line = character.lines.get(SETTINGS, 1)
    faults = [Fault(SETTINGS, message, character.path, line, None, _HINT) for message in wrong]
    settings = character.extra[SETTINGS]
    listed = settings.get("ignore") if isinstance(settings, dict) else None
    return {str(name) for name in listed} if isinstance(listed, list) else set(), faults


_HINT = "Write `x-lint: {ignore: [rule, …]}` with names that `rules()` lists"


def _wrong(settings: Any) -> Iterator[str]:
    if not isinstance(settings, dict) or not isinstance(settings.get("ignore", []), list):
        yield f"`{SETTINGS}` does not hold a list `ignore`"
        return
    for key in settings:
        if key != "ignore":
            yield f"`{SETTINGS}` has an unknown key {key!r}"
    for name in settings.get("ignore", []):
        if str(name) not in RULES:
            yield f"there is no rule {str(name)!r} to ignore; the rules are {', '.join(RULES)}"
