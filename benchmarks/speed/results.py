"""The results as JSON, as a table and as a plot."""

import json
import statistics
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent.parent


def kept() -> dict[str, dict[str, Any]]:
    """The results there are, by row."""
    path = FOLDER / "results.json"
    return {row["row"]: row for row in json.loads(path.read_text())} if path.exists() else {}


def write(rows: list[dict[str, Any]], machine: dict[str, Any]) -> None:
    """results.json, RESULTS.md and speed.svg."""
    (FOLDER / "results.json").write_text(json.dumps(rows, indent=1) + "\n")
    (FOLDER / "RESULTS.md").write_text(markdown(rows, machine))
    plot(rows, FOLDER / "speed.svg")


def markdown(rows: list[dict[str, Any]], machine: dict[str, Any]) -> str:
    said = ", ".join(f"{name} {value}" for name, value in machine.items())
    lines = [
        "# Speed", "",
        "Written by `make bench`; `results.json` holds every pass and every peer's sweep of settings.", "",
        f"The machine: {said}. Rows of other days may be from another: what it gave at best is with each.", "",
        "Ours and the peer's best setting in turn, medians; the ratio is the median of the rounds' own, with lowest "
        "and highest. The share is of the time that the work's least operations (and reading the weights, where "
        "tokens come one by one) would take at what the machine gave at best, in products of the model's shapes, just "
        "before or after. Memory is what a pass takes over what was held before; ours holds the weights twice (0.27 GB "
        "more), and once more for an adapter.", "",
        "![Ratios](speed.svg)", "",
        "| work | ours | peer | ratio | wanted | of the bound | memory, ours and peer |",
        "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for r in rows:
        ratio, memory = r["ratio"], r["peak_bytes"]
        lines.append(
            f"| {r['row']} | {r['ours']:.3g} {r['unit']} | {r['peer']:.3g} ({r['peer_name']}) | "
            f"**{ratio['median']:.2f}** [{ratio['low']:.2f}, {ratio['high']:.2f}] | {r['target']} | "
            f"{r['bound_share']:.0%} | {memory['ours'] / 1e9:.1f} and {memory['peer'] / 1e9:.1f} GB |"
        )
    lines += ["", "## What each row is", ""]
    for r in rows:
        best = ", ".join(f"{value / 1e9:.3g} × 10⁹ {name}" for name, value in r["ceiling"].items())
        lines += [
            f"**{r['row']}**: {r['work']}. At least {r['arithmetic']}; at best {best}: {r['bound_seconds']:.1f} s, and "
            f"ours took {statistics.median(r['seconds']['ours']):.1f}. Outputs{told(r)}: {r['outputs']}. {r['day']}, "
            f"code {r['code']}" + (f", {r['took']} s in all" if "took" in r else "") + ".", "",
        ]  # fmt: skip
    return "\n".join(lines).rstrip() + "\n"


def told(row: dict[str, Any]) -> str:
    """What stands before outputs that are not alike, or were measured before that was looked at."""
    return {True: "", False: " THAT ARE NOT ALIKE"}.get(row.get("alike"), " (not judged)")


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Ratios with their spread, and the ones wanted as ticks."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    matplotlib.rcParams["svg.hashsalt"] = "charactery"
    figure, axes = pyplot.subplots(figsize=(8, 0.5 * len(rows) + 1))
    for n, row in enumerate(reversed(rows)):
        ratio = row["ratio"]
        axes.barh(n, ratio["median"], color="#3a6ea5", height=0.55)
        axes.plot([ratio["low"], ratio["high"]], [n, n], color="#1b1b1b", linewidth=1.5)
        axes.plot([row["target"]] * 2, [n - 0.4, n + 0.4], color="#b5482a", linewidth=2)
    axes.set_yticks(range(len(rows)), [row["row"] for row in reversed(rows)])
    axes.axvline(1, color="#888888", linewidth=0.8)
    axes.set_xlabel("times as fast as the peer's best setting (red: wanted)")
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
