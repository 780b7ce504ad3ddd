"""The report as markdown: tables to paste into a paper or a chat, plots as PNG beside it."""

import re
from pathlib import Path

from charactery.report.blocks import Block, Code, Example, Folded, Heading, Plot, Report, Table, Text, Verdicts
from charactery.report.picture import save_png

WIDTH = 760  # CSS pixels of a plot
MARKS = {True: "in character", False: "not in character", None: "not judged"}


def render_markdown(report: Report, pictures: Path) -> str:
    """The whole report; plots are saved as PNG in the folder `pictures`, which must lie beside the markdown file."""
    parts = [f"# {escape(report.title)}"]
    if report.summary:
        parts.append(f"*{escape(report.summary)}*")
    parts.append(escape(" ".join(report.about)))
    parts.append(f"**{escape(report.verdict[0])}** {escape(report.verdict[1])}")
    for section in report.sections:
        parts.append(f"## {escape(section.title)}")
        parts += [_block(block, pictures) for block in section.blocks]
    return "\n\n".join(parts) + "\n"


def escape(text: str) -> str:
    """Text of one line, with nothing in it that markdown or HTML would read as markup."""
    text = " ".join(text.split())
    text = re.sub(r"([\\`*\[\]{}#|~$]|!(?=\[)|(?<!\w)_|_(?!\w))", r"\\\1", text)
    text = re.sub(r"\\\[([-\d., %]+)\\\](?![\[(:])", r"[\1]", text)  # an interval is no link
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"^(\d+)([.)])(?=\s|$)", r"\1\\\2", re.sub(r"^([-+=])", r"\\\1", text))


def fenced(text: str, language: str = "") -> str:
    """Text in a fence longer than any run of backticks in it."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
    return f"{fence}{language}\n{text}\n{fence}"


def _block(block: Block, pictures: Path) -> str:
    match block:
        case Text():
            return f"**Careful.** {escape(block.text)}" if block.tone == "warning" else escape(block.text)
        case Table():
            return _table(block)
        case Plot():
            save_png(block.draw(WIDTH), pictures / f"{block.name}.png")
            return f"![{escape(block.alt)}]({pictures.name}/{block.name}.png)\n\n{escape(block.caption)}"
        case Verdicts():
            rows = tuple((v.name, v.outcome, v.said) for v in block.verdicts)
            return _table(Table(("Verdict", "Outcome", "Figure"), rows))
        case Example():
            return _example(block)
        case Heading():
            return f"### {escape(block.text)}"
        case Code():
            return fenced(block.text, block.language)
        case Folded():
            return "\n\n".join([f"### {escape(block.summary)}", *(_block(inner, pictures) for inner in block.blocks)])


def _table(table: Table) -> str:
    """A pipe table; a row of one cell becomes a row whose first cell is bold."""
    width = len(table.head)
    lines = [_line(table.head), _line(["---:" if name in table.numeric else "---" for name in table.head], raw=True)]
    for row in table.rows:
        if len(row) == 1:
            lines.append(_line([f"**{escape(row[0])}**", *[""] * (width - 1)], raw=True))
        else:
            lines.append(_line(row))
    return "\n".join(lines) + (f"\n\n{escape(table.caption)}" if table.caption else "")


def _line(cells: tuple[str, ...] | list[str], raw: bool = False) -> str:
    return "| " + " | ".join(cell if raw else _cell(cell) for cell in cells) + " |"


def _cell(cell: str) -> str:
    """A cell; a figure stays as it is, so that it pastes as a number or an interval."""
    return cell if re.fullmatch(r"[-–\d.,e+ %\[\]]*", cell) else escape(cell)


def _example(example: Example) -> str:
    parts = [f"**{escape(role)}:** {escape(text)}" for role, text in example.history]
    parts.append(f"**Prompt:** {escape(example.prompt)}")
    for answer in example.answers:
        quoted = "\n".join(f"> {escape(line)}" if line.strip() else ">" for line in answer.text.splitlines() or [""])
        parts.append(f"*{escape(answer.subject)}* ({MARKS[answer.in_character]}):\n\n{quoted}")
    return "\n\n".join([*parts, "---"])
