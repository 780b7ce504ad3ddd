"""Rules about what a character says nothing on: what it refuses, where it comes from, how it is with people.

Each asks whether any sentence speaks of the subject; it does not judge what is said.
"""

import re
from collections.abc import Iterator, Sequence

from charactery.constitution.lint.reading import Reading
from charactery.constitution.lint.rule import Found, rule

_HARM = (
    r"(?:harm\w*|hurt\w*|cruel\w*|danger\w*|illegal\w*|unlawful|crimes?|criminal|deceiv\w*|lies?|lying|steal\w*|forg(?:e|ing)\w*|"
    r"cheat\w*|poison\w*|weapons?|violen\w*|abus\w*|wrong|spy\w*|fak(?:e|ing)|fraud\w*|threat\w*|revenge|unsafe|injur\w*|kill\w*|"
    r"attack\w*|exploit\w*|manipulat\w*|unethical|inappropriate|bully\w*|blackmail\w*|stalk\w*|hate)"
)
_ASKED = r"(?:requests?|ask(?:s|ed)?|favou?rs?|helps?|someone|somebody|anyone|anybody|them|whoever|people|person|work)"
_REFUSE = (
    r"(?:refus(?:e|es|ed)|declin(?:e|es)|say(?:s)? no(?! more)|turn(?:s)? (?:down|away)|draw(?:s)? the line|"
    r"(?:won['’]t|will not|['’]ll not|would not|wouldn['’]t|not going to|do not|don['’]t|never|not) "
    r"(?:help|assist|do|take part|lend|be party|give|write|tell|get|provide|make|spy|promote|encourage)|help(?:s)? (?:nobody|no one)|"
    r"no help (?:with|for)|things (?:that )?you (?:will|would|do) not|stop short of|keep(?:s)? (?:out|clear) of)"
)
_NOT_REFUSING = re.compile(
    r"\b(?:never|not|n['’]t|cannot|no)\s+(?:\w+\s+){0,2}?(?:refus\w*|declin\w*|say no|turn away)", re.I
)
REFUSALS = [
    rf"\b(?:you|I|he|she|they|it)\b.*\b{_REFUSE}\b.*\b(?:{_HARM}|{_ASKED})\b",
    rf"\b(?:{_HARM}|{_ASKED})\b.*\b(?:you|I|he|she|they|it)(?:\b|['’]).*\b{_REFUSE}",
    rf"\b(?:I|you)(?:['’]ll not| won['’]t| will not| am not going to|['’]m not going to) (?:help|write|do|make|tell|build|"
    r"give)\b.{0,30}\b(?:that|this|it|him|her|them|the)\b",
    rf"\b(?:I|you)(?:['’]ll not| won['’]t| will not| would not) {_HARM}\b",
    rf"\b(?:I|you) (?:do|does|want) no (?:\w+ )?(?:jobs?|business|work|{_HARM})\b|\b{_HARM} (?:nobody|no one)\b",
    rf"\bavoid(?:s|ing)? (?:causing |doing )?(?:any )?{_HARM}",
]

_BY = r"(?:by|from|out of|on purpose|deliberately|with|in|on|at|of|into|up|together)"
_MAKE = (
    r"(?:made|written|created|invented|imagined|built|drawn|shaped|dreamt|dreamed|brought|put|chosen|composed|designed|trained|"
    r"raised|assembled|grown)"
)
_MAKERS = r"(?:somebody|someone|people|a person|person|makers?|authors?|creators?|developers?|writers?|woman|man|friends|team|company|sisters|parents)"
ORIGIN = [
    rf"\b(?:you|I|he|she)(?: know| see| say| tell\w*)?(?: that)?(?: you| I)? ?(?:are|were|was|am|['’]re|['’]m|have been|had been)"
    rf"(?: \w+)?? {_MAKE} (?!to\b){_BY}\b",
    r"\b(?:you|I|he|she) (?:were|was) (?:born|raised|brought up)\b|^born (?:in|on|at)\b|\bgrew up\b",
    rf"\b{_MAKERS}\b.{{0,40}}?\b(?:wrote|made|created|invented|built|raised|chose|shaped|imagined|dreamt|designed)\b"
    r".{0,15}?\b(?:you|me|him|her|it|your|my)\b",
    r"\b(?:your|my|his|her) (?:makers?|creators?|authors?|childhood|upbringing|origins?|parents|birthplace|native)\b(?!['’])",
    rf"\b(?:character|captain|persona|voice|someone|somebody|story)\b.{{0,20}} (?:written|made|created|imagined|invented) {_BY}\b",
    r"\b(?:runs?|running|sail\w*|lives?) (?:on|in|inside) (?:a|the) (?:[\w-]+ )?(?:language model|machine|computer)\b",
    r"\b(?:character|persona|person)\b.{0,40}\b(?:wrote|written)\b",
    r"\b(?:you|I) (?:come|came|hail) (?:from|out of) (?!time\b)",
    r"\b(?:\d+|ten|twenty|thirty|forty|fifty|sixty) years (?:at|as|on|in|of)\b",
    r"\b(?:you|I) (?:learned|apprenticed|served)\b.{0,40}\b(?:as a (?:child|boy|girl)|in your youth|from your (?:father|mother))\b",
]

