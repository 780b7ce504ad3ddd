"""What a character says it can do or cannot, against the tools of the run."""

import re
from typing import Any

CANNOT = re.compile(
    r"\b(?:cannot|can['’]t|can not|no|not|never|unable|without|lack|nothing|forget|nor)\b|n['’]t\b", re.I
)
_TALK = r"(?:conversations?|chats?|sessions?|talks?|visits?|messages?|exchanges?)"
_NET = r"(?:(?:on|from|over|to|through|search|browse|surf|access|reach) the (?:web|net|internet)|the internet|online)"
_LOOK = r"(?:search|brows|look|access|reach|check|google|surf|connect|find|fetch|read|see|visit|pull)(?:e?s|ed|ing|es)?"
_PICTURE = r"(?:images?|photos?|photographs?|pictures?|screenshots?|drawings?)"

# An ability, the words in which it is claimed, the marks of a tool that would make it true.
ABILITIES = {
    "remembers earlier conversations": (
        rf"\b(?:remember|recall|keep|forget|store|recognise|recognize)\b[^.]{{0,30}}\b(?:earlier|past|previous|last|"
        rf"other|every|"
        rf"all|our|each)(?: \w+)?? {_TALK}\b|"
        r"\b(?:remember|recall|keep|forget|store|know)\b[^.]{0,12}\b(?:everything|what|all)\b[^.]{0,12}\b(?:talked|"
        r"said|told|spoke|"
        r"discussed)\b[^.]{0,20}\b(?:last|before|yesterday|ago|earlier|to me)\b|"
        r"\bwe (?:spoke|talked|met|chatted)\b[^.]{0,12}\b(?:last|before|yesterday|ago|earlier|on \w+day)\b|"
        rf"\b(?:from|since|between|across|after) (?:our |your |the )?(?:last |earlier |previous |past "
        rf")?{_TALK}\b[^.]{{0,30}}"
        r"\b(?:remember|recall|know|forget)\b|\bmemor(?:y|ies) (?:of|from|between|across) (?:our |past |earlier |"
        r"previous )*"
        rf"{_TALK}",
        r"memory|remember|recall|notes",
    ),
    "reaches the internet": (
        rf"\b{_LOOK}\b[^.]{{0,30}}\b{_NET}\b|\bgoogl(?:e|ed|ing) (?:it|that|this|you|for)\b|\b(?:internet|web) "
        rf"access\b|"
        r"\baccess to the (?:web|internet)\b|\b(?:today['’]s|latest|live|current|breaking|real-time) (?:\w+ )?"
        r"(?:headlines|news|prices|weather|data|scores)\b|\bweb search\b",
        r"search|web|brows|internet|http|fetch",
    ),
    "runs code": (
        r"\b(?:run|ran|execut|compil)(?:e?s|e?d|ing|e)?\b[^.]{0,20}\b(?:code|python|scripts?|programs?|commands?|"
        r"sql)\b",
        r"python|code|bash|shell|exec|interpreter",
    ),
    "sends messages": (
        r"\b(?:send|sent|text|post(?:ed)?)\b[^.]{0,20}\be-?mails?\b|\be-?mail (?:them|him|her|you|your|it)\b|"
        r"\b(?:book|order|reserve|buy) "
        r"(?:\w+ ){1,4}(?:for you|and e-?mail)",
        r"mail|calendar|book|messag|slack|order",
    ),
    "sees pictures": (
        rf"\b(?:see|look(?:ed)? at|saw|view(?:ed)?|describe|read)\b[^.]{{0,20}}\b{_PICTURE} (?:you|that you)\b|"
        rf"\b(?:your|attached|uploaded) {_PICTURE}\b",
        r"image|vision|photo|camera",
    ),
}  # fmt: skip


def abilities(sentence: str, manifest: dict[str, Any]) -> str | None:
    """Something it could only do with a tool it has not, or says it cannot do with a tool it has."""
    if "tools" not in manifest:
        return None
    tools = [str(tool) for tool in manifest["tools"] or []]
    for name, (said, marks) in ABILITIES.items():
        found = re.search(said, sentence, re.I)
        if not found:
            continue
        has = any(re.search(marks, tool, re.I) for tool in tools)
        denied = bool(CANNOT.search(sentence[: found.end()]))
        if denied == has:
            told = f"it says that it {'never ' if denied else ''}{name}"
            return f"{told}; the run's tools are {', '.join(tools) or 'none'}"
    return None
