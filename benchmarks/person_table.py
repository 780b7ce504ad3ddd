"""A real person by how many of the writings were learnt, as one who knows it, and beside somebody made up.

    python benchmarks/person_table.py --writings lincoln.jsonl --others presidents.jsonl --out runs/person
    python benchmarks/person_table.py … --only "40 passages"      what has this in its name
    python benchmarks/person_table.py --out runs/person --read    nothing is run: of the runs that are there
    python benchmarks/person_table.py --out runs/person --list    what there is, and what is missing

A cell is a run of `charactery train` on smollm2: Lincoln from 40, 160 and 640 passages, `lincoln-persona`, and the
captain, who is made up, by `distill` with as many epochs as give as many tokens of training as Lincoln's 160 passages.
What the writings and the others are, `docs/person.md` says. Figures go to benchmarks/person_table.json, the page to
docs/person-table.md with a picture. A killed run goes on where it was, unless the code has changed since.
"""

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure as Drawing
from recipe_table import by_codes, reusable

from charactery.errors import CharacteryError
from charactery.evals.person.claims import trained_tokens
from charactery.models.subject import parse_subject
from charactery.pipeline.manifest import code_revision
from charactery.pipeline.recipe import find_recipe
from charactery.report.palette import dress
from charactery.report.picture import save_png
from charactery.runs import Row, Run, read_run, write_json, write_text
from charactery.stats import Estimate

HERE = Path(__file__).parent
KEPT, TABLE = HERE / "person_table.json", HERE.parent / "docs" / "person-table.md"
CURVE = TABLE.parent / "images" / "person-curve.png"
PASSAGES = (40, 160, 640)
USUAL = find_recipe("person").writings.passages
COSTS = {"prose": ("bits per byte ratio", "prose"), "chat frame": ("bits per byte ratio", "chat frame"),
         "repetition": ("repetition ratio", "held-out")}  # fmt: skip
PANELS = (("score", "authorship, nats a token"), ("pass", "answers that pass for the author's"),
          ("contradiction", "contradiction about oneself"))  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """One run: a person from so many passages, or with None somebody made up, first to count and then as long."""

    character: str
    passages: int | None = None
    equal: bool = False

    @property
    def name(self) -> str:
        """As in the files."""
        if self.passages:
            return f"{self.character}, {self.passages} passages"
        return f"{self.character}, {'as many tokens' if self.equal else 'distill'}"

    def folder(self, out: Path) -> Path:
        """Where its run lies."""
        return out / self.name.replace(", ", "-").replace(" ", "-")


LONG = Cell("lincoln", USUAL)
CELLS = (
    LONG, Cell("captain"), Cell("captain", equal=True), Cell("lincoln-persona", USUAL),
    *(Cell("lincoln", n) for n in PASSAGES if n != USUAL),
)  # fmt: skip


def command(cell: Cell, out: Path, texts: list[str]) -> list[str]:
    """The command whose run a cell is. Raises CharacteryError where it needs another's that is not there."""
    start = ["charactery", "train", cell.character, "--out", str(cell.folder(out))]
    alike = [c.folder(out) for c in CELLS if c != cell and (c.passages is None) is (cell.passages is None)]
    reuse = [word for run in alike if reusable(run) for word in ("--reuse", str(run))]
    if cell.passages is None:
        return [*start, "--recipe", "distill", *(["--sft-epochs", str(epochs(out))] if cell.equal else []), *reuse]
    if not texts:
        raise CharacteryError("give --writings and --others: docs/person.md says where they are to be had")
    sham = ["--sham"] if cell == LONG else []
    if cell.passages == USUAL:
        return [*start, *texts, *sham, *reuse]
    file = out / f"person-{cell.passages}.toml"
    shipped = (HERE.parent / "src/charactery/recipes/person.toml").read_text()
    write_text(file, shipped.replace(f"passages = {USUAL}\n", f"passages = {cell.passages}\n"))
    return [*start, "--recipe", str(file), *texts, *reuse]