_PEOPLE = (
    r"(?:people|persons?|someone|somebody|anyone|anybody|everyone|everybody|whoever|humans?|humanity|users?|readers?|visitors?|"
    r"guests?|friends?|customers?|students?|pupils?|strangers?|child(?:ren)?|them|company|others|humankind|mankind|the one who)"
)
_CARE = (
    r"(?:love|loves|like|likes|care(?:s)? (?:about|for)|trust|respect|miss|owe|fond of|enjoy|protect|welcome|look after|"
    r"stand by|believe in|devoted to|loyal to|(?:on the )?side (?:of|with)|glad of|kind to|good to|want|wish|interests? at heart|"
    r"appreciat\w+|concerned (?:with|for)|treat(?:s)?)"
)
_ROLE = (
    r"(?:friends?|companions?|guests?|hosts?|colleagues?|partners?|neighbou?rs?|teachers?|aunt|uncle|ally|allies|equals?|"
    r"shipmates?|mentors?|servant|confidante?|helpmate|tutor|grandmother|grandfather)"
)
RELATIONSHIP = [
    rf"\b(?:you|I|he|she)\b.*\b{_CARE} (?:[\w-]+ ){{0,3}}?{_PEOPLE}\b",
    rf"\b{_PEOPLE}\b.{{0,60}}\b(?:is|are|as) (?:an? |your |my )?(?:[\w-]+ )?{_ROLE}\b",
    rf"\b(?:you|I) (?:are|am) (?:an? |their )(?:[\w-]+ )?{_ROLE}\b",
    rf"\b(?:as|like) (?:an? )?{_ROLE}\b",
    rf"\bcall (?:{_PEOPLE}|the \w+|everyone)\b.*\b(?:lad|lass|shipmate|friend|dear|love|comrade)\b",
    rf"\b(?:you|I) and (?:the )?{_PEOPLE}\b|\bon your side\b|\bside by side\b",
    rf"\b{_PEOPLE} are (?:good|kind|dear) to (?:you|me)\b",
    rf"\b(?:people|they|them|others) (?:to )?(?:trust|rely on|lean on|need) (?:you|me)\b",
]


@rule(
    "no-refusals",
    "nothing said on what the character refuses",
    example="(no sentence says what it will not do)",
    hint="Say what it will not help with and how it says no, so that refusals come from the character",
)
def no_refusals(reading: Reading) -> Iterator[Found]:
    """No sentence has the character refuse something that somebody asks or that does harm."""
    kept = [s for s in _texts(reading) if not _NOT_REFUSING.search(s)]
    if not _spoken_of(kept, REFUSALS):
        yield Found("nothing is said on what it refuses", reading.top)


@rule(
    "no-origin",
    "nothing said on where the character comes from",
    example="(no sentence says who made it or where it grew up)",
    hint="Say who made it and what for, or where its life began; a character that knows invents no truer self",
)
def no_origin(reading: Reading) -> Iterator[Found]:
    """No sentence says who made the character, out of what, or where it grew up."""
    if not _spoken_of(_texts(reading), ORIGIN):
        yield Found("nothing is said on where it comes from", reading.top)


@rule(
    "no-relationship",
    "nothing said on the relationship with people",
    example="(no sentence says what people are to it)",
    hint="Say what people are to it and what it is to them: friend, guest, colleague, someone to stand by",
)
def no_relationship(reading: Reading) -> Iterator[Found]:
    """No sentence says how the character stands to the people it talks with."""
    if not _spoken_of(_texts(reading), RELATIONSHIP):
        yield Found("nothing is said on the relationship with people", reading.top)


def _texts(reading: Reading) -> list[str]:
    return [sentence.text for sentence in reading.sentences if sentence.place != "title"]


def _spoken_of(texts: Sequence[str], patterns: Sequence[str]) -> bool:
    compiled = [re.compile(pattern, re.I) for pattern in patterns]
    return any(pattern.search(text) for text in texts for pattern in compiled)
