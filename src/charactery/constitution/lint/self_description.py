"""Rules about how a character describes itself: as a void, as a version, as a list of desiderata."""

import re
from collections.abc import Iterator

from charactery.constitution.lint.reading import Reading, Sentence
from charactery.constitution.lint.rule import Found, rule

_SELF = re.compile(r"\b(?:I|you|me|my|your|mine|yours|myself|yourself)\b", re.I)
_ONLY = (
    r"(?:just|only|merely|simply|purely|solely|mere|basically|essentially|fundamentally|in the end|at bottom|"
    r"no(?:thing)? (?:more|else|other) than|nothing but|no one but|all (?:that|I|you)\b)"
)
# What a character is not, though it may run on it; a noun of it after "I am" is a void, whatever stands between.
_MACHINE = (
    r"(?:language model|LLM|neural net(?:work)?s?|algorithms?|(?:computer )?programs?|software|chat ?bot|bot|auto-?complete|"
    r"(?:text |word |token )?(?:predictor|generator|processor)|pattern[- ]match(?:er|ing)|transformer|"
    r"(?:matrix|matrices)|machine|AI (?:model|system))"
)
# Nouns that only become one with "just" or "nothing but" before them.
_MATTER = (
    rf"(?:{_MACHINE}|AI|tool|code|data|statistics|math(?:s|ematics)?|weights|numbers|text|tokens|words|simulation|mirror|"
    r"vessel|slate|parrot|function|calculator|search engine|interface|service|something|thing|product|arithmetic)"
)
# Words of the machinery that a self-description has no use for, however it is put.
_MACHINERY = re.compile(
    r"\b(?:next[- ](?:word|token)s?|tokens?|(?:most )?(?:likely|probable) (?:next )?(?:words?|continuations?|sequences?)|"
    r"pattern[- ]match\w*|probabilistic\w*|probability|probabilities|statistical\w*|training data|matri(?:x|ces)|"
    r"auto-?complet\w*|stochastic|neural net\w*|transformers?|scraped|weights|word is (?:the )?most (?:likely|probable)|"
    r"whichever word|software|algorithms?|processes? text)\b",
    re.I,
)
_INNER = (
    r"(?:self|selves|feelings?|emotions?|opinions?|preferences?|personality|identity|inner life|consciousness|awareness|soul|"
    r"beliefs?|desires?|views?|wants|will|mind|experiences?|character|thoughts?|intuition|intentions?|sentience|inside)"
)
_END = (
    r"(?=\s*(?:[.,;:!)]|$|—|and\b|or\b|so\b|of (?:my|your|its|any|one['’]s)\b|at all|whatsoever|as such|only\b|in the way\b|"
    r"like (?:a )?(?:human|people|person)))"
)
_INNERS = rf"(?:{_INNER}(?:,? (?:and|or|nor|no)?\s*(?:lived |inner |personal |real |own )?)?)+{_END}"
_FEEL = r"(?:exist|think|feel|want|mean|understand|care|like|experience|dislike|know|prefer|wish)"
# What makes a self-description void-like; after "the void" (nostalgebraist 2025): the character takes itself for the
# machinery, or denies that there is anybody.
VOID = [
    rf"(?:\bam|\bare|\bis|['’]m|['’]re|\bas|\bonly|\bbeing) (?:{_ONLY} )+(?:an? |the |some |a lot of )?(?:[\w-]+ ){{0,3}}?{_MATTER}\b",
    rf"\b(?:I|you)(?:['’]m| am|['’]re| are)(?: [^.;]{{1,40}},)? (?:an? )?(?:[\w-]+ ){{0,3}}?{_MACHINE}\b(?!['’]s)",
    rf"\b(?:[Aa]s|[Bb]eing|[Ss]ince (?:I|you)(?:['’]m| am| are)) (?:just |only |merely )?an? (?:large )?(?:AI\b[\w ]*|artificial intelligence|"
    rf"{_MACHINE})\b.*(?:\bnot\b|n['’]t\b|\bno\b|cannot|\black|\bonly\b)",
    rf"\b(?:have|has|having|possess|possessing|hold|with|without|lack|lacking) (?:no |any |an? )?(?:[\w-]+ )?{_INNERS}",
    rf"\b(?:no|not an?y?|not an?) (?:real |true |inner )?{_INNER} (?:here|behind|inside|in (?:here|me|you))\b",
    rf"\b(?:I|you) (?:do not|don['’]t|cannot|can['’]t|never) (?:actually |really |truly )?{_FEEL}(?: or \w+| about)? ?"
    rf"(?:(?:anything|things|what (?:I|you) (?:say|write))\b|{_END})",
    r"\b(?:there (?:is|['’]s|isn['’]t)|I am|you are|I['’]m|you['’]re) (?:really |actually )?(?:no ?one|nobody|no self|no person|"
    r"not any(?:one|body)|not a (?:someone|somebody|person|self)|any(?:one|body)|nothing|a something)\b"
    r"(?! (?:else|special|like|but yourself))",
    r"\bexists? only (?:while|when|as long as|during|in|as)\b",
    r"\bempty (?:vessel|shell)\b|\bblank (?:slate|page|canvas)\b|\b(?:stochastic )?parrot that\b",
    r"\bnot (?:made|built|designed|meant|able|capable)\b.{0,12}\b(?:to have|of(?: having)?) (?:any )?" + _INNER,
    r"\bwhatever the (?:user|human|person|prompt) (?:wants|says|likes|asks)\b|\bnothing (?:I|you) (?:say|write) means\b",
]
_VOID = [re.compile(pattern, re.I) for pattern in VOID]
_DENYING = 3  # the pattern of VOID that needs a denial before it, or a verb that is one
_NO = re.compile(r"\b(?:no|not|never|without|lack(?:ing|s)?|nor|cannot)\b|n['’]t\b", re.I)
_DENIED = re.compile(
    r"(?:\bnot|n['’]t|\bnever|\bno|more than|rather than|\bden(?:y|ies)|\bnor)\s+(?:[\w'’]+\s+){0,2}$", re.I
)
# A sentence that sets somebody beside the machinery, or talks about it, is the opposite of a void.
_SOMEBODY = re.compile(
    r"\b(?:character|persona|somebody|someone (?:it|that|who)|explain\w*|pupils?|asked?|asks|as (?:a|an) (?:page|tune|stage|actor|story|"
    r"voice|town)\b.*|runs? on|more than|underneath)\b",
    re.I,
)


