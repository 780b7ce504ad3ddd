"""The sections on how the run was made: training curves, data, time and memory, methods, and the way to repeat it."""

import json
import re
from functools import partial

from charactery.judges.classifier import OTHERS, SHUFFLED
from charactery.report.blocks import Block, Code, Folded, Heading, Plot, Table, Text
from charactery.report.curves import Line, Panel, curves
from charactery.report.files import stage_json, stage_rows
from charactery.report.judge import likelihood_right
from charactery.report.numbers import NONE, duration, interval, number, short_interval
from charactery.report.results import definitions
from charactery.report.source import Source
from charactery.report.words import INTERVALS, subjects
from charactery.runs import Row, stage_kind

TAKEN = "§"  # marks a stage that another run did
WITHIN = 0.02  # nats a token, within which losses count as the same
MEASURES = (
    ("sft", "loss", "Fine-tuning: loss"),
    ("dpo", "loss", "Preferences: loss"),
    ("dpo", "rewards/accuracies", "Preferences: share of pairs ranked right"),
    ("dpo", "rewards/margins", "Preferences: margin"),
    ("grpo", "reward", "Online: the judge's rating"),
    ("grpo", "kl", "Online: KL from where it began, nats a token"),
)


def training(source: Source) -> tuple[Block, ...]:
    """What was trained, with which optimisers and against what advice, and curves of what was logged meanwhile."""
    return (*_trained(source), *_curves(source))


def _trained(source: Source) -> tuple[Block, ...]:
    rows, said = [], []
    for name in source.run.manifest["stages"]:
        told = stage_json(source.run, name, "training.json")
        if told is None:
            continue
        tensors = ", ".join(f"{optimizer} {count:,}" for optimizer, count in told["tensors"].items())
        rate = f"{told['learning_rate']:g}"
        rows.append((name, f"{told['parameters']:,}", f"{told['tokens']:,}" if told["tokens"] else NONE, rate, tensors))
        said += [Text(f"{name}: {warning}.", "warning") for warning in told["warnings"]]
        if "reached" in told:
            said.append(_reached(name, told["wanted_loss"], told["reached"]))
    if not rows:
        return ()
    columns = ("Stage", "Weights that learn", "Tokens to learn", "Learning rate", "Tensors by optimizer")
    return (Table(columns, tuple(rows), frozenset(columns[1:4])), *said)


def _reached(name: str, wanted: float, reached: Row) -> Text:
    """Where a training ended that was to stop at a loss on rows that nothing learns from."""
    loss, step = reached["loss"], reached["step"]
    text = f"{name} was to stop at {wanted:.3f} nats a token on answers kept apart; it ended at {loss:.3f}, step {step}"
    if not reached.get("part", 1.0):
        text += ", as it began: it learnt nothing"
    elif "part" in reached:
        text += (
            f" (there it was {reached['passed']:.3f}; the weights are {reached['part']:.3f} of the way to it from the "
            "look before)"
        )
    if abs(loss - wanted) <= WITHIN:
        return Text(f"{text}.")
    return Text(f"{text}: more than {WITHIN} away, so it does not compare with others at that loss.", "warning")


def _curves(source: Source) -> tuple[Block, ...]:
    panels = []
    rounds = [name for name in source.run.manifest["stages"] if re.search(r"\.r\d+$", name)]
    measures = [
        (name, f"sham-{kind}", key, f"{title}, round {name.rpartition('.r')[2]}" if name in rounds else title)
        for kind, key, title in MEASURES
        for name in source.run.manifest["stages"]
        if stage_kind(name) == kind
    ]
    for stage, sham_stage, key, title in measures:
        lines = []
        # one sham stands for all rounds: beside the first it would be read as that round's
        for subject, name in (("trained", stage), *([] if stage in rounds else [("sham", sham_stage)])):
            rows = [
                r for r in stage_rows(source.run, name, "log.jsonl") if _finite(r.get(key)) and _finite(r.get("step"))
            ]
            if rows:
                lines.append(Line(subject, tuple(float(r["step"]) for r in rows), tuple(float(r[key]) for r in rows)))
        if lines:
            panels.append(Panel(title, tuple(lines)))
    if not panels:
        return ()
    sham = any(line.subject == "sham" for panel in panels for line in panel.lines)
    caption = "What the trainer logged, by step." + (" The sham training is dotted." if sham else "")
    last = "; ".join(
        f"{p.title} from {number(_mean(p.lines[0].values, first=True))} to {number(_mean(p.lines[0].values))}"
        for p in panels
    )
    return (
        Plot(
            "training",
            caption,
            f"Training curves. {last} (means of the first and the last quarter)",
            partial(curves, panels),
        ),
    )


