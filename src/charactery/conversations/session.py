"""A session: talk kept in the tree as it is said, by a person or a script.

What a model reads is the session's own path and nothing else, and the seed of an answer is made of that path, the
session's seed and how often it was answered before. So the same words give the same answers, whatever else the store
holds or the process has done: every session is fresh.
"""

import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol

from charactery.conversations.beside import cursor, set_cursor
from charactery.conversations.store import Store, Turn
from charactery.conversations.tree import Node, as_messages
from charactery.errors import CharacteryError, ContextTooLong, Stop
from charactery.runs import digest


class Heard(Protocol):
    """An answer."""

    @property
    def text(self) -> str:
        """What was said."""

    @property
    def ended(self) -> bool:
        """Whether it ended by itself; else it was cut off."""

    @property
    def error(self) -> str:
        """Why there is none, or nothing."""


class Voice(Protocol):
    """What answers, as a session needs it; `charactery.models.voice` makes one of a Subject."""

    @property
    def subject(self) -> str:
        """What it is, as written."""

    @property
    def weights(self) -> str:
        """The hash of exactly what answers."""

    @property
    def sampler(self) -> dict[str, Any]:
        """How answers are drawn."""

    def prompt(self, messages: Sequence[Any], prefill: str = "") -> str:
        """The exact text that is read for messages, and for the beginning of the answer, if it is given."""

    def answer(
        self, messages: Sequence[Any], seeds: Sequence[int], on_text: Callable[..., None], prefill: str = ""
    ) -> Sequence[Heard]:
        """An answer to the same messages for each seed. `on_text(text, row=0)` is told of each piece by piece.

        What is told and given is what follows `prefill`. A Stop that `on_text` raises may be let through; or what there
        is of each answer is given, `ended` where it was whole before.
        """


class Session:
    """A place in a conversation, `at`, from which one goes on. The conversation begins with the first word."""

    def __init__(self, store: Store, voice: Voice | None, seed: int = 0, conversation: str | None = None) -> None:
        self.store, self.voice, self.seed, self.conversation = store, voice, seed, conversation
        self.at = cursor(store, conversation) if conversation else None

    def path(self) -> list[Node]:
        """The turns to here."""
        return self.store.path(self.at) if self.at else []

    def go(self, node: str | None) -> None:
        """Stand at a turn, to fork there; None is before the first word."""
        if node is not None:
            if self.conversation is None or self.store.conversation_of(node) != self.conversation:
                raise CharacteryError(f"the turn {node} is not of this conversation")
            set_cursor(self.store, self.conversation, node)
        self.at = node

    def say(self, text: str, role: str = "user") -> Node:
        """A turn of a person's, or one put into the model's mouth."""
        if self.conversation is None:
            self.conversation = self.store.begin()
        node = self.store.add(self.conversation, self.at, role, text)
        self.go(node.id)
        return node

    def answer(
        self, n: int = 1, on_text: Callable[[str], None] = lambda text: None, voice: Voice | None = None,
        place: int | None = None, ids: Sequence[str] = (), prefill: str = "",
    ) -> list[Node]:  # fmt: skip
        """`n` answers to the path so far, all kept side by side; the session goes on from the first.

        `voice` answers in another's place, and then the session stays where it is. The seeds are those of the answers
        from the `place`-th on; by default those after all there are. `ids` are the turns' own. `on_text` is
        told of the first as it comes, and of nothing ("") as others do. Ctrl-C, or a Stop that it raises, keeps what
        was said of all of them. Raises ContextTooLong, keeping nothing, where
        the model has no room to answer. With `prefill` answers begin so; it is part of their text, and of how they were
        drawn.
        """
        spoken = voice or self.voice
        if spoken is None or self.conversation is None or self.at is None:
            raise CharacteryError("there is nothing to answer yet: say something first")
        path = self.path()
        messages = as_messages(path)
        before = self.answered(self.at) if place is None else place
        seeds = [draw(self.seed, messages, before + k) for k in range(n)]
        prompt = spoken.prompt(messages, prefill)
        sampler = {**spoken.sampler, "prefill": prefill} if prefill else spoken.sampler
        turns = [
            self.store.turn(
                self.conversation, self.at, subject=spoken.subject, weights=spoken.weights, prompt=prompt,
                sampler=sampler, seed=seed, id=id,
            )
            for seed, id in zip(seeds, ids or [str(uuid.uuid4()) for _ in seeds], strict=True)
        ]  # fmt: skip
        nodes = _finished(turns, spoken, messages, seeds, on_text, prefill)
        if voice is None and nodes:
            self.go(nodes[0].id)
        return nodes

    def again(
        self, n: int = 1, on_text: Callable[[str], None] = lambda text: None, voice: Voice | None = None,
        place: int | None = None, ids: Sequence[str] = (), prefill: str = "",
    ) -> list[Node]:  # fmt: skip
        """`n` more answers to the last thing a person said, beside those there are; otherwise as `answer`."""
        here, asked = self.at, self.asked()
        if asked is None:
            raise CharacteryError("there is nothing to answer yet: say something first")
        self.at, nodes = asked.id, []
        try:
            nodes = self.answer(n, on_text, voice, place, ids, prefill)
        finally:
            if voice is not None or not nodes:
                self.at = here
        return nodes

    def answered(self, node: str) -> int:
        """How many answers a turn has had."""
        told = self.store.children(self.conversation, node) if self.conversation else []
        return sum(one.role == "assistant" for one in told)

    def asked(self) -> Node | None:
        """The last thing a person said on the way here."""
        return next((node for node in reversed(self.path()) if node.role == "user"), None)

    def back(self) -> bool:
        """Go back to before the last thing a person said, if there is one. Nothing is lost by it."""
        asked = self.asked()
        if asked is not None:
            self.go(asked.parent)
        return asked is not None


def draw(seed: int, messages: Sequence[Any], k: int) -> int:
    """The seed of the k-th answer to messages (63 bits)."""
    return int(digest([seed, list(messages), k]), 16) >> 1


def _finished(
    turns: Sequence[Turn], spoken: Voice, messages: Sequence[Any], seeds: Sequence[int], on_text: Callable[[str], None],
    prefill: str,
) -> list[Node]:  # fmt: skip
    said, cut = [""] * len(turns), False

    def piece(text: str, row: int = 0) -> None:
        nonlocal cut
        text = text if said[row] else prefill + text
        said[row] += text
        turns[row].say(text)
        try:
            on_text("" if row else text)
        except Stop:
            cut = True
            raise

    def broken(ending: str) -> list[Node]:
        return [turn.finish(text, ending) for turn, text in zip(turns, said, strict=True) if text]

    try:
        answers = spoken.answer(messages, seeds, piece, prefill)
    except (KeyboardInterrupt, Stop):
        return broken("stopped")
    except BaseException:
        with suppress(CharacteryError):  # where it is the store that fails
            broken("error")
        raise
    if errors := [a.error for a in answers if a.error]:
        raise ContextTooLong(errors[0])
    rows = zip(turns, answers, said, strict=True)
    if cut:
        return [
            turn.finish(prefill + answer.text, "end") if answer.ended else turn.finish(text, "stopped")
            for turn, answer, text in rows if text
        ]  # fmt: skip
    return [turn.finish(prefill + answer.text, "end" if answer.ended else "length") for turn, answer, _ in rows]