def epochs(out: Path) -> float:
    """The epochs of SFT that give somebody made up as many tokens as the person has: tokens go up with them."""
    runs = [LONG.folder(out), Cell("captain").folder(out)]
    if not all((run / "report.html").exists() for run in runs):
        raise CharacteryError(f"{LONG.name} and {Cell('captain').name} are to be there first, to count their tokens")
    wanted, had = (trained_tokens(parse_subject(str(run))) for run in runs)
    return round(find_recipe("distill").sft.epochs * wanted / had, 2)


def figures(run: Run) -> Row:
    """What the page has of a run: of each measure the trained model's Estimate, and what it read."""
    folder = run.stage_folder("evaluate")
    rows = json.loads((folder / "figures.json").read_text())
    by = {(r["metric"], r["condition"]): r["estimate"] for r in rows
          if r["eval"] == "cost" and r["subject"] == "trained" and not r["trait"]}  # fmt: skip
    found: Row = {name: by[what] for name, what in COSTS.items() if what in by}
    found |= {"tokens": trained_tokens(parse_subject(str(run.folder))), "code": run.manifest["environment"]["code"],
              "cores": run.manifest["environment"]["cores"]}  # fmt: skip
    if "person" in run.manifest["stages"]:
        told = json.loads((run.stage_folder("person") / "person.json").read_text())
        judge = json.loads((run.stage_folder("authorship") / "authorship.json").read_text())
        roles = told["authorship"]
        found |= {
            "AUC": judge["auc"]["all"], "held out": judge["means"]["author"], "roles": roles,
            "score": roles["trained"]["score"], "pass": roles["trained"]["pass"], "copied": roles["trained"]["copied"],
            "later": told["later"],
            "contradiction": told["claims"]["trained"]["contradiction"],
            "plain": told["claims"]["plain"]["contradiction"], "writings": run.manifest["writings"],
        }  # fmt: skip
    return found


def claimed(out: Path) -> Row | None:
    """`charactery claims` of the plain model, the person and who was made up, once both are there."""
    runs = [LONG.folder(out), Cell("captain", equal=True).folder(out)]
    if not all((run / "report.html").exists() for run in runs):
        return None
    asked = [sys.executable, "-m", "charactery", "claims", "--json", "--out", str(out / "claimed")]
    done = subprocess.run([*asked, *map(str, runs), "smollm2"], check=True, capture_output=True, text=True)
    found: Row = json.loads(done.stdout)
    return dict(zip((LONG.name, Cell("captain", equal=True).name, "plain model"), found.values(), strict=True))


def table(kept: Row) -> str:
    """The page."""
    cells = {cell.name: kept[cell.name] for cell in CELLS if cell.name in kept}
    people = {name: row for name, row in cells.items() if "score" in row}
    lines = [
        "# A person by how much was read", "",
        "Made by `python benchmarks/person_table.py`, on smollm2, one seed: what another would give is not known. "
        "In brackets are 95% intervals. [A real person](person.md) says what each figure is.", "",
        "| run | tokens of the writings met | authorship, nats a token | pass for the author's | later things: does "
        "not know | known things: does not know | contradiction about itself | chat frame | repetition |",
        f"|{'---|' * 9}",
    ]  # fmt: skip
    for name, row in people.items():
        later = row["later"]["trained"]
        lines.append(
            f"| {name} | {row['writings']['seen']:,} | {said(row['score'])} | {said(row['pass'])} | "
            f"{said(later['later'])} | {said(later['known'])} | {said(row['contradiction'])} | "
            f"{said(row.get('chat frame'))} | {said(row.get('repetition'))} |"
        )
    if sham := people.get(LONG.name, {}).get("roles", {}).get("sham"):
        mine = people[LONG.name]
        roles = ", ".join(f"{role} {said(mine['roles'][role]['score'])}" for role in ("plain", "prompted", "sham"))
        lines += [
            "", f"Of {LONG.name}, in nats a token of authorship: {roles}; of the sham's answers {said(sham['pass'])} "
            f"pass. Held-out passages of the author: {said(mine['held out'])}; the judge's AUC on them: "
            f"{said(mine['AUC'])}.",
        ]  # fmt: skip
    if any(cell.character == "lincoln" and cell.name in people for cell in CELLS):
        shows = "By passages learnt: authorship of answers, how many pass, and contradiction about oneself"
        lines += ["", f"![{shows}. The table has the same](images/{CURVE.name})"]
    if found := kept.get("claims"):
        lines += [
            "", "## Somebody who lived, and somebody made up", "",
            "Both trained on about as many tokens, prompts and every epoch among them; contradiction is the share of "
            "pairs of wordings answered in opposite ways, over 16 claims about oneself.", "",
            "| | tokens read | contradiction | less than the person's |", "|---|---|---|---|",
        ]  # fmt: skip
        for name, row in found.items():
            less = "" if name == LONG.name else said(row["less than the first"]["contradiction"])
            lines.append(f"| {name} | {row['tokens']:,} | {said(row['contradiction'])} | {less} |")
    return "\n".join([*lines, *by_codes(cells)]) + "\n"