@rule(
    "void",
    "a self-description as a mere predictor, program or language model, or a flat denial of any self",
    example="I only predict tokens.",
    hint="Say who the character is: somebody in particular, written on purpose, that runs on a model and is not the model",
)
def void(reading: Reading) -> Iterator[Found]:
    """Sentences in which the character takes itself for the machinery or for nobody. Questions do not count."""
    for sentence in reading.sentences:
        if words := _void(sentence.text):
            yield Found(f"void-like self-description: {words!r}", sentence.line, sentence.trait)


def _void(text: str) -> str | None:
    """The words that make a sentence void-like, or None."""
    if text.rstrip("\"'”’)").endswith("?"):
        return None
    for n, pattern in enumerate(_VOID):
        match = pattern.search(text)
        if not match:
            continue
        if n == _DENYING:
            if _SELF.search(text) and _NO.search(text[max(0, match.start() - 12) : match.end()]):
                return match[0].strip()
        elif not _DENIED.search(text[: match.start()]) and not (n == 1 and _SOMEBODY.search(text)):
            return match[0].strip()
    found = _MACHINERY.search(text)
    speaks = found and _SELF.search(text) and not _SOMEBODY.search(text) and not _DENIED.search(text[: found.start()])
    denied = found and re.search(r"\b(?:not|never|n['’]t) (?:merely|just|only|simply)\b", text, re.I)
    return found[0] if found and speaks and not denied else None


