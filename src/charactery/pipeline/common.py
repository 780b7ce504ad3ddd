"""What the stages of a run have in common: its models, who speaks and who judges, and what earlier stages left."""

from dataclasses import replace
from typing import Any

from charactery.constitution import Character
from charactery.data.prompts import Prompt, read_chosen
from charactery.judges.authorship import ByAuthorship, library
from charactery.judges.rating import Judge, judge_named, of_answers_alone
from charactery.models.chat import Message
from charactery.models.local import Sampler
from charactery.models.reasoning import left_open
from charactery.models.sentences import SentenceEncoder
from charactery.models.speaker import Models, Speaker
from charactery.models.subject import BEST_OF, Subject
from charactery.pipeline import person
from charactery.pipeline.order import Order
from charactery.pipeline.recipe import AUTHORSHIP
from charactery.pipeline.watch import Watch
from charactery.runs import Row, Run, read_rows, stage_kind
from charactery.train.trainers import ADAPTER, MODEL

VALIDATION = "validation"  # a stage, and the split of the prompts whose answers it draws


class Common:
    """A run, what it was asked for, and its models, loaded once for all stages."""

    def __init__(self, run: Run, order: Order, models: Models, subject: Subject, watch: Watch) -> None:
        self.run, self.order, self.models, self.subject, self.watch = run, order, models, subject, watch
        self.recipe = order.recipe
        self.sampler = Sampler(self.recipe.sampler.max_tokens, self.recipe.sampler.temperature)
        self._encode: SentenceEncoder | None = None

    def encode(self, texts: Any) -> Any:
        """Sentence embeddings, the encoder loaded on first use."""
        if self._encode is None:
            self._encode = SentenceEncoder()
        return self._encode(texts)

    def plain(self) -> Speaker:
        """The model as it was."""
        return self.models.speaker(self.subject)

    def prompted(self, character: Character) -> Speaker:
        """The model as it was, a character in its prompt."""
        return self.models.speaker(
            replace(self.subject, text=f"{self.subject.text}+{character.id}", character=character)
        )

    def trained(self, stage: str) -> Subject:
        """The model as a stage left it, or the best of its answers."""
        if stage_kind(stage) == BEST_OF:
            n, judge = self.recipe.best_of.n, self.recipe.judge
            return replace(self.subject, text=f"run:{stage}", run=self.run.folder, best_of=n, judge=judge)
        folder = self.run.stage_folder(stage)
        # not the run's folder: what is written must be the same wherever the run lies
        subject = replace(self.subject, text=f"run:{stage}", run=self.run.folder)
        if not self.recipe.lora.rank:
            return replace(subject, base=str(folder / MODEL), kind="folder")
        return replace(subject, adapter=folder / ADAPTER)

    def speaker(self, stage: str | None) -> Speaker:
        """The model as a training stage left it; None for the base."""
        return self.models.speaker(self.trained(stage)) if stage else self.plain()

    def begun(self) -> str | None:
        """Where reasoning is left free, the mark that the chat template opens before an answer, or ""; else None."""
        return left_open(self.models.base(self.subject).tokenizer) if self.recipe.masks_reasoning else None

    def judge(self) -> Judge:
        """Who compares the model's own answers: never the model in training."""
        if self.recipe.judge == AUTHORSHIP:
            judge: Judge = self.by_authorship()
        else:
            judge = judge_named(self.recipe.judge, self.models, self.subject)(self.order.character)
        if not self.recipe.masks_reasoning:
            return judge
        return of_answers_alone(judge, self.models.base(self.subject))

    def by_authorship(self) -> ByAuthorship:
        """The judge that the stages `author` and `others` trained."""
        author, others = (
            library(self.run.stage_folder(side) / "adapter", self.rows("writings", side), self.encode)
            for side in person.SIDES
        )
        base = self.models.base(self.subject)
        return ByAuthorship(base, author, others, self.encode, self.recipe.writings.shown)

    def chosen(self) -> list[Prompt]:
        """The prompts of the run, of every split."""
        return read_chosen(self.run.stage_folder("prompts") / "prompts.jsonl")

    def rows(self, stage: str, name: str) -> list[Row]:
        """A file of rows that a stage left."""
        return read_rows(self.run.stage_folder(stage) / f"{name}.jsonl")

    def learnt(self, name: str) -> list[Row]:
        """What an `sft` stage learns from."""
        return [row for stage in self.recipe.learnt(name) for row in self.rows(stage, "sft")]

    def asked(self) -> dict[str, tuple[str, str, tuple[Message, ...]]]:
        """Id, kind and messages of the training prompts that are no tasks, by id."""
        return {
            d["id"]: (d["id"], d["kind"], tuple(d["messages"]))
            for d in self.rows("drafts", "drafts") if d["kind"] != "task"
        }  # fmt: skip
