"""Markdown as HTML: what a model writes is shown as it meant it, and can do nothing."""

import re
from html import unescape
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charactery.share.markup import BRACKETS, LONGEST, markup, markup_beside

TAGS = set("a blockquote br code em h3 h4 h5 h6 hr li mark ol p pre s strong table tbody td th thead tr ul".split())
ATTRIBUTES = {"class", "href", "rel", "start", "target"}


class Reader(HTMLParser):
    """The tags, attributes and text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("Aye, **that** knot *will* ~~not~~ hold.", "<strong>that</strong>"),
        ("~~not~~", "<s>not</s>"),
        ("one\ntwo", "one<br />\ntwo"),
        ("# Tea", "<h3>Tea</h3>"),
        ("- one\n- two", "<ul>\n<li>one</li>\n<li>two</li>\n</ul>"),
        ("3. one", '<ol start="3">'),
        ("`a<b`", "<code>a&lt;b</code>"),
        ("```py\nx = '<b>'\n```", "<pre><code>x = &#x27;&lt;b&gt;&#x27;\n</code></pre>"),
        ("a\n---\nb", "<p>a</p>\n<hr />\n<p>b</p>"),
        ("a\n===", "<p>a<br />\n===</p>"),
        ("| a | b |\n|---|--:|\n| 1 | 2 |", '<td class="right">2</td>'),
        ("> said", "<blockquote>"),
        ("    verse, and no code", "<p>verse, and no code</p>"),
        (r"\(a_1 * b * c_1\) and \[x_1\]", r"<p>\(a_1 * b * c_1\) and \[x_1\]</p>"),
        ("$5 and $6", "<p>$5 and $6</p>"),
        (
            "[tea](https://tea.example/?a=1&b=2)",
            'href="https://tea.example/?a=1&amp;b=2" target="_blank" rel="noo',
        ),
    ],
)
def test_what_markdown_means(text: str, html: str) -> None:
    assert html in markup(text)


@pytest.mark.parametrize(
    "bad",
    [
        "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "<!-- x -->", "<style>*{}</style>",
        "<b onclick=x>",
        "[a](javascript:alert(1))", "[a](JaVaScRiPt:alert(1))", "[a](data:text/html,x)", "[a](/talk/votes)",
        "[a](//x.y)",
        "[a](file:///etc/passwd)", "<javascript:alert(1)>", "[a]\n\n[a]: javascript:alert(1)", "&#60;script&#62;",
        "[a](&#106;avascript:alert(1))", "![a](data:image/png;base64,x)", '[a](https://x "\\" onclick=y")',
        '```"onclick="x\ny\n```', "|a|\n|:-:|\n|<svg onload=x>|", "\\<script>", "**<script>**", "`<script>`",
    ],
)  # fmt: skip
def test_nothing_runs_is_loaded_or_leads_to_the_page_itself(bad: str) -> None:
    for html in (markup(bad), *markup_beside([bad, f"x {bad} y"])):
        for tag, attributes in Reader(html).tags:
            assert tag in TAGS and attributes.keys() <= ATTRIBUTES
            assert re.match("https?://|mailto:", attributes.get("href") or "https://")


def test_an_image_is_a_link_and_never_fetched() -> None:
    (link,) = [tag for tag in Reader(markup("![a cat](https://x.example/cat.png)")).tags if tag[0] != "p"]
    assert (
        link[0] == "a" and link[1]["href"] == "https://x.example/cat.png" and "a cat" in markup("![a cat](https://x.y)")
    )


def test_too_much_is_left_as_it_is() -> None:
    for text in ("**a** " * LONGEST, "[" * (BRACKETS + 1)):
        assert Reader(markup(text)).text.strip() == text.strip() and "<strong>" not in markup(text)


def test_the_end_of_a_formula_is_looked_for_nearby() -> None:
    near, far = "\\(" + "*a* " * 200 + "\\)", "\\(" + "*a* " * 400 + "\\)"
    assert near.strip() in markup(near) and "<em>a</em>" in markup(far)


def test_words_are_marked_by_what_is_seen_of_them() -> None:
    first, second = markup_beside(["Aye, **the green** ship.\n\n- one", "Aye, **the old** ship!\n- one\n- `two`"])
    assert "<strong>the <mark>green</mark></strong> ship<mark>.</mark>" in first and "<li>one</li>" in first
    assert "<strong>the <mark>old</mark></strong> ship<mark>!</mark>" in second
    assert "<li><code><mark>two</mark></code></li>" in second
    assert markup_beside(["**tea**"])[0] == markup("**tea**") == markup_beside(["**tea**", "tea"])[0]


WORDS = st.text(alphabet="ab *_`#[]()<>!|\\-1.\n&$~\"'", max_size=60)


@given(st.lists(WORDS, min_size=1, max_size=3))
def test_marks_change_no_text_and_no_tag_is_a_strangers(texts: list[str]) -> None:
    for text, html in zip(texts, markup_beside(texts), strict=True):
        assert re.sub("</?mark>", "", html) == markup(text)
        assert {tag for tag, _ in Reader(html).tags} <= TAGS


def test_the_order_of_what_was_said_stays() -> None:
    seen = unescape(Reader(markup("a *b* `c`\n\n- d\n\n| e | f |\n|---|---|\n| g | h |\n\n```\ni\n```")).text)
    places = [seen.index(letter) for letter in "abcdefghi"]
    assert all(one < other for one, other in pairwise(places))
