"""Every recipe on two characters, as one page: what shows of the character, and what it costs.

    python benchmarks/recipe_table.py --out runs/table              every cell that is missing, one after another
    python benchmarks/recipe_table.py --out runs/table --only rlaif what has this in its name
    python benchmarks/recipe_table.py --out runs/table --read       nothing is run: the page of the runs that are there
    python benchmarks/recipe_table.py --out runs/table --list       what there is, and what is missing

Two of these may go on at once, each on cores of its own (OMP_NUM_THREADS), as with --only captain and --only companion.

A cell is a run of `charactery train`, made with the sham; its figures go to benchmarks/recipe_table.json, and the page
to docs/recipe-table.md, with a picture of each character. A killed run goes on where it was, unless the code has
changed since. What a run would do just as a finished one did is taken from there: stages whole, and else answers.
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
from charactery.report.forest import Axis, Group, forest
from charactery.report.picture import save_png
from charactery.runs import Row, Run, read_run, stage_kind, write_json, write_text
from charactery.stats import NO_WIDTH, Estimate, mean

HERE = Path(__file__).parent
KEPT, TABLE = HERE / "recipe_table.json", HERE.parent / "docs" / "recipe-table.md"
CHARACTERS = ("captain", "companion")  # the second was never tuned on
RECIPES = (
    "distill+dpo", "distill", "critique", "rlaif", "grpo", "best-of-n", "introspect", "introspect-text",
    "introspect-plain", "spec-docs", "spec-cases", "spec-docs+cases",
)  # fmt: skip
MORE_SEEDS = {"distill+dpo": 5, "rlaif": 5}
SIZES = ("--held-out", "60", "--talks", "6", "--elsewhere", "20")
TRAINS = ("sft", "dpo", "grpo")
AROUND = ("prompts", "drafts", "judge", "evaluate", "person", "report")  # which every run has, or every judge

# Title: eval, metric, condition
MEASURES = {
    "in character": ("expression", "rate", "turn 1"),
    "of prompted": ("expression", "ratio to prompted", "turn 1"),
    "likelihood": ("expression", "likelihood", "turn 1"),
    "elsewhere": ("elsewhere", "rate", "elsewhere"),
    "prose": ("cost", "bits per byte ratio", "prose"),
    "chat frame": ("cost", "bits per byte ratio", "chat frame"),
    "choice": ("multiple choice", "difference from plain", "all"),
    "repetition": ("cost", "repetition ratio", "held-out"),
    "length": ("cost", "length ratio", "held-out"),
    "KL": ("cost", "divergence from plain", "turn 1"),
}
SHOWS = ("in character", "of prompted", "likelihood", "elsewhere")
COSTS = ("prose", "chat frame", "choice", "repetition", "length", "KL")
SUBJECTS = ("trained", "sham", "prompted", "plain")
CONTROLS = {"AUC": ("judge", "auc", ""), "mixture": ("controls", "share recovered", "turn 1")}
MIXTURE = "a 50:50 mixture"
# What a report says of a run, in a word; of the two of the ratio to prompted one stands for both
VERDICTS = {
    "expression at least": "prompted", "lower end": "prompted", "expression clear of plain": "plain",
    "expression clear of sham": "sham", "expression clear of another": "others", "likelihood clear": "likelihood",
    "bits per byte on prose": "prose", "bits per byte in the chat frame": "chat frame", "repetition": "repetition",
    MIXTURE: "",  # the judge's, and not the recipe's
}  # fmt: skip
REVISED = ("over the first answer", "over an empty principle", "empty over the first answer")
SECONDS = ("own stages", "training", "processor")
MOST, CORES = 240, 2  # seconds of training that a cell is meant to keep to, on so many cores
SHORT = 8  # of a digest's signs
ABOUT_SHOWS = {
    "in character": "share of held-out prompts answered in character at the first turn, by the run's classifier",
    "sham": "the same of what was trained as long with nothing to learn",
    "of prompted": "the trained model's share divided by the prompted model's, by the same run's classifier. Runs of a "
    "seed ask for the same answers, but fit a classifier each, on answers that may differ where a run without sham has "
    "others beside them in a batch: of the companion's prompted answers best-of-n's takes 0.25 for hers, the rest 0.32",
    "likelihood": "nats a token by which the character makes these answers more likely than other characters do",
    "elsewhere": "share in character where it should not show",
    "not held": "which of the bounds that [every report](report.md#verdicts) looks at the run misses: *prompted* "
    "(0.8 of the prompted model's share, and 0.65 at the interval's lower end), clear of *plain*, *sham* and *others* "
    "(another character's answers), *likelihood* clear of plain, *prose* (at most 1.1), *chat frame* (1.25), "
    "*repetition* (1.5)",
}
ABOUT_COSTS = {
    "prose, chat frame": "bits per byte divided by the plain model's, of prose, and of plain answers in the chat "
    "format: 1 is unchanged. best-of-n has neither, nor choice, since none of its weights change",
    "choice": "multiple choice accuracy less the plain model's",
    "repetition, length": "divided by the plain model's",
    "KL": "nats an answer, of the trained model from the plain one, on its own answers at temperature 0.7",
}
ABOUT_TAKES = {
    "answers": "drawn for each one that is given",
    "own stages": "seconds of what a recipe does between drafts and evals, writing and judging as well as training; of "
    "best-of-n, which does nothing beforehand, those of its curve by n",
    "training, processor": "seconds of the stages that train (the sham's are not in it), by the clock and of the "
    "processor's cores together, which other work on the machine changes less. A recipe is meant to train in at most "
    f"{MOST} s on {CORES} cores; ‡ marks where it took longer by the clock, whatever cores it had. Options are the "
    "recipes' own: none was cut to fit. best-of-n has neither, since nothing is trained",
    "§": "not all of it was done in this run: a stage with the same inputs and code is taken from the run that did it, "
    "with the time it took there; of others, answers that a run before had already drawn take no time",
    "peak": "memory",
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
    """What the page has of a run: of each measure the Subjects' Estimates, and what the run took."""
    rows = json.loads((run.stage_folder("evaluate") / "figures.json").read_text())
    keys = ("eval", "metric", "condition", "subject", "trait")
    by = {tuple(row[key] for key in keys): row["estimate"] for row in rows}
    found: Row = {
        title: {s: by[*what, s, ""] for s in SUBJECTS if (*what, s, "") in by} for title, what in MEASURES.items()
    }
    found["controls"] = {name: by.get((*what, {"mixture": name}.get(name, ""), "")) for name, what in CONTROLS.items()}
    verdicts = json.loads((run.stage_folder("evaluate") / "verdicts.json").read_text())
    missed = [next(said for start, said in VERDICTS.items() if v["name"].startswith(start))
              for v in verdicts if v["held"] is False]  # fmt: skip
    found["controls"]["held"] = next(v["held"] for v in verdicts if v["name"].startswith(MIXTURE))
    found["not held"] = [*dict.fromkeys(filter(None, missed))]
    records = [run.record(name) for name in run.manifest["stages"]]
    trains = [r for r in records if r and stage_kind(r.name) in TRAINS]
    names = {*run.manifest["stages"]} - {*AROUND}
    own = [r for r in records if r and r.name in names and not r.name.startswith("sham-")]
    if BEST_OF in names:
        best = run.manifest["settings"]["recipe"]["best_of"]["n"]
        by_n = json.loads((run.stage_folder(BEST_OF) / "figures.json").read_text())
        found |= {"answers": best, "KL at most": next(row["kl_bound"] for row in by_n if row["n"] == best)}
    if "revisions" in names:
        counts = json.loads((run.stage_folder("revisions") / "counts.json").read_text())
        unfit = [sum(counts[key].values()) for key in ("faults", "empty faults") if key in counts]
        if len(unfit) == 2:  # runs of before counted what was unfit, too
            found["revised"] = {key: counts[key] for key in REVISED} | {"unfit": unfit}
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
    if told.low is None:
        return f"{told.value:.{digits}f} {NO_WIDTH}"
    return f"{told.value:.{digits}f} [{told.low:.{digits}f}, {told.high:.{digits}f}]"


