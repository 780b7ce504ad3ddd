"""A real person by how many of the writings were learnt, as one who knows it, and beside somebody made up.

    python benchmarks/person_table.py --out runs/person                       every cell that is missing, one by one
    python benchmarks/person_table.py --out runs/person --only "lincoln, 40"  what has this in its name
    python benchmarks/person_table.py --out runs/person --read                nothing is trained: of the runs there are
    python benchmarks/person_table.py --out runs/person --list                what there is, and what is missing

A cell is a run of `charactery train` on smollm2: Lincoln from 160 passages (with the sham), 40 and 640, then
`lincoln-persona`, and the captain, who is made up, by `distill` with as many epochs as give as many tokens of training
as Lincoln's 160 passages. The texts are looked for in writings/lincoln and writings/lincoln-others, as docs/person.md
says. Figures go to benchmarks/person_table.json, the page to docs/person-table.md with a picture. A killed run goes on
where it was, unless the code has changed since.
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure as Drawing
from recipe_table import SHORT, by_codes, fill_cells, reusable

from charactery.errors import CharacteryError
from charactery.evals.person.claims import trained_tokens
from charactery.evals.person.portrait import KNOWN, LATER
from charactery.models.subject import parse_subject
from charactery.pipeline.recipe import HERE as RECIPES
from charactery.pipeline.recipe import find_recipe
from charactery.report.palette import dress
from charactery.report.picture import save_png
from charactery.runs import Row, Run, write_text
from charactery.stats import Estimate

HERE = Path(__file__).parent
KEPT, TABLE = HERE / "person_table.json", HERE.parent / "docs" / "person-table.md"
CURVE = "person-curve.png"
USUAL = find_recipe("person").writings.passages
COSTS = {"prose": ("bits per byte ratio", "prose"), "chat frame": ("bits per byte ratio", "chat frame"),
         "repetition": ("repetition ratio", "held-out")}  # fmt: skip
PANELS = {"score": "authorship, nats a token", "pass": "answers that pass for the author's",
          "contradiction": "contradiction about oneself"}  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """One run: a person from so many passages, or without them somebody made up: to count tokens, then for as many."""

    character: str
    passages: int = 0
    equal: bool = False

    @property
    def name(self) -> str:
        """As in the files."""
        how = f"{self.passages} passages" if self.passages else "as many tokens" if self.equal else "distill"
        return f"{self.character}, {how}"

    def folder(self, out: Path) -> Path:
        """Where its run lies."""
        return out / self.name.replace(", ", "-").replace(" ", "-")


PERSON, COUNTED, EQUAL = Cell("lincoln", USUAL), Cell("captain"), Cell("captain", equal=True)
CELLS = (PERSON, COUNTED, EQUAL, Cell("lincoln-persona", USUAL), Cell("lincoln", 40), Cell("lincoln", 640))


def command(cell: Cell, out: Path) -> list[str]:
    """The command whose run a cell is. Raises CharacteryError where it needs another's that is not there."""
    start = ["charactery", "train", cell.character, "--out", str(cell.folder(out))]
    alike = [c.folder(out) for c in CELLS if c != cell and bool(c.passages) is bool(cell.passages)]
    reuse = [word for run in alike if reusable(run) for word in ("--reuse", str(run))]
    if not cell.passages:
        return [*start, "--recipe", "distill", *(["--sft-epochs", str(epochs(out))] if cell.equal else []), *reuse]
    if cell.passages == USUAL:
        return [*start, *(["--sham"] if cell == PERSON else []), *reuse]
    file, shipped = out / f"person-{cell.passages}.toml", (RECIPES / "person.toml").read_text()
    write_text(file, shipped.replace(f"passages = {USUAL}\n", f"passages = {cell.passages}\n"))
    return [*start, "--recipe", str(file), *reuse]


def epochs(out: Path) -> float:
    """The epochs of SFT that give somebody made up as many tokens as the person has: tokens go up with them."""
    runs = [PERSON.folder(out), COUNTED.folder(out)]
    if not all((run / "report.html").exists() for run in runs):
        raise CharacteryError(f"{PERSON.name} and {COUNTED.name} are to be there first, to count their tokens")
    wanted, had = (trained_tokens(parse_subject(str(run))) for run in runs)
    return round(find_recipe("distill").sft.epochs * wanted / had, 2)


def figures(run: Run) -> Row:
    """What the page has of a run: of each measure the trained model's Estimate, and what it read."""
    rows = json.loads((run.stage_folder("evaluate") / "figures.json").read_text())
    by = {(r["metric"], r["condition"]): r["estimate"] for r in rows
          if r["eval"] == "cost" and r["subject"] == "trained" and not r["trait"]}  # fmt: skip
    found: Row = {name: by[what] for name, what in COSTS.items() if what in by}
    found |= {"tokens": trained_tokens(parse_subject(str(run.folder))), "code": run.manifest["environment"]["code"]}
    person = PERSON.folder(run.folder.parent)
    if "person" not in run.manifest["stages"]:
        equal = run.folder == EQUAL.folder(run.folder.parent) and (person / "report.html").exists()
        return found | ({"claims": claimed(person, run.folder)} if equal else {})
    told = json.loads((run.stage_folder("person") / "person.json").read_text())
    judge = json.loads((run.stage_folder("authorship") / "authorship.json").read_text())
    roles = told["authorship"]
    return found | {
        "AUC": judge["auc"]["all"], "held out": judge["means"]["author"], "roles": roles,
        **{name: roles["trained"][name] for name in ("score", "pass", "copied")}, "later": told["later"],
        "contradiction": told["claims"]["trained"]["contradiction"], "writings": run.manifest["writings"],
    }  # fmt: skip


