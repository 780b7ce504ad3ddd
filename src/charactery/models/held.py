"""Costly things that are held for those who use them, and only so many."""

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Condition
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass
class Slot(Generic[T]):
    """A place for one thing, put there by the first who uses it."""

    thing: T | None = None
    users: int = 0


class Held(Generic[T]):
    """At most `most` different things in use at once, and at most `idle` kept when fewer are, those last used.

    Who wants one more waits until another is done with.
    """

    def __init__(self, most: int, idle: int) -> None:
        self.most, self.idle = most, idle
        self._slots: OrderedDict[Hashable, Slot[T]] = OrderedDict()
        self._changed = Condition()

    @contextmanager
    def use(self, key: Hashable) -> Iterator[Slot[T]]:
        """The slot of a thing, which stays as long as it is used."""
        with self._changed:
            self._changed.wait_for(lambda: self._has_room(key))
            slot = self._slots.setdefault(key, Slot())
            self._slots.move_to_end(key)
            slot.users += 1
            self._let_go()
        try:
            yield slot
        finally:
            with self._changed:
                slot.users -= 1
                self._let_go()
                self._changed.notify_all()

    def _has_room(self, key: Hashable) -> bool:
        used = [one for one, slot in self._slots.items() if slot.users]
        return key in used or len(used) < self.most

    def _let_go(self) -> None:
        free = [key for key, slot in self._slots.items() if not slot.users]
        for key in free[: max(0, len(self._slots) - self.idle)]:
            del self._slots[key]