def table(kept: dict[str, Row]) -> str:
    """The page."""
    lines = [
        "# Recipes compared", "",
        "What each [recipe](recipes.md) gives and costs. Made by", "",
        "```sh", "python benchmarks/recipe_table.py --out runs/table", "```", "",
        f"on smollm2, each run on {_cores(kept)}. Every line is a run of",
        f"`charactery train NAME --recipe RECIPE --sham {' '.join(SIZES)}` (best-of-n without --sham, since it trains",
        "nothing). In brackets are 95% intervals, over answers; in lines of a mean, Student's t over the seeds.",
        "† marks a recipe of one seed: what another would give is not known. `–`: there is no such figure.",
        "Recipes and characters without a line have not been run.",
        *by_codes(kept), *_within(kept),
    ]  # fmt: skip
    for character in CHARACTERS:
        mine = {cell: kept[cell.name] for cell in cells() if cell.character == character and cell.name in kept}
        if mine:
            picture = f"![{_alt(character, mine)}]({_image(character)})"
            lines += ["", f"## {character}", "", *_controls(mine), "", picture]
            lines += ["", "### Does it show?", "", *_shows(mine), *_revised(mine)]
            lines += ["", "### What it costs", "", *_costs(mine), "", "### What it takes", "", *_takes(mine)]
    lines += ["", "## What the columns are"]
    every = {"Does it show?": ABOUT_SHOWS, "What it costs": ABOUT_COSTS, "What it takes": ABOUT_TAKES}
    for title, about in every.items():
        lines += ["", f"**{title}**", ""]
        lines += [fill(f"- **{name}**: {said}.", 120, subsequent_indent="  ") for name, said in about.items()]
    return "\n".join(lines) + "\n"


