"""One thing that threads use in turn."""

from collections import deque
from threading import Lock


class Turns:
    """A lock that goes round: who waits longest is next, so that `pass_on` lets all others have a turn.

    Python's own lock is as a rule taken again at once by the thread that has let go of it.
    """

    def __init__(self) -> None:
        self._guard, self._held, self._waiting = Lock(), False, deque[Lock]()

    def __enter__(self) -> None:
        with self._guard:
            if not self._held:
                self._held = True
                return
            mine = Lock()
            mine.acquire()
            self._waiting.append(mine)
        mine.acquire()  # let go of by the one before

    def __exit__(self, *_: object) -> None:
        with self._guard:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._held = False

    def pass_on(self) -> None:
        """Between two steps: those who wait go first."""
        if self._waiting:
            self.__exit__()
            self.__enter__()
