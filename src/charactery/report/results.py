"""The sections of results: expression, traits, cost, controls, and the table of every figure."""

from functools import partial

from charactery.judges.classifier import OTHERS
from charactery.report.blocks import Block, Folded, Plot, Table, Text
from charactery.report.figures import Figure, subject_order
from charactery.report.forest import Axis, Group, forest
from charactery.report.numbers import NONE, count, interval, number, short, short_interval
from charactery.report.source import Source
from charactery.report.words import CONDITIONS, CONTROLS, condition_title, definition, eval_title
from charactery.stats import Estimate

NUMERIC = frozenset(
    {"Value", "Low", "High", "n", "Missing", "Expected", "Rate or difference [95%]", "Ratio to plain [95%]"}
)


def _points(figures: list[Figure]) -> tuple[tuple[str, Estimate], ...]:
    by_subject = {f.subject: f.estimate for f in figures}
    return tuple((subject, by_subject[subject]) for subject in subject_order(by_subject))


def _groups(figures: list[Figure], label: dict[str, str], key: str) -> list[Group]:
    """Figures by condition or trait (`key`), in the order of `label`, then as they came."""
    found = list(dict.fromkeys(getattr(f, key) for f in figures))
    found.sort(key=lambda name: list(label).index(name) if name in label else len(label))
    return [
        Group(label.get(name) or condition_title(name), _points([f for f in figures if getattr(f, key) == name]))
        for name in found
    ]


def expression(source: Source) -> tuple[Block, ...]:
    """The main plot: the rate of every subject under every condition, and elsewhere."""
    rates = [f for f in source.figures.where("expression", "rate", trait="") if f.estimate.value is not None]
    if not rates:
        return ()
    groups = _groups(rates, CONDITIONS, "condition")
    away = [f for f in source.figures.where("elsewhere", "rate", trait="") if f.estimate.value is not None]
    if away:
        groups.append(Group(CONDITIONS["elsewhere"], _points(away)))
    axis = Axis("judged in character", 0, 1, percent=True)
    caption = "Share of answers judged in character, with 95% intervals. "
    if away:
        caption += "Elsewhere are prompts where the character should not show: low is good there."
    said = "; ".join(f"{g.label}: " + ", ".join(f"{s} {short_interval(e, True)}" for s, e in g.points) for g in groups)
    return (Plot("expression", caption.strip(), f"Share judged in character. {said}", partial(forest, groups, axis)),)


def traits(source: Source) -> tuple[Block, ...]:
    """The per-trait plot: likelihood over foils, by trait and subject."""
    figures = [f for f in source.figures.where("expression", "likelihood") if f.trait and f.estimate.value is not None]
    if not figures:
        return ()
    figures = [f for f in figures if f.condition == figures[0].condition]
    titles = {t.id: t.title for t in source.character.traits()} if source.character else {}
    groups = _groups(figures, {f.trait: source.trait_title(f.trait) for f in figures} | titles, "trait")
    order = {title: index for index, title in enumerate(titles.values())}
    groups.sort(key=lambda group: order.get(group.label, len(order)))
    said = "; ".join(f"{g.label}: " + ", ".join(f"{s} {short_interval(e)}" for s, e in g.points) for g in groups)
    axis = Axis("nats per token over foils", reference=0.0)
    caption = (
        "How much likelier the answers are given each trait than given other characters, with 95% intervals. "
        "Right of the line, an answer is likelier as this character's."
    )
    return (Plot("traits", caption, f"Likelihood by trait. {said}", partial(forest, groups, axis, listed=False)),)


def cost(source: Source) -> tuple[Block, ...]:
    """What the training did to text that has nothing to do with the character."""
    blocks: list[Block] = []
    bits = [f for f in source.figures.where("cost", "bits per byte") if f.estimate.value is not None]
    if bits:
        groups = _groups(bits, {}, "condition")
        said = "; ".join(f"{g.label}: " + ", ".join(f"{s} {short_interval(e)}" for s, e in g.points) for g in groups)
        caption = "Bits per byte of text, by kind, with 95% intervals. Lower is better; equal to plain is no cost."
        axis = Axis("bits per byte")
        blocks.append(Plot("cost", caption, f"Bits per byte. {said}", partial(forest, groups, axis, listed=False)))
    rows = []
    for metric in ("bits per byte ratio", "repetition ratio", "length ratio"):
        for f in source.figures.where("cost", metric):
            if f.condition.startswith("foreign"):
                continue  # among all figures above
            what = f"{metric}, {f.condition}" if f.condition else metric
            rows.append((what[:1].upper() + what[1:], f.subject, interval(f.estimate), f"{f.estimate.n:,}"))
    if rows:
        blocks.append(Table(("What", "Subject", "Ratio to plain [95%]", "n"), tuple(rows), NUMERIC, "1 is no change."))
    for f in source.figures.where("multiple choice", "difference from plain"):
        if f.estimate.value is not None and f.subject in ("trained", ""):
            value = short_interval(f.estimate)
            blocks.append(
                Text(f"Multiple choice: accuracy of trained less plain is {value} over {f.estimate.n:,} questions.")
            )
    return tuple(blocks)


