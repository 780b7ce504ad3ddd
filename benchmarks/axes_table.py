"""Ranks and optimisers at the same loss: what shows of the character, and what it costs, over several seeds.

    python benchmarks/axes_table.py --out runs/axes                     every cell that is missing, one after another
    python benchmarks/axes_table.py --out runs/axes --only "to its end" what has this in its name
    python benchmarks/axes_table.py --out runs/axes --read              nothing is run: of the runs that are there
    python benchmarks/axes_table.py --out runs/axes --list              what there is, and what is missing

A cell is SFT alone (`--recipe distill`). First each setting is trained to its end on the first seed. The loss that the
cells of all seeds are then stopped at is MARGIN above the lowest of the setting that came down least, so that every
setting can come to it. Figures go to benchmarks/axes_table.json, those of the trials among them, and the table to
docs/axes-table.md. A killed run goes on where it was, unless the code has changed since. Runs of one seed share their
drafts. All are to be made on one machine: another kind draws other answers, those that the loss is measured on among
them, and the page says where cells began at another loss.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from recipe_table import by_codes, figures, fill_cells, over_seeds, reusable

from charactery.errors import CharacteryError
from charactery.runs import Row, Run, read_rows, write_text

HERE = Path(__file__).parent
KEPT, TABLE = HERE / "axes_table.json", HERE.parent / "docs" / "axes-table.md"
CHARACTER, SEEDS, EPOCHS = "captain", 5, 2
MARGIN = 0.03  # nats a token: another seed's drafts may teach a little less
WITHIN = 0.02  # nats a token, within which losses count as the same
NEVER = 0.01  # nats a token that nothing comes to: training goes to its end
SIZES = ("--held-out", "40", "--talks", "2", "--elsewhere", "16")
TRIAL_SIZES = ("--held-out", "8", "--talks", "2", "--elsewhere", "16")  # what is learnt is the same
SETTINGS = {
    "rank 16, AdamW": (),
    "rank 1, AdamW": ("--lora-rank", "1"),
    "all weights, AdamW": ("--lora-rank", "full"),
    "rank 16, Muon, rate 1.5e-3": (
        "--optimizer",
        "muon",
        "--sft-rate",
        "1.5e-3",
    ),  # at the others' it comes down half as far
    "rank 16, SOAP": ("--optimizer", "soap"),
}
MEASURED = (
    "steps", "loss", "in character", "likelihood", "elsewhere", "prose", "chat frame", "choice", "repetition", "KL",
)  # fmt: skip
COMPARED = MEASURED[2:]


@dataclass(frozen=True)
class Cell:
    """One run of the table, or one to its end, by which the loss is found."""

    setting: str
    seed: int
    trial: bool = False

    @property
    def name(self) -> str:
        """As in the files."""
        return f"{self.setting}, {'to its end' if self.trial else f'seed {self.seed}'}"

    def folder(self, out: Path) -> Path:
        """Where its run lies."""
        return out / "".join(c if c.isalnum() else "-" for c in self.name).replace("--", "-")


TRIALS = tuple(Cell(setting, 0, trial=True) for setting in SETTINGS)


def cells() -> Iterator[Cell]:
    """All of them, a seed after another, so that the settings can be compared as soon as there are two."""
    yield from TRIALS
    for seed in range(SEEDS):
        yield from (Cell(setting, seed) for setting in SETTINGS)


def target(kept: dict[str, Row]) -> float | None:
    """The loss to stop at, once all trials are there."""
    lowest = [kept[trial.name]["lowest"] for trial in TRIALS if trial.name in kept]
    return round(max(lowest) + MARGIN, 3) if len(lowest) == len(TRIALS) else None


def command(cell: Cell, out: Path) -> list[str]:
    """The command whose run a cell is. Raises where the loss to stop at is not known yet."""
    loss = NEVER if cell.trial else target(json.loads(KEPT.read_text()) if KEPT.exists() else {})
    if loss is None:
        raise CharacteryError("the loss to stop at is not known: every setting is to be trained to its end first")
    alike = [c for c in cells() if c.seed == cell.seed and c != cell]
    alike.sort(key=lambda c: c.trial != cell.trial)  # those with as many prompts have the same answers in the evals
    first = next((run for run in (c.folder(out) for c in alike) if reusable(run)), None)
    return [
        "charactery", "train", CHARACTER, "--recipe", "distill", "--seed", str(cell.seed),
        *(TRIAL_SIZES if cell.trial else SIZES), "--sft-epochs", str(EPOCHS), "--stop-at-loss", str(loss),
        *SETTINGS[cell.setting], "--out", str(cell.folder(out)), *(["--reuse", str(first)] if first else []),
    ]  # fmt: skip


def cell_figures(run: Run) -> Row:
    """What the table has of a run: values alone, since the seeds are what it varies over."""
    every = figures(run)
    found = {name: every[name]["trained"]["value"] for name in MEASURED if name in every}
    found |= {name: every[name] for name in ("training", "peak", "code")}
    folder = run.stage_folder("sft")
    looks = read_rows(folder / "validation.jsonl")
    lowest = min(looks, key=lambda row: row["loss"])
    return found | {
        "wanted": json.loads((folder / "training.json").read_text())["wanted_loss"], "first": looks[0]["loss"],
        "lowest": lowest["loss"], "at": lowest["step"], "steps": looks[-1]["step"], "loss": looks[-1]["loss"],
    }  # fmt: skip


def table(kept: dict[str, Row]) -> str:
    """The page."""
    steps = [kept[c.name]["steps"] for c in cells() if not c.trial and c.name in kept]
    reached = f" after {min(steps)} to {max(steps)} steps" if steps else ""
    lines = [
        "# Ranks and optimisers at the same loss", "",
        "Made by `python benchmarks/axes_table.py --out runs/axes`, on smollm2. A cell is a run of `charactery train "
        f"{CHARACTER} --recipe distill --sft-epochs {EPOCHS} --stop-at-loss LOSS {' '.join(SIZES)}`. Means over seeds, "
        "with Student's t intervals of 95%; one seed has none. Columns as in [recipes compared](recipe-table.md); "
        "*loss* is where training stopped, in nats a token of the [answers kept "
        "apart](recipes.md#what-is-trained-and-how), the same for all cells, and `missed` counts the seeds that ended "
        f"more than {WITHIN} from what was asked. *Training* has the looks at that loss in it.", "",
        "What was cut, to have so many cells: there is no DPO and no sham, and of the captain's default of 80 held-out "
        "prompts, 12 conversations and 40 elsewhere the cells have 40, 2 and 16. Of third turns and of controls, which "
        "every run has, nothing is shown: with so few they say little. Muon has three times the others' learning rate "
        "(5e-4; a tenth of it for all weights): with theirs it came down to 3.58 and no further.", "",
        "What of the question is not in it: neither the order of the data, nor that of the stages, nor emergent "
        f"misalignment was crossed with these settings. The loss is reached{reached}, where little of the character "
        "shows yet, so there is little power to tell settings apart. And it is matched for the first SFT alone, since "
        "no other stops at a loss.", "",
    ]  # fmt: skip
    lines += _trials(kept)
    lines += [
        "", f"| setting | seeds | missed | {' | '.join(MEASURED)} | training, s | peak, GB |",
        f"|---|---|---|{'---|' * (len(MEASURED) + 2)}",
    ]  # fmt: skip
    for setting in SETTINGS:
        rows = [kept[c.name] for c in cells() if c.setting == setting and not c.trial and c.name in kept]
        if not rows:
            continue
        said = " | ".join(over_seeds([row.get(name) for row in rows]) for name in MEASURED)
        missed = sum(abs(row["loss"] - row["wanted"]) > WITHIN for row in rows)
        seconds, peak = over_seeds([row["training"] for row in rows], 0), max(row["peak"] for row in rows) / 1000
        lines.append(f"| {setting} | {len(rows)} | {missed} | {said} | {seconds} | {peak:.1f} |")
    return "\n".join([*lines, *_differences(kept)]) + "\n"


def _differences(kept: dict[str, Row]) -> list[str]:
    """What each setting has more than the first, seed by seed, where both are there."""
    first, *others = SETTINGS
    lines = [
        "", f"More than {first}, seed by seed, with Student's t intervals of 95% over the seeds that both have:", "",
        f"| setting | seeds | {' | '.join(COMPARED)} |", f"|---|---|{'---|' * len(COMPARED)}",
    ]  # fmt: skip
    for setting in others:
        names = [(Cell(setting, seed).name, Cell(first, seed).name) for seed in range(SEEDS)]
        pairs = [(kept[mine], kept[other]) for mine, other in names if mine in kept and other in kept]
        told = [over_seeds([one[name] - two[name] for one, two in pairs if name in one and name in two])
                for name in COMPARED]  # fmt: skip
        if pairs:
            lines.append(f"| {setting} | {len(pairs)} | {' | '.join(told)} |")
    return lines if len(lines) > 5 else []


def _trials(kept: dict[str, Row]) -> list[str]:
    """How the loss was found."""
    loss = target(kept)
    came = "is not known until all are trained" if loss is None else f"is {loss:.3f}"
    lines = [
        f"The loss {came}: each setting was trained to its end on seed 0, and it is {MARGIN} above the highest of "
        "their lowest.", "", "| setting | loss before | lowest | at step | of steps |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for trial in TRIALS:
        if row := kept.get(trial.name):
            lines.append(
                f"| {trial.setting} | {row['first']:.3f} | {row['lowest']:.3f} | {row['at']} | {row['steps']} |"
            )
    others = sorted({kept[c.name]["wanted"] for c in cells() if not c.trial and c.name in kept} - {loss})
    if others:
        lines += ["", f"**Some cells were stopped at another loss ({', '.join(map(str, others))})**: make them anew."]
    begun = [row["first"] for trial in TRIALS if (row := kept.get(trial.name))]
    if begun and (astray := [name for name, row in kept.items() if abs(row["first"] - begun[0]) > WITHIN]):
        lines += ["", "**Some cells began at another loss, so it was measured on other answers, as another kind of "
                  f"machine draws them: {', '.join(astray)}.** Make all on one machine."]  # fmt: skip
    return lines + by_codes(kept)


if __name__ == "__main__":
    fill_cells(
        __doc__, "runs/axes", cells(), Cell.folder, command, cell_figures, KEPT,
        lambda kept: write_text(TABLE, table(kept)),
    )  # fmt: skip
