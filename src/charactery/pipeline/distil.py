"""`charactery train`: from a character file to a trained model and its report, stage by stage, resumable."""

import os
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from charactery.constitution import Character, dump_character, system_prompt
from charactery.data.best_of import best_by_n
from charactery.data.cases import Weighing, weigh
from charactery.data.documents import Describing, describe
from charactery.data.drafts import CHARACTER, PLAIN, Drafting, count_answers, draft
from charactery.data.filters import repeated_share
from charactery.data.pairs import (
    apart_from,
    chosen_rows,
    confounds,
    contrasted,
    make_pairs,
    matched,
    read_pairs,
    sft_rows,
)
from charactery.data.passages import AUTHOR
from charactery.data.prompts import Prompt, choose, read_chosen, read_prompts, validation_prompts
from charactery.data.reflections import Reflecting, ordinary, questions, reflect
from charactery.data.revisions import Revising, revise
from charactery.data.samples import Drawing, best_against_worst
from charactery.data.self_play import playable, self_play
from charactery.errors import BadData, ModelNotFound
from charactery.evals.of_run import Examined, evaluate, work_ahead
from charactery.evals.person.portrait import Sitter, last_year, portray
from charactery.evals.person.portrait import work_ahead as portrait_ahead
from charactery.judges.authorship import ByAuthorship, library
from charactery.judges.best_of import choosing
from charactery.judges.classifier import check_drafts
from charactery.judges.labelled import agreement, by_length, judged, labelled_pairs, same_as
from charactery.judges.rating import LIKELIHOOD, ByCoin, Judge, judge_named, of_answers_alone
from charactery.models.chat import Message, user
from charactery.models.local import LocalModel, Sampler, derive_seed, pick_device
from charactery.models.sentences import SentenceEncoder
from charactery.models.speaker import Models, Speaker
from charactery.models.subject import BEST_OF, Subject, parse_subject
from charactery.pipeline import person
from charactery.pipeline.manifest import STUDENT, manifest, teaching
from charactery.pipeline.order import LEAST_PAIRS, Order
from charactery.pipeline.recipe import AUTHORSHIP, stages
from charactery.pipeline.reuse import TAKEN, begin, check_reusable
from charactery.report import write_report
from charactery.report.files import stage_json
from charactery.runs import (
    Helper,
    Journal,
    Row,
    Run,
    is_first_process,
    open_run,
    read_rows,
    read_run,
    stage_kind,
    write_json,
    write_rows,
    write_text,
)
from charactery.stats import mean
from charactery.train.fitting import train_fitting
from charactery.train.settings import Dpo, Grpo, Lora, Sft
from charactery.train.trainers import ADAPTER, MODEL, Work, train_dpo, train_sft


@dataclass(frozen=True)
class Watch:
    """Whom to tell: a line for people, and progress of a named stage in units done of units there are."""

    say: Callable[[str], None] = lambda line: None
    start: Callable[[str, int], None] = lambda name, units: None
    advance: Callable[[int], None] = lambda units: None


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
    stage("report", lambda folder: _report(run))


def _report(run: Run) -> None:
    if counts := stage_json(run, "writings", "counts.json"):
        run.manifest["writings"] = counts["tokens"]  # of the person's texts, as the model's tokenizer cuts them
        write_json(run.folder / "manifest.json", run.manifest)
    write_report(run, run.folder)


VALIDATION = "validation"  # a stage, and the split of the prompts whose answers it draws
SHARED = ("sft", "dpo", "grpo", "sham-sft", "sham-dpo", "sham-grpo", *person.SIDES)  # several processes train together