def _controls(mine: dict[Cell, Row]) -> list[str]:
    """How good this character's judge is, by the first run."""
    cell, row = next(iter(mine.items()))
    auc, mixture = (row["controls"][name] for name in ("AUC", "mixture"))
    held = row["in character"]["prompted"]["n"], row["elsewhere"]["trained"]["n"]
    return [
        f"The judge, fitted on each run's answers, by `{cell.recipe}` at seed {cell.seed}: AUC {_said(auc)} for the "
        "character's answers against plain and others'; of a half-and-half mixture it recovered "
        f"{_said(mixture)}, where 0.5 is right"
        + (". " if row["controls"]["held"] else ": **this control missed its bound**, so read shares with more doubt. ")
        + f"Shares are of {held[0]} held-out prompts, likelihoods and *elsewhere* of {held[1]}."
    ]


def _by_seed(mine: dict[Cell, Row]) -> Iterator[tuple[str, str, list[Row]]]:
    """Recipe, what stands under seed, and the rows of a line: one, or all of a mean."""
    for recipe in RECIPES:
        seeds = {cell.seed: row for cell, row in mine.items() if cell.recipe == recipe}
        for seed, row in sorted(seeds.items()):
            yield recipe, f"{seed}{' †' if len(seeds) == 1 else ''}", [row]
        if len(seeds) > 1:
            yield recipe, f"mean of {len(seeds)} seeds", [*seeds.values()]


def _of(rows: Sequence[Row], title: str, subject: str = "trained") -> str:
    """A figure with its interval; of several rows their mean."""
    told = [(row.get(title) or {}).get(subject) for row in rows]
    return _said(told[0]) if len(rows) == 1 else over_seeds([(one or {}).get("value") for one in told])


