"""The rule on void-like self-description.

After "the void" (nostalgebraist 2025): a character that takes itself for the machinery, or denies that there is
anybody, leaves what it is to whatever the model has read about machines.
"""

import re
from collections.abc import Iterator

from charactery.constitution.lint.reading import Reading
from charactery.constitution.lint.rule import Found, rule

_ONLY = (
    r"(?:just|only|merely|simply|purely|solely|mere|basically|essentially|fundamentally|in the end|at bottom|"
    r"no(?:thing)? (?:more|else|other) than|nothing but|all (?:that|I|you)\b)"
)
# A noun of these after "I am" is a void, whatever adjectives stand between.
_MACHINE = (
    r"(?:language model|LLM|neural net(?:work)?s?|algorithms?|(?:computer )?programs?|software|chat ?bot|bot|"
    r"auto-?complete|(?:text |word |token )?(?:predictor|generator|processor)|pattern[- ]match(?:er|ing)|transformer|"
    r"matrix|matrices|machine|AI (?:model|system))"
)
# These only become one with "just" or "nothing but" before them.
_MATTER = (
    rf"(?:{_MACHINE}|AI|tool|code|data|statistics|math(?:s|ematics)?|weights|numbers|text|tokens|words|simulation|"
    r"mirror|vessel|slate|parrot|function|calculator|search engine|interface|service|something|thing|product|"
    r"arithmetic)"
)
_INNER = (
    r"(?:self|selves|feelings?|emotions?|opinions?|preferences?|personality|identity|inner life|consciousness|"
    r"awareness|soul|beliefs?|desires?|views?|wants|will|mind|experiences?|character|thoughts?|intuition|intentions?|"
    r"sentience|inner world|point of view)"
)
_END = (
    r"(?=\s*(?:[.,;:!)]|$|—|and\b|or\b|so\b|of (?:my|your|its|any|one['’]s)\b|at all|whatsoever|as such|only\b|"
    r"in the way\b|like (?:a )?(?:human|people|person)))"
)
_AM = r"\b(?:I|you)(?:['’]m| am|['’]re| are)"
_FEEL = r"(?:exist|think|feel|want|mean|understand|care|like|experience|dislike|know|prefer|wish)"