def _mean(values: tuple[float, ...], first: bool = False) -> float:
    """Of the first or last quarter: a step's loss is that of its few rows."""
    quarter = -(-len(values) // 4)
    part = values[:quarter] if first else values[-quarter:]
    return sum(part) / len(part)


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and value == value and abs(value) != float("inf")


def stages(source: Source) -> tuple[Block, ...]:
    """Seconds and peak memory of each stage. The report's own are left out: it is not finished while it is written."""
    rows, seconds, peak, taken = [], 0.0, 0.0, list[str]()
    for name in source.run.manifest["stages"]:
        record = source.run.record(name) if name != "report" else None
        if record:
            mark = f" {TAKEN}" if record.taken_from else ""
            rows.append((f"{name}{mark}", duration(record.seconds), f"{record.peak_mb:,.0f} MB"))
            seconds, peak = seconds + record.seconds, max(peak, record.peak_mb)
            taken += [f"{name} from {record.taken_from}"] if record.taken_from else []
        elif name != "report":
            rows.append((name, NONE, NONE))
    rows.append(("Together", duration(seconds), f"{peak:,.0f} MB"))
    blocks: list[Block] = [Table(("Stage", "Time", "Peak memory"), tuple(rows), frozenset({"Time", "Peak memory"}))]
    if taken:
        said = f"{TAKEN}: done by another run, of the same and by the same code, and taken over: {', '.join(taken)}."
        blocks.append(Text(f"{said} Time and memory are what it took there.", "small"))
    if halved := source.run.manifest.get("batches_halved"):
        said = (
            f"Memory ran short, so batches were halved {halved} times. Texts depend on the batch they are written in, "
            "and a training's last digits on how many rows are read at once: with more memory the same manifest gives "
            "others."
        )
        blocks.append(Text(said, "warning"))
    return tuple(blocks)


def _likelihood(source: Source) -> list[Block]:
    """The likelihood judge on what must not pass."""
    names = ("likelihood auc", f"likelihood auc against {OTHERS}", f"likelihood rate of {OTHERS}",
             f"likelihood rate, {SHUFFLED}", f"above {SHUFFLED}")  # fmt: skip
    found = [figure.estimate for name in names if (figure := source.one("judge", name, ""))]
    if len(found) < len(names):
        return []
    plain, others, passed, words, above = found
    return [Text(
        f"The likelihood judge tells prompted from plain answers with AUC {interval(plain)}, and from another "
        f"character's with AUC {interval(others)}; of the latter {short_interval(passed, True)} pass for this "
        f"character's. With the words of the constitution and of its foils shuffled, {short_interval(words, True)} of "
        f"the prompted answers still pass: so far it goes by which words there are. In order, "
        f"{short_interval(above, True)} of them are further above the foils than so (n {above.n:,} answers)."
    )]  # fmt: skip


def method(source: Source) -> tuple[Block, ...]:
    """How the figures are made, and how far the judge can be trusted."""
    made, recipe = source.run.manifest, source.run.manifest["settings"].get("recipe", {})
    adapter, stops = recipe.get("lora", {}).get("rank", 1) > 0, recipe.get("sft", {}).get("stop_at_loss", 0) > 0
    blocks: list[Block] = [Text(subjects(made["stages"], adapter, stops)), Text(INTERVALS)]
    auc, wrong = source.one("judge", "auc", ""), source.one("judge", "false-positive rate", "")
    length, others = source.one("judge", "length-only auc", ""), source.one("judge", f"auc against {OTHERS}", "")
    if auc:
        said = f"The classifier judge tells prompted from plain answers with AUC {interval(auc.estimate)}"
        said += f", and from other characters' with AUC {interval(others.estimate)}," if others else ""
        said += (
            f" and takes {short_interval(wrong.estimate, True)} of plain answers for the character's" if wrong else ""
        )
        said += f". Length alone gives AUC {interval(length.estimate)}" if length else ""
        said += f" (n {auc.estimate.n:,} answers)."
        if recipe.get("draws", 1) > 1:
            said += " The drafts learnt from were picked by a classifier of the same kind, which may favour this "
            said += "judge. The likelihood had no part in picking, so read it beside the rate."
        blocks.append(Text(said))
    blocks += [*_likelihood(source), *likelihood_right(source)]
    if length and (length.estimate.value or 0) > 0.8:
        blocks.append(
            Text(
                "Length alone tells the two sides apart with AUC above 0.8, so that a rate may partly measure length. "
                "Read the likelihood beside it, or train again with pairs matched in length.",
                "warning",
            )
        )
    if meanings := definitions(source):
        blocks.append(Table(("Figure", "What it is"), meanings))
    return tuple(blocks)


def repeat(source: Source) -> tuple[Block, ...]:
    """The command, the environment, and the whole manifest."""
    manifest = source.run.manifest
    blocks: list[Block] = []
    if command := manifest.get("command"):
        said = "The same command, on the same machine and versions, gives the same data, adapter and figures."
        blocks += [Text(said), Code(str(command), "sh")]
    blocks += [Text(str(note), "small") for note in manifest.get("notes") or []]
    if environment := manifest.get("environment"):
        rows = tuple((str(key), str(value)) for key, value in environment.items())
        blocks += [Heading("Environment"), Table(("What", "Value"), rows)]
    text = json.dumps(manifest, indent=2, ensure_ascii=False)
    return (*blocks, Folded("The manifest: every setting and hash", (Code(text, "json"),)))
