"""The stages that make data: prompts, drafts, and what recipes make of these to be learnt from and compared."""

import random
from dataclasses import replace
from pathlib import Path

from charactery.constitution import system_prompt
from charactery.data.best_of import best_by_n
from charactery.data.cases import Weighing, weigh
from charactery.data.documents import Describing, describe
from charactery.data.drafts import CHARACTER, PLAIN, Drafting, count_answers, draft
from charactery.data.filters import repeated_share
from charactery.data.pairs import apart_from, chosen_rows, confounds, make_pairs, matched, sft_rows
from charactery.data.prompts import Prompt, choose, validation_prompts
from charactery.data.reflections import Reflecting, ordinary, questions, reflect
from charactery.data.revisions import Revising, revise, texts_judged
from charactery.data.samples import Drawing, best_against_worst
from charactery.data.self_play import playable, self_play
from charactery.errors import BadData
from charactery.judges.classifier import check_drafts, heard_of
from charactery.models.chat import user
from charactery.models.local import Sampler, derive_seed
from charactery.models.speaker import Speaker
from charactery.pipeline import person
from charactery.pipeline.common import VALIDATION, Common
from charactery.pipeline.manifest import teaching
from charactery.pipeline.order import LEAST_PAIRS
from charactery.runs import Row, read_rows, write_json, write_rows
from charactery.stats import mean

NEAR_OTHERS = "the prompt is near a held-out or elsewhere one"  # for a pair of the user's to be set aside


class Making(Common):
    """Each writes its rows to its folder: sft.jsonl for SFT, pairs.jsonl for DPO."""

    def prompts(self, folder: Path, own: list[Prompt]) -> None:
        """The prompts, split before anything is generated."""
        self.watch.start("prompts", 1)
        order = self.order
        apart = validation_prompts(order.character) if self.recipe.validates else []
        chosen, counts = choose(order.character, own, order.sizes, order.seed, self.encode, apart)
        write_rows(folder / "prompts.jsonl", [p.row() for p in chosen])
        write_json(folder / "counts.json", counts)
        self.watch.advance(1)

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
            told, self.begun(),
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
        drafts = self.rows("drafts", "drafts")
        if own is None:
            pairs = make_pairs(drafts, self.recipe.match_lengths)
        else:
            own, near = apart_from(own, [p for p in self.chosen() if p.split != "train"], self.encode)
            pairs = matched(own) if self.recipe.match_lengths else own
            write_rows(folder / "set_aside.jsonl", [{**pair, "reason": NEAR_OTHERS} for pair in near])
            if near:
                self.watch.say(f"{len(near)} of your pairs are left out ({NEAR_OTHERS}); see set_aside.jsonl")
        answers = sft_rows(drafts, CHARACTER) if own is None else chosen_rows(pairs)
        if len(pairs) < LEAST_PAIRS:
            where = "in the drafts" if own is None else "here"
            raise BadData(f"only {len(pairs)} pairs are left to train on; see set_aside.jsonl {where}", folder)
        begun = self.begun()
        heard = [d for d in drafts if d["kind"] != "task" and heard_of(d["text"], begun)]
        check_drafts(heard, CHARACTER, PLAIN, begun)  # before hours of training
        write_rows(folder / "sft.jsonl", answers)
        write_rows(folder / "pairs.jsonl", pairs)
        apart = [p for p in pairs if p["kind"] != "task"]  # in those to tasks the sides are the other way about
        write_json(folder / "confounds.json", confounds(apart, self.order.seed, self.recipe.match_lengths))
        self.watch.advance(1)

    def revisions(self, folder: Path, name: str) -> None:
        """Plain answers revised by the model itself, and what the judge prefers."""
        drafts = [d for d in self.rows("drafts", "drafts") if d["side"] == PLAIN and d["kind"] != "task"]
        character, judge = self.order.character, self.judge()
        self.watch.start(name, (4 + texts_judged(judge)) * len(drafts))
        sampler = replace(self.sampler, temperature=self.recipe.draft_temperature)  # as what is revised was drawn
        revising = Revising(
            character, self.speaker(self.recipe.start(name)), sampler, judge, self.order.seed_of(name),
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
        match = self.recipe.match_lengths
        pairs = matched(pairs) if match else pairs
        write_rows(folder / "pairs.jsonl", pairs)
        write_json(folder / "confounds.json", confounds(pairs, self.order.seed, match))

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
        if told.text:
            rows = [row | {"prompt": []} for row in rows]
        learnt = sum(row["tokens"] for row in rows)
        if learnt < 0.95 * told.tokens:
            self.watch.say(
                f"what is fit to learn from has {learnt} tokens, and [reflections] asks for {told.tokens}; introspect "
                "and what it is compared with need as many"
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

    def writings(self, folder: Path) -> None:
        """A person's texts as answers, for the model and for the two models of the authorship judge."""
        person.gather(
            self.order, self.chosen(), self.rows("drafts", "drafts"), self.plain(), folder,
            lambda units: self.watch.start("writings", units), self.watch.advance,
        )  # fmt: skip

    def self_play(self, folder: Path, name: str) -> None:
        """Pairs of what SFT learnt from against what its adapter says now, and what confounds them."""
        rows = self.learnt(self.recipe.before(name, ("sft",))[-1])
        self.watch.start(name, min(self.recipe.self_play, len(playable(rows))))
        sampler = replace(self.sampler, temperature=self.recipe.self_play_temperature)
        pairs = self_play(
            rows, self.speaker(self.recipe.start(name)), sampler, self.recipe.self_play, self.order.seed_of(name),
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
            self.judge(), seed, system_prompt(character), character.language, self.recipe.batch, told.least,
        )  # fmt: skip
        pairs = best_against_worst([asked[id] for id in drawn], drawing, folder, self.watch.advance)
        match = self.recipe.match_lengths
        pairs = matched(pairs) if match else pairs
        by_sft = any(name in self.recipe.learnt(sft) for sft in self.recipe.before("", ("sft",)))
        if by_sft and len(learn := read_rows(folder / "sft.jsonl")) < LEAST_PAIRS:
            raise BadData(
                f"of the best answers to {len(drawn)} prompts only {len(learn)} are fit to learn from and rated "
                f"{told.least:g} or more: too few to train on. See samples.jsonl, and lower [samples] `least`",
                folder,
            )
        by_dpo = any(name in self.recipe.compared(dpo) for dpo in self.recipe.before("", ("dpo",)))
        if by_dpo and len(pairs) < LEAST_PAIRS:
            raise BadData(
                f"only {len(pairs)} pairs are left after round {rounds + 1}: of the model's answers to the other "
                "prompts none was fit to learn from and by the judge above another; see unpaired.jsonl for which, and "
                "ask for more with [samples] in the recipe",
                folder,
            )
        write_rows(folder / "pairs.jsonl", pairs)
        write_json(folder / "confounds.json", confounds(pairs, self.order.seed, match))

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
