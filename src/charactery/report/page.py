"""The report as one HTML file: style and plots inside, nothing fetched, nothing run."""

import re

from jinja2 import Environment, PackageLoader, StrictUndefined

from charactery.report.blocks import Plot, Report
from charactery.report.figures import SUBJECTS
from charactery.report.picture import inline_svg

WIDE, NARROW = 864, 350  # CSS pixels; the style shows the narrow one below 700


def render_page(report: Report) -> str:
    """The whole page. Every text in it is escaped; only the drawings are put in as they are."""
    templates = Environment(
        loader=PackageLoader("charactery.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.filters["minus"] = lambda text: re.sub(r"(?<![^\s\[(])-(?=\d)", "−", text)
    page = templates.get_template("report.html.j2")
    return page.render(report=report, svg=_svg, known=SUBJECTS)


def _svg(plot: Plot, wide: bool) -> str:
    """A plot at one of the two widths. The template puts it in unescaped: `inline_svg` escapes what is in it."""
    name = f"{plot.name}-{'wide' if wide else 'narrow'}"
    return inline_svg(plot.draw(WIDE if wide else NARROW), name, plot.alt)