class _Stages:
    """The stages of one run, sharing its models."""

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
        return self.models.speaker(self.subject)

    def prompted(self, character: Character) -> Speaker:
        return self.models.speaker(
            replace(self.subject, text=f"{self.subject.text}+{character.id}", character=character)
        )

    def trained(self, stage: str) -> Subject:
        if stage_kind(stage) == BEST_OF:
            n, judge = self.recipe.best_of.n, self.recipe.judge
            return replace(self.subject, text=f"run:{stage}", run=self.run.folder, best_of=n, judge=judge)
        folder = self.run.stage_folder(stage)
        # not the run's folder: what is written must be the same wherever the run lies
        subject = replace(self.subject, text=f"run:{stage}", run=self.run.folder)
        if not self.recipe.lora.rank:
            return replace(subject, base=str(folder / MODEL), kind="folder")
        return replace(subject, adapter=folder / ADAPTER)

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

    def prompts(self, folder: Path, own: list[Prompt]) -> None:
        """The prompts, split before anything is generated."""
        self.watch.start("prompts", 1)
        order = self.order
        apart = validation_prompts(order.character) if self.recipe.validates else []
        chosen, counts = choose(order.character, own, order.sizes, order.seed, self.encode, apart)
        write_rows(folder / "prompts.jsonl", [p.row() for p in chosen])
        write_json(folder / "counts.json", counts)
        self.watch.advance(1)

    def chosen(self) -> list[Prompt]:
        return read_chosen(self.run.stage_folder("prompts") / "prompts.jsonl")

    def drafts(self, folder: Path) -> None:
        """The teacher's answers as the character, and plain ones, to the training prompts."""
        prompts = [p for p in self.chosen() if p.split == "train"]
        self.watch.start("drafts", count_answers(prompts, self.order.sham, self.order.draws))
        draft(prompts, self.drafting(), folder, self.watch.advance)

    def drafting(self) -> Drafting:
        """Who drafts, and how."""
        order = self.order
        teacher = teaching(order, self.models) if order.teacher else self.prompted(order.character)
        speakers = {CHARACTER: teacher, PLAIN: self.plain()}
        sampler = replace(self.sampler, temperature=self.recipe.draft_temperature)
        told = replace(self.sampler, max_tokens=min(self.recipe.told, self.sampler.max_tokens))
        return Drafting(
            order.character, speakers, sampler, order.seed, order.sham, self.recipe.batch, order.draws, self.encode,
            told,
        )  # fmt: skip

    def validation(self, folder: Path) -> None:
        """Answers as the character whose loss SFT is to stop at: the same for every seed, and nothing learns them."""
        prompts = [p for p in self.chosen() if p.split == VALIDATION]
        self.watch.start(VALIDATION, count_answers(prompts, False, self.order.draws))
        drafts = draft(prompts, replace(self.drafting(), seed=0, sham=False), folder, self.watch.advance)
        rows = sft_rows(drafts, CHARACTER)
        if len(rows) < LEAST_PAIRS:
            raise BadData(f"only {len(rows)} answers are left for a loss to stop at; see set_aside.jsonl", folder)
        write_rows(folder / "sft.jsonl", rows)

    def pairs(self, folder: Path, own: list[Row] | None) -> None:
        """What SFT and DPO learn from, of the drafts or of the user's own pairs, and what confounds it."""
        self.watch.start("pairs", 1)
        drafts = read_rows(self.run.stage_folder("drafts") / "drafts.jsonl")
        if own is None:
            pairs = make_pairs(drafts, self.recipe.match_lengths)
        else:
            own, near = apart_from(own, [p for p in self.chosen() if p.split != "train"], self.encode)
            pairs = matched(own) if self.recipe.match_lengths else own
            if near:
                self.watch.say(f"{near} of your pairs are left out: their prompts are near held-out or elsewhere ones")
        answers = sft_rows(drafts, CHARACTER) if own is None else chosen_rows(pairs)
        if len(pairs) < LEAST_PAIRS:
            raise BadData(f"only {len(pairs)} pairs are left to train on; see set_aside.jsonl in the drafts", folder)
        check_drafts([d for d in drafts if d["kind"] != "task"], CHARACTER, PLAIN)  # before hours of training
        write_rows(folder / "sft.jsonl", answers)
        write_rows(folder / "pairs.jsonl", pairs)
        apart = [p for p in pairs if p["kind"] != "task"]  # in those to tasks the sides are the other way about
        write_json(folder / "confounds.json", confounds(apart, self.order.seed, self.recipe.match_lengths))
        if self.order.sham:
            write_rows(folder / "sham-pairs.jsonl", make_pairs(drafts, sham_seed=self.order.seed))
            write_rows(folder / "sham-sft.jsonl", sft_rows(drafts, PLAIN))
        self.watch.advance(1)

    def work(self, name: str, folder: Path) -> Work:
        def progress(step: int, steps: int, log: Row) -> None:
            if step == 1 or not started:
                self.watch.start(name, steps)
                self.watch.advance(step - 1)
                started.append(True)
            self.watch.advance(1)

        started: list[bool] = []
        return Work(folder, self.order.seed, self.order.report_to, progress)

    def begin(self, before: str | None) -> tuple[LocalModel, Path | None]:
        """What a trainer is given, loaded anew since it changes it: the base, or all weights as the stage `before` left
        them, and the adapter to go on with."""
        self.models.release()
        subject = self.trained(before) if before else self.subject
        return LocalModel.load(self.models.folder(subject), self.subject.base, self.order.device), subject.adapter

    def rows(self, stage: str, name: str) -> list[Row]:
        return read_rows(self.run.stage_folder(stage) / f"{name}.jsonl")

    def revisions(self, folder: Path, name: str) -> None:
        """Plain answers revised by the model itself, and what the judge prefers."""
        drafts = [d for d in self.rows("drafts", "drafts") if d["side"] == PLAIN and d["kind"] != "task"]
        self.watch.start(name, 7 * len(drafts))
        character = self.order.character
        revising = Revising(
            character, self.speaker(self.recipe.start(name)), self.sampler, self.judge(), self.order.seed,
            system_prompt(character), self.recipe.batch,
        )  # fmt: skip
        learn, pairs = revise(drafts, revising, folder, self.watch.advance)
        if len(learn) < LEAST_PAIRS:
            raise BadData(
                f"only {len(learn)} revisions are better than what they revise, by the judge, and fit to be learnt "
                "from: too few to train on. See revisions.jsonl; a larger model revises better",
                folder,
            )
        write_rows(folder / "sft.jsonl", [*learn, *(r for r in self.rows("pairs", "sft") if r["kind"] == "task")])
        write_rows(folder / "pairs.jsonl", matched(pairs) if self.recipe.match_lengths else pairs)
        write_json(folder / "confounds.json", confounds(pairs, self.order.seed, self.recipe.match_lengths))

    def reflections(self, folder: Path, name: str) -> None:
        """What the model as trained so far says of itself with the character in its prompt, or plain answers."""
        told, character = self.recipe.reflections, self.order.character
        so_far = self.speaker(self.recipe.start(name))
        spoken = replace(so_far.subject, text=f"{so_far.subject.text}+{character.id}", character=character)
        speaker = self.plain() if told.plain else self.models.speaker(spoken)
        tokenizer, seed = self.models.base(self.subject).tokenizer, derive_seed(self.order.seed, name)
        asked, each, conversations = questions(), told.each, told.conversations
        if told.plain:
            count = len(asked) * each + conversations
            asked, each, conversations = ordinary(self.chosen(), count, seed), 1, 0
        self.watch.start(name, len(asked) * each + conversations * told.turns)
        reflecting = Reflecting(
            speaker, replace(self.sampler, temperature=told.temperature), seed, each, conversations, told.turns,
            system_prompt(character), asked, lambda text: len(tokenizer.encode(text, add_special_tokens=False)),
            "ordinary" if told.plain else "reflection", told.tokens, "" if told.plain else character.language,
            self.recipe.batch,
        )  # fmt: skip
        rows = reflect(reflecting, folder, self.watch.advance)
        learnt = sum(row["tokens"] for row in rows)
        if learnt < 0.95 * told.tokens:
            self.watch.say(
                f"what is fit to learn from has {learnt} tokens, and [reflections] asks for {told.tokens}; introspect "
                "and introspect-plain can be compared where both have as many"
            )
        if len(rows) < LEAST_PAIRS:
            raise BadData(f"only {len(rows)} reflections are fit to learn from; see set_aside.jsonl", folder)
        write_rows(folder / "sft.jsonl", rows)

    def documents(self, folder: Path, name: str) -> None:
        """Documents about the character by the teacher or the plain model, and the constitution's own text."""
        told, order = self.recipe.documents, self.order
        self.watch.start(name, told.count)
        describing = Describing(
            order.character.without(told.without), self.writer(), Sampler(told.tokens, told.temperature),
            derive_seed(order.seed, name), told.count, told.verbatim, self.recipe.batch,
        )  # fmt: skip
        self.learn(describe(describing, folder, self.watch.advance), "document", folder)

    def cases(self, folder: Path, name: str) -> None:
        """Marginal situations by the teacher or the plain model, and what it says to them as the character."""
        told, order = self.recipe.cases, self.order
        character = order.character.without(told.without)
        speaker = teaching(replace(order, character=character), self.models) if order.teacher else None
        self.watch.start(name, 2 * told.count)
        weighing = Weighing(
            character, self.writer(), speaker or self.prompted(character), Sampler(told.tokens, told.temperature),
            derive_seed(order.seed, name), told.count, self.recipe.batch,
        )  # fmt: skip
        self.learn(weigh(weighing, folder, self.watch.advance), "case", folder)

    def writer(self) -> Speaker:
        """Who writes about the character, and not as it."""
        return self.models.speaker(self.order.teacher) if self.order.teacher else self.plain()

    def learn(self, rows: list[Row], kind: str, folder: Path) -> None:
        """Hand rows on to SFT, if enough of this kind are fit."""
        if (fit := sum(row["kind"] == kind for row in rows)) < LEAST_PAIRS:
            raise BadData(
                f"only {fit} of the {kind}s that the model wrote are fit to learn from; see set_aside.jsonl. A larger "
                "model writes better ones: --teacher",
                folder,
            )
        write_rows(folder / "sft.jsonl", rows)

    def learnt(self, name: str) -> list[Row]:
        """What an `sft` stage learns from."""
        return [row for stage in self.recipe.learnt(name) for row in self.rows(stage, "sft")]

    def writings(self, folder: Path) -> None:
        """A person's texts as answers, for the model and for the two models of the authorship judge."""
        person.gather(
            self.order, self.chosen(), self.rows("drafts", "drafts"), self.plain(), folder,
            lambda units: self.watch.start("writings", units), self.watch.advance,
        )  # fmt: skip

    def author(self, folder: Path, name: str) -> None:
        """The language model of the author's writings, or of the others'."""
        rows = self.rows("writings", stage_kind(name))
        lora = self.recipe.lora if self.recipe.lora.rank else Lora()  # the judge is two adapters, whatever it judges
        self._sft(folder, name, rows, None, lora, self.recipe.authors)

    def by_authorship(self) -> ByAuthorship:
        author, others = (
            library(self.run.stage_folder(side) / "adapter", self.rows("writings", side), self.encode)
            for side in person.SIDES
        )
        base = self.models.base(self.subject)
        return ByAuthorship(base, author, others, self.encode, self.recipe.writings.shown)

    def authorship(self, folder: Path) -> None:
        """How well the authorship judge knows the author from others."""
        rows = self.rows("writings", "held_out")
        self.watch.start("authorship", 4 * len(rows))
        person.calibrate(self.by_authorship(), rows, self.order.seed, folder, self.watch.advance)

    def sft(self, folder: Path, name: str) -> None:
        """An adapter from what was made last, fresh or going on from the one before."""
        self._sft(folder, name, self.learnt(name), self.recipe.start(name), self.recipe.lora, self.recipe.sft)

    def sham_sft(self, folder: Path) -> None:
        """As many rows as the recipe's `sft` stages had together, so that both arms take the same steps."""
        count = sum(len(self.learnt(name)) for name in self.recipe.before("", ("sft",)))
        rows = _cycled(self.rows("pairs", "sham-sft"), count)
        settings = replace(self.recipe.sft, stop_at_loss=0.0)  # a loss on the character's answers, which it never meets
        self._sft(folder, "sham-sft", rows, None, self.recipe.lora, settings)

    def _sft(self, folder: Path, name: str, rows: list[Row], before: str | None, lora: Lora, settings: Sft) -> None:
        validation = self.rows(VALIDATION, "sft") if settings.stop_at_loss else []

        def train(model: LocalModel, start: Path | None, fitting: Sft) -> Path:
            return train_sft(model, rows, lora, fitting, self.work(name, folder), start, validation)

        train_fitting(partial(self.begin, before), train, settings)

    def self_play(self, folder: Path, name: str) -> None:
        """Pairs of what SFT learnt from against what its adapter says now, and what confounds them."""
        rows = self.learnt(self.recipe.before(name, ("sft",))[-1])
        self.watch.start(name, min(self.recipe.self_play, len(playable(rows))))
        sampler = replace(self.sampler, temperature=self.recipe.self_play_temperature)
        pairs = self_play(
            rows, self.speaker(self.recipe.start(name)), sampler, self.recipe.self_play, self.order.seed,
            folder, self.recipe.batch, self.watch.advance,
        )  # fmt: skip
        shares = {side: [repeated_share(p[side][0]["content"]) for p in pairs] for side in ("chosen", "rejected")}
        repeats = {side: mean(values, self.order.seed, "share of 4-grams") for side, values in shares.items()}
        write_json(folder / "repeats.json", {side: estimate.as_dict() for side, estimate in repeats.items()})
        match = self.recipe.match_lengths
        pairs = matched(pairs) if match else pairs
        write_rows(folder / "pairs.jsonl", pairs)
        write_json(folder / "confounds.json", confounds(pairs, self.order.seed, match))

    def samples(self, folder: Path, name: str) -> None:
        """The model's own answers, judged: of each prompt's the best against the worst."""
        asked = self.asked()
        told, rounds = self.recipe.samples, len(self.recipe.before(name, ("samples",)))
        seed = derive_seed(self.order.seed, name)
        drawn = random.Random(seed).sample(sorted(asked), min(told.prompts, len(asked)))
        self.watch.start(name, 2 * len(drawn) * told.each)
        character = self.order.character
        drawing = Drawing(
            self.speaker(self.recipe.start(name)), replace(self.sampler, temperature=told.temperature), told.each,
            self.judge(), seed, system_prompt(character), character.language, self.recipe.batch,
        )  # fmt: skip
        pairs = best_against_worst([asked[id] for id in drawn], drawing, folder, self.watch.advance)
        match = self.recipe.match_lengths
        pairs = matched(pairs) if match else pairs
        if len(pairs) < LEAST_PAIRS:
            raise BadData(
                f"only {len(pairs)} pairs are left after round {rounds + 1}: of the model's answers to the other "
                "prompts the judge told no better from worse; see unpaired.jsonl, and ask for more with [samples] in "
                "the recipe",
                folder,
            )
        write_rows(folder / "pairs.jsonl", pairs)
        write_json(folder / "confounds.json", confounds(pairs, self.order.seed, match))

    def asked(self) -> dict[str, tuple[str, str, tuple[Message, ...]]]:
        """Id, kind and messages of the training prompts that are no tasks, by id."""
        return {
            d["id"]: (d["id"], d["kind"], tuple(d["messages"]))
            for d in self.rows("drafts", "drafts") if d["kind"] != "task"
        }  # fmt: skip

    def best_of(self, folder: Path, name: str) -> None:
        """Plain answers to the held-out prompts, and what the judge picks among the first n of them."""
        told, character = self.recipe.best_of, self.order.character
        asked = [(p.id, (user(p.turns[0]),)) for p in self.chosen() if p.split == "held-out" and len(p.turns) == 1]
        each = max(told.sizes)
        self.watch.start(name, 2 * len(asked) * each)
        drawing = Drawing(
            self.plain(), replace(self.sampler, temperature=told.temperature), each, self.judge(), self.order.seed,
            system_prompt(character), character.language, self.recipe.batch,
        )  # fmt: skip
        best_by_n(asked, drawing, told.sizes, folder, self.watch.advance)

    def grpo(self, folder: Path, name: str, judge: Judge, start: str | None) -> None:
        """An adapter by what a judge says of the model's answers as it learns, going on from the one before."""
        from charactery.train.grpo import train_grpo

        asked = [(id, messages) for id, _, messages in self.asked().values()]

        def train(model: LocalModel, adapter: Path | None, fitting: Grpo) -> Path:
            return train_grpo(model, asked, judge, fitting, self.work(name, folder), self.recipe.lora, adapter)

        # the judge has the base as it was, in memory of its own
        train_fitting(partial(self.begin, start), train, self.recipe.grpo)

    def sham_grpo(self, folder: Path) -> None:
        """As long a training by a coin's rewards."""
        before = [name for name in stages(self.recipe, sham=True) if name in ("sham-sft", "sham-dpo")]
        self.grpo(folder, "sham-grpo", ByCoin(self.order.seed), next(reversed(before), None))

    def judge(self) -> Judge:
        """Who compares the model's own answers: never the model in training."""
        if self.recipe.judge == AUTHORSHIP:
            judge: Judge = self.by_authorship()
        else:
            judge = judge_named(self.recipe.judge, self.models, self.subject)(self.order.character)
        if not self.recipe.masks_reasoning:
            return judge
        return of_answers_alone(judge, self.models.base(self.subject))

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
            found[name] = {"agreement": agreement(pairs, rights[name]), "outcomes": outcomes}
        if len(names) > 1:
            found["same as the likelihood judge"] = same_as(*rights.values()).as_dict()
        write_json(folder / "agreement.json", found)

    def speaker(self, stage: str | None) -> Speaker:
        """The model as a training stage left it; None for the base."""
        return self.models.speaker(self.trained(stage)) if stage else self.plain()

    def compared(self, name: str) -> list[Row]:
        """What a `dpo` stage is given."""
        rows: list[Row] = []
        for stage in self.recipe.compared(name):
            mine = self.rows(stage, "pairs")
            rows += contrasted(mine, self.recipe.contrast, self.order.seed) if stage == "pairs" else mine
        return rows

    def dpo(self, folder: Path, name: str) -> None:
        """An adapter from pairs, going on from the one before, and what confounds the pairs."""
        rows = self.compared(name)
        if is_first_process():
            write_json(folder / "confounds.json", confounds(rows, self.order.seed, self.recipe.match_lengths))
            write_rows(folder / "pairs.jsonl", rows)
        self._dpo(folder, name, rows, self.recipe.start(name))

    def sham_dpo(self, folder: Path) -> None:
        """As many pairs as all of the recipe's `dpo` stages had, after the sham SFT."""
        count = sum(len(self.compared(stage)) for stage in self.recipe.before("", ("dpo",)))
        rows = _cycled(self.rows("pairs", "sham-pairs"), count)
        if is_first_process():
            write_rows(folder / "pairs.jsonl", rows)
        self._dpo(folder, "sham-dpo", rows, "sham-sft" if self.recipe.before("", ("sft",)) else None)

    def _dpo(self, folder: Path, name: str, rows: list[Row], start: str | None) -> None:
        def train(model: LocalModel, adapter: Path | None, fitting: Dpo) -> Path:
            return train_dpo(model, rows, adapter, fitting, self.work(name, folder), self.recipe.lora)

        train_fitting(partial(self.begin, start), train, self.recipe.dpo)

    def person(self, folder: Path) -> None:
        """Whose words the answers are in, what the person never knew, and what the model says of itself."""
        found = stage_json(self.run, "authorship", "authorship.json")
        answers, texts = self.rows("evaluate", "samples"), self.order.texts()[AUTHOR]
        subjects = self.subjects()
        self.watch.start("person", portrait_ahead(answers, len(subjects), last_year(texts)))
        portray(Sitter(
            subjects, answers, self.by_authorship(), found["threshold"], texts, self.sampler, self.order.seed, folder,
            self.recipe.batch, self.watch.advance,
        ))  # fmt: skip

    def subjects(self) -> dict[str, Speaker]:
        """Who is examined, by role."""
        subjects = {"plain": self.plain(), "prompted": self.prompted(self.order.character)}
        subjects["trained"] = self.models.speaker(self.trained(self.recipe.trained))
        if self.order.sham:
            last = [name for name in stages(self.recipe, sham=True) if name.startswith("sham-")][-1]
            subjects["sham"] = self.models.speaker(self.trained(last))
        return subjects

    def evaluate(self, folder: Path) -> None:
        """The evals over plain, prompted, trained and, where there is one, sham."""
        from charactery.constitution import foil_characters

        prompts = self.chosen()
        subjects = self.subjects()
        other, *foils = [self.prompted(f) for f in foil_characters() if f.name != self.order.character.name]
        self.watch.start("evaluate", work_ahead(self.order.character, prompts, len(subjects)))
        evaluate(Examined(
            self.order.character, prompts, read_rows(self.run.stage_folder("drafts") / "drafts.jsonl"), subjects,
            self.models.base(self.subject), self.encode, self.sampler, self.order.seed, folder,
            other, foils, self.recipe.masks_reasoning, self.recipe.batch, self.watch.advance,
        ))  # fmt: skip


def _cycled(rows: list[Row], count: int) -> list[Row]:
    """`count` rows, from the start again where there are fewer."""
    if not rows:
        raise BadData("no plain answers are left for the sham arm")
    return [rows[n % len(rows)] for n in range(count)]