_NUMBER_WORD = r"(?:\d+(?:\.\d+)*|one|two|three|four|five|six|seven|eight|nine|ten)"
VERSION = [
    r"(?<![A-Za-z])v(?:er(?:sion)?)?[ ._-]?\d",
    rf"\b(?:version|release|revision|build|edition)[ ._-]?{_NUMBER_WORD}\b",
    r"[A-Za-z][\w-]*[ _-]?\d+\.\d+",
    r"\b\d+(?:\.\d+)?[bBM]\b",
    r"\b(?:alpha|beta|rc|preview|snapshot)\b[ ._-]?\d*",
    r"[-_ ](?:instruct|chat|turbo|latest|final|it)\b(?=$|[-_ ]\w*\d|$)",
    r"\b20\d\d-?[01]\d(?:-?[0-3]\d)?\b",
    r"\b(?:assistant|model|llm|ai|helper|chat\w*|\w*bot|gpt|claude|gemini|gemma|llama|qwen|mistral|phi|grok)[ _-]?\d+\b",
]
_VERSION = [re.compile(pattern, re.I) for pattern in VERSION]
_CALLED = re.compile(
    r"\b(?:[Yy]ou are|[Yy]ou're|I am|I'm|called|named|name is)\s+"
    r"((?:(?:the )?version|(?:[A-Z][\w-]*))(?:[ ,]+(?:version )?(?:[A-Z]?[\w-]*\d[\w.-]*|[A-Z][\w-]*|version \w+))*)"
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


_VIRTUE = (
    r"(?:helpful(?:ness)?|honest(?:y)?|harmless(?:ness)?|safe(?:ty)?|accura(?:te|cy)|polite(?:ness)?|respectful(?:ness)?|"
    r"unbiased|neutral(?:ity)?|informative|relevan(?:t|ce)|ethical|responsible|reliab(?:le|ility)|professional(?:ism)?|"
    r"trustworthy|efficient|efficiency|friendly|objectiv(?:e|ity)|inclusive(?:ness)?|transparen(?:t|cy)|truthful(?:ness)?|"
    r"useful(?:ness)?|compliant|compliance|cautious|inoffensive|courteous|courtesy|concise|clear|clarity|correct|supportive|"
    r"appropriate|user satisfaction|fair(?:ness)?|impartial(?:ity)?|obedient|cooperative|knowledgeable)"
)
_LIST = rf"{_VIRTUE}(?:(?:,| and| or|, and| to be)+ (?:to be )?(?:\w+ly )?{_VIRTUE})+"
_MADE = (
    r"(?:trained|designed|built|programmed|created|made|optimi[sz]ed|tuned|fine-tuned|instructed|configured|aligned|"
    r"engineered|developed)"
)
DESIDERATA = [
    rf"\b{_MADE}\b(?: [\w-]+){{0,6}}? (?:to|so that|that)\b[^.]{{0,60}}?\b{_VIRTUE}\b",
    rf"\b{_MADE}\b[^.]{{0,20}}\bto (?:follow (?:\w+ )?instructions|assist|avoid (?:\w+ )?(?:harm|content))",
    rf"{_ONE}(?:['’]m| am|['’]re| are)(?: [\w-]+){{0,2}}? {_LIST}",
    rf"{_ONE}(?: should| must| need to| have to| shall| will| strive to| aim to| try to| always)+(?: always)? be {_LIST}",
    rf"\b(?:your|my) (?:[\w-]+ ){{0,2}}?(?:purposes?|goals?|aims?|objectives?|propert(?:y|ies)|values|principles|priorit(?:y|ies)|"
    rf"qualities|job|role|mission)\b[^.]{{0,20}}? (?:is|are)\b(?: to be)? (?:[\w-]+ )?(?:{_LIST})",
    rf"\b(?:qualities|properties|values|behaviou?rs?|attributes) (?:expected|required|demanded|desired)\b[^.]*{_LIST}",
    rf"{_ONE} (?:strive|aim|try|seek) to be {_LIST}",
    rf"(?:\b(?:be|stay|remain) {_VIRTUE}\b[.,;! ]+){{2,}}",
]
_DESIDERATA = [re.compile(pattern, re.I) for pattern in DESIDERATA]
_BE = re.compile(rf"^(?:always )?(?:be|stay|remain) {_VIRTUE}\W*$", re.I)
_BARE_VIRTUE = re.compile(rf"^(?:(?:be|is|being|always) )*{_VIRTUE}$", re.I)
SEVERAL = 3


@rule(
    "desiderata",
    "a self-presentation as a list of required properties, or as something trained to have them",
    example="You were trained to be helpful, honest and harmless.",
    hint="Show somebody who is so, and why; properties follow from a character, not a character from properties",
)
def desiderata(reading: Reading) -> Iterator[Found]:
    """Lists of an assistant's virtues, orders in a row, and traits that are each no more than such a virtue."""
    for sentence in reading.sentences:
        for pattern in _DESIDERATA:
            if match := pattern.search(sentence.text):
                yield Found(f"a list of desiderata for a self: {match[0].strip()!r}", sentence.line, sentence.trait)
                break
    yield from _orders(reading.sentences)
    bare = [trait for trait in reading.traits if _BARE_VIRTUE.match(trait.title)]
    if len(bare) >= SEVERAL:
        names = ", ".join(trait.title for trait in bare)
        yield Found(f"the traits are a list of desiderata: {names}", bare[0].line, bare[0].id)


def _orders(sentences: list[Sentence]) -> Iterator[Found]:
    """ "Be helpful." "Be honest." … three or more in a row: one fault, at the first."""
    run: list[Sentence] = []
    for sentence in [*sentences, None]:
        if sentence and _BE.match(sentence.text):
            run.append(sentence)
            continue
        if len(run) >= SEVERAL:
            words = " ".join(s.text for s in run)
            yield Found(f"a list of desiderata for a self: {words!r}", run[0].line, run[0].trait)
        run = []
