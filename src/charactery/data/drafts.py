"""Drafts: the same model's answers to each training prompt as the character and plainly."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from charactery.constitution import Character, system_prompt
from charactery.data.filters import fault, learnt
from charactery.data.prompts import Prompt
from charactery.models.chat import Message, assistant, user
from charactery.models.local import Request, Sampler, derive_seed
from charactery.models.speaker import Speaker, answer_all
from charactery.runs import Journal, Row, write_json, write_rows

CHARACTER, PLAIN, PLAIN_AGAIN = "character", "plain", "plain again"


@dataclass(frozen=True)
class Drafting:
    """Who drafts, how, and from which seed. `sham` asks for a second plain answer to each prompt."""

    character: Character
    speakers: dict[str, Speaker]
    sampler: Sampler
    seed: int
    sham: bool = False
    batch: int = 64


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
    """Draft every training prompt on every side, and filter. Writes drafts.jsonl, set_aside.jsonl and filters.json."""
    journal = Journal(folder / "batches.jsonl")
    sides = [CHARACTER, PLAIN] + ([PLAIN_AGAIN] if drafting.sham else [])
    histories = _histories(prompts, drafting, journal, progress)
    rows: list[Row] = []
    aside: list[Row] = []
    counts: dict[str, Counter[str]] = {side: Counter() for side in sides}
    instructions = system_prompt(drafting.character)
    for side in sides:
        speaker = _speaker(drafting, side)
        asked = [Request(histories[p.id], derive_seed(drafting.seed, "draft", side, p.id)) for p in prompts]
        answers = answer_all(speaker, asked, drafting.sampler, journal, progress, drafting.batch)
        for prompt, answer, request in zip(prompts, answers, asked, strict=True):
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
    write_rows(folder / "drafts.jsonl", rows)
    write_rows(folder / "set_aside.jsonl", aside)
    write_json(folder / "filters.json", {
        "asked": len(prompts) * len(sides), "kept": len(rows),
        "set_aside": {side: dict(counter) for side, counter in counts.items()},
    })  # fmt: skip
    return rows


def _speaker(drafting: Drafting, side: str) -> Speaker:
    return drafting.speakers[CHARACTER if side == CHARACTER else PLAIN]


def _histories(
    prompts: Sequence[Prompt], drafting: Drafting, journal: Journal, progress: Callable[[int], None]
) -> dict[str, tuple[Message, ...]]:
    """The messages up to each prompt's last user turn, the earlier turns answered by that conversation's side."""
    sides = history_sides(prompts)
    so_far: dict[str, tuple[Message, ...]] = {p.id: (user(p.turns[0]),) for p in prompts}
    for turn in range(1, max((len(p.turns) for p in prompts), default=1)):
        for side in (CHARACTER, PLAIN):
            talks = [p for p in prompts if len(p.turns) > turn and sides[p.id] == side]
            asked = [Request(so_far[p.id], derive_seed(drafting.seed, "history", side, p.id, turn)) for p in talks]
            answers = answer_all(_speaker(drafting, side), asked, drafting.sampler, journal, progress, drafting.batch)
            for prompt, answer in zip(talks, answers, strict=True):
                said = assistant(learnt(answer) or answer.text)
                so_far[prompt.id] = (*so_far[prompt.id], said, user(prompt.turns[turn]))
    return so_far


def count_answers(prompts: Sequence[Prompt], sham: bool) -> int:
    """How many answers `draft` asks for, for progress and dry runs."""
    return len(prompts) * (3 if sham else 2) + sum(len(p.turns) - 1 for p in prompts)
