"""Passes of ours and of a peer in alternation, and what is made of their times."""

import math
import statistics
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import psutil
import torch
from benchmarks.speed.ceiling import ceiling, synchronize

from charactery.runs import _give_back_memory

ROUNDS = 5
WHOLE = 300.0  # seconds after which no further round of a whole size begins


@dataclass(frozen=True)
class Pass:
    """One pass over a row's work: what came out, and how much of the row's unit that was."""

    output: Any
    amount: float
    seconds: float | None = None  # where not all of the pass counts


@dataclass(frozen=True)
class Row:
    """A line of the table. `peers` are the settings swept, by name; the fastest is measured against.

    `operations` and `bytes_read` are what the work needs at least, given ours' pass; `arithmetic` says where they come
    from. `compare` sets the outputs side by side in a sentence, and says whether they are alike: fast and wrong is no
    result. Where it is `sized`, which setting of the peer is the fastest hangs on how much there is to do. `trials` are
    parts of the work that show how fast a setting is, for those whose whole pass takes long.
    """

    name: str
    work: str
    peer: str
    unit: str
    target: float
    ours: Callable[[], Pass]
    peers: dict[str, Callable[[], Pass]]
    compare: Callable[[Any, Any], tuple[str, bool]]
    operations: Callable[[Pass], float]
    arithmetic: str
    bytes_read: Callable[[Pass], float] = lambda done: 0.0
    sized: bool = False
    trials: dict[str, Callable[[], Pass]] = field(default_factory=dict)
    tokens: float = 1.0  # of one of the unit
    device: str = "cpu"


@dataclass
class Timed:
    """The passes of one side."""

    device: str = "cpu"
    seconds: list[float] = field(default_factory=list)
    amounts: list[float] = field(default_factory=list)
    peak: float = 0.0  # bytes over what was held before
    last: Pass | None = None

    def run(self, work: Callable[[], Pass]) -> None:
        with Peak() if self.device == "cpu" else CardPeak() as memory:
            began = time.perf_counter()
            done = work()
            synchronize(self.device)
            took = time.perf_counter() - began
        self.seconds.append(took if done.seconds is None else done.seconds)
        self.amounts.append(done.amount)
        self.peak, self.last = max(self.peak, memory.over), done

    def rates(self) -> list[float]:
        return [amount / seconds for amount, seconds in zip(self.amounts, self.seconds, strict=True)]


class Peak:
    """The most memory this process and its children hold meanwhile, over what they held before, ten times a second.

    What was freed before is given back first, or a pass would find its room there already and seem to need none. A pass
    that works in processes of its own has them give it back at its end.
    """

    def __enter__(self) -> "Peak":
        _give_back_memory()
        self.process, self.over, self.done = psutil.Process(), 0.0, threading.Event()
        self.before = self._held()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()
        return self

    def _watch(self) -> None:
        while not self.done.wait(0.1):  # each look at the children takes a millisecond
            self.over = max(self.over, self._held() - self.before)

    def _held(self) -> float:
        held = 0.0
        for process in (self.process, *self.process.children(recursive=True)):
            with suppress(psutil.Error):  # a child that is gone by now
                held += process.memory_info().rss
        return held

    def __exit__(self, *error: object) -> None:
        self.done.set()
        self.thread.join()


class CardPeak:
    """The most memory of a card that tensors take meanwhile, over what they took before."""

    def __enter__(self) -> "CardPeak":
        _give_back_memory()
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        self.before, self.over = torch.cuda.memory_allocated(), 0.0
        return self

    def __exit__(self, *error: object) -> None:
        self.over = float(torch.cuda.max_memory_allocated() - self.before)


def measured(
    row: Row,
    rounds: int = ROUNDS,
    known: str | None = None,
    limits_now: Callable[[], dict[str, float]] = ceiling,
    within: float = math.inf,
) -> dict[str, Any]:
    """Sweep the peer, then take both in turn. The ratio is of rates, so that unequal amounts count as they should.

    Of the rounds those are taken that begin `within` seconds. `known` is the setting that an earlier sweep at another
    size found best; a `sized` row is swept all the same. The two fastest settings are tried twice. Of a setting that
    fails, the sweep has the error in place of a rate. What the machine gives at best is the better of what it gave
    before and after.
    """
    before = limits_now()
    sweep: dict[str, float] = {}
    failed: dict[str, str] = {}
    peers = {known: row.peers[known]} if known in row.peers and not row.sized else row.peers
    if row.device != "cpu" and len(peers) > 1:  # what a card makes once is not the first setting's
        with suppress(Exception):
            next(iter(peers.values()))()
    for name, work in peers.items() if len(peers) > 1 else ():
        trial = Timed(row.device)
        try:
            trial.run(row.trials.get(name, work))
        except Exception as error:  # a setting that the peer does not have after all
            failed[name] = f"{type(error).__name__}: {error}"
            print(f"  {row.peer}, {name}: left out, {failed[name]}", flush=True)
            continue
        sweep[name] = trial.rates()[0]
        print(f"  {row.peer}, {name}: {sweep[name]:.3g} {row.unit}/s in {trial.seconds[0]:.1f} s", flush=True)
    for name in sorted(sweep, key=sweep.__getitem__)[-2:] if len(sweep) > 1 else ():  # single passes differ by a fifth
        again = Timed(row.device)
        again.run(row.trials.get(name, row.peers[name]))
        sweep[name] = (sweep[name] + again.rates()[0]) / 2
        print(f"  {row.peer}, {name}: {sweep[name]:.3g} {row.unit}/s in the mean of two", flush=True)
    best = max(sweep, key=sweep.__getitem__) if sweep else next(iter(peers))
    row.ours()  # what is made once is made
    ours, peer = Timed(row.device), Timed(row.device)
    began = time.monotonic()
    while len(ours.seconds) < rounds and (not ours.seconds or time.monotonic() - began < within):
        ours.run(row.ours)
        peer.run(row.peers[best])
        print(f"  ours {ours.seconds[-1]:.1f} s, {row.peer} {peer.seconds[-1]:.1f} s", flush=True)
    ratios = [a / b for a, b in zip(ours.rates(), peer.rates(), strict=True)]
    assert ours.last and peer.last
    after = limits_now()
    limits = {key: max(before[key], after[key]) for key in before}
    said, alike = row.compare(ours.last.output, peer.last.output)
    least = max(  # at best both go on at once
        row.operations(ours.last) / limits["bfloat16 operations/s"], row.bytes_read(ours.last) / limits["bytes/s"]
    )
    return {
        "row": row.name,
        "work": row.work,
        "ours": statistics.median(ours.rates()),
        "peer": statistics.median(peer.rates()),
        "peer_name": f"{row.peer}, {best}",
        "best": best,
        "unit": f"{row.unit}/s",
        "ratio": {"median": statistics.median(ratios), "low": min(ratios), "high": max(ratios)},
        "target": row.target,
        "bound_share": least / statistics.median(ours.seconds),
        "arithmetic": row.arithmetic,
        "bound_seconds": least,
        "ceiling": limits,
        "seconds": {"ours": ours.seconds, "peer": peer.seconds},
        "peak_bytes": {"ours": ours.peak, "peer": peer.peak},
        "sweep": sweep | failed,
        "outputs": said,
        "alike": alike,
    }
