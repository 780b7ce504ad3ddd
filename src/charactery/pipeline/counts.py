"""How many answers a run asks for, and how many rows it learns from: by its sizes alone."""

from dataclasses import dataclass
from math import comb

from charactery.data.cases import SITUATION
from charactery.data.documents import passages
from charactery.data.prompts import VALIDATION, trait_prompts
from charactery.data.reflections import questions
from charactery.data.revisions import AGAINST
from charactery.evals.sizes import CONTROLLED, FOREIGN_ASKED, JUDGED
from charactery.models.subject import BEST_OF
from charactery.pipeline.order import Order
from charactery.runs import stage_kind

TOKENS_ASKED = 100  # of an average prompt with its frame
EARLIER_TURNS = 2.2  # of a conversation of the stock, before the one that is learnt or judged


@dataclass(frozen=True)
class Counts:
    """Of what was ordered, with so many pairs of the user's own."""

    order: Order
    own_pairs: int

    def stages(self, kind: str) -> int:
        """How many of this kind the recipe has."""
        return [stage_kind(name) for name in self.order.recipe.own_stages].count(kind)

    @property
    def subjects(self) -> int:
        """Who is examined: the plain model, the prompted, the trained, and the sham where there is one."""
        return 4 if self.order.sham else 3

    @property
    def arms(self) -> int:
        """Trainings side by side."""
        return 2 if self.order.sham else 1

    # -- answers

    @property
    def turns(self) -> int:
        """Earlier turns of training conversations, which are answered, too; half by either side."""
        return round(EARLIER_TURNS * round(self.order.sizes.train / 4))

    @property
    def taught(self) -> int:
        """Drafts that a teacher would write."""
        return self.order.sizes.train * self.order.draws + self.order.sizes.tasks

    @property
    def drafts(self) -> int:
        """The teacher's, plain ones, two of them where there is a sham, and earlier turns."""
        sizes = self.order.sizes
        return self.taught + (sizes.train + sizes.tasks) * (2 if self.order.sham else 1) + self.turns

    @property
    def validated(self) -> int:
        """Answers kept apart for a loss to stop at."""
        return sum(VALIDATION.values()) if self.order.recipe.validates else 0

    @property
    def validated_turns(self) -> int:
        """Earlier turns before these."""
        return round(EARLIER_TURNS * VALIDATION["conversation"]) if self.order.recipe.validates else 0

    @property
    def validation(self) -> int:
        """What is drafted for those kept apart."""
        return self.validated * (self.order.draws + 1) + self.validated_turns

    @property
    def revised(self) -> int:
        """Critiques and revisions."""
        return 4 * self.order.sizes.train * self.stages("revisions")

    @property
    def played(self) -> int:
        """Of the fine-tuned model in self-play."""
        asked = min(self.order.recipe.self_play, self.own_pairs or self.order.sizes.train)
        return asked if self.stages("self-play") else 0

    @property
    def sampled_prompts(self) -> int:
        """What the model is asked in each round of samples."""
        return min(self.order.recipe.samples.prompts, self.order.sizes.train)

    @property
    def sampled(self) -> int:
        """The model's own that a judge compares."""
        return self.stages("samples") * self.sampled_prompts * self.order.recipe.samples.each

    @property
    def reflected(self) -> int:
        """What the model says of itself and is learnt."""
        told = self.order.recipe.reflections
        return self.stages("reflections") * (len(questions()) * told.each + told.conversations)

    @property
    def heard(self) -> int:
        """Turns of its conversations with itself that are not learnt from."""
        told = self.order.recipe.reflections
        return 0 if told.plain else self.stages("reflections") * told.conversations * (told.turns - 1)

    @property
    def online(self) -> int:
        """Of the model as GRPO trains it."""
        grpo = self.order.recipe.grpo
        return self.arms * self.stages("grpo") * grpo.steps * grpo.prompts * grpo.each

    @property
    def documents(self) -> int:
        """Documents about the character."""
        return self.stages("documents") * self.order.recipe.documents.count

    @property
    def cases(self) -> int:
        """Marginal cases, each a situation and what the character says to it."""
        return self.stages("cases") * self.order.recipe.cases.count

    @property
    def stated(self) -> int:
        """Documents, situations and what is said to them."""
        return self.documents + 2 * self.cases

    @property
    def elsewhere(self) -> int:
        """Prompts where the character should not show."""
        return min(self.order.sizes.elsewhere, len(trait_prompts(self.order.character, "elsewhere")))

    @property
    def examined(self) -> int:
        """Of each that is examined, in the evals."""
        sizes = self.order.sizes
        foreign = 2 * min(FOREIGN_ASKED, sizes.held_out)
        return sizes.held_out + 3 * sizes.held_out_conversations + foreign + self.elsewhere

    @property
    def beside(self) -> int:
        """For the evals' judge to be fitted on, and of their controls."""
        return 3 * min(JUDGED, self.order.sizes.train) + 3 * min(CONTROLLED, self.order.sizes.held_out)

    @property
    def candidates(self) -> int:
        """What the best of n is chosen from."""
        best_of = self.order.recipe.best_of
        asked = self.order.sizes.held_out * max(best_of.sizes) + best_of.n * self.examined
        return asked if self.stages(BEST_OF) else 0

    @property
    def answers(self) -> int:
        """All that are as long as the recipe's sampler says."""
        made = self.drafts + self.validation + self.revised + self.played + self.sampled + self.reflected + self.heard
        examined = self.subjects - (1 if self.stages(BEST_OF) else 0)  # the best of n is counted with its candidates
        return made + self.candidates + examined * self.examined + self.beside

    # -- judging

    @property
    def rated(self) -> int:
        """Answers that a judge reads one by one."""
        revised = 3 * self.order.sizes.train * self.stages("revisions")
        return self.sampled + revised + self.online // self.arms + self.candidates

    @property
    def compared_in_turn(self) -> int:
        """Comparisons by a judge that is shown two answers, each of which it is asked in both orders."""
        recipe, sizes = self.order.recipe, self.order.sizes
        best_of, grpo = recipe.best_of, recipe.grpo
        curve = sizes.held_out * sum(comb(n, 2) for n in best_of.sizes) + self.examined * comb(best_of.n, 2)
        return (
            self.stages("samples") * self.sampled_prompts * comb(recipe.samples.each, 2)
            + self.stages("revisions") * sizes.train * len(AGAINST)
            + self.stages("grpo") * grpo.steps * grpo.prompts * comb(grpo.each, 2)
            + (curve if self.stages(BEST_OF) else 0)
        )

    def known(self, read: int) -> dict[str, int]:
        """Answers that another run may have already, by kind of stage; in the evals, of `read` Subjects."""
        return {
            "drafts": self.drafts, "validation": self.validation, "self-play": self.played, "samples": self.sampled,
            "revisions": self.revised, "reflections": self.reflected + self.heard,
            "evaluate": read * self.examined + self.beside,
        }  # fmt: skip

    # -- rows

    @property
    def compared(self) -> int:
        """Pairs, over all DPO stages."""
        recipe = self.order.recipe
        drafted = self.own_pairs or recipe.contrast + self.order.sizes.tasks
        made = [source for name in recipe.before("", ("dpo",)) for source in recipe.compared(name)]
        sampled = sum(stage_kind(source) == "samples" for source in made) * self.sampled_prompts
        by_drafts = made.count("pairs")
        return by_drafts * drafted + self.played + sampled + self.revised // 4

    @property
    def fine_tuned(self) -> float:
        """Rows, over all SFT stages; documents and cases as so many rows of common length."""
        recipe, sizes = self.order.recipe, self.order.sizes
        told, longest = recipe.reflections, recipe.sampler.max_tokens
        about = recipe.writings.about if self.order.reads_about else 0
        by_kind = {
            "reflections": min(self.reflected, -(-told.tokens // longest)) if told.tokens else self.reflected,
            "revisions": sizes.train + sizes.tasks, "pairs": self.own_pairs or sizes.train + sizes.tasks,
            "samples": self.sampled_prompts, "writings": recipe.writings.passages * (1 + about) + sizes.tasks,
            **self._stated(TOKENS_ASKED + longest),
        }  # fmt: skip
        return sum(by_kind[stage_kind(made)] for name in recipe.before("", ("sft",)) for made in recipe.learnt(name))

    def _stated(self, row: int) -> dict[str, float]:
        """What documents and cases come to, as so many rows of that length in tokens."""
        told, cases = self.order.recipe.documents, self.order.recipe.cases
        parts = len(passages(self.order.character.without(told.without), told.tokens))
        documents = told.count + max(parts, round(told.verbatim * told.count))
        return {
            "documents": documents * told.tokens / row,
            "cases": cases.count * (TOKENS_ASKED + SITUATION + cases.tokens) / row,
        }
