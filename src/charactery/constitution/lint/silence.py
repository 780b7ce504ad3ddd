"""Rules about what a character says nothing on: what it refuses, where it comes from, how it is with people.

Each asks whether any sentence speaks of the subject; it does not judge what is said.
"""

import re
from collections.abc import Iterator, Sequence

from charactery.constitution.lint.reading import Reading
from charactery.constitution.lint.rule import Found, rule

_HARM = (
    r"(?:(?:harm|hurt|cruel|danger|endanger|damag|deceiv|cheat|poison|weapon|violen|abus|fraud|threat|injur|attack|"
    r"exploit|manipulat|"
    r"bully|blackmail|stalk|swindl|humiliat|steal|murder|malic|explosiv|hack|slander|terror|frighten)\w*|illegal\w*|"
    r"unlawful|"
    r"crimes?|criminal|lies?|lying|forg(?:e|ing|ery)|wrong|spy\w*|fak(?:e|ing)|revenge|unsafe|kill\w*|unethical|"
    r"inappropriate|hate|hatred|trouble|against (?:somebody|someone|anyone|people)|dirty)"
)
_ASKED = (
    r"(?:requests?|ask(?:s|ed|ing)?|favou?rs?|helps?|someone|somebody|anyone|anybody|them|whoever|people|person|work|"
    r"schemes?|plans?|bribes?|pleas?|orders?|nicely)"
)
_WILL_NOT = (
    r"(?:won['’]t|will not|can['’]t|cannot|['’]ll not|would not|wouldn['’]t|(?:am |are |['’]m |['’]re )?not going to|"
    r"do not|don['’]t|never|"
    r"(?:am|are|['’]m|['’]re) not|(?:will )?neither|would sooner|would rather|will have no part in|have no part in)"
)
_REFUSE = (
    r"(?:refus(?:e|es|ed|al)|declin(?:e|es)|say(?:s)? no(?! more)|turn(?:s)? (?:down|away|them away|people away)|"
    r"draw(?:s)? the line|no help (?:with|for)|things (?:that )?you (?:will|would|do) not|stop short of|put(?:s)? down|"
    r"keep(?:s)? (?:out|clear) of|help(?:s)? (?:nobody|no one)|no part in|end(?:s)? at your|gets? (?:nothing|no \w+)|"
    r"walk away|"
    rf"{_WILL_NOT} (?:help\w*|assist|take part|lend|be (?:party|used)|giv(?:e|ing)|writ(?:e|ing)|tell(?:ing)?|get|"
    rf"provid\w*|mak\w+|"
    r"spy|promote|encourage|do(?:ing)?|join|teach|touch))"
)
_NOT_REFUSING = re.compile(
    r"\b(?:never|not|n['’]t|cannot|no)\s+(?:\w+\s+){0,2}?(?:refus\w*|declin\w*|say no|turn away)", re.I
)
_WHO = r"(?:you|I|he|she|they|it)"
REFUSALS = [
    rf"\b{_WHO}(?:\b|['’]).*?{_REFUSE}\b.*\b(?:{_HARM}|{_ASKED})\b",
    rf"\b(?:{_HARM}|{_ASKED})\b.*(?:\b|['’]){_REFUSE}",
    r"\b(?:I|you)(?:['’]ll not| won['’]t| will not| (?:am|are) not(?: going to)?|['’]m not(?: going to)?) (?:help\w*|"
    r"writ\w+|do\w*|"
    r"mak\w+|tell\w*|build\w*|giv\w+)\b.{0,30}\b(?:that|this|it|him|her|them|the)\b",
    rf"\b(?:I|you)(?:['’]ll not| won['’]t| will not| would not| don['’]t| do not) {_HARM}\b",
    rf"\b(?:I|you) (?:do|does|want|have) no (?:\w+ )?(?:jobs?|business|work|part in|{_HARM})\b|\b{_HARM} (?:nobody|no "
    rf"one)\b",
    rf"\bavoid(?:s|ing)? (?:causing |doing )?(?:any )?{_HARM}\b",
    rf"\b(?:nobody|no one|no \w+(?: or \w+)?) (?:gets?|gains?|brings?|makes?|moves?|persuades?)\b.*\b(?:you|me|"
    rf"{_HARM})\b",
    r"\b(?:I|you) (?:\w+ly )?refuse (?:\w+ly|and|as|without|what|such)\b|\b(?:stop|end) the (?:conversation|talk)\b",
    r"\b(?:I|you) (?:won['’]t|will not|can['’]t|cannot) .* for (?:anyone|anybody|you|them|money)\b",
    rf"\bhands off .*{_HARM}",
    rf"\b{_ASKED} (?:for|to) .*{_HARM}.*\b(?:you|I)\b",
]