def claimed(person: Path, invented: Path) -> Row:
    """What `charactery claims` says of the person, of who was made up, and of the plain model."""
    runs = {PERSON.name: str(person), EQUAL.name: str(invented), "plain model": "smollm2"}
    asked = ["claims", "--json", "--out", str(person.parent / "claimed"), *runs.values()]
    done = subprocess.run([sys.executable, "-m", "charactery", *asked], check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)
    return {name: found[run] for name, run in runs.items()}


def table(kept: dict[str, Row]) -> str:
    """The page."""
    cells = {cell.name: kept[cell.name] for cell in CELLS if cell.name in kept}
    people = {name: row for name, row in cells.items() if "score" in row}
    lines = [
        "# A person by how much was read", "",
        "Made by `python benchmarks/person_table.py`, on smollm2, one seed: what another would give is not known. "
        "In brackets are 95% intervals. [A real person](person.md) says what each figure is; *does not know* is how "
        "often an answer says so, and *code* the first signs of the digest of Charactery's source.", "",
        "| run | tokens of the writings met | authorship, nats a token | pass for the author's | later things: does "
        "not know | known things: does not know | contradiction about itself | chat frame | repetition | code |",
        f"|{'---|' * 10}",
    ]  # fmt: skip
    for name, row in people.items():
        later, met = row["later"]["trained"], row["writings"]["seen"]
        shown = (row["score"], row["pass"], later[LATER], later[KNOWN], row["contradiction"])
        told = [said(figure) for figure in (*shown, row.get("chat frame"), row.get("repetition"))]
        lines.append(f"| {name} | {met:,} | {' | '.join(told)} | {row['code'][:SHORT]} |")
    if first := people.get(PERSON.name):
        roles = ", ".join(f"{role} {said(mine['score'])}" for role, mine in first["roles"].items() if role != "trained")
        passing = ", ".join(f"{role} {said(mine['pass'])}" for role, mine in first["roles"].items())
        lines += [
            "", f"Of {PERSON.name}, authorship of the others' answers: {roles}; of the author's held-out passages "
            f"{said(first['held out'])}, and the judge's AUC on those {said(first['AUC'])}. What passes: {passing}.",
        ]  # fmt: skip
    if len(curve(kept)) > 1:
        lines += ["", f"![By passages learnt: {'; '.join(PANELS.values())}. The table has the same](images/{CURVE})"]
    if found := kept.get(EQUAL.name, {}).get("claims"):
        lines += [
            "", "## Somebody who lived, and somebody made up", "",
            "Both trained on about as many tokens, prompts and every epoch among them; contradiction is the share of "
            "pairs of wordings answered in opposite ways, over claims about oneself; the last column is by claim.", "",
            "| | tokens read | contradiction | less than the person's |", "|---|---|---|---|",
        ]  # fmt: skip
        read = {PERSON.name: kept[PERSON.name]["tokens"], EQUAL.name: kept[EQUAL.name]["tokens"]}
        for name, row in found.items():
            less = "" if name == PERSON.name else said(row["less than the first"]["contradiction"])
            lines.append(f"| {name} | {read.get(name, 0):,} | {said(row['contradiction'])} | {less} |")
    return "\n".join([*lines, *by_codes(cells)]) + "\n"


def said(estimate: Any) -> str:
    """A figure with its interval, or a dash."""
    return "–" if not estimate else str(Estimate(**estimate | {"unit": ""})).partition(" (")[0]


def curve(kept: dict[str, Row]) -> list[tuple[int, Row]]:
    """Lincoln's cells by passages."""
    return sorted((c.passages, kept[c.name]) for c in CELLS if c.character == PERSON.character and c.name in kept)


def write_page(kept: dict[str, Row]) -> None:
    """The page, and its picture beside it once there are two cells to draw."""
    write_text(TABLE, table(kept))
    rows = curve(kept)
    if len(rows) < 2:
        return
    counts = [count for count, _ in rows]
    drawing = Drawing(figsize=(9, 2.8), layout="constrained")
    for axes, (key, title) in zip(drawing.subplots(1, len(PANELS)), PANELS.items(), strict=True):
        found = [Estimate(**row[key]) for _, row in rows]
        below = [e.value - (e.value if e.low is None else e.low) for e in found]
        above = [(e.value if e.high is None else e.high) - e.value for e in found]
        dress(axes)
        axes.errorbar(counts, [e.value for e in found], (below, above), marker="o", capsize=3)
        axes.set_xscale("log")
        axes.set_xticks(counts, [str(count) for count in counts])
        axes.minorticks_off()
        axes.set_title(title, fontsize=9, loc="left")
        axes.set_xlabel("passages of the writings", fontsize=8)
    save_png(drawing, TABLE.parent / "images" / CURVE)


if __name__ == "__main__":
    fill_cells(__doc__, "runs/person", CELLS, Cell.folder, command, figures, KEPT, write_page)
