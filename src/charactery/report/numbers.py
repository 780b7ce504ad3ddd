"""How figures are written: the same digits in tables, sentences and plots."""

from charactery.stats import NO_WIDTH, Estimate

NONE = "–"


def number(value: float | None) -> str:
    """A figure for a table: three decimals below 10, fewer above, so that columns line up."""
    if value is None:
        return NONE
    size = abs(value)
    if 0 < size < 0.0005:
        return f"{value:.1e}"
    return f"{value:.3f}" if size < 10 else f"{value:.2f}" if size < 100 else f"{value:,.1f}"


def short(value: float) -> str:
    """A figure for a sentence or a plot: two decimals below 10."""
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def interval(estimate: Estimate) -> str:
    """`0.863 [0.791, 0.912]`, or `not measured`; without an interval it says so."""
    if estimate.value is None:
        return "not measured"
    if estimate.low is None or estimate.high is None:
        return f"{number(estimate.value)} {NO_WIDTH}"
    return f"{number(estimate.value)} [{number(estimate.low)}, {number(estimate.high)}]"


def short_interval(estimate: Estimate, percent: bool = False) -> str:
    """`0.86 [0.79, 0.91]`, or `86% [79, 91]` with `percent`; without an interval it says so."""
    if estimate.value is None:
        return "not measured"
    if estimate.low is None or estimate.high is None:
        return f"{f'{100 * estimate.value:.0f}%' if percent else short(estimate.value)} {NO_WIDTH}"
    if percent:
        value, low, high = (100 * x for x in (estimate.value, estimate.low, estimate.high))
        return f"{value:.0f}% [{low:.0f}, {high:.0f}]"
    return f"{short(estimate.value)} [{short(estimate.low)}, {short(estimate.high)}]"


def duration(seconds: float) -> str:
    """Seconds as people say them: `41 s`, `3 min 05 s`, `2 h 10 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def size(parameters: int) -> str:
    """A count of parameters: `135M`, `1.7B`."""
    for unit, name in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if parameters >= unit:
            scaled = parameters / unit
            return f"{scaled:.0f}{name}" if scaled >= 10 else f"{scaled:.1f}{name}"
    return str(parameters)


def count(many: int, noun: str) -> str:
    """`1 pair`, `12 pairs`."""
    return f"{many:,} {noun}" if many == 1 else f"{many:,} {noun}s"
