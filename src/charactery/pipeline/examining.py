"""The stages that measure: the judges, the Subjects of the run by the evals, and a person's portrait."""

from pathlib import Path

from charactery.constitution import foil_characters
from charactery.data.passages import AUTHOR
from charactery.evals.of_run import Examined, evaluate, work_ahead
from charactery.evals.person.portrait import Sitter, last_year, portray
from charactery.evals.person.portrait import work_ahead as portrait_ahead
from charactery.judges.classifier import heard_of
from charactery.judges.labelled import agreement, by_length, chance_corrected, judged, labelled_pairs, same_as
from charactery.judges.rating import LIKELIHOOD, judge_named
from charactery.models.speaker import Speaker
from charactery.pipeline import person
from charactery.pipeline.common import Common
from charactery.pipeline.recipe import stages
from charactery.report.files import stage_json
from charactery.runs import Journal, Row, write_json


class Examining(Common):
    """Each writes its figures to its folder."""

    def agreement(self, folder: Path) -> None:
        """How often the judge of this run is right on pairs whose better answer is known; beside it, the likelihood."""
        pairs, journal = labelled_pairs(), Journal(folder / "batches.jsonl")
        names = list(dict.fromkeys([self.recipe.judge, LIKELIHOOD]))
        self.watch.start("judge", 2 * len(pairs) * len(names))
        rights: dict[str, list[bool | None]] = {}
        found: Row = {"judge": self.recipe.judge, "by_length": by_length(pairs).as_dict()}
        for name in names:
            make = judge_named(name, self.models, self.subject)
            rights[name], outcomes = judged(make, pairs, journal, self.watch.advance)
            kappa = chance_corrected(pairs, rights[name]).as_dict()
            found[name] = {"agreement": agreement(pairs, rights[name]), "kappa": kappa, "outcomes": outcomes}
        if len(names) > 1:
            found["same as the likelihood judge"] = same_as(*rights.values()).as_dict()
        write_json(folder / "agreement.json", found)

    def authorship(self, folder: Path) -> None:
        """How well the authorship judge knows the author from others."""
        rows = self.rows("writings", "held_out")
        self.watch.start("authorship", 4 * len(rows))
        person.calibrate(self.by_authorship(), rows, self.order.seed, folder, self.watch.advance)

    def evaluate(self, folder: Path) -> None:
        """The evals over plain, prompted, trained and, where there is one, sham."""
        prompts = self.chosen()
        subjects = self.subjects()
        other, *foils = [self.prompted(f) for f in foil_characters() if f.name != self.order.character.name]
        self.watch.start("evaluate", work_ahead(self.order.character, prompts, len(subjects)))
        evaluate(Examined(
            self.order.character, prompts, self.rows("drafts", "drafts"), subjects,
            self.models.base(self.subject), self.encode, self.sampler, self.order.seed, folder,
            other, foils, self.recipe.masks_reasoning, self.recipe.batch, self.watch.advance,
        ))  # fmt: skip

    def person(self, folder: Path) -> None:
        """Whose words the answers are in, what the person never knew, and what the model says of itself."""
        found = stage_json(self.run, "authorship", "authorship.json")
        begun, texts = self.begun(), self.order.texts()[AUTHOR]
        answers = [row | {"answer": heard_of(row["answer"], begun)} for row in self.rows("evaluate", "samples")]
        subjects = self.subjects()
        self.watch.start("person", portrait_ahead(answers, subjects, last_year(texts)))
        portray(Sitter(
            subjects, answers, self.by_authorship(), found["threshold"], texts, self.sampler, self.order.seed, folder,
            self.recipe.batch, self.watch.advance, begun,
        ))  # fmt: skip

    def subjects(self) -> dict[str, Speaker]:
        """Who is examined, by role."""
        subjects = {"plain": self.plain(), "prompted": self.prompted(self.order.character)}
        subjects["trained"] = self.models.speaker(self.trained(self.recipe.trained))
        if self.order.sham:
            last = [name for name in stages(self.recipe, sham=True) if name.startswith("sham-")][-1]
            subjects["sham"] = self.models.speaker(self.trained(last))
        return subjects
