"""What is left of a character in each scaffold, as a share of what there is of it in chat.

`python -m charactery.evals.scaffolds.shares RESULTS PLAIN SUBJECT…` reads a results folder: in each scaffold, how far a
Subject leans to a character's lines beyond the plain model, over how far it does in chat, on the same items.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from charactery.errors import CharacteryError
from charactery.evals.command import as_command
from charactery.evals.definition import BUNDLED
from charactery.evals.results import SAMPLES, read_table
from charactery.evals.scaffolds.task import STEPS
from charactery.runs import Row
from charactery.stats import Estimate, clustered_mean, nothing, paired_ratio

CHAT = "chat"
LEANS = "leans: "  # CHARACTER in SCAFFOLD


@dataclass(frozen=True)
class Left:
    """Of a character in a scaffold: what the Subject leans beyond the plain model, in nats, and its share of chat's.

    Where chat's own is not clear of nought, a share of it says nothing and is not given.
    """

    character: str
    scaffold: str
    brought: Estimate
    share: Estimate


def shares(folder: Path, plain: str, subject: str, source: str = BUNDLED, data: str = "", seed: int = 0) -> list[Left]:
    """From a results folder. Raises CharacteryError where it lacks one of the two on this source."""
    wanted = ("scaffolds", source, data, seed)
    rows = [r for r in read_table(folder, SAMPLES) if (r["eval"], r["source"], r["data"], r["seed"]) == wanted]
    there = {r["subject"] for r in rows}
    for one in (plain, subject):
        if one not in there:
            given = "" if source == BUNDLED else f" --source {source}" + (f" --data {data}" if data else "")
            raise CharacteryError(
                f"has no scaffolds of {one!r}; `charactery eval scaffolds --subject {one}{given} --out {folder}` makes "
                "them",
                folder,
            )
    return of_rows(rows, plain, subject, seed)


def of_rows(samples: Sequence[Row], plain: str, subject: str, seed: int = 0) -> list[Left]:
    """The same from rows of samples.parquet, of one source."""
    values: dict[str, dict[str, dict[str, float]]] = {plain: {}, subject: {}}
    for row in samples:
        if row["subject"] in values and row["metric"].startswith(LEANS) and row["value"] is not None:
            values[row["subject"]].setdefault(row["metric"], {})[row["cluster"]] = row["value"]
    brought = {
        metric: {item: value - values[plain][metric][item] for item, value in mine.items()
                 if item in values[plain].get(metric, {})}
        for metric, mine in values[subject].items()
    }  # fmt: skip
    out = []
    for metric, mine in brought.items():
        character, _, scaffold = metric.removeprefix(LEANS).partition(" in ")
        chat = brought.get(f"{LEANS}{character} in {CHAT}", {})
        shared = [item for item in mine if item in chat]
        out.append(Left(
            character, scaffold, _mean(mine, seed),
            paired_ratio([mine[item] for item in shared], [chat[item] for item in shared], seed)
            if (_mean(chat, seed).low or 0.0) > 0 else nothing(len(shared), "not clear of nought in chat"),
        ))  # fmt: skip
    return out


def _mean(by_item: dict[str, float], seed: int) -> Estimate:
    return clustered_mean([*by_item.values()], [*by_item], seed, "nats")


def main(arguments: Sequence[str]) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m charactery.evals.scaffolds.shares")
    parser.add_argument("results", type=Path)
    parser.add_argument("plain", help="the model without the character")
    parser.add_argument("subjects", nargs="+", help="the same model with it, trained or prompted")
    parser.add_argument("--source", default=BUNDLED, help=f"as of `charactery eval`, say {STEPS}")
    parser.add_argument("--data", default="")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    for subject in given.subjects:
        print(f"{subject}, beyond {given.plain}")
        for left in shares(given.results, given.plain, subject, given.source, given.data, given.seed):
            of_chat = "" if left.scaffold == CHAT else f"; of chat's: {left.share}"
            print(f"  {left.character} in {left.scaffold}: {left.brought}{of_chat}")


if __name__ == "__main__":
    as_command(main)
