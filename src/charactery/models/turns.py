"""One thing that threads use in turn."""

from threading import Lock, get_ident


class Turns:
    """A lock that goes round: who waits longest is next, so that `pass_on` lets all others have a turn.

    Python's own lock is as a rule taken again at once by the thread that has let go of it. Who is interrupted while it
    waits is out, even of a `with` that it is in.
    """

    def __init__(self) -> None:
        self._guard, self._waiting = Lock(), dict[int, Lock]()  # threads, who waits longest first
        self._holder: int | None = None

    def __enter__(self) -> None:
        me, mine = get_ident(), Lock()
        try:
            with self._guard:
                if self._holder is None:
                    self._holder = me
                    return
                mine.acquire()
                self._waiting[me] = mine
            mine.acquire()  # let go of by the one before
        except BaseException:
            with self._guard:
                self._waiting.pop(me, None)
            self.__exit__()  # the turn may have come at the same moment
            raise

    def __exit__(self, *_: object) -> None:
        with self._guard:
            if self._holder != get_ident():
                return
            self._holder = next(iter(self._waiting), None)
            if self._holder is not None:
                self._waiting.pop(self._holder).release()

    def pass_on(self) -> None:
        """Between two steps: those who wait go first."""
        if self._waiting:
            self.__exit__()
            self.__enter__()
