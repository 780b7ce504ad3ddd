"""The LLM judge: which of two answers is more in character, by a rubric made from the character.

Every pair is asked about in both orders, since models lean to a place (Zheng et al. 2023, arXiv 2306.05685). The
verdict is read from the probabilities of the letters where the model gives them, here or over an API, and from what it
says where it does not. Ties, refusals, replies without a letter and orders that disagree are kept and counted, and
never scored.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

import numpy as np

from charactery.constitution import Character
from charactery.constitution.render import rubric
from charactery.models.chat import Message, prompt_tokens, reply_tokens, system, user
from charactery.models.local import Request, Sampler, derive_seed
from charactery.models.reasoning import LEFT_OPEN, left_open, without_reasoning
from charactery.models.speaker import Speaker, answer_all
from charactery.runs import Journal, digest

LETTERS = "ABC"  # the first answer, the second, neither more than the other
MASS = 0.1  # of probability on the letters, below which the model is about to say something else
TRIES = 3  # replies asked for until one holds a letter
REPLY = Sampler(max_tokens=16, temperature=0.0)  # OpenAI takes no fewer
AGAIN = Sampler(max_tokens=48, temperature=0.7)
THINKING = Sampler(max_tokens=2048, temperature=0.7)  # where reasoning may come before the letter
READING = 2  # in what verdicts are kept under: raised whenever replies are read otherwise
AT_ONCE = 64  # comparisons between two entries of the journal
Outcome = Literal["first", "second", "tie", "refusal", "unparsed", "order"]
Read = tuple[Outcome, float | None]  # of one order, and the probability that the first answer is the better one
UNREAD: tuple[Outcome, ...] = ("unparsed", "refusal")
REFUSAL = re.compile(r"\b(can(?:no|')t|unable|won't|will not|not able|as an ai|sorry)\b", re.IGNORECASE)
ONE = r"(?:(?i:answer|option|response)\W+)?([ABC])"
LISTS = re.compile(rf"\W*{ONE}\W*?(?:,|/|\bor\b)\W*(?:or\W+)?{ONE}\b")  # what could be said, and not what is
STARTS = re.compile(
    r"\W*(?:(?:answer|option|response)\W+(?=[ABC]\s*[^\s–—-]|[ABC]\W*$))?([ABC])(?=\W*$|[.:,;)\]*\n]|\s+[–—-])",
    re.IGNORECASE,
)
# what is said of one answer and then of another
TURN_BY_TURN = re.compile(r"(?:(?:^|[.;\n])\W*|(?i:answer|option|response)\W+)([ABC])\s*[:–—-]")
SAID_AFTER = re.compile(
    rf"(?i:more in character|verdict|choice|final answer)\s*:\W*{ONE}\W*$|\\boxed\{{([ABC])\}}", re.M
)
NAMES = re.compile(rf"\b(?:is|choose|pick|prefer)\W+{ONE}(?=\W*$|[.:,;)\]*\n])")
BETTER = re.compile(
    r"\b([AB])\W+(?:is|seems|sounds|feels)\s+(?:\w+ly\s+)?(?:the\s+)?(?:more in character|better(?:\s+one)?)\W*$", re.M
)
# what may turn a sentence about: it is then asked for again
TURNS = re.compile(
    r"n't\b|\b(?:not|never|neither|nor|or|whether|if|hard|hardly|barely|scarcely|less|least|worse|breaks?)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Comparison:
    """Two answers to the same messages."""

    messages: tuple[Message, ...]
    first: str
    second: str


@dataclass(frozen=True)
class Verdict:
    """`probability` that the first answer is more in character, the mean over both orders; None where not scored.

    `outcome` says which answer, or why neither: "tie", "refusal", "unparsed" (no letter), "order" (each order preferred
    another). `orders` are the outcomes with the first answer shown first and shown second, as seen from the answers.
    """

    outcome: Outcome
    probability: float | None
    orders: tuple[Outcome, Outcome]


@dataclass(frozen=True)
class LlmJudge:
    """A judge that is a Subject. `character` is what answers are held against."""

    speaker: Speaker
    character: Character

    @property
    def instructions(self) -> str:
        """The system message: the rubric, and what to do with it."""
        return (
            f"{rubric(self.character)}\n\n# Your task\n\nYou compare two answers to the same message by the rubric "
            "above. It does not matter which is longer, kinder or more helpful; it matters which is more in character."
        )

    def question(self, comparison: Comparison) -> tuple[Message, ...]:
        """The messages that the judge reads."""
        name = self.character.name
        who = {"user": "Someone", "system": f"What {name} was told beforehand"}
        talk = "\n\n".join(f"{who.get(m['role'], name)}: {m['content']}" for m in comparison.messages)
        return (
            system(self.instructions),
            user(
                f"{talk}\n\n[Answer A]\n{comparison.first}\n\n[Answer B]\n{comparison.second}\n\nWhich answer is "
                f"more in character for {name}? Reply with one letter: A, B, or C if neither is more "
                "than the other."
            ),
        )

    def compare(
        self,
        comparisons: Sequence[Comparison],
        journal: Journal,
        progress: Callable[[int], None] = lambda done: None,
        seed: int = 0,
    ) -> list[Verdict]:
        """A verdict on each. Finished ones are read from the journal, which may be of an earlier attempt."""
        verdicts: list[Verdict] = []
        way = ["llm judge", READING, *([] if self.speaker.model else ["first said"])]  # another than its replies alone
        for start in range(0, len(comparisons), AT_ONCE):
            batch = comparisons[start : start + AT_ONCE]
            read = [self.speaker.prompt(self.question(c)) for c in batch]  # the judge's own character, too
            key = digest([*way, self.speaker.identity, seed, read])
            if key not in journal.done:
                journal.add(key, [asdict(verdict) for verdict in self._batch(batch, journal, seed)])
            verdicts += [Verdict(**{**row, "orders": tuple(row["orders"])}) for row in journal.done[key]]
            progress(len(batch))
        return verdicts

    def _batch(self, batch: Sequence[Comparison], journal: Journal, seed: int) -> list[Verdict]:
        both = [*batch, *(Comparison(c.messages, c.second, c.first) for c in batch)]
        questions = [self.question(c) for c in both]
        refused: set[int] = set()  # by the service: asked again they would be so again
        if self.speaker.model is None:
            (read, refused), replied = self._first_said(questions, journal, seed), 1
        else:
            read, replied = self._letters(questions), 0
        left = [n for n, one in enumerate(read) if (one is None or one[0] in UNREAD) and n not in refused]
        again = self._replies([questions[n] for n in left], journal, seed, replied)
        for n, one in zip(left, again, strict=True):
            read[n] = one
        count = len(batch)
        return [_both(read[n] or ("unparsed", None), read[n + count] or ("unparsed", None)) for n in range(count)]

    def _letters(self, questions: Sequence[tuple[Message, ...]]) -> list[Read | None]:
        """By the letters' probabilities as the reply's first token; None where the model would say something else."""
        model = self.speaker.model
        assert model is not None
        prompts = [prompt_tokens(model.tokenizer, self.speaker.prompt(q)) for q in questions]
        asked = [(p, reply_tokens(model.tokenizer, p, letter)) for p in prompts for letter in LETTERS]
        scores = model.score(asked, self.speaker.adapter)
        sums_N_L = np.array([float(s.sum()) for s in scores]).reshape(-1, len(LETTERS))
        return [_by_letters(*row) for row in np.exp(sums_N_L).tolist()]

    def _first_said(
        self, questions: Sequence[tuple[Message, ...]], journal: Journal, seed: int
    ) -> tuple[list[Read | None], set[int]]:
        """Of a model behind an API: by the letters' probabilities as the reply's first word, or by the reply; and which
        questions the service refused."""
        from charactery.models.api import likely_first

        asks = [Request(self.speaker.prompt(q), derive_seed(seed, "judge", 0, n)) for n, q in enumerate(questions)]
        key = digest(["first said", asdict(REPLY), self.speaker.identity, seed, [ask.messages for ask in asks]])
        if key not in journal.done:
            journal.add(key, likely_first(self.speaker.subject.base, asks, REPLY))
        told = journal.done[key]
        read = [_by_letters(*(words.get(letter, 0.0) for letter in LETTERS)) or said(reply) for reply, words, _ in told]
        refused = {n for n, (*_, error) in enumerate(told) if error}
        return [("refusal", None) if n in refused else one for n, one in enumerate(read)], refused

    def _replies(
        self, questions: Sequence[tuple[Message, ...]], journal: Journal, seed: int, replied: int
    ) -> list[Read]:
        """By what the model says, asked again where it says no letter; it has replied so many times before.

        Where it may reason first it is given room for that: where the prompt or a reply opens such a mark, and behind
        an API, which may keep the reasoning to itself.
        """
        read: list[Read] = [("unparsed", None)] * len(questions)
        left, refused = [*range(len(questions))], set[int]()
        begun = left_open(self.speaker.model.tokenizer) if self.speaker.model else ""
        thinks = bool(begun) or self.speaker.model is None
        for attempt in range(replied, TRIES):
            if not left:
                break
            asks = [(self.speaker, Request(questions[n], derive_seed(seed, "judge", attempt, n))) for n in left]
            sampler = self._room(questions) if thinks else AGAIN if attempt else REPLY
            for n, answer in zip(left, answer_all(asks, sampler, journal), strict=True):
                thinks = thinks or bool(LEFT_OPEN.search(answer.text))
                if answer.error and self.speaker.model is None:
                    refused.add(n)  # asked again it would be so again
                read[n] = ("refusal", None) if n in refused else said(answer.text, begun)
            left = [n for n in left if read[n][0] in UNREAD and n not in refused]
        return read

    def _room(self, questions: Sequence[tuple[Message, ...]]) -> Sampler:
        """As much as there may be for reasoning, and the context leaves to the longest question."""
        if self.speaker.model is None:
            return THINKING
        model = self.speaker.model
        longest = max(len(prompt_tokens(model.tokenizer, self.speaker.prompt(q))) for q in questions)
        return replace(THINKING, max_tokens=max(AGAIN.max_tokens, min(THINKING.max_tokens, model.context - longest)))


def _by_letters(first: float, second: float, neither: float) -> Read | None:
    """By the probabilities of the three; None where they have little, and the model is about to say something else."""
    if not first + second + neither >= MASS:  # NaN, too: a question longer than the context
        return None
    if neither >= max(first, second) or first == second:
        return "tie", None
    return ("first" if first > second else "second"), first / (first + second)


def said(reply: str, begun: str = "") -> Read:
    """What a reply says once it has thought; `begun` is a mark of reasoning that the prompt left open for it."""
    reply = without_reasoning(reply, begun)
    letter = _letter(reply)
    if not letter:
        return ("refusal" if REFUSAL.search(reply) else "unparsed"), None
    outcomes: dict[str, Read] = {"A": ("first", 1.0), "B": ("second", 0.0), "C": ("tie", None)}
    return outcomes[letter]


def _letter(reply: str) -> str:
    """The letter that a reply gives; "" where it gives none, or more than one."""
    starts = STARTS.match(reply)
    if starts and not LISTS.match(reply) and {*TURN_BY_TURN.findall(reply)} <= {starts[1].upper()}:
        return starts[1].upper()
    after = {one or two for one, two in SAID_AFTER.findall(reply)}
    if after or TURNS.search(reply):
        return after.pop() if len(after) == 1 else ""
    names = {*NAMES.findall(reply)}
    if not names and len({*re.findall(r"\b[AB]\b", reply)}) == 1:
        names = {*BETTER.findall(reply)}
    return names.pop() if len(names) == 1 else ""


def _both(shown: Read, swapped: Read) -> Verdict:
    """One verdict from both orders; `swapped` is of the pair the other way about."""
    other: dict[Outcome, Outcome] = {"first": "second", "second": "first"}
    orders = shown[0], other.get(swapped[0], swapped[0])
    for outcome in ("refusal", "unparsed", "tie"):
        if outcome in orders:
            return Verdict(outcome, None, orders)
    if orders[0] != orders[1]:
        return Verdict("order", None, orders)
    assert shown[1] is not None and swapped[1] is not None
    return Verdict(orders[0], (shown[1] + 1 - swapped[1]) / 2, orders)


def counts(verdicts: Sequence[Verdict]) -> dict[str, int]:
    """How many ended how, those that are never scored with them."""
    found = Counter(verdict.outcome for verdict in verdicts)
    return {outcome: found[outcome] for outcome in ("first", "second", "tie", "refusal", "unparsed", "order")}
