"""Ranks and optimisers at the same loss: what shows of the character, and what it costs, over several seeds.

    python benchmarks/axes_table.py --out runs/axes                 every cell that is missing, one after another
    python benchmarks/axes_table.py --out runs/axes --only muon     what has this in its name
    python benchmarks/axes_table.py --out runs/axes --list          what there is, and what is missing

A cell is SFT alone (`--recipe distill`), stopped at LOSS on answers held back; its figures go to
benchmarks/axes_table.json, and the table to docs/axes-table.md. A killed run goes on where it was, unless the
code has changed since. Runs of one seed share their drafts.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from recipe_table import figures, fill_cells, over_seeds

from charactery.runs import Row, Run, read_rows

HERE = Path(__file__).parent
KEPT, TABLE = HERE / "axes_table.json", HERE.parent / "docs" / "axes-table.md"
CHARACTER, SEEDS, EPOCHS = "captain", 5, 4
LOSS = 3.25  # nats a token
SIZES = ("--held-out", "40", "--talks", "4", "--elsewhere", "16")
SETTINGS = {
    "rank 16, AdamW": (),
    "rank 1, AdamW": ("--lora-rank", "1"),
    "all weights, AdamW": ("--lora-rank", "full"),
    "rank 16, Muon": ("--optimizer", "muon"),
    "rank 16, SOAP": ("--optimizer", "soap"),
}
MEASURED = ("steps", "loss", "trained", "likelihood", "elsewhere", "prose", "chat frame", "choice", "repetition", "KL")


@dataclass(frozen=True)
class Cell:
    """One run of the table."""

    setting: str
    seed: int

    @property
    def name(self) -> str:
        """As in the files."""
        return f"{self.setting}, seed {self.seed}"

    def folder(self, out: Path) -> Path:
        """Where its run lies."""
        return out / "".join(c if c.isalnum() else "-" for c in self.name).replace("--", "-")


def cells() -> Iterator[Cell]:
    """All of them, a seed after another, so that the settings can be compared as soon as there are two."""
    for seed in range(SEEDS):
        yield from (Cell(setting, seed) for setting in SETTINGS)


def command(cell: Cell, out: Path) -> list[str]:
    """The command whose run a cell is."""
    first = Cell(next(iter(SETTINGS)), cell.seed).folder(out)
    reuse = ["--reuse", str(first)] if cell.folder(out) != first and (first / "manifest.json").exists() else []
    return [
        "charactery", "train", CHARACTER, "--recipe", "distill", "--seed", str(cell.seed), *SIZES,
        "--sft-epochs", str(EPOCHS), "--stop-at-loss", str(LOSS), *SETTINGS[cell.setting],
        "--out", str(cell.folder(out)), *reuse,
    ]  # fmt: skip


def cell_figures(run: Run) -> Row:
    """What the table has of a run: values alone, since the seeds are what it varies over."""
    found = {name: row["value"] if isinstance(row, dict) else row for name, row in figures(run).items()}
    last = read_rows(run.stage_folder("sft") / "validation.jsonl")[-1]
    return found | {"steps": last["step"], "loss": last["loss"]}


def table(kept: dict[str, Row]) -> str:
    """The page."""
    lines = [
        "# Ranks and optimisers at the same loss", "",
        "Made by `python benchmarks/axes_table.py --out runs/axes`, on smollm2. A cell is a run of `charactery train "
        f"{CHARACTER} --recipe distill --sft-epochs {EPOCHS} --stop-at-loss {LOSS} {' '.join(SIZES)}`. Means over "
        "seeds, with Student's t intervals of 95%; one seed has none. Columns as in [recipes "
        "compared](recipe-table.md); *loss* is where training stopped, in nats a token of answers held back, and "
        "`above` counts the seeds that ended more than 0.02 from what was asked.", "",
        f"| setting | seeds | above | {' | '.join(MEASURED)} | training, s | peak, GB |",
        f"|---|---|---|{'---|' * (len(MEASURED) + 2)}",
    ]  # fmt: skip
    for setting in SETTINGS:
        rows = [kept[cell.name] for cell in cells() if cell.setting == setting and cell.name in kept]
        if not rows:
            continue
        said = " | ".join(over_seeds([row.get(name) for row in rows]) for name in MEASURED)
        above = sum(abs(row["loss"] - LOSS) > 0.02 for row in rows)
        seconds, peak = over_seeds([row["training"] for row in rows], 0), max(row["peak"] for row in rows) / 1000
        lines.append(f"| {setting} | {len(rows)} | {above} | {said} | {seconds} | {peak:.1f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    fill_cells(__doc__, "runs/axes", cells(), Cell.folder, command, cell_figures, table, (KEPT, TABLE))