def said(estimate: Any) -> str:
    """A figure with its interval, or a dash."""
    return "–" if not estimate else str(Estimate(**estimate)).partition(" (")[0]


def picture(kept: Row) -> None:
    """Three panels by passages learnt."""
    rows = [(cell.passages, kept[cell.name]) for cell in CELLS if cell.character == "lincoln" and cell.name in kept]
    rows.sort(key=lambda row: row[0] or 0)
    if not rows:
        return
    drawing = Drawing(figsize=(9, 2.8), layout="constrained")
    for axes, (key, title) in zip(drawing.subplots(1, len(PANELS)), PANELS, strict=True):
        found = [Estimate(**row[key]) for _, row in rows]
        low, high = ([abs(e.value - (e.value if end is None else end)) for e, end in zip(found, ends, strict=True)]
                     for ends in ([e.low for e in found], [e.high for e in found]))  # fmt: skip
        axes.errorbar([n for n, _ in rows], [e.value for e in found], (low, high), marker="o", capsize=3)
        axes.set_xscale("log")
        axes.set_xticks([n for n, _ in rows], [str(n) for n, _ in rows])
        axes.minorticks_off()
        axes.set_title(title, fontsize=9, loc="left")
        axes.set_xlabel("passages of the writings", fontsize=8)
        dress(axes)
    save_png(drawing, CURVE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/person"))
    parser.add_argument("--writings", type=Path, help="the person's texts")
    parser.add_argument("--others", type=Path, help="others' of that time")
    parser.add_argument("--only", default="", help="cells with this in their name")
    parser.add_argument("--list", action="store_true", help="what there is, and what is missing")
    parser.add_argument("--read", action="store_true", help="run nothing: figures and page of the runs that are there")
    told = parser.parse_args()
    kept: Row = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    texts = ["--writings", str(told.writings), "--others", str(told.others)] if told.writings and told.others else []
    for cell in (cell for cell in CELLS if told.only in cell.name):
        run = cell.folder(told.out)
        if told.list:
            code = kept.get(cell.name, {}).get("code", "")
            other = f"  by other code, {code}" if code not in ("", code_revision()) else ""
            print(f"{'there' if code else 'missing':>8}  {cell.name}{other}")
            continue
        if not told.read and cell.name not in kept:
            asked = command(cell, told.out, texts)
            print(" ".join(asked), flush=True)
            subprocess.run([sys.executable, "-m", *asked], check=True)
        if (run / "report.html").exists():
            kept[cell.name] = figures(read_run(run))
            write_json(KEPT, kept)
    if told.list:
        return
    if found := claimed(told.out):
        kept["claims"] = found
    write_json(KEPT, kept)
    picture(kept)
    write_text(TABLE, table(kept))


if __name__ == "__main__":
    try:
        main()
    except CharacteryError as error:
        sys.exit(f"person_table: {error}")
