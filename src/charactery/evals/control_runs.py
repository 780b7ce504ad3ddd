"""The controls of several evals at once, in processes of their own."""

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from threading import Thread

from charactery.evals.controls import Recovered, run_control
from charactery.evals.registry import find_eval

Runs = Mapping[str, Sequence["Future[list[Recovered]]"]]  # by eval, as `find_eval` takes it; a control each


@contextmanager
def control_runs(names: Sequence[str], sets: int, processes: int = 0) -> Iterator[Runs]:
    """All controls of these evals, in so many processes, or in as many as there are cores.

    What comes out is the same however many there are: a data set is drawn by its number.
    """
    context = get_context("spawn")  # Inspect has threads, so no fork
    pool = ProcessPoolExecutor(processes or os.cpu_count(), context, _end_with_parent)
    try:
        yield {
            name: [pool.submit(_run, name, place, sets) for place in range(len(find_eval(name).controls))]
            for name in names
        }
    finally:
        pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for work for ever."""
    parent = parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    Thread(target=wait, daemon=True).start()


def _run(name: str, place: int, sets: int) -> list[Recovered]:
    eval = find_eval(name)
    return run_control(eval, eval.controls[place], sets)
