"""Memory that runs short: a batch is halved until it fits, a line says so, and how often is counted."""

import warnings
from collections.abc import Callable, Sequence
from typing import TypeVar

from charactery.errors import CharacteryWarning

T = TypeVar("T")
R = TypeVar("R")
_halvings: list[str] = []  # what was said of each


def halvings() -> int:
    """How often a batch was halved in this process, as `time.process_time` counts: read it before and after."""
    return len(_halvings)


def halved(what: str) -> None:
    """Say that memory ran short and what comes of it, and count it."""
    _halvings.append(what)
    warnings.warn(f"memory ran short: {what}", CharacteryWarning, stacklevel=2)


def fitting(batch: Sequence[T], work: Callable[[Sequence[T]], list[R]], what: str) -> list[R]:
    """`work(batch)`, a result for each of the batch, which is halved as often as memory asks for it.

    `what` says what is done with how many: "answers are asked for". One alone that does not fit is the error. What is
    left of the batch is tried no larger than what fitted.
    """
    done: list[R] = []
    most = len(batch)
    while len(done) < len(batch):
        some = batch[len(done) : len(done) + most]
        try:
            done += work(some)
            continue
        except (MemoryError, RuntimeError) as error:
            if len(some) == 1 or not out_of_memory(error):
                raise
        # not within `except`: what was computed is held as long as the error is
        halved(f"{len(some)} {what} in two halves")
        most = (len(some) + 1) // 2
    return done


def out_of_memory(error: Exception) -> bool:
    """CUDA has a class for it (named here, as importing torch takes seconds); torch on the CPU and on MPS says so."""
    words = ("can't allocate memory", "out of memory")
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or any(w in str(error) for w in words)
