"""Trait read-outs: how much likelier each trait of a character makes the answers that lie side by side."""

from collections.abc import Iterator, Sequence

from charactery.constitution import Character
from charactery.constitution.library import bundled_names
from charactery.errors import CharacteryError
from charactery.judges.likelihood import each_margin, evidence
from charactery.models.chat import user
from charactery.models.speaker import Models
from charactery.models.subject import DEFAULT, Subject, parse_subject, run_character, untrained
from charactery.runs import digest

KEPT = 5_000  # figures that are kept, so that a comparison that is opened anew has them at once


class TraitReader:
    """Reads traits by the likelihood judge, on the base of the first Subject whose weights are here."""

    def __init__(self, models: Models) -> None:
        self.models = models
        self._known: dict[str, tuple[float, ...]] = {}

    def characters(self, subjects: Sequence[str]) -> dict[str, str]:
        """Whose traits can be read, by what `find_character` takes: first those in the Subjects, then the bundled."""
        found: dict[str, str] = {}
        for subject in _parsed(subjects):
            try:
                character = subject.character or run_character(subject)
            except CharacteryError:  # the run's file is gone or damaged, which keeps nobody from comparing
                continue
            if character is not None and character.name not in found.values():
                found[str(character.path)] = character.name
        return found | {name: name for name in bundled_names() if name not in found}

    def reader(self, subjects: Sequence[str]) -> Subject:
        """The model that reads. Nothing is downloaded for an imported talk that names it."""
        here = next((subject for subject in _parsed(subjects) if subject.here and subject.at_hand), None)
        return untrained(here or parse_subject(DEFAULT))

    def read(
        self, character: Character, subjects: Sequence[str], question: str, answers: Sequence[str]
    ) -> Iterator[tuple[str, tuple[float, ...]]]:
        """Each trait's title with its margin in each answer, as it is read; the whole character, "", is the last.

        As in a report, an answer is read after the turn that it answers alone. Raises CharacteryError where the model
        cannot be loaded.
        """
        reader = self.reader(subjects)
        whole, *traits = evidence(character)
        held = [*traits, whole]
        titles = {trait.id: trait.title for trait in character.traits()}
        keys = [digest([reader.text, e.text, e.foils, question, list(answers)]) for e in held]
        new = [e for e, key in zip(held, keys, strict=True) if key not in self._known]
        cases = [((user(question),), answer) for answer in answers]
        margins = each_margin(self.models.base(reader), cases, new) if new else iter(())
        for e, key in zip(held, keys, strict=True):
            if key not in self._known:
                self._known[key] = tuple(next(margins).tolist())
            yield titles.get(e.trait, ""), self._known[key]
        for key in list(self._known)[:-KEPT]:
            del self._known[key]


def _parsed(subjects: Sequence[str]) -> Iterator[Subject]:
    """The Subjects that can still be read: of an imported talk, or a run that is gone, there is but the name."""
    for text in subjects:
        try:
            yield parse_subject(text)
        except CharacteryError:
            continue