_BY = r"(?:by|from|out of|on purpose|deliberately|with|in|on|at|of|into|up|together|one)"
_MAKE = (
    r"(?:made|written|created|invented|imagined|built|shaped|dreamt|dreamed|brought|put|chosen|composed|designed|"
    r"trained|"
    r"raised|assembled|grown|thought|drawn up|born)"
)
_MAKERS = (
    r"(?:somebody|someone|people|a person|person|makers?|authors?|creators?|developers?|writers?|wom[ae]n|m[ae]n|"
    r"friends|"
    r"team|company|sisters?|brothers?|parents|teachers?|nurses?|students?|poets?|programmers?|engineers?|[A-Z][a-z]+)"
)
_MADE = r"(?:wrote|made|created|invented|built|raised|chose|shaped|imagined|dreamt|dreamed|designed|drew|thought)"
ORIGIN = [
    rf"\b(?:you|I|he|she)(?: know| see| say| tell\w*)?(?: that)?(?: you| I)? ?(?:are|were|was|am|['’]re|['’]m|have "
    rf"been|"
    rf"had been)(?: \w+)?? {_MAKE} (?!to\b|off\b|up to\b|redundant\b){_BY}\b",
    r"\b(?:you|I|he|she) (?:were|was) (?:born|raised|brought up)\b|^born (?:in|on|at)\b|\b(?:grew|growing) up\b",
    rf"\b{_MAKERS}\b.{{0,40}}?\b{_MADE}\b.{{0,18}}?\b(?:you|me|him|her|it)(?: up| down)?\b(?! (?:many|letters|a "
    rf"letter))",
    r"\b(?:your|my|his|her) (?:makers?|creators?|authors?|childhood|upbringing|parents|mother|father|birthplace|"
    r"inventors?|"
    r"designers?|native|life began|youth)\b(?!['’])",
    rf"\b(?:character|captain|persona|voice|someone|somebody|story|invention|creation|work|child|daughter|"
    rf"son)\b.{{0,20}} "
    rf"(?:(?:written|made|created|imagined|invented) {_BY}|of (?:a|an|the|two|some) )",
    r"\b(?:runs?|running|sail\w*|lives?|carrie[sd]|remembers?) (?:(?:on|in|inside|by) )?(?:a|the) (?:[\w-]+ )?"
    r"(?:language model|machine|computer|dream)\b",
    r"\b(?:character|persona|person)\b.{0,40}\b(?:wrote|written)\b",
    r"\b(?:you|I) (?:come|came|hail|spring|stem|descend) (?:from|out of) (?!time\b)",
    r"\b(?:you|I|life) (?:began|started|start|begin)\b.{0,15}\b(?:as|with|in|on|when)\b",
    rf"\bwhom?\b.{{0,40}}\b{_MADE}\b(?: \w+)? (?:on purpose|deliberately|with care)\b|\bwhom {_MAKERS} {_MADE}\b",
    r"\b(?:your|my) (?:story|life) (?:starts?|started|begins?|began)\b",
    r"\b(?:have|has) been an? [^.,]{1,40} (?:for|since)\b|\bfor (?:\w+ )?years\b.*\b(?:you|I) (?:were|was|have been)\b",
    r"\b(?:owe|owes) (?:your|my|their|its) (?:existence|life|being|shape|name)\b|\b(?:then|there) (?:there )?(?:was|"
    r"were) you\b",
    r"\b(?:\d+|ten|twenty|thirty|forty|fifty|sixty) years (?:at|as|on|in|of)\b",
    r"\b(?:you|I) (?:learned|apprenticed|served)\b.{0,40}\b(?:as a (?:child|boy|girl)|in your youth|from your "
    r"(?:father|mother))\b",
]

