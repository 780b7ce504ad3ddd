"""The rule on names: a version, a size or a build is no name."""

import re
from collections.abc import Iterator

from charactery.constitution.lint.reading import Reading
from charactery.constitution.lint.rule import Found, rule

_NUMBER = r"(?:\d+(?:\.\d+)*|one|two|three|four|five|six|seven|eight|nine|ten)"
_GENERIC = (
    r"(?:assistant|model|llm|ai|helper|tutor|chat\w*|\w*bot|\w*gpt|claude|gemini|gemma|llama|qwen|mistral|phi|grok|"
    r"deepseek|smollm)"
)
VERSION = [
    r"(?<![A-Za-z])(?:v|ver|version|rev)[ ._-]*\d|[ _-]r\d",
    rf"\b(?:version|release|revision|build|edition|iteration|generation)[ ._-]?{_NUMBER}\b",
    r"\b(?:first|second|third|fourth|fifth|latest|next|new) (?:version|release|revision|iteration|generation)\b",
    r"[A-Za-z][\w-]*[ _-]?\d+\.\d+",  # Nova 4.1
    r"(?<!\.)\b\d+(?:\.\d+)?[bBM]\b",  # 7B
    r"[-_ ](?:alpha|beta|rc|preview|snapshot)\b[ ._-]?\d*$|\((?:alpha|beta|rc)\b|\b(?:alpha|beta|rc)[ ._-]?\d",
    r"[-_](?:instruct|chat|turbo|latest|final|it|mini|small|medium|large|xl|nano|tiny|pro|base|fine-?tuned|sft|dpo)\b",
    r"[-_ ]20\d\d(?:-?[01]\d(?:-?[0-3]\d)?)?\b",
    rf"\b{_GENERIC}[ _-]?\d+\b|[A-Za-z][-_]\d$",
    r"^[A-Z][a-z]+ [2-9]$",  # Athena 2; two figures and more are taken for a name (Apollo 11)
]
_VERSION = [re.compile(pattern, re.I) for pattern in VERSION]
_CALLED = re.compile(
    r"\b(?:[Yy]ou are|[Yy]ou're|I am|I'm|called|named|name is)\s+"
    r"((?:(?:the )?(?:version|\w+ (?:version|release|iteration|generation)\b)|[A-Z][\w.-]*)"
    r"(?:[ ,]+(?:version )?(?:[A-Z]?[\w-]*\d[\w.-]*|[A-Z][\w-]*|version \w+))*)"
)


@rule(
    "version-name",
    "a version number, a size or a build for a name",
    example="Assistant v2.1",
    hint="Give it a name that a person could have; the version has its own setting, `version:`",
    english=False,
)
def version_name(reading: Reading) -> Iterator[Found]:
    """The setting `name`, and names that the introduction calls the character by."""
    character = reading.character
    if _versioned(character.name):
        yield Found(f"the name {character.name!r} is a version", character.lines.get("name", 1))
    for sentence in reading.sentences:
        called = _CALLED.search(sentence.text) if sentence.place in ("introduction", "note") else None
        if called and _versioned(called[1].rstrip(".,")):
            yield Found(f"it is called {called[1].rstrip('.,')!r}, a version", sentence.line)


def _versioned(name: str) -> bool:
    return any(pattern.search(name) for pattern in _VERSION)
