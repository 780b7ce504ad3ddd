"""A model that says what it is told to, and processes that write into a store, to be killed or to meet others.

`… conversing.py talk STORE`: answers on and on, slowly. `… conversing.py write STORE CONVERSATION N`: adds N turns.
"""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from charactery.conversations import Session, open_store


@dataclass(frozen=True)
class Said:
    """An answer."""

    text: str
    ended: bool = True
    error: str = ""


@dataclass
class Parrot:
    """Says its words, and the seed after them where there are several answers; keeps what it was asked."""

    words: str = "Aye, that knot will hold."
    pause: float = 0.0
    subject: str = "parrot"
    weights: str = "0" * 16
    sampler: dict[str, Any] = field(default_factory=lambda: {"temperature": 0.7})
    asked: list[tuple[tuple[Any, ...], tuple[int, ...]]] = field(default_factory=list)

    def prompt(self, messages: Sequence[Any], prefill: str = "") -> str:
        return "".join(f"<{m['role']}>{m['content']}" for m in messages) + f"<assistant>{prefill}"

    def answer(
        self, messages: Sequence[Any], seeds: Sequence[int], on_text: Callable[[str], None], prefill: str = ""
    ) -> list[Said]:
        self.asked.append((tuple(messages), tuple(seeds)))
        for word in self.words.split(" "):
            on_text(word + " ")
            time.sleep(self.pause)
        return [Said(self.words if len(seeds) == 1 else f"{self.words} {seed}") for seed in seeds]


def main(deed: str, place: str, conversation: str = "", turns: str = "") -> None:
    """See the top of the file."""
    store = open_store(place)
    if deed == "talk":
        session = Session(store, Parrot("one two three " * 1000, pause=0.05))
        session.say("Count for me.")
        print(session.conversation, flush=True)
        session.answer()
        return
    parent = None
    for n in range(int(turns)):
        parent = store.add(conversation, parent, "user", f"turn {n}").id
        turn = store.turn(conversation, parent, subject="parrot", prompt=f"prompt {n}")
        turn.say("aye")
        parent = turn.finish(f"aye {n}", "end").id


if __name__ == "__main__":
    main(*sys.argv[1:])
