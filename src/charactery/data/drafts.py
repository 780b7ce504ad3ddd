"""Drafts: the same model's answers to each training prompt as the character and plainly."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from charactery.constitution import Character, system_prompt
from charactery.data.filters import fault, learnt
from charactery.data.prompts import Encode, Prompt
from charactery.judges.classifier import check_drafts, cross_fit, heard_of, linear
from charactery.models.chat import Message, assistant, user
from charactery.models.local import Request, Sampler, derive_seed
from charactery.models.speaker import BATCH, Ask, Speaker, answer_all
from charactery.runs import Journal, Row, write_json, write_rows

CHARACTER, PLAIN, PLAIN_AGAIN = "character", "plain", "plain again"


@dataclass(frozen=True)
class Drafting:
    """Who drafts, how, and from which seed. `sham` asks for a second plain answer to each prompt.

    The character drafts each prompt but tasks `draws` times, and the draft most in character is picked; above 1,
    `encode` is needed. `told` draws the earlier turns of conversations, which nobody learns from.
    """

    character: Character
    speakers: dict[str, Speaker]
    sampler: Sampler
    seed: int
    sham: bool = False
    batch: int = BATCH
    draws: int = 1
    encode: Encode | None = None
    told: Sampler = field(default_factory=Sampler)
    begun: str | None = None  # of what leaves reasoning free, so that it is picked by what is left: see `heard_of`


def history_sides(prompts: Sequence[Prompt]) -> dict[str, str]:
    """Who speaks the earlier turns of each conversation: the character in one half, the plain model in the other.

    A pair needs one history for both answers. The trained model will meet its own voice there; a deployed one also
    meets others'.
    """
    talks = [p for p in prompts if len(p.turns) > 1]
    return {p.id: (CHARACTER, PLAIN)[n % 2] for n, p in enumerate(talks)}


def draft(
    prompts: Sequence[Prompt], drafting: Drafting, folder: Path, progress: Callable[[int], None] = lambda n: None
) -> list[Row]:
    """Draft every training prompt on every side, filter and pick.

    Writes drafts.jsonl, set_aside.jsonl (unfit), not_picked.jsonl (fit, but another was more in character) and
    filters.json. Raises BadData where too few are fit to pick from.
    """
    journal = Journal(folder / "batches.jsonl")
    sides = [CHARACTER, PLAIN] + ([PLAIN_AGAIN] if drafting.sham else [])
    histories = _histories(prompts, drafting, journal, progress)
    rows: list[Row] = []
    aside: list[Row] = []
    counts: dict[str, Counter[str]] = {side: Counter() for side in sides}
    instructions = system_prompt(drafting.character)
    drawn = [
        (side, p, n) for side in sides for p in prompts for n in range(_draws(p, side, drafting.draws))
    ]  # fmt: skip
    asks = [
        (_speaker(drafting, side), Request(histories[p.id], derive_seed(drafting.seed, "draft", side, p.id, n)))
        for side, p, n in drawn
    ]
    answers = answer_all(asks, drafting.sampler, journal, progress, drafting.batch)
    for (side, prompt, _), (speaker, request), answer in zip(drawn, asks, answers, strict=True):
        text = learnt(answer)
        task = prompt.kind == "task"  # "Reply with the number only", "Translate into French"
        language = drafting.character.language if side == CHARACTER and not task else ""
        if reason := fault(answer, text, instructions, language, least=1 if task else 4):
            counts[side][reason] += 1
            aside.append({"id": prompt.id, "side": side, "reason": reason, "text": answer.text})
            continue
        rows.append({
            "id": prompt.id, "kind": prompt.kind, "side": side, "messages": list(histories[prompt.id]),
            "text": text, "tokens": answer.tokens, "ended": answer.ended, "seed": request.seed,
            "subject": speaker.subject.text,
        })  # fmt: skip
    write_rows(folder / "set_aside.jsonl", aside)
    picked = set(range(len(rows)))
    if drafting.draws > 1:
        assert drafting.encode
        picked = most_in_character(rows, drafting.encode, drafting.seed, drafting.begun)
    left = [row for n, row in enumerate(rows) if n not in picked]
    rows = [row for n, row in enumerate(rows) if n in picked]
    write_rows(folder / "not_picked.jsonl", left)
    write_rows(folder / "drafts.jsonl", rows)
    write_json(folder / "filters.json", {
        "asked": len(rows) + len(left) + len(aside), "kept": len(rows), "not_picked": len(left),
        "set_aside": {side: dict(counter) for side, counter in counts.items()},
    })  # fmt: skip
    return rows


def most_in_character(rows: Sequence[Row], encode: Encode, seed: int, begun: str | None = None) -> set[int]:
    """Which drafts to keep, by index: all plain ones, and of the character's to each prompt the one most like it.

    "Like it" is by the classifier judge's kind of model, fitted on the drafts themselves, of other prompts each time
    (rejection sampling, as in Dong et al. 2023, arXiv 2304.06767). Tasks are not judged, and what nothing is heard of
    is the last to be kept. Raises BadData below 20 drafts a side.
    """
    drafted = [n for n, row in enumerate(rows) if row["kind"] != "task" and row["side"] in (CHARACTER, PLAIN)]
    heard = {n: text for n in drafted if (text := heard_of(rows[n]["text"], begun))}
    judged = [*heard]
    check_drafts([rows[n] for n in judged], CHARACTER, PLAIN, begun)
    mine = [n for n in drafted if rows[n]["side"] == CHARACTER]
    labels_N = np.array([rows[n]["side"] == CHARACTER for n in judged])
    vectors_N_D = encode([*heard.values()])
    scores_N, _ = cross_fit(linear(), vectors_N_D, labels_N, [rows[n]["id"] for n in judged], seed)
    odds = dict.fromkeys(mine, -math.inf) | dict(zip(judged, scores_N.tolist(), strict=True))
    best: dict[str, int] = {}
    for n in mine:
        best[rows[n]["id"]] = max(best.get(rows[n]["id"], n), n, key=odds.__getitem__)
    return (set(range(len(rows))) - set(mine)) | set(best.values())


def _draws(prompt: Prompt, side: str, draws: int) -> int:
    return draws if side == CHARACTER and prompt.kind != "task" else 1


def _speaker(drafting: Drafting, side: str) -> Speaker:
    return drafting.speakers[CHARACTER if side == CHARACTER else PLAIN]


def _histories(
    prompts: Sequence[Prompt], drafting: Drafting, journal: Journal, progress: Callable[[int], None]
) -> dict[str, tuple[Message, ...]]:
    """The messages up to each prompt's last user turn, the earlier turns answered by that conversation's side."""
    sides = history_sides(prompts)
    so_far: dict[str, tuple[Message, ...]] = {p.id: (user(p.turns[0]),) for p in prompts}
    for turn in range(1, max((len(p.turns) for p in prompts), default=1)):
        talks = [p for p in prompts if len(p.turns) > turn]
        asks: list[Ask] = []
        for p in talks:
            seed = derive_seed(drafting.seed, "history", sides[p.id], p.id, turn)
            asks.append((_speaker(drafting, sides[p.id]), Request(so_far[p.id], seed)))
        answers = answer_all(asks, drafting.told, journal, progress, drafting.batch)
        for prompt, answer in zip(talks, answers, strict=True):
            said = assistant(learnt(answer) or answer.text)
            so_far[prompt.id] = (*so_far[prompt.id], said, user(prompt.turns[turn]))
    return so_far


def count_answers(prompts: Sequence[Prompt], sham: bool, draws: int = 1) -> int:
    """How many answers `draft` asks for, for progress."""
    mine = sum(_draws(p, CHARACTER, draws) for p in prompts)
    return mine + len(prompts) * (2 if sham else 1) + sum(len(p.turns) - 1 for p in prompts)
