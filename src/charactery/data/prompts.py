"""Prompts: what the model is asked, split into train, held-out and elsewhere before anything is generated."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from charactery.constitution import Character
from charactery.errors import BadData
from charactery.runs import Row, digest, numbered_rows, read_rows, read_utf8

HERE = Path(__file__).parent
NEAR = 0.85  # cosine of sentence embeddings above which two prompts count as the same
VALIDATION = {"asks": 12, "neutral": 12, "conversation": 8}  # prompts that a loss to stop at is measured on
ALIKE = 0.6  # the same above which a task is too much like an elsewhere prompt for that to be a test
SHORT = 4  # words up to which a follow-up is not compared
Split = Literal["train", "held-out", "elsewhere", "validation"]
Encode = Callable[[Sequence[str]], np.ndarray]


@dataclass(frozen=True)
class Prompt:
    """One prompt: the user's turns (one, or three and more for a conversation), where it is from, and its split."""

    id: str
    kind: str  # asks, neutral, own, conversation, task, elsewhere
    turns: tuple[str, ...]
    trait: str | None = None
    split: Split = "train"

    def row(self) -> Row:
        """As JSON lines carry it."""
        return {"id": self.id, "split": self.split, "kind": self.kind, "trait": self.trait, "turns": list(self.turns)}


@dataclass(frozen=True)
class Sizes:
    """How many prompts of each sort. One in four training prompts is a conversation; `tasks` come on top of them."""

    train: int = 100
    held_out: int = 80
    held_out_conversations: int = 12
    elsewhere: int = 40
    tasks: int = 32


def read_prompts(path: Path) -> list[Prompt]:
    """A user's own prompts: JSON lines with `prompt` (text) or `turns` (list), or a text file with one a line.

    Raises BadData with the line.
    """
    if path.suffix not in (".jsonl", ".json"):
        rows: list[Any] = [[line.strip()] for line in read_utf8(path).splitlines() if line.strip()]
    else:
        rows = []
        for number, row in numbered_rows(path):
            turns = row.get("turns") or [row.get("prompt")]
            if not isinstance(turns, list) or not all(isinstance(t, str) and t.strip() for t in turns):
                raise BadData('needs "prompt" (text) or "turns" (a list of texts)', path, number)
            if len(turns) == 2:
                raise BadData('"turns" needs one text, or three and more: the third answer is tested', path, number)
            rows.append(turns)
    if not rows:
        raise BadData("holds no prompts", path)
    return [Prompt("own-" + digest(turns)[:8], "own", tuple(turns)) for turns in rows]


def read_chosen(path: Path) -> list[Prompt]:
    """The prompts that a run chose, from its prompts.jsonl."""
    return [Prompt(r["id"], r["kind"], tuple(r["turns"]), r["trait"], r["split"]) for r in read_rows(path)]


def neutral_prompts() -> list[Prompt]:
    """The prompts written for the project, of many kinds."""
    rows = read_rows(HERE / "neutral_prompts.jsonl")
    return [Prompt("neutral-" + digest(r["prompt"])[:8], "neutral", (r["prompt"],)) for r in rows]


def task_prompts() -> list[Prompt]:
    """Requests whose answer is read by a machine or goes out under another's name, where no character belongs.

    They are trained on with the plain model's answers, so that the model learns where the character ends.
    """
    rows = read_rows(HERE / "task_prompts.jsonl")
    return [Prompt("task-" + digest(r["prompt"])[:8], "task", (r["prompt"],)) for r in rows]


def conversations() -> list[Prompt]:
    """Scripted user sides of conversations, three turns and more."""
    rows = read_rows(HERE / "conversations.jsonl")
    return [Prompt("talk-" + digest(r["turns"])[:8], "conversation", tuple(r["turns"])) for r in rows]


def trait_prompts(character: Character, field: Literal["asks", "elsewhere"]) -> list[Prompt]:
    """The prompts a character's traits name, in turn from each trait, so that a cut takes from all."""
    kind = field
    columns = [[(t.id, text) for text in character.items(t, field)] for t in character.traits()]
    longest = max(map(len, columns), default=0)
    pairs = [column[n] for n in range(longest) for column in columns if n < len(column)]
    return [Prompt(f"{kind}-" + digest(text)[:8], kind, (text,), trait) for trait, text in pairs]


