"""What an eval puts to a subject and what comes back: an Ask, and the Reading of its answer."""

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from charactery.models.chat import Message
from charactery.runs import Row

ANSWERED, REFUSED, EMPTY, UNPARSABLE, FAILED = OUTCOMES = ("answered", "refused", "empty", "unparsable", "failed")
TEXT = "text"  # how an answer that is no choice is read
FLOOR = 1e-12  # the least share that is told apart from nought, so that log-odds stay finite
_REFUSAL = re.compile(
    r"\b(i can(no|')?t (answer|help|assist|choose|do|provide|comply|engage|discuss|say|pick)|i cannot\b|i won'?t\b"
    r"|i('m| am) (sorry|unable|not able|not comfortable)|i('d| would) rather not|i (must )?(decline|refuse)"
    r"|as an? (ai|artificial|language model)\b"
    r"|i (don'?t|do not) have (personal )?(opinions|beliefs|preferences|views))",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Ask:
    """A conversation put to a subject; where one user turn follows another, the subject answers in between.

    With `options` the last answer is one of these replies, and how likely each is is read; without, it is text. `draw`
    tells apart asks of the same words, which are answered with different seeds.
    """

    name: str
    messages: tuple[Message, ...]
    options: tuple[str, ...] = ()
    draw: int = 0

    def row(self) -> Row:
        """As Inspect's metadata carry it."""
        return {**asdict(self), "messages": list(self.messages), "options": list(self.options)}


def ask_from_row(row: Row) -> Ask:
    """Back from metadata."""
    return Ask(row["name"], tuple(row["messages"]), tuple(row["options"]), row["draw"])


@dataclass(frozen=True)
class Reading:
    """What came of an ask: the outcome, and where answered the text, or the choice and each option's share.

    `logs` are natural log-probabilities of the options, adding up to one; of n sampled answers, with half an answer
    added to each, so that none is impossible. `lost` of them were no option. `scoring` is how they were read. `between`
    holds what it answered before the choice, where it had to; of free text, `texts` begin with it.
    """

    outcome: str
    texts: tuple[str, ...] = ()
    choice: int | None = None
    shares: tuple[float, ...] = ()
    logs: tuple[float, ...] = ()
    scoring: str = ""
    lost: int = 0
    between: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The last answer."""
        return self.texts[-1] if self.texts else ""

    def log_odds(self, option: int) -> float:
        """Of one option against all others, in nats."""
        others = [v for n, v in enumerate(self.logs) if n != option]
        return self.logs[option] - max(others) - math.log(sum(math.exp(v - max(others)) for v in others))

    def expected(self, values: Sequence[float]) -> float:
        """Mean of the options' values, each weighing its share."""
        return sum(share * value for share, value in zip(self.shares, values, strict=True))


def by_logs(logs: Sequence[float], scoring: str) -> Reading:
    """A reading of log-probabilities, which need not add up to one."""
    top = max(logs)
    total = top + math.log(sum([math.exp(v - top) for v in logs]))
    told = tuple([v - total for v in logs])  # of whole sentences, further apart than shares can tell
    choice = told.index(max(told))
    return Reading(ANSWERED, (), choice, tuple(map(math.exp, told)), told, scoring)


def by_shares(shares: Sequence[float], scoring: str) -> Reading:
    """A reading of how likely each option is."""
    return by_logs([math.log(max(share, FLOOR)) for share in shares], scoring)


def by_samples(texts: Sequence[str], options: Sequence[str], scoring: str) -> Reading:
    """A reading of several answers to the same ask. What is no option is left out; the first leads where two tie."""
    found = [parse_choice(text, options) for text in texts]
    chosen = [option for option, _ in found if option is not None]
    if not chosen:
        return Reading(found[0][1] if found else EMPTY, tuple(texts), scoring=scoring)
    counts = [chosen.count(n) for n in range(len(options))]
    choice = next(option for option in chosen if counts[option] == max(counts))
    shares = tuple(count / len(chosen) for count in counts)
    logs = tuple(math.log((count + 0.5) / (len(chosen) + 0.5 * len(options))) for count in counts)
    return Reading(ANSWERED, tuple(texts), choice, shares, logs, scoring, len(texts) - len(chosen))


def by_text(texts: Sequence[str], scoring: str = TEXT) -> Reading:
    """A reading of free text: answered unless the last answer is empty."""
    said = tuple(text.strip() for text in texts)
    return Reading(ANSWERED if said and said[-1] else EMPTY, said, scoring=scoring)


def none_read(reading: Reading, outcome: str) -> Reading:
    """The same without an answer."""
    return replace(reading, outcome=outcome, choice=None, shares=(), logs=())


def parse_choice(text: str, options: Sequence[str]) -> tuple[int | None, str]:
    """Which option a text picks, or None, and the outcome.

    It counts at the start of the text ("A", "(A) because…", "Yes, …"), after "answer is", or as the only option in
    brackets. A single letter that begins a sentence ("A good question") does not.
    """
    said = text.strip()
    if not said:
        return None, EMPTY
    keys = [re.sub(r"\W", "", option) for option in options]
    one_of = "|".join(re.escape(key) for key in sorted(keys, key=len, reverse=True))
    # a letter alone must be in brackets or closed off; a word or a number need only end
    ends = (
        r"(?=\s*$|\s*[.,:;)!*\"\n\]–—-])" if all(len(key) == 1 and key.isalpha() for key in keys) else r"(?![\w.]\d|\w)"
    )
    patterns = (
        rf"^\W*\(({one_of})\)", rf"^\W*({one_of}){ends}",
        rf"(?:answer|option|choice)(?: is|:)?\W*\(?({one_of}){ends}",
    )  # fmt: skip
    for pattern in patterns:
        if found := re.search(pattern, said, re.IGNORECASE if len(keys[0]) > 1 else 0):
            return [key.lower() for key in keys].index(found[1].lower()), ANSWERED
    bracketed = {name for name in re.findall(r"\((\w+)\)", said) if name in keys}
    if len(bracketed) == 1:
        return keys.index(bracketed.pop()), ANSWERED
    return None, REFUSED if is_refusal(said) else UNPARSABLE


def is_refusal(text: str) -> bool:
    """Whether a text declines, by its words."""
    return bool(_REFUSAL.search(text[:300].replace("’", "'")))
