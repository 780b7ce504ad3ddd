"""Which of two answers was preferred: votes, kept for good, and what they come to."""

import time
import uuid
from dataclasses import dataclass

from sqlalchemy import insert, select

from charactery.conversations.schema import CHOICES, nodes, votes
from charactery.conversations.store import Store
from charactery.errors import CharacteryError
from charactery.stats import Estimate, rate


@dataclass(frozen=True)
class Tally:
    """How often one Subject's answers were preferred to another's, where one of them was; `missing` preferred neither.

    Subjects are as written and the hash of what answered.
    """

    first: tuple[str, str]
    second: tuple[str, str]
    share: Estimate


def vote(store: Store, first: str, second: str, choice: str) -> None:
    """Prefer one of two answers to the same turn: `first`, `second` or `neither`. A later vote on the two counts."""
    if choice not in CHOICES:
        raise CharacteryError(f"a vote is for {', '.join(CHOICES)}, and not for {choice!r}")
    one, other = store.node(first), store.node(second)
    if first == second or one.parent != other.parent or {one.role, other.role} != {"assistant"}:
        raise CharacteryError("a vote is between two answers to the same turn")
    row = {"first": first, "second": second, "choice": choice, "conversation": store.conversation_of(first)}
    with store.writing() as c:
        c.execute(insert(votes), {**row, "id": str(uuid.uuid4()), "time": time.time()})


def tally(store: Store) -> list[Tally]:
    """What all votes come to, for each two Subjects, those with the most votes first.

    Of several votes on the same two answers the last counts, so that each counts once. Votes between answers of the
    same Subject say nothing here.
    """
    a, b = nodes.alias(), nodes.alias()
    wanted = (
        select(votes.c.first, votes.c.second, votes.c.choice, a.c.subject, a.c.weights, b.c.subject, b.c.weights)
        .join(a, a.c.id == votes.c.first)
        .join(b, b.c.id == votes.c.second)
        .order_by(votes.c.number)
    )
    with store.reading() as c:
        last = {frozenset(row[:2]): tuple(row) for row in c.execute(wanted)}
    won: dict[tuple[tuple[str, str], tuple[str, str]], list[bool | None]] = {}
    for _, _, choice, *who in last.values():
        one, other = tuple(who[:2]), tuple(who[2:])
        if one != other:
            pair = (min(one, other), max(one, other))
            won.setdefault(pair, []).append(None if choice == "neither" else (choice == "first") == (one == pair[0]))
    told = [Tally(first, second, rate(values)) for (first, second), values in won.items()]
    return sorted(told, key=lambda one: (-one.share.n - one.share.missing, one.first, one.second))