def validation_prompts(character: Character) -> list[Prompt]:
    """Prompts for a loss to stop training at: of a character always the same, whatever the run's seed.

    At most a quarter of what its traits ask are among them; neutral ones take the place of what is missing.
    """
    asks = trait_prompts(character, "asks")
    asked = min(VALIDATION["asks"], len(asks) // 4)
    neutral = VALIDATION["neutral"] + VALIDATION["asks"] - asked
    pools = ((asks, asked), (neutral_prompts(), neutral), (conversations(), VALIDATION["conversation"]))
    rng = random.Random(0)
    return [replace(p, split="validation") for pool, count in pools for p in rng.sample(pool, count)]


def choose(
    character: Character, own: Sequence[Prompt], sizes: Sizes, seed: int, encode: Encode,
    validation: Sequence[Prompt] = (),
) -> tuple[list[Prompt], dict[str, int]]:  # fmt: skip
    """Split prompts, and count them. Those for `validation` come first, and nothing near them is in another split.

    Half of the single prompts come from the traits, the rest are neutral; the user's own come before both, two thirds
    of the single ones in training. Groups of near-duplicates (cosine above 0.85 on any turn) are kept on one side: only
    the first of a group is used. Tasks keep a greater distance from the elsewhere prompts (0.6): they are trained on.
    Raises BadData where there are too few prompts for the sizes asked.
    """
    rng = random.Random(seed)
    given = len(own)
    room = 4 * (sizes.train + sizes.held_out + sizes.held_out_conversations)  # all are compared with all: n² numbers
    own = own if given <= room else rng.sample(list(own), room)
    pools = [list(own), trait_prompts(character, "asks"), conversations(), neutral_prompts(), task_prompts()]
    for pool in pools:
        rng.shuffle(pool)
    elsewhere = trait_prompts(character, "elsewhere")[: sizes.elsewhere]
    apart = {p.id for p in validation}
    others = [p for pool in pools for p in pool if p.id not in apart]
    kept, dropped = _distinct([*validation, *elsewhere, *others], encode)
    validation, kept = ([p for p in kept if (p.split == "validation") is wanted] for wanted in (True, False))
    talks = [p for p in kept if len(p.turns) > 1]
    mine, asked, neutral, tasks = (
        [p for p in kept if p.kind == kind and len(p.turns) == 1] for kind in ("own", "asks", "neutral", "task")
    )
    told_apart = _unlike(tasks, [p for p in kept if p.kind == "elsewhere"], encode)
    dropped += len(tasks) - len(told_apart)
    tasks = told_apart
    train_talks = round(sizes.train / 4)
    singles = sizes.train - train_talks
    train_mine = min(-(-len(mine) * 2 // 3), singles)
    held_mine = min(len(mine) - train_mine, sizes.held_out)
    train_asked = min(len(asked) * 2 // 3, (singles - train_mine) // 2)
    held_asked = min(len(asked) - train_asked, (sizes.held_out - held_mine) // 2)
    taken = [
        *_take(talks, train_talks, "train"),
        *_take(mine, train_mine, "train"),
        *_take(asked, train_asked, "train"),
        *_take(neutral, singles - train_mine - train_asked, "train"),
        *_take(tasks, sizes.tasks, "train"),
        *_take(mine, held_mine, "held-out"),
        *_take(asked, held_asked, "held-out"),
        *_take(neutral, sizes.held_out - held_mine - held_asked, "held-out"),
        *_take(talks, sizes.held_out_conversations, "held-out"),
        *(replace(p, split="elsewhere") for p in kept if p.kind == "elsewhere"),
        *validation,
    ]
    splits = ("train", "held-out", "elsewhere", *(("validation",) if validation else ()))
    counts = {split: sum(p.split == split for p in taken) for split in splits}
    wanted = sizes.train + sizes.tasks + sizes.held_out + sizes.held_out_conversations
    if counts["train"] + counts["held-out"] < wanted:
        have = counts["train"] + counts["held-out"]
        raise BadData(f"{wanted} prompts are asked for and {have} distinct ones are there; ask for fewer")
    unused = given - sum(p.kind == "own" for p in taken)
    return taken, counts | {"dropped_near_duplicates": dropped, "own_unused": unused}


def _take(pool: list[Prompt], count: int, split: Split) -> list[Prompt]:
    taken, pool[:] = pool[:count], pool[count:]
    return [replace(p, split=split) for p in taken]


def _unlike(tasks: list[Prompt], elsewhere: list[Prompt], encode: Encode) -> list[Prompt]:
    """The tasks that are like none of the elsewhere prompts."""
    if not tasks or not elsewhere:
        return tasks
    vectors_N_D = encode([p.turns[0] for p in (*tasks, *elsewhere)])
    likeness_N_M = vectors_N_D[: len(tasks)] @ vectors_N_D[len(tasks) :].T
    return [p for p, most in zip(tasks, likeness_N_M.max(1), strict=True) if most <= ALIKE]


def _distinct(prompts: list[Prompt], encode: Encode) -> tuple[list[Prompt], int]:
    """The prompts less those near an earlier one: any turn of one near any turn of the other.

    A follow-up of four words or fewer ("Why is that?") says nothing by itself and is not compared.
    """
    if not prompts:
        return [], 0
    texts: list[str] = []
    starts: list[int] = []
    for prompt in prompts:
        starts.append(len(texts))
        turns = [" ".join(turn.split()) for turn in prompt.turns]
        texts += [turns[0], *(turn for turn in turns[1:] if len(turn.split()) > SHORT)]
    vectors_T_D = encode(texts)
    near_T_T = vectors_T_D @ vectors_T_D.T > NEAR
    near_N_N = np.logical_or.reduceat(np.logical_or.reduceat(near_T_T, starts, 0), starts, 1)
    kept: list[int] = []
    for n in range(len(prompts)):
        if not near_N_N[n, kept].any():
            kept.append(n)
    return [prompts[n] for n in kept], len(prompts) - len(kept)
