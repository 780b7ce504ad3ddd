"""`charactery train`: from a character file to a trained model and its report, stage by stage, resumable."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from charactery.constitution import dump_character
from charactery.data.pairs import read_pairs
from charactery.data.prompts import Prompt, read_prompts
from charactery.errors import ModelNotFound
from charactery.judges.best_of import choosing
from charactery.judges.rating import STUDENT
from charactery.models.local import pick_device
from charactery.models.speaker import Models
from charactery.models.subject import BEST_OF, parse_subject
from charactery.pipeline import person
from charactery.pipeline.examining import Examining
from charactery.pipeline.making import Making
from charactery.pipeline.manifest import manifest
from charactery.pipeline.order import Order
from charactery.pipeline.recipe import stages
from charactery.pipeline.reuse import TAKEN, begin, check_reusable
from charactery.pipeline.training import Training
from charactery.pipeline.watch import Watch
from charactery.report import write_report
from charactery.report.files import stage_json, stage_rows
from charactery.runs import (
    Helper,
    Row,
    Run,
    is_first_process,
    open_run,
    read_run,
    stage_kind,
    write_json,
    write_text,
)

SHARED = ("sft", "dpo", "grpo", "sham-sft", "sham-dpo", "sham-grpo", *person.SIDES)  # several processes train together


def train(order: Order, watch: Watch) -> Run:
    """Do every stage that is not done yet. Raises CharacteryError for whatever the user can mend.

    Of several processes (`accelerate launch`) the first does what a single one would; the others only help it train.
    """
    order.check()
    own = read_prompts(order.prompts) if order.prompts else []
    own_pairs = read_pairs(order.pairs) if order.pairs else None
    others = [read_run(folder) for folder in order.reuse]
    subject = parse_subject(order.model)
    if not subject.here or subject.run or subject.character:
        raise ModelNotFound(f"{order.model!r} cannot be trained; give a model's name, folder or hub id")
    models = Models(order.device, watch.say, choosing)
    if not is_first_process():
        if pick_device(order.device) == "cuda":  # "cuda" is then this process's own card, and not the first's
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        helper = Helper(order.out, {"stages": stages(order.recipe, order.sham)})
        _do(_Stages(helper, order, models, subject, Watch()), own, own_pairs)
        return helper
    made = manifest(order, models, subject)
    for other in others:
        check_reusable(other, made)
    if others:
        made["notes"].append(TAKEN)
    with open_run(order.out, made) as run:
        if run.manifest.get("environment", {}).get("code") != made["environment"]["code"]:
            watch.say("this run was begun with other code of Charactery's; stages that are done are kept as they are")
        if STUDENT in run.manifest["notes"]:
            watch.say(STUDENT)
        write_text(run.folder / "character.md", dump_character(order.character.settled()))
        _do(
            _Stages(run, order, models, subject, watch), own, own_pairs,
            partial(begin, run, order.recipe, made, others),
        )  # fmt: skip
        return run


def _do(
    work: "_Stages", own: list[Prompt], own_pairs: list[Row] | None, begin: Callable[[str], None] = lambda name: None
) -> None:
    run, say = work.run, work.watch.say

    def stage(name: str, do: Callable[[Path], None]) -> None:
        begin(name)
        run.stage(name, do, say, stage_kind(name) in SHARED)

    stage("prompts", lambda folder: work.prompts(folder, own))
    stage("drafts", work.drafts)
    for name in stages(work.recipe, work.order.sham)[2:-1]:
        stage(name, lambda folder, name=name: work.do(name, folder, own_pairs))  # type: ignore[misc]
    stage("report", lambda folder: _report(work))


def _report(work: "_Stages") -> None:
    run, recipe = work.run, work.recipe
    if counts := stage_json(run, "writings", "counts.json"):
        tokens = counts["tokens"]  # of the person's texts, as the model's tokenizer cuts them
        learns = next((name for name in recipe.before("", ("sft",)) if "writings" in recipe.learnt(name)), None)
        stops = learns and not recipe.before(learns, ("sft",))  # the first alone stops at a loss
        if learns and stops and recipe.sft.stop_at_loss:  # which of them are met is known now
            last = stage_rows(run, learns, "validation.jsonl")[-1]
            steps = last["step"] if last.get("part", 1.0) else 0  # what began at the loss has learnt nothing
            tokens = person.seen(work.rows("writings", "sft"), work.order, work.plain(), steps)
        run.manifest["writings"] = tokens
        write_json(run.folder / "manifest.json", run.manifest)
    write_report(run, run.folder)


class _Stages(Making, Training, Examining):
    """The stages of one run, sharing its models."""

    def do(self, name: str, folder: Path, own_pairs: list[Row] | None) -> None:
        """One of the recipe's stages, by its name."""
        kinds: dict[str, Callable[[], None]] = {
            "validation": lambda: self.validation(folder),
            "judge": lambda: self.agreement(folder),
            "pairs": lambda: self.pairs(folder, own_pairs),
            "revisions": lambda: self.revisions(folder, name),
            "reflections": lambda: self.reflections(folder, name),
            "documents": lambda: self.documents(folder, name),
            "cases": lambda: self.cases(folder, name),
            "writings": lambda: self.writings(folder),
            "author": lambda: self.author(folder, name),
            "others": lambda: self.author(folder, name),
            "authorship": lambda: self.authorship(folder),
            "person": lambda: self.person(folder),
            "sft": lambda: self.sft(folder, name),
            "self-play": lambda: self.self_play(folder, name),
            "samples": lambda: self.samples(folder, name),
            "dpo": lambda: self.dpo(folder, name),
            "grpo": lambda: self.grpo(folder, name, self.judge(), self.recipe.start(name)),
            BEST_OF: lambda: self.best_of(folder, name),
            "sham-sft": lambda: self.sham_sft(folder),
            "sham-dpo": lambda: self.sham_dpo(folder),
            "sham-grpo": lambda: self.sham_grpo(folder),
            "evaluate": lambda: self.evaluate(folder),
        }
        kinds[stage_kind(name)]()
