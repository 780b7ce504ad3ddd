"""A run's figures from the same adapter twice: read by our decoder, and by transformers' own code.

    python -m benchmarks.speed.figures --run runs/captain --out runs/captain-figures [--only ours|plain] [--every N]

Does the run's `evaluate` stage anew in OUT/ours and OUT/plain, each of which goes on where it was stopped, and writes
benchmarks/FIGURES.md once both are there. With `--every N`, on one in so many prompts alone. Prompts, seeds and adapter
are the same; the texts are not, as bfloat16's last digits differ, and so this is what a figure moves by.
"""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

import torch

from charactery.constitution import load_character
from charactery.evals import of_run
from charactery.evals.measures import Measured
from charactery.models.speaker import Models
from charactery.models.subject import parse_subject
from charactery.pipeline.distil import Watch, _Stages
from charactery.pipeline.order import Order
from charactery.pipeline.recipe import find_recipe
from charactery.runs import Row, read_manifest, read_rows, read_run, write_json, write_rows
from charactery.stats import Estimate, paired_difference

SIDES = ("ours", "plain")


def evaluated(run: Path, side: str, out: Path, every: int) -> None:
    """The evals of a run on one in `every` prompts of each kind, into `out`/`side`."""
    settings, folder = read_manifest(run)["settings"], out / side
    began, measured_figures = time.monotonic(), of_run.figures

    def with_margins(measured: Measured, seed: int) -> tuple[list[Row], list[Row]]:
        write_rows(folder / "margins.jsonl", measured.margins)
        return measured_figures(measured, seed)

    order = Order(
        load_character(run / "character.md"), run, settings["model"], seed=settings["seed"], sham=settings["sham"],
        recipe=find_recipe(settings["recipe"]["name"]), device="cpu",
    )  # fmt: skip
    models, subject = Models("cpu", print), parse_subject(settings["model"])
    models.base(subject).decodes = side == "ours"
    stages = _Stages(read_run(run), order, models, subject, Watch(print))
    prompts = sorted(stages.chosen(), key=lambda p: (p.split, p.kind))
    stages.chosen = lambda: prompts[::every]  # type: ignore[method-assign]
    fewer = {name: getattr(of_run, name) // every for name in ("JUDGED", "CONTROLLED", "LIKELIHOOD_ASKED")}
    with ExitStack() as meanwhile:  # the other side is done in the same process
        for name, value in {"figures": with_margins, **fewer}.items():
            meanwhile.enter_context(patch.object(of_run, name, value))
        stages.evaluate(folder)
    took = {"seconds": round(time.monotonic() - began), "threads": torch.get_num_threads(), "every": every}
    write_json(folder / "took.json", took)


def paired(ours: Path, plain: Path) -> Iterator[tuple[tuple[str, str, str], Estimate]]:
    """Eval and what is read, subject and condition of everything that is scored by sample; ours less plain."""
    values: dict[tuple[str, str, str], list[dict[str, float | None]]] = {}
    for side, folder in enumerate((ours, plain)):
        for r in read_rows(folder / "samples.jsonl"):
            yes = r["eval"] in ("expression", "multiple_choice") and r["value"] is not None
            key = r["eval"], r["subject"], r["condition"]
            values.setdefault(key, [{}, {}])[side][r["id"]] = float(r["value"] > 0) if yes else r["value"]
        for r in read_rows(folder / "margins.jsonl"):
            key = f"likelihood {r['trait']}".strip(), r["subject"], r["condition"]
            values.setdefault(key, [{}, {}])[side][r["id"]] = r["value"]
    for key, (one, other) in values.items():
        shared = sorted(one.keys() & other.keys())
        if len(shared) > 1:
            yield key, paired_difference([one[i] for i in shared], [other[i] for i in shared])


def page(run: Path, out: Path) -> str:
    ours, plain = (
        {
            (r["eval"], r["metric"], r["subject"], " ".join(filter(None, (r["condition"], r["trait"])))): r["estimate"]
            for r in json.loads((out / side / "figures.json").read_text())
        }
        for side in SIDES
    )
    took = [json.loads((out / side / "took.json").read_text()) for side in SIDES]
    rows, inside, overlap, moved = [], 0, 0, []
    for key, mine in ours.items():
        theirs = plain.get(key)
        if theirs is None or mine["value"] is None or theirs["value"] is None:
            rows.append((*key, said(mine), said(theirs), "not measured on both sides"))
        elif None in (mine["low"], theirs["low"]) or (mine["low"] == mine["high"] and theirs["low"] == theirs["high"]):
            # one text, or all alike
            rows.append((*key, said(mine), said(theirs), "no interval"))
            moved.append(abs(mine["value"] - theirs["value"]))
        else:
            within = mine["low"] <= theirs["value"] <= mine["high"]
            meet = mine["low"] <= theirs["high"] and theirs["low"] <= mine["high"]
            inside, overlap = inside + within, overlap + meet
            rows.append((*key, said(mine), said(theirs), "inside" if within else "overlap" if meet else "apart"))
    counted = sum(row[-1] in ("inside", "overlap", "apart") for row in rows)
    differences = list(paired(out / "ours", out / "plain"))
    differences = [(key, e) for key, e in differences if e.low is not None]
    hold = [e for _, e in differences if (e.low or 0) <= 0 <= (e.high or 0)]
    apart = "; ".join(
        f"{' '.join(filter(None, key))}: {estimate}" for key, estimate in differences if estimate not in hold
    )
    return "\n".join([
        "# The same adapter, read by our decoder and by transformers", "",
        "Written by `python -m benchmarks.speed.figures`: the `evaluate` stage of a run of "
        f"`{read_manifest(run)['command']}` twice, with the same prompts, seeds and adapter. Plain is transformers' "
        "own forward with PEFT's adapter beside the weights. "
        + (f"Of the run's prompts one in {took[0]['every']} was asked. " if took[0]["every"] > 1 else "")
        + "; ".join(f"{side}: {t['seconds']} s on {t['threads']} threads" for side, t in zip(SIDES, took, strict=True))
        + ", whatever else ran meanwhile.", "",
        f"Of {counted} figures with an interval on both sides, {inside} of the plain values ({inside / counted:.0%}) "
        f"lie in ours' 95% interval, and the intervals of {overlap} ({overlap / counted:.1%}) overlap. Were the two "
        "drawn independently of each other, 83% and 99.4% would be expected; they share their prompts, so more."
        + (f" {len(moved)} figures, of one text or all alike, have none; they differ by " if moved else "")
        + (f"{max(moved):.4f} at most." if moved else ""),
        "",
        f"Of {len(differences)} differences pair by pair, the intervals of {len(hold)} "
        f"({len(hold) / len(differences):.0%}) hold 0; "
        "95% would be expected." + (f" The others, ours less plain: {apart}." if apart else ""), "",
        "## Pair by pair: ours less plain", "",
        *table(("what", "whom", "where", "difference"), [(*key, str(estimate)) for key, estimate in differences]), "",
        "## Every figure", "",
        *table(("eval", "figure", "whom", "where", "ours", "plain", "plain's value and interval"), rows),
    ]) + "\n"  # fmt: skip


def said(estimate: Row | None) -> str:
    return str(Estimate(**estimate)) if estimate else "none"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(cells) + " |" for cells in (columns, ["---"] * len(columns), *rows)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/captain"))
    parser.add_argument("--out", type=Path, default=Path("runs/captain-figures"))
    parser.add_argument("--only", choices=SIDES)
    parser.add_argument("--every", type=int, default=1)
    options = parser.parse_args()
    for side in SIDES:
        if options.only in (None, side) and not (options.out / side / "took.json").exists():
            evaluated(options.run, side, options.out, options.every)
    if all((options.out / side / "took.json").exists() for side in SIDES):
        text = page(options.run, options.out)
        (Path(__file__).parent.parent / "FIGURES.md").write_text(text)
        print(text)


if __name__ == "__main__":
    main()
