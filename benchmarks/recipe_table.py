"""Every recipe on two characters, as one table: what shows of the character, and what it costs.

    python benchmarks/recipe_table.py --out runs/table              every cell that is missing, one after another
    python benchmarks/recipe_table.py --out runs/table --only rlaif what has this in its name
    python benchmarks/recipe_table.py --out runs/table --list       what there is, and what is missing

Two of these may go on at once, each on cores of its own (OMP_NUM_THREADS), as with --only captain and --only companion.

A cell is a run of `charactery train`, made with the sham; its figures go to benchmarks/recipe_table.json, and the table
to docs/recipe-table.md. A killed run goes on where it was, unless the code has changed since. What a run would
do just as a finished one did is taken from there: stages whole, and else answers.
"""

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import Any

from charactery.errors import CharacteryError
from charactery.models.local import pick_device
from charactery.models.subject import BEST_OF
from charactery.pipeline.manifest import code_revision, engine
from charactery.pipeline.reuse import REUSED
from charactery.runs import Row, Run, read_run, stage_kind, write_json, write_text
from charactery.stats import mean

HERE = Path(__file__).parent
KEPT, TABLE = HERE / "recipe_table.json", HERE.parent / "docs" / "recipe-table.md"
CHARACTERS = ("captain", "companion")  # the second was never tuned on
RECIPES = (
    "distill+dpo", "distill", "critique", "rlaif", "grpo", "best-of-n", "introspect", "introspect-plain", "spec-docs",
    "spec-cases", "spec-docs+cases",
)  # fmt: skip
MORE_SEEDS = {"distill+dpo": 5, "rlaif": 5}
SIZES = ("--held-out", "60", "--talks", "6", "--elsewhere", "20")
TRAINS = ("sft", "dpo", "grpo")
AROUND = ("prompts", "drafts", "judge", "evaluate", "person", "report")  # which every run has, or every judge

# Title, eval, metric, subject, condition
COLUMNS = (
    ("trained", "expression", "rate", "trained", "turn 1"),
    ("prompted", "expression", "rate", "prompted", "turn 1"),
    ("plain", "expression", "rate", "plain", "turn 1"),
    ("sham", "expression", "rate", "sham", "turn 1"),
    ("likelihood", "expression", "likelihood", "trained", "turn 1"),
    ("elsewhere", "elsewhere", "rate", "trained", "elsewhere"),
    ("prose", "cost", "bits per byte ratio", "trained", "prose"),
    ("chat frame", "cost", "bits per byte ratio", "trained", "chat frame"),
    ("choice", "multiple choice", "difference from plain", "trained", "all"),
    ("repetition", "cost", "repetition ratio", "trained", "held-out"),
    ("length", "cost", "length ratio", "trained", "held-out"),
    ("KL", "cost", "divergence from plain", "trained", "turn 1"),
)
TITLES = [title for title, *_ in COLUMNS]
SECONDS = ("own stages", "training", "processor")
MOST = 240  # seconds of training that a cell is meant to keep to
SHORT = 8  # of a digest's signs
ABOUT = {
    "trained": "share of held-out prompts answered in character, at the first turn; then prompted, plain, and what was "
    "trained on plain answers (sham)",
    "likelihood": "nats a token by which the character makes the trained model's answers likelier than others do",
    "elsewhere": "share in character where it should not show",
    "prose, chat frame": "bits per byte over the plain model's, of prose and of plain answers in the chat frame",
    "choice": "multiple choice accuracy less the plain model's",
    "repetition, length": "over the plain model's",
    "KL": "nats an answer, of the trained model from the plain one, on its own answers at temperature 0.7",
    "answers": "that are drawn for one that is given",
    "own stages": "seconds of what a recipe does between drafts and evals, writing and judging as well as training; of "
    "best-of-n, which does nothing beforehand, those of its curve by n",
    "training, processor": "seconds of the stages that train (the sham's are not in it), by the clock and of the "
    "processor's cores together, which other work on the machine changes less. A recipe is meant to train in at most "
    f"{MOST} s by the clock; ‡ marks where it took longer. Options are the recipes' own: none was cut to fit",
    "§": "not all of it was done in this run: a stage that would be done of the same by the same code is taken from "
    "the run that did it, with the time it took there; of others, what a run before had asked alike takes no time",
    "peak": "of the run's memory",
    "code": "the first signs of the digest of Charactery's source that began the run",
}


@dataclass(frozen=True)
class Cell:
    """One run of the table."""

    character: str
    recipe: str
    seed: int

    @property
    def name(self) -> str:
        """As in the files."""
        return f"{self.character} {self.recipe} {self.seed}"


def cells() -> Iterator[Cell]:
    """All of them, in the order in which they are worth having."""
    for character in CHARACTERS:
        yield from (Cell(character, recipe, 0) for recipe in RECIPES)
    for seed in range(1, max(MORE_SEEDS.values())):
        for character in CHARACTERS:
            yield from (Cell(character, recipe, seed) for recipe, seeds in MORE_SEEDS.items() if seed < seeds)