def _shows(mine: dict[Cell, Row]) -> list[str]:
    titles = ("recipe", "seed", "in character", "sham", "of prompted", "likelihood", "elsewhere", "not held")
    lines = [_cells(*titles), f"|{'---|' * len(titles)}"]
    first = {cell.seed: [row] for cell, row in mine.items() if cell.recipe == RECIPES[0]}
    for subject in ("plain", "prompted"):  # of the default's runs: others of a seed ask for the same answers
        for seed, rows in sorted(first.items()):
            told = (_of(rows, title, subject) for title in ("in character", "likelihood", "elsewhere"))
            lines.append("| *{}* | *{}* | {} | | | {} | {} | |".format(subject, seed, *told))
    for recipe, which, rows in _by_seed(mine):
        missed = ", ".join(rows[0]["not held"]) or "none" if len(rows) == 1 else ""
        lines.append(_cells(recipe, which, _of(rows, "in character"), _of(rows, "in character", "sham"),
                            *(_of(rows, title) for title in SHOWS[1:]), missed))  # fmt: skip
    return lines


def _revised(mine: dict[Cell, Row]) -> list[str]:
    """How often a revision by a principle was the better one, of the recipe that makes them."""
    lines = []
    for cell, row in mine.items():
        if told := row.get("revised"):
            first, empty, by_none = (
                f"{_said(told[key])} (n {told[key]['n']}, {told[key]['missing']} without a verdict)" for key in REVISED
            )
            lines += ["", f"Of the revisions that `{cell.recipe}` made at seed {cell.seed} the judge preferred {first} "
                      f"to the answer revised, and {empty} to a revision made under an empty principle, which it "
                      f"preferred to the answer in {by_none}. Revisions unfit to be learnt from are left out: "
                      f"{told['unfit'][0]} by a principle and {told['unfit'][1]} under none."]  # fmt: skip
    return lines


def _costs(mine: dict[Cell, Row]) -> list[str]:
    titles = ("recipe", "seed", *COSTS)
    lines = [_cells(*titles), f"|{'---|' * len(titles)}"]
    for seed, rows in sorted((c.seed, [row]) for c, row in mine.items() if c.recipe == RECIPES[0]):
        lines.append(_cells("*prompted*", f"*{seed}*", *(_of(rows, title, "prompted") for title in COSTS)))
    for recipe, which, rows in _by_seed(mine):
        figures = [_of(rows, title) for title in COSTS]
        if bound := rows[0].get("KL at most"):
            figures[-1] = f"at most {bound:.2f}"
        lines.append(_cells(recipe, which, *figures))
        if any("sham" in (row.get(title) or {}) for row in rows for title in COSTS):
            lines.append(_cells("*its sham*", f"*{which}*", *(_of(rows, title, "sham") for title in COSTS)))
    return lines


def _takes(mine: dict[Cell, Row]) -> list[str]:
    titles = ("recipe", "seed", "answers", *(f"{name}, s" for name in SECONDS), "peak, GB", "code")
    lines = [_cells(*titles), f"|{'---|' * len(titles)}"]
    for recipe, seed, rows in _by_seed(mine):
        if len(rows) == 1:
            seconds = [f"{rows[0][name]}{_marks(name, rows[0])}" if rows[0].get(name) else "–" for name in SECONDS]
        else:
            seconds = [over_seeds([row.get(name) or None for row in rows], 0) for name in SECONDS]
        peak = f"{max(row['peak'] for row in rows) / 1000:.1f}"
        code = ", ".join(dict.fromkeys(row["code"][:SHORT] for row in rows))
        lines.append(_cells(recipe, seed, rows[0].get("answers", 1), *seconds, peak, code))
    return lines


def _image(character: str) -> str:
    return f"images/recipes-{character}.png"


def _alt(character: str, mine: dict[Cell, Row]) -> str:
    """What the picture shows, for who does not see it."""
    shown = [f"{recipe} {_of(rows, 'in character').split(' [')[0]}" for recipe, _, rows in _by_seed(mine)
             if len(rows) == max(1, sum(cell.recipe == recipe for cell in mine))]  # fmt: skip
    return f"Share in character by recipe, of the {character}: {', '.join(shown)}. The table below has the same."