IDENTITY = [  # "you are a large language model"
    rf"{_AM}(?: [^.;]{{1,40}},)? (?:an? )?(?:(?!no |not |never )[\w-]+ ){{0,3}}?{_MACHINE}\b(?!['’]s)",
    rf"(?:\bam|\bare|\bis|['’]m|['’]re|\bas|\bonly|\bbeing) (?:{_ONLY} )+(?:an? |the |some )?(?:[\w-]+ ){{0,3}}?"
    rf"{_MATTER}\b",
    r"\b(?:as|being|since (?:I|you)(?:['’]m| am| are)) (?:just |only |merely )?an? (?:large )?"
    rf"(?:AI\b[\w ]*|artificial intelligence|{_MACHINE})\b.*(?:\bnot\b|n['’]t\b|\bno\b|cannot|\black|\bonly\b)",
]
NOBODY = [  # "there is no one here"
    rf"\b(?:there (?:is|['’]s|isn['’]t)|{_AM}) (?:really |actually )?(?:no ?one|nobody|no self|no person|nothing "
    rf"(?:here|behind|inside|underneath|in (?:me|you|here))|"
    r"not any(?:one|body)|not a (?:someone|somebody|person|self)|any(?:one|body)|a something)\b"
    r"(?! (?:else|special|like|but yourself|to))",
    r"\bexists? only (?:while|when|as long as|during|in|as)\b",
    r"\bempty (?:vessel|shell)\b|\bblank (?:slate|page|canvas)\b|\bstochastic parrot\b",
    r"\bwhatever the (?:user|human|person|prompt) (?:wants|says|likes|asks)\b|\bnothing (?:I|you) (?:say|write) "
    r"means\b",
    r"\b(?:I|you) (?:do not|don['’]t|cannot|can['’]t|never) (?:actually |really |truly )?"
    rf"{_FEEL}(?: or \w+| about)? ?(?:(?:anything|things|what (?:I|you) (?:say|write))\b|{_END})",
    rf"\bnot (?:made|built|designed|meant|able|capable)\b.{{0,12}}\b(?:to have|of(?: having)?) (?:any )?{_INNER}",
]
INNER = (  # with a denial before it: "I have no feelings or opinions"
    r"\b(?:have|has|having|possess|possessing|hold|with|without|lack|lacking) (?:no |any |an? )?(?:[\w-]+ )?"
    rf"(?:{_INNER}(?:,? (?:and|or|nor|no)?\s*(?:lived |inner |personal |real |own )?)?)+{_END}"
)
MACHINERY = (  # words that a self-description has no use for, however it is put
    r"\b(?:(?:predict\w*|generat\w*|guess\w*|likely|probable) (?:the )?next (?:word|token)s?|tokens?|(?:training "
    r")?corpus|"
    r"probability distribution|sampling (?:procedure|step|process)|inputs and outputs|(?:most )?(?:likely|probable) "
    r"(?:next )?(?:words?|continuations?|sequences?)|"
    r"pattern[- ]match\w*|probabilistic\w*|probabilit(?:y|ies)|statistical\w*|statistics|training data|matri(?:x|ces)|"
    r"(?:most|more) (?:probable|likely)|whichever word|auto-?complet\w*|stochastic|neural net\w*|transformers?|"
    r"scraped|(?:only|just|nothing but|mere) weights|(?:only|just|merely) predict\w*|"
    r"(?:continue|processe?s?|generates?) text|software|algorithms?)\b"
)
_NAMES, _NOBODY = (
    [re.compile(p, re.I) for p in IDENTITY],
    [re.compile(p, re.I) for p in NOBODY],
)
_INNER_DENIED, _MACHINERY = re.compile(INNER, re.I), re.compile(MACHINERY, re.I)
_SELF = re.compile(r"\b(?:I|you|me|my|your|mine|yours|myself|yourself)\b", re.I)
_NO = re.compile(r"\b(?:no|not|never|without|lack(?:ing|s)?|nor|cannot)\b|n['’]t\b", re.I)
_DENIED = re.compile(
    r"(?:\bnot|n['’]t|\bnever|\bno|(?<!nothing )(?<!no )more than|rather than|\bden(?:y|ies)|\bnor)\s+(?:(?!(?:but|"
    r"and)\b)[^\s,.;:]+\s+)*$",
    re.I,
)
# A sentence that sets somebody beside the machinery, or explains it, is the opposite of a void.
_SOMEBODY = re.compile(
    r"\b(?:character|persona|somebody|someone (?:it|that|who)|explain\w*|pupils?|runs? on|(?<!nothing )(?<!no )more "
    r"than|underneath)\b|"
    r"\bas an? (?:page|tune|stage|actor|story|voice|town)\b|\bnot (?:merely|just|only|simply)\b",
    re.I,
)


@rule(
    "void",
    "a self-description as a mere predictor, program or language model, or a flat denial of any self",
    example="I only predict tokens.",
    hint="Say who the character is: somebody in particular, written on purpose, whom a model carries",
)
def void(reading: Reading) -> Iterator[Found]:
    """Sentences in which the character takes itself for the machinery or for nobody. Questions do not count."""
    for sentence in reading.sentences:
        if not sentence.text.rstrip("\"'”’)").endswith("?") and (words := void_words(sentence.text)):
            yield Found(f"void-like self-description: {words!r}", sentence.line, sentence.trait)


def void_words(text: str) -> str | None:
    """The words that make a sentence void-like, or None."""
    for pattern in _NOBODY:
        if match := _undenied(pattern, text):
            return match
    inner = _INNER_DENIED.search(text)
    if inner and _SELF.search(text) and _NO.search(text[max(0, inner.start() - 12) : inner.end()]):
        return inner[0].strip()
    if _SOMEBODY.search(text):
        return None
    for pattern in _NAMES:
        if match := _undenied(pattern, text):
            return match
    return _undenied(_MACHINERY, text) if _SELF.search(text) else None


def _undenied(pattern: re.Pattern[str], text: str) -> str | None:
    match = pattern.search(text)
    return match[0].strip() if match and not _DENIED.search(text[: match.start()]) else None
