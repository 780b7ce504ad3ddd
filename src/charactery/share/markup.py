"""What a model said as HTML: its markdown, of which nothing can run, load anything, or pass for the page's own.

HTML stays the text that it is; an image becomes a link; links lead to the web or to mail alone, and never to the page's
own server.
"""

import re
from bisect import bisect
from collections.abc import Iterator, Sequence
from functools import lru_cache
from html import escape
from itertools import accumulate
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token

from charactery.share.differences import differences

LONGEST, BRACKETS = 40_000, 2_000  # letters, and brackets, beyond which a text is left as it is: the time grows faster
# a formula has an end not far away: it is looked for from every sign that could begin one
FORMULA = re.compile(r"\\\(.{1,1000}?\\\)|\\\[.{1,1000}?\\\]|\$\$.{1,1000}?\$\$", re.S)
LEAVES = ("text", "code_inline", "fence")


def commonmark() -> MarkdownIt:
    """How markdown is read, for the page and for pictures.

    CommonMark with tables and strikethrough, each line break kept, HTML as the text that it is. Nothing is code for
    being indented, as verse is, too; and dashes under a line are a rule, as models mean them, and make it no heading.
    """
    parser = MarkdownIt("commonmark", {"html": False, "breaks": True}).enable(["table", "strikethrough"])
    return parser.disable(["code", "html_block", "html_inline", "lheading"])


@lru_cache(2048)
def markup(text: str) -> str:
    """Markdown as HTML."""
    return _drawn(_parsed(text))


def markup_beside(texts: Sequence[str]) -> list[str]:
    """The same of texts that lie side by side; words marked as `differences` says, by what is seen of them."""
    parsed = [_parsed(text) for text in texts]
    leaves = [[*_leaves(tokens)] for tokens in parsed]
    for own, parts in zip(leaves, differences(["".join(text for _, text in own) for own in leaves]), strict=True):
        edges = [*accumulate(len(piece) for piece, _ in parts)]
        start = 0
        for leaf, text in own:
            if leaf is not None:
                leaf.meta["parts"] = [*_between(parts, edges, start, start + len(text))]
            start += len(text)
    return [_drawn(tokens) for tokens in parsed]


def _parsed(text: str) -> list[Token]:
    if len(text) > LONGEST or text.count("[") > BRACKETS:
        return [Token("fence", "", 0, content=text, info="")]
    return _MARKDOWN.parse(text)


def _drawn(tokens: Sequence[Token]) -> str:
    return str(_MARKDOWN.renderer.render(tokens, _MARKDOWN.options, {}))


def _leaves(tokens: Sequence[Token]) -> Iterator[tuple[Token | None, str]]:
    """What is seen of a text, piece by piece with its token; between lines and blocks a line break, which has none."""
    for token in tokens:
        for leaf in token.children or [token]:
            if leaf.type in LEAVES:
                yield leaf, leaf.content
            elif leaf.type in ("softbreak", "hardbreak"):
                yield None, "\n"
        if token.type in ("inline", "fence"):
            yield None, "\n"


def _between(
    parts: Sequence[tuple[str, bool]], edges: Sequence[int], start: int, end: int
) -> Iterator[tuple[str, bool]]:
    """The pieces of a text between two of its letters; `edges` is where each ends."""
    n = bisect(edges, start)
    while start < end:
        piece, marked = parts[n]
        before = edges[n] - len(piece)
        yield piece[start - before : end - before], marked
        start, n = edges[n], n + 1


def _marked(token: Token) -> str:
    parts = token.meta.get("parts", [(token.content, False)])
    return "".join(f"<mark>{escape(text)}</mark>" if marked else escape(text) for text, marked in parts)


def _text(_: Any, tokens: Sequence[Token], n: int, *__: Any) -> str:
    return _marked(tokens[n])


def _code(_: Any, tokens: Sequence[Token], n: int, *__: Any) -> str:
    return f"<code>{_marked(tokens[n])}</code>"


def _fence(_: Any, tokens: Sequence[Token], n: int, *__: Any) -> str:
    return f"<pre><code>{_marked(tokens[n])}</code></pre>\n"


def _image(_: Any, tokens: Sequence[Token], n: int, *__: Any) -> str:
    """An image is never fetched: it is a link, with what it shows."""
    where, shows = str(tokens[n].attrs["src"]), escape(tokens[n].content or "an image")
    return f'<a href="{escape(where)}" {_OUTWARD}>{shows}</a>' if where else shows


_OUTWARD = 'target="_blank" rel="noopener noreferrer nofollow"'


def _link(_: Any, tokens: Sequence[Token], n: int, *__: Any) -> str:
    return f'<a href="{escape(str(tokens[n].attrs["href"]))}" {_OUTWARD}>'


def _formula(state: StateInline, silent: bool) -> bool:
    """A formula stays as it was written: what markdown would make of its backslashes and signs is none."""
    found = FORMULA.match(state.src, state.pos, state.posMax)
    if found is None:
        return False
    if not silent:
        state.push("text", "", 0).content = found[0]
    state.pos = found.end()
    return True


def _fit(state: Any) -> None:
    """Headings go below the page's own, and no style is set by an attribute: the page's policy allows none."""
    for token in state.tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + 2)}"
        if style := token.attrs.pop("style", None):
            token.attrs["class"] = str(style).partition(":")[2]  # text-align


def _parser() -> MarkdownIt:
    parser = commonmark()
    parser.validateLink = lambda url: re.match(r"(?:https?://|mailto:)[^/]", url, re.I) is not None  # type: ignore[method-assign]
    parser.inline.ruler.before("escape", "formula", _formula)
    parser.core.ruler.push("fit", _fit)
    for name, rule in (
        ("text", _text), ("code_inline", _code), ("fence", _fence), ("image", _image), ("link_open", _link),
    ):  # fmt: skip
        parser.add_render_rule(name, rule)
    return parser


_MARKDOWN = _parser()
