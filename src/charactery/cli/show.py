"""Progress for people: bars with time left on a terminal, a line a stage elsewhere. All on standard error."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Progress:
    """What a pipeline's Watch calls."""

    def __init__(self, bars: Any) -> None:
        self.bars, self.task, self.began = bars, None, time.monotonic()
        self.name, self.done, self.units, self.told = "", 0, 0, 0.0

    def say(self, line: str) -> None:
        """A line for people."""
        if self.bars is not None:
            self.bars.console.print(line, highlight=False, markup=False)
        else:
            print(line, file=sys.stderr, flush=True)

    def start(self, name: str, units: int) -> None:
        """A stage of this many units begins."""
        self.name, self.done, self.units, self.began, self.told = name, 0, units, time.monotonic(), time.monotonic()
        if self.bars is not None:
            if self.task is not None:
                self.bars.update(self.task, completed=self.bars.tasks[self.task].total)
            self.task = self.bars.add_task(name, total=units)
        else:
            self.say(f"{name}: {units} to do")

    def advance(self, units: int) -> None:
        """Units are done."""
        self.done += units
        if self.bars is not None:
            self.bars.update(self.task, advance=units)
        elif time.monotonic() - self.told > 20 and self.done:
            self.told = time.monotonic()
            left = (self.told - self.began) / self.done * (self.units - self.done)
            self.say(f"{self.name}: {self.done} of {self.units}, about {left:.0f} s left")


@contextmanager
def progress() -> Iterator[Progress]:
    """Bars while inside."""
    if not sys.stderr.isatty():
        yield Progress(None)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description:>10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TextColumn("left"), TimeRemainingColumn(),
    )  # fmt: skip
    with Bars(*columns, console=Console(stderr=True)) as bars:
        yield Progress(bars)
