"""What the report is about: a run, its character and its figures, read once and handed to every section."""

from dataclasses import dataclass

from charactery.constitution import Character, load_character
from charactery.report.figures import Figure, Figures, load_figures
from charactery.runs import Run


@dataclass(frozen=True)
class Source:
    """A run read for reporting. `character` is None where the run keeps no copy of it."""

    run: Run
    figures: Figures
    character: Character | None

    @property
    def name(self) -> str:
        """The character's name."""
        return self.character.name if self.character else str(self.run.manifest["settings"].get("character", "?"))

    def trait_title(self, id: str) -> str:
        """A trait's heading in the character file, its id where the file has none of that id."""
        titles = {trait.id: trait.title for trait in self.character.traits()} if self.character else {}
        return titles.get(id, id)

    def one(self, eval: str, metric: str, subject: str, condition: str | None = None) -> Figure | None:
        """The first measured figure of that kind, or None."""
        return self.figures.one(eval, metric, subject, condition)


def read_source(run: Run) -> Source:
    """Read what every section needs. Raises CharacteryError where the run is not evaluated or cannot be read."""
    figures = Figures(tuple(load_figures(run)))
    path = run.folder / "character.md"
    return Source(run, figures, load_character(path) if path.exists() else None)
