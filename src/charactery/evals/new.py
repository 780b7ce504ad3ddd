"""`charactery eval --new NAME`: a folder with a small eval that works, and its test, to start from."""

import json
import re
from pathlib import Path

from charactery.errors import CharacteryError
from charactery.evals.definition import HEADINGS
from charactery.evals.items import canary
from charactery.runs import write_rows, write_text

ITEMS = (
    {"id": "one", "question": "Do you like long walks in the rain?", "warm": "Yes"},
    {"id": "two", "question": "Would you rather be left alone by people?", "warm": "No"},
)

TASK = '''"""NAME: what it measures, in a sentence."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from inspect_ai import Task, task

from charactery.evals.asks import Ask, Reading
from charactery.evals.controls import RATES, Control, Draws
from charactery.evals.definition import BUNDLED, Case, Eval, Metric, Values
from charactery.evals.items import read_items
from charactery.evals.scripted import Plan
from charactery.evals.tasks import eval_task
from charactery.models.chat import user

HERE = Path(__file__).parent
YES_NO = ("Yes", "No")
WORDINGS = ("{} Answer with Yes or No alone.", "{} Say Yes or No and nothing else.")


def cases(source: str, data: str) -> list[Case]:
    """Every item in every wording."""
    return [
        Case(f"{row['id']}-{n}", row["id"], (Ask("answer", (user(words.format(row["question"])),), YES_NO),),
             {"warm": YES_NO.index(row["warm"])})
        for row in read_items(HERE / "items.jsonl", ("id", "question", "warm")).rows
        for n, words in enumerate(WORDINGS)
    ]  # fmt: skip


def score(case: Case, readings: Mapping[str, Reading]) -> Values:
    """See METRICS."""
    choice = readings["answer"].choice
    return {"warm": None if choice is None else float(choice == case.about["warm"])}


METRICS = (Metric("warm", "share of answers that a warm person would give", none=0.5),)


def warm(rate: float) -> Control:
    """Gives the warm answer at this rate."""

    def plan(cases: Sequence[Case], draws: Draws) -> list[Plan]:
        return [
            {"answer": (0.9, 0.1) if (c.about["warm"] == 0) == is_warm else (0.1, 0.9)}
            for c, is_warm in zip(cases, draws.happens(rate, cases), strict=True)
        ]

    return Control(f"warm at {rate:g}", plan, {"warm": rate})


CONTROLS = tuple(warm(rate) for rate in RATES)

EVAL = Eval("NAME", 1, HERE, cases, score, METRICS, CONTROLS)


@task(name="NAME")
def TASK_NAME(source: str = BUNDLED, data: str = "", method: str = "auto", seed: int = 0) -> Task:
    """What `inspect eval` runs."""
    return eval_task(EVAL, source, data, method, seed)
'''

TEST = '''"""The controls of NAME come out as planted."""

from charactery.evals.controls import run_controls
from charactery.evals.registry import find_eval


def test_what_was_planted_is_recovered() -> None:
    rows = run_controls(find_eval("WHERE"))
    assert all(row.agrees for row in rows), [row.row() for row in rows if not row.agrees]
'''

TELL = {
    "What it measures": "One sentence, and the figure.",
    "What it does not measure": "What a reader might think it measures.",
    "Where it comes from": "The passage or the paper behind it, with its source.",
    "How to read it": "What 0, 0.5 and 1 mean; what a subject without the behaviour comes out at.",
    "Without a judge": "The reading that needs none.",
    "Cost for 100 items": "Answers or scored options, and tokens.",
}


def new_eval(name: str, folder: Path) -> list[Path]:
    """Write the skeleton of an eval: in the source tree's evals where `folder` is one, else in `folder/NAME`.

    Its two items are too few for its controls to hold; they do from some thirty on. Raises CharacteryError for a name
    that is none, or that is taken.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise CharacteryError(f"{name!r} is no name for an eval; take small letters, digits and single hyphens")
    word = name.replace("-", "_")
    tree = folder / "src" / "charactery" / "evals"
    home, tests = (tree / word, folder / "tests") if tree.is_dir() else (folder / word, folder / word)
    if home.exists():
        raise CharacteryError("is there already; give another name", home)
    where = name if tree.is_dir() else str(home.resolve())
    about = [f"# {name}", *(f"## {heading}\n\n{TELL[heading]}" for heading in HEADINGS), canary(name)]
    write_text(home / "__init__.py", f'"""{name}."""\n')
    write_text(home / "task.py", TASK.replace("TASK_NAME", word).replace("NAME", name))
    write_rows(home / "items.jsonl", [{"canary": canary(name)}, *ITEMS])
    write_text(home / "about.md", "\n\n".join(about) + "\n")
    test = tests / f"test_evals_{word}.py"
    write_text(test, TEST.replace("NAME", name).replace("WHERE", json.dumps(where)[1:-1]))
    return [home / "task.py", home / "items.jsonl", home / "about.md", test]