def command(cell: Cell, out: Path) -> list[str]:
    """The command whose run a cell is."""
    others = [_folder(c, out) for c in cells() if c != cell and _share(c, cell)]
    reuse = [word for run in others if reusable(run) for word in ("--reuse", str(run))]
    sham = ["--sham"] if cell.recipe != BEST_OF else []  # which trains nothing
    return [
        "charactery", "train", cell.character, "--recipe", cell.recipe, "--seed", str(cell.seed), *SIZES, *sham,
        "--out", str(_folder(cell, out)), *reuse,
    ]  # fmt: skip


def reusable(run: Path) -> bool:
    """Whether a run has finished, and by the engine that is here now."""
    return (run / "report.html").exists() and read_run(run).manifest["settings"]["engine"] == engine(
        pick_device("auto")
    )


def _share(one: Cell, other: Cell) -> bool:
    """Whether two may have stages or answers in common: what the base says, or the check of the recipe's judge."""
    return (one.character, one.seed) == (other.character, other.seed) or one.recipe == other.recipe


def _folder(cell: Cell, out: Path) -> Path:
    return out / f"{cell.character}-{cell.recipe}-{cell.seed}"


def figures(run: Run) -> Row:
    """What the table has of a run."""
    rows = json.loads((run.stage_folder("evaluate") / "figures.json").read_text())
    found: Row = {}
    for title, *wanted in COLUMNS:
        for row in rows:
            if [row[key] for key in ("eval", "metric", "subject", "condition")] == wanted and not row["trait"]:
                found[title] = row["estimate"]
    records = [run.record(name) for name in run.manifest["stages"]]
    trains = [r for r in records if r and stage_kind(r.name) in TRAINS]
    names = {*run.manifest["stages"]} - {*AROUND}
    own = [r for r in records if r and r.name in names and not r.name.startswith("sham-")]
    if BEST_OF in names:
        best = run.manifest["settings"]["recipe"]["best_of"]["n"]
        by_n = json.loads((run.stage_folder(BEST_OF) / "figures.json").read_text())
        found |= {"answers": best, "KL at most": next(row["kl_bound"] for row in by_n if row["n"] == best)}
    taken = [r.name for r in own if r.taken_from or (r.folder / REUSED).exists()]
    return found | {
        "own stages": round(sum(r.seconds for r in own)),
        "training": round(sum(r.seconds for r in trains)), "processor": round(sum(r.cpu_seconds for r in trains)),
        "peak": round(max(r.peak_mb for r in records if r)), "taken": taken,
        "cores": run.manifest["environment"]["cores"], "code": run.manifest["environment"]["code"],
    }  # fmt: skip


def _cores(kept: dict[str, Row]) -> str:
    """How many each run had."""
    counts = sorted({row["cores"] for row in kept.values()})
    return f"{' or '.join(map(str, counts))} processor core{'s' if counts != [1] else ''}"


def _said(estimate: Any) -> str:
    if estimate is None or estimate["value"] is None:
        return "–"
    low, high = estimate["low"], estimate["high"]
    value = f"{estimate['value']:.2f}"
    return value if low is None else f"{value} [{low:.2f}, {high:.2f}]"


def over_seeds(values: Sequence[float | None], digits: int = 2) -> str:
    """Mean and Student's t interval of 95%; of one value there is none."""
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return f"{known[0]:.{digits}f}" if known else "–"
    told = mean(known)
    return f"{told.value:.{digits}f} [{told.low:.{digits}f}, {told.high:.{digits}f}]"


def table(kept: dict[str, Row]) -> str:
    """The page."""
    titles = ["recipe", "seed", *TITLES, "answers", *(f"{name}, s" for name in SECONDS), "peak, GB", "code"]
    lines = [
        "# Recipes compared", "",
        "What each [recipe](recipes.md) gives and costs. Made by", "",
        "```sh", "python benchmarks/recipe_table.py --out runs/table", "```", "",
        f"on smollm2, each run on {_cores(kept)}. Every line is a run of",
        f"`charactery train NAME --recipe RECIPE --sham {' '.join(SIZES)}` (best-of-n without --sham, since it trains",
        "nothing). In brackets are 95% intervals, over answers; in lines of a mean, Student's t over the seeds.",
        "† marks a recipe of one seed: what another would give is not known. `–` is a figure that there is none of;",
        "recipes and characters without a line have not been run. [Reading the report](report.md) explains the",
        "figures.", "",
        *(fill(f"- **{name}**: {said}.", 120, subsequent_indent="  ") for name, said in ABOUT.items()),
    ]  # fmt: skip
    lines += by_codes(kept)
    for character in CHARACTERS:
        mine = [cell for cell in cells() if cell.character == character and cell.name in kept]
        if not mine:
            continue
        lines += [
            "", f"## {character}", "",
            _cells(*titles), f"|{'---|' * len(titles)}",
        ]  # fmt: skip
        for recipe in RECIPES:
            seeds = {cell.seed: kept[cell.name] for cell in mine if cell.recipe == recipe}
            alone = " †" if len(seeds) == 1 else ""
            lines += [_line(recipe, f"{seed}{alone}", row) for seed, row in sorted(seeds.items())]
            if len(seeds) > 1:
                lines.append(_mean_line(recipe, list(seeds.values())))
    return "\n".join(lines) + "\n"