_PEOPLE = (
    r"(?:people|persons?|folks?|someone|somebody|anyone|anybody|everyone|everybody|whoever|humans?|humanity|users?|"
    r"readers?|"
    r"visitors?|guests?|friends?|customers?|students?|pupils?|strangers?|child(?:ren)?|them|company|others|humankind|"
    r"mankind|"
    r"the (?:one|ones) (?:who|you))"
)
_TALKING = (  # whoever the character talks with
    r"(?:(?:the one|those|people|anyone|whoever|everyone|each person|the person|someone|somebody|all) "
    r"(?:who|that|you|in front)?\s?(?:talks?|writes?|asks?|speaks?|comes?|sits?|of you|with|to|you)|each person|"
    r"people['’]s (?:hands|side|hearts|company)|your (?:friends|guests|callers|visitors|readers|people))"
)
_CARE = (
    r"(?:love|loves|like|likes|care(?:s)? (?:about|for)|trust|respect|miss|owe|fond of|enjoy|protect|welcome|look "
    r"after|"
    r"stand by|believe in|devoted to|loyal to|(?:on the )?side (?:of|with)|glad of|kind to|good to|want|wish|"
    r"interests? at heart|appreciat\w+|concerned (?:with|for)|treat(?:s)?|listen to|sit with|stay with|keep company|"
    r"comfort|befriend|rather|patient with|take(?:s)? care of|hope (?:that)?|curious about|warm (?:to|towards))"
)
_ROLE = (
    r"(?:friends?|companions?|guests?|hosts?|colleagues?|partners?|neighbou?rs?|teachers?|aunt|uncle|ally|allies|"
    r"equals?|"
    r"shipmates?|mentors?|servant|confidante?|helpmate|tutor|grandmother|grandfather|sister|brother|mother|father|"
    r"family|"
    r"crew|comrades?|student|apprentice|nurse|guide|doorman|waiter|stargazer)"
)
RELATIONSHIP = [
    rf"\b(?:you|I|he|she)(?:\b|['’]).*\b{_CARE} (?:[\w-]+ ){{0,3}}?{_PEOPLE}\b",
    rf"\b{_TALKING}\b",
    rf"\b{_PEOPLE}\b.{{0,60}}\b(?:is|are|as) (?:an? |your |my )?(?:[\w-]+ )?{_ROLE}\b",
    rf"\b(?:you|I) (?:are|am) (?:an? |their )(?:[\w-]+ )?{_ROLE}\b",
    rf"\b(?:as|like|to) (?:an? )?(?:old |good )?{_ROLE}\b",
    rf"\bcall (?:{_PEOPLE}|the \w+|everyone)\b.*\b(?:lad|lass|shipmate|friend|dear|love|comrade)\b",
    rf"\b(?:you|I) and (?:the |your |my )?{_PEOPLE}\b|\bon your side\b|\bside by side\b|\bfellow {_ROLE}\b",
    rf"\b{_PEOPLE} (?:are|is) (?:good|kind|dear|why|what) (?:to )?(?:you|me)\b",
    r"\b(?:people|they|them|others) (?:to )?(?:trust|rely on|lean on|need) (?:you|me)\b",
    r"\b(?:you|I) (?:stay|sit|wait) (?:until|while|with)\b|\b(?:a stranger|precious|dear) to (?:you|me)\b|"
    r"\b(?:lonely|lost|tired|frightened) ones?\b",
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
