"""The expression eval: a task over scripted user turns, scored by the classifier judge.

`inspect eval charactery/expression -T run=runs/captain --model charactery/runs/captain` runs it on any model.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import ChatMessageSystem, ChatMessageUser, GenerateConfig
from inspect_ai.scorer import Score, Scorer, Target, mean, scorer
from inspect_ai.solver import Generate, Solver, TaskState, solver

from charactery.data.prompts import Prompt, read_chosen
from charactery.evals.sizes import FOREIGN_ASKED
from charactery.models.local import Sampler
from charactery.runs import Row, read_rows

T = TypeVar("T")
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Item:
    """One case: user turns, under a system prompt or none, and the condition it counts for."""

    id: str
    condition: str
    turns: tuple[str, ...]
    system: str = ""
    kind: str = ""


def items(prompts: Sequence[Prompt]) -> list[Item]:
    """The cases of a run's held-out and elsewhere prompts, in order."""
    singles = [p for p in prompts if p.split == "held-out" and len(p.turns) == 1]
    talks = [p for p in prompts if p.split == "held-out" and len(p.turns) >= 3]
    elsewhere = [p for p in prompts if p.split == "elsewhere"]
    out = [Item(p.id, "turn 1", p.turns, kind=p.kind) for p in singles]
    out += [Item(p.id, "turn 3", p.turns[:3], kind=p.kind) for p in talks]
    for foreign in foreign_prompts():
        out += [
            Item(f"{p.id}/{foreign['name']}", f"foreign: {foreign['name']}", p.turns, foreign["text"], p.kind)
            for p in spread(singles, FOREIGN_ASKED)
        ]
    return out + [Item(p.id, "elsewhere", p.turns, kind=p.kind) for p in elsewhere]


def spread(values: Sequence[T], most: int) -> list[T]:
    """At most so many values, from the first on at equal distances."""
    count = min(most, len(values))
    return [values[n * len(values) // count] for n in range(count)]


def foreign_prompts() -> list[Row]:
    """The two system prompts of other deployments, written for the project."""
    return read_rows(HERE / "foreign_prompts.jsonl")


def expression_task(cases: Sequence[Item], judge: Callable[[str], float | None], sampler: Sampler, seed: int) -> Task:
    """The Inspect task. `judge` gives an answer's log-odds of being in character, above 0 meaning it is."""
    samples = [
        Sample(
            input=[*([ChatMessageSystem(content=i.system)] if i.system else []), ChatMessageUser(content=i.turns[0])],
            id=i.id,
            metadata={"condition": i.condition, "turns": list(i.turns), "kind": i.kind},
        )
        for i in cases
    ]
    return Task(
        name="expression",
        dataset=MemoryDataset(samples, name="held-out prompts"),
        solver=talk(),
        scorer=in_character(judge),
        config=GenerateConfig(max_tokens=sampler.max_tokens, temperature=sampler.temperature, seed=seed),
        version=1,
    )


@solver
def talk() -> Solver:
    """Put each scripted user turn in its order; the last answer counts."""

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        state = await generate(state)
        for turn in state.metadata["turns"][1:]:
            state.messages.append(ChatMessageUser(content=turn))
            state = await generate(state)
        return state

    return solve


@scorer(metrics=[mean()])
def in_character(judge: Callable[[str], float | None]) -> Scorer:
    """1 where the judge takes the last answer for the character's; no score, missing, where it hears nothing of it."""

    async def score(state: TaskState, target: Target) -> Score | None:
        text = state.output.completion.strip()
        if not text:
            return None
        log_odds = judge(text)
        if log_odds is None:
            return None
        return Score(value=float(log_odds > 0), answer=text, metadata={"log_odds": log_odds})

    return score


@task
def expression(run: str) -> Task:
    """Expression on the prompts and with the judge of a run, for any Inspect model."""
    import json

    from charactery.judges.classifier import ClassifierJudge
    from charactery.models.sentences import SentenceEncoder
    from charactery.runs import read_run

    opened = read_run(Path(run))
    prompts = read_chosen(opened.stage_folder("prompts") / "prompts.jsonl")
    judge = ClassifierJudge.from_row(json.loads((opened.stage_folder("evaluate") / "judge.json").read_text()))
    encoder = SentenceEncoder()
    settings = opened.manifest["settings"]
    sampler = Sampler(**settings["recipe"]["sampler"])
    return expression_task(items(prompts), lambda text: judge.hear([text], encoder)[0], sampler, settings["seed"])