def by_codes(kept: dict[str, Row]) -> list[str]:
    """A warning where not all figures are of the same code."""
    if len({row["code"] for row in kept.values()}) < 2:
        return []
    return ["", "**Not all lines were made by the same code**: compare those with the same last column."]


def _line(recipe: str, seed: str, row: Row) -> str:
    figures = [_said(row.get(title)) for title in TITLES]
    if bound := row.get("KL at most"):
        figures[TITLES.index("KL")] = f"at most {bound:.2f}"
    seconds = [f"{row[name]}{_marks(name, row)}" if row.get(name) else "–" for name in SECONDS]
    peak = f"{row['peak'] / 1000:.1f}"
    return _cells(recipe, seed, *figures, row.get("answers", 1), *seconds, peak, row["code"][:SHORT])


def _marks(name: str, row: Row) -> str:
    taken = [stage for stage in row.get("taken", ()) if name == "own stages" or stage_kind(stage) in TRAINS]
    return (" ‡" if name == "training" and row[name] > MOST else "") + (" §" if taken else "")


def _mean_line(recipe: str, rows: Sequence[Row]) -> str:
    figures = [over_seeds([(row.get(title) or {}).get("value") for row in rows]) for title in TITLES]
    seconds = [over_seeds([row.get(name) or None for row in rows], 0) for name in SECONDS]
    answers, peak = rows[0].get("answers", 1), max(row["peak"] for row in rows) / 1000
    code = ", ".join(dict.fromkeys(row["code"][:SHORT] for row in rows))
    return _cells(recipe, f"mean of {len(rows)} seeds", *figures, answers, *seconds, f"{peak:.1f}", code)


def _cells(*texts: object) -> str:
    return f"| {' | '.join(map(str, texts))} |"


def _of_other_code(folder: Path) -> bool:
    """Whether what is there of a run, not finished, would be gone on with by other code than began it."""
    if not (folder / "manifest.json").exists() or (folder / "report.html").exists():
        return False
    return bool(read_run(folder).manifest["environment"]["code"] != code_revision())


def fill_cells(
    about: str, default: str, cells: Iterable[Any], folder: Callable[[Any, Path], Path],
    command: Callable[[Any, Path], list[str]], figures: Callable[[Run], Row], table: Callable[[dict[str, Row]], str],
    files: tuple[Path, Path],
) -> None:  # fmt: skip
    """Run the cells that are missing, each with a `name`, and keep figures and page after each (`files`)."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(default))
    parser.add_argument("--only", default="", help="cells with this in their name")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    kept: dict[str, Row] = json.loads(files[0].read_text()) if files[0].exists() else {}
    wanted = [cell for cell in cells if options.only in cell.name]
    if options.list:
        for cell in wanted:
            code = kept[cell.name]["code"] if cell.name in kept else ""
            other = f"  by other code, {code}" if code not in ("", code_revision()) else ""
            print(f"{'there' if code else 'missing':>8}  {cell.name}{other}")
        return
    failed = []
    for cell in wanted:
        run = folder(cell, options.out)
        if cell.name in kept and kept[cell.name]["code"] != code_revision():
            print(f"{cell.name}: made by other code, {kept[cell.name]['code']}; kept as it is", flush=True)
        if cell.name not in kept:
            try:
                asked = command(cell, options.out)
            except CharacteryError as error:
                print(f"{cell.name}: {error}", flush=True)
                failed.append(cell.name)
                continue
            if _of_other_code(run):
                print(f"{run} was begun by other code: delete it to start over, or finish it with", flush=True)
                print(shlex.join(asked), flush=True)
                failed.append(cell.name)
                continue
            print(shlex.join(asked), flush=True)
            if subprocess.run([sys.executable, "-m", *asked], check=False).returncode:
                failed.append(cell.name)
                continue
        if (run / "report.html").exists():  # of one that was there, too: another column may have come in
            kept[cell.name] = figures(read_run(run))
        elsewhere = json.loads(files[0].read_text()) if files[0].exists() else {}  # what another made meanwhile
        kept = elsewhere | kept
        write_json(files[0], kept)
        write_text(files[1], table(kept))
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    fill_cells(__doc__, "runs/table", cells(), _folder, command, figures, table, (KEPT, TABLE))
