"""The stages that train: SFT, DPO and GRPO, their shams, and the two models of the authorship judge."""

from dataclasses import replace
from functools import partial
from pathlib import Path

from charactery.data.drafts import PLAIN
from charactery.data.pairs import confounds, contrasted, make_pairs, sft_rows
from charactery.errors import BadData
from charactery.judges.rating import ByCoin, Judge
from charactery.models.local import LocalModel
from charactery.pipeline.common import VALIDATION, Common
from charactery.pipeline.recipe import stages
from charactery.runs import Row, is_first_process, stage_kind, write_json, write_rows
from charactery.train.fitting import train_fitting
from charactery.train.settings import Dpo, Grpo, Lora, Sft
from charactery.train.trainers import Work, train_dpo, train_sft


class Training(Common):
    """Each leaves an adapter, or all weights, and its log in its folder."""

    def sft(self, folder: Path, name: str) -> None:
        """An adapter from what was made last, fresh or going on from the one before."""
        settings = self.recipe.sft
        if self.recipe.before(name, ("sft",)):  # the loss is on the character's answers, which the first learnt
            settings = replace(settings, stop_at_loss=0.0)
        self._sft(folder, name, self.learnt(name), self.recipe.start(name), self.recipe.lora, settings)

    def sham_sft(self, folder: Path) -> None:
        """As many rows as the recipe's `sft` stages had together, so that both arms take the same steps."""
        count = sum(len(self.learnt(name)) for name in self.recipe.before("", ("sft",)))
        rows = _cycled(sft_rows(self.rows("drafts", "drafts"), PLAIN), count)
        if is_first_process():
            write_rows(folder / "sft.jsonl", rows)
        settings = replace(self.recipe.sft, stop_at_loss=0.0)  # a loss on the character's answers, which it never meets
        self._sft(folder, "sham-sft", rows, None, self.recipe.lora, settings)

    def author(self, folder: Path, name: str) -> None:
        """The language model of the author's writings, or of the others'."""
        rows = self.rows("writings", stage_kind(name))
        lora = self.recipe.lora if self.recipe.lora.rank else Lora()  # the judge is two adapters, whatever it judges
        self._sft(folder, name, rows, None, lora, self.recipe.authors)

    def _sft(self, folder: Path, name: str, rows: list[Row], before: str | None, lora: Lora, settings: Sft) -> None:
        validation = self.rows(VALIDATION, "sft") if settings.stop_at_loss else []

        def train(model: LocalModel, start: Path | None, fitting: Sft) -> Path:
            return train_sft(model, rows, lora, fitting, self.work(name, folder), start, validation)

        train_fitting(partial(self.begin, before), train, settings, min(settings.batch, len(rows)))

    def dpo(self, folder: Path, name: str) -> None:
        """An adapter from pairs, going on from the one before, and what confounds the pairs."""
        rows = self.compared(name)
        if is_first_process():
            apart = [row for row in rows if row["kind"] != "task"]  # whose sides are the other way about
            write_json(folder / "confounds.json", confounds(apart, self.order.seed, self.recipe.match_lengths))
            write_rows(folder / "pairs.jsonl", rows)
        self._dpo(folder, name, rows, self.recipe.start(name))

    def sham_dpo(self, folder: Path) -> None:
        """As many pairs as all of the recipe's `dpo` stages had, after the sham SFT."""
        count = sum(len(self.compared(stage)) for stage in self.recipe.before("", ("dpo",)))
        rows = _cycled(make_pairs(self.rows("drafts", "drafts"), sham_seed=self.order.seed), count)
        if is_first_process():
            write_rows(folder / "pairs.jsonl", rows)
        self._dpo(folder, "sham-dpo", rows, "sham-sft" if self.recipe.before("", ("sft",)) else None)

    def compared(self, name: str) -> list[Row]:
        """What a `dpo` stage is given."""
        rows: list[Row] = []
        for stage in self.recipe.compared(name):
            mine = self.rows(stage, "pairs")
            rows += contrasted(mine, self.recipe.contrast, self.order.seed) if stage == "pairs" else mine
        return rows

    def _dpo(self, folder: Path, name: str, rows: list[Row], start: str | None) -> None:
        def train(model: LocalModel, adapter: Path | None, fitting: Dpo) -> Path:
            return train_dpo(model, rows, adapter, fitting, self.work(name, folder), self.recipe.lora)

        train_fitting(partial(self.begin, start), train, self.recipe.dpo, min(self.recipe.dpo.batch, len(rows)))

    def grpo(self, folder: Path, name: str, judge: Judge, start: str | None, stages: int = 1) -> None:
        """An adapter by what a judge says of the model's answers as it learns, going on from the one before; as long as
        so many of the recipe's stages."""
        from charactery.train.grpo import train_grpo

        asked = [(id, messages) for id, _, messages in self.asked().values()]

        def train(model: LocalModel, adapter: Path | None, fitting: Grpo) -> Path:
            return train_grpo(model, asked, judge, fitting, self.work(name, folder), self.recipe.lora, adapter)

        settings = replace(self.recipe.grpo, steps=stages * self.recipe.grpo.steps)
        # the judge has the base as it was, in memory of its own
        train_fitting(partial(self.begin, start), train, settings, settings.prompts * settings.each)

    def sham_grpo(self, folder: Path) -> None:
        """As long a training by a coin's rewards as all of the recipe's `grpo` stages."""
        before = [name for name in stages(self.recipe, sham=True) if name in ("sham-sft", "sham-dpo")]
        rounds = len(self.recipe.before("", ("grpo",)))
        self.grpo(folder, "sham-grpo", ByCoin(self.order.seed), next(reversed(before), None), rounds)

    def begin(self, before: str | None) -> tuple[LocalModel, Path | None]:
        """What a trainer is given, loaded anew since it changes it: the base, or all weights as the stage `before` left
        them, and the adapter to go on with."""
        self.models.release()
        subject = self.trained(before) if before else self.subject
        return LocalModel.load(self.models.folder(subject), self.subject.base, self.order.device), subject.adapter

    def work(self, name: str, folder: Path) -> Work:
        """Where a trainer works; its steps are told as they are done."""

        def progress(step: int, steps: int, log: Row) -> None:
            if step == 1 or not started:
                self.watch.start(name, steps)
                self.watch.advance(step - 1)
                started.append(True)
            self.watch.advance(1)

        started: list[bool] = []
        return Work(folder, self.order.seed_of(name), self.order.report_to, progress)


def _cycled(rows: list[Row], count: int) -> list[Row]:
    """`count` rows, from the start again where there are fewer."""
    if not rows:
        raise BadData("no plain answers are left for the sham arm")
    return [rows[n % len(rows)] for n in range(count)]
