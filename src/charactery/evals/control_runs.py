"""The controls of several evals at once, in processes of their own."""

import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from threading import Thread

from charactery.evals.controls import Recovered, run_control
from charactery.evals.definition import BUNDLED
from charactery.evals.registry import find_eval

Runs = Mapping[str, Sequence["Future[list[Recovered]]"]]  # by eval, as `find_eval` takes it; a control each


@contextmanager
def control_runs(
    names: Sequence[str], sets: int, processes: int = 0, source: str = BUNDLED, data: str = ""
) -> Iterator[Runs]:
    """All controls of these evals, in so many processes, or in as many as there are cores.

    What comes out is the same however many there are: a data set is drawn by its number. Left by an exception, Ctrl-C
    say, it ends them at once.
    """
    context = get_context("spawn")  # Inspect has threads, so no fork
    told, telling = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(processes or os.cpu_count(), context, _end_when_told, (told,))
    try:
        with _unheard():
            runs = {
                name: [
                    pool.submit(_run, name, place, sets, source, data)
                    for place in range(len(find_eval(name).controls_on(source)))
                ]
                for name in names
            }
        yield runs
    except BaseException:
        telling.close()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        telling.close()
        told.close()


@contextmanager
def _unheard() -> Iterator[None]:
    """Processes that are started here do not hear Ctrl-C, which a terminal tells all of them: they are ended."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _end_when_told(told: Connection) -> None:
    """A worker whose parent was killed would wait for work for ever; of one that closes the pipe, it has work left."""
    parent = parent_process()
    assert parent is not None
    ends: list[Connection | int] = [parent.sentinel, told]

    def end() -> None:
        wait(ends)
        os._exit(1)

    Thread(target=end, daemon=True).start()


def _run(name: str, place: int, sets: int, source: str, data: str) -> list[Recovered]:
    eval = find_eval(name)
    return run_control(eval, eval.controls_on(source)[place], sets, source=source, data=data)