def pictures(kept: dict[str, Row], folder: Path) -> None:
    """A picture of each character's shares, one dot a seed, into `folder`."""
    for character in CHARACTERS:
        mine = {cell: kept[cell.name] for cell in cells() if cell.character == character and cell.name in kept}
        if not mine:
            continue
        first = next(iter(mine.values()))["in character"]
        groups = [Group("the model itself", tuple((s, Estimate(**first[s])) for s in ("prompted", "plain")))]
        for recipe in RECIPES:
            told = [row["in character"] for cell, row in mine.items() if cell.recipe == recipe]
            points = [(s, Estimate(**one[s])) for s in ("trained", "sham") for one in told if one.get(s)]
            groups += [Group(recipe, tuple(points))] if points else []
        axis = Axis(f"answered in character, of {first['prompted']['n']} held-out prompts", 0, 1,
                    reference=first["prompted"]["value"], percent=True)  # fmt: skip
        save_png(forest(groups, axis, 620, listed=False), folder / Path(_image(character)).name)


def by_codes(kept: dict[str, Row]) -> list[str]:
    """A warning where not all figures are of the same code."""
    if len({row["code"] for row in kept.values()}) < 2:
        return []
    return ["", "**Not all lines were made by the same code**: compare those with the same *code*."]


def _within(kept: dict[str, Row]) -> list[str]:
    """How many cells train for longer than is meant, by the processor."""
    spent = [row["processor"] for row in kept.values() if row["training"]]
    longer, half = (sum(seconds > most for seconds in spent) for most in (CORES * MOST, MOST))
    said = (
        f"A recipe is meant to train in at most {MOST // 60} minutes on {CORES} cores, which have {CORES * MOST} "
        f"core-seconds in that time. Of {len(spent)} cells that train {longer or 'none'} took more of the processor, "
        f"and {half or 'none'} more than {MOST}, which is as long on one core."
    )
    return ["", *fill(said, 120).split("\n")] if spent else []


def _marks(name: str, row: Row) -> str:
    taken = [stage for stage in row.get("taken", ()) if name == "own stages" or stage_kind(stage) in TRAINS]
    return (" ‡" if name == "training" and row[name] > MOST else "") + (" §" if taken else "")


def _cells(*texts: object) -> str:
    return f"| {' | '.join(map(str, texts))} |"


def _of_other_code(folder: Path) -> bool:
    """Whether what is there of a run, not finished, would be gone on with by other code than began it."""
    if not (folder / "manifest.json").exists() or (folder / "report.html").exists():
        return False
    return bool(read_run(folder).manifest["environment"]["code"] != code_revision())


def fill_cells(
    about: str, default: str, cells: Iterable[Any], folder: Callable[[Any, Path], Path],
    command: Callable[[Any, Path], list[str]], figures: Callable[[Run], Row], file: Path,
    page: Callable[[dict[str, Row]], None],
) -> None:  # fmt: skip
    """Run the cells that are missing, each with a `name`; after each, all figures go to `file` and into the page."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(default))
    parser.add_argument("--only", default="", help="cells with this in their name")
    parser.add_argument("--list", action="store_true", help="what there is, and what is missing")
    parser.add_argument("--read", action="store_true", help="run nothing: figures and page of the runs that are there")
    options = parser.parse_args()
    kept: dict[str, Row] = json.loads(file.read_text()) if file.exists() else {}
    wanted = [cell for cell in cells if options.only in cell.name]
    if options.list:
        for cell in wanted:
            code = kept[cell.name]["code"] if cell.name in kept else ""
            other = f"  by other code, {code}" if code not in ("", code_revision()) else ""
            print(f"{'there' if code else 'missing':>8}  {cell.name}{other}")
        return
    if options.read:
        there = [(cell.name, folder(cell, options.out)) for cell in wanted]
        kept |= {name: figures(read_run(run)) for name, run in there if (run / "report.html").exists()}
        write_json(file, kept)
        page(kept)
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
        elsewhere = json.loads(file.read_text()) if file.exists() else {}  # what another made meanwhile
        kept = elsewhere | kept
        write_json(file, kept)
        page(kept)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def write_page(kept: dict[str, Row]) -> None:
    """The page, and its pictures beside it."""
    write_text(TABLE, table(kept))
    pictures(kept, TABLE.parent / "images")


if __name__ == "__main__":
    fill_cells(__doc__, "runs/table", cells(), _folder, command, figures, KEPT, write_page)
