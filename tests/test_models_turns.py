"""Threads take turns, and one that is interrupted while it waits leaves the others theirs."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from charactery.models import turns
from charactery.models.turns import Turns


def until(happened: Callable[[], bool]) -> None:
    """Wait for it; ten seconds are a failure."""
    pause = threading.Event()
    for _ in range(2000):
        if happened():
            return
        pause.wait(0.005)
    raise AssertionError("it has not happened")


@contextmanager
def others(own: Turns) -> Iterator[ThreadPoolExecutor]:
    """Threads beside this one, after which somebody can have the turn, or they would wait for ever."""
    with ThreadPoolExecutor(2) as pool:
        try:
            yield pool
        finally:
            stuck, own._holder = own._holder, None
            for lock in own._waiting.values():
                lock.release()
    assert stuck is None


def test_who_is_interrupted_while_it_waits_is_out_of_the_queue(
    interrupt: Callable[[], None], interrupted: type[BaseException]
) -> None:
    own, there = Turns(), threading.Event()

    def hold() -> None:
        with own:
            there.set()
            until(lambda: len(own._waiting) == 1)
            interrupt()
            until(lambda: not own._waiting)

    with others(own) as pool:
        first = pool.submit(hold)
        there.wait(10)
        with pytest.raises(interrupted), own:
            pass
        first.result(10)


def test_who_is_interrupted_while_it_passes_on_does_not_end_anothers_turn(
    interrupt: Callable[[], None], interrupted: type[BaseException]
) -> None:
    own, order, out = Turns(), [], threading.Event()

    def hold() -> None:
        until(lambda: own._holder is not None)
        with own:
            until(lambda: len(own._waiting) == 1)
            interrupt()
            out.wait(10)
            until(lambda: len(own._waiting) == 1)
            order.append("first")

    def follow() -> None:
        out.wait(10)
        with own:
            order.append("second")

    def pass_on() -> None:
        with own:
            until(lambda: len(own._waiting) == 1)
            own.pass_on()

    with others(own) as pool:
        told = [pool.submit(hold), pool.submit(follow)]
        with pytest.raises(interrupted):
            pass_on()
        out.set()
        for one in told:
            one.result(20)
    assert order == ["first", "second"]


def test_a_turn_that_comes_with_an_interrupt_goes_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    own, there = Turns(), threading.Event()

    class Torn:
        """A lock that is interrupted just when it has been let go of."""

        def __init__(self) -> None:
            self.lock, self.release = (lock := threading.Lock()), lock.release

        def acquire(self) -> None:
            waits = self.lock.locked()
            self.lock.acquire()
            if waits:
                raise KeyboardInterrupt

    def hold() -> None:
        with own:
            there.set()
            until(lambda: len(own._waiting) == 1)

    with others(own) as pool:
        pool.submit(hold)
        there.wait(10)
        monkeypatch.setattr(turns, "Lock", Torn)
        with pytest.raises(KeyboardInterrupt), own:
            pass