def controls(source: Source) -> tuple[Block, ...]:
    """Scripted subjects: what came out beside what should."""
    rows = []
    for f in source.figures.where("controls"):
        e = f.estimate
        name = f.subject if f.metric in ("rate", "share recovered") else f"{f.subject}: {f.metric}"
        rows.append((name, interval(e), _should(source, f), f"{e.n:,}", CONTROLS.get(f.subject, "")))
    if not rows:
        return ()
    said = "The same judge on answers whose source is known. A judge that fails here says nothing about the rest."
    return (
        Text(said),
        Table(("Control", "Rate or difference [95%]", "Should be", "n", "What it is"), tuple(rows), NUMERIC),
    )


def _should(source: Source, figure: Figure) -> str:
    if figure.expected is not None:
        return short(figure.expected)
    for subject in ("plain", "prompted"):
        if figure.subject.startswith(subject):
            same = source.one("expression", "rate", subject, "turn 1")
            return f"as {subject}: {number(same.estimate.value)}" if same else f"as {subject}"
    return "low" if figure.subject == OTHERS else NONE


def every_figure(source: Source) -> tuple[Block, ...]:
    """All figures, a table for each eval, in the order they were measured."""
    evals = list(dict.fromkeys(f.eval for f in source.figures))
    blocks: list[Block] = []
    for name in evals:
        figures = source.figures.where(name)
        title = f"{eval_title(name)} ({count(len(figures), 'figure')})"
        blocks.append(Folded(title, (_figure_table(source, figures),)))
    return tuple(blocks)


def _figure_table(source: Source, figures: list[Figure]) -> Table:
    """A row per figure, under a sub-heading per metric, condition and trait; columns that stay empty are left out."""
    head = ("Figure", "Subject", "Value", "Low", "High", "n", "Missing", "Expected")
    bare = not any(f.subject for f in figures)  # nothing but names of metrics: they need no sub-headings
    rows: list[tuple[str, ...]] = []
    for metric, condition, trait in dict.fromkeys((f.metric, f.condition, f.trait) for f in figures):
        if not bare:
            words = [metric, condition_title(condition).lower() if condition else "", source.trait_title(trait)]
            rows.append((", ".join(word for word in words if word),))
        group = [f for f in figures if (f.metric, f.condition, f.trait) == (metric, condition, trait)]
        rows += [(metric if bare else "", f.subject, *_cells(f)) for f in group]
    full = [row for row in rows if len(row) > 1]
    kept = [i for i in range(len(head)) if any(row[i] for row in full)]
    cut = tuple(row if len(row) == 1 else tuple(row[i] for i in kept) for row in rows)
    return Table(tuple(head[i] for i in kept), cut, NUMERIC)


def _cells(figure: Figure) -> tuple[str, ...]:
    """Value, low, high, n, missing, expected."""
    e = figure.estimate
    expected = "" if figure.expected is None else number(figure.expected)
    return (number(e.value), number(e.low), number(e.high), f"{e.n:,}", f"{e.missing:,}", expected)


def definitions(source: Source) -> tuple[tuple[str, ...], ...]:
    """(metric, what it means) for every metric of this run, each eval's under its title as a row of one cell."""
    rows: list[tuple[str, ...]] = []
    for eval in dict.fromkeys(f.eval for f in source.figures):
        metrics = dict.fromkeys(f.metric for f in source.figures.where(eval))
        known = [(metric, definition(eval, metric)) for metric in metrics if definition(eval, metric)]
        rows += [(eval_title(eval),), *known] if known else []
    return tuple(rows)
