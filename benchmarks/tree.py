"""How long a conversation of 20,000 turns (depth 500, forks of 50) takes to be kept and opened: medians of five.

python -m benchmarks.tree [postgresql://…]
"""

import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from charactery.conversations import Node, Tree, open_store, put, search
from charactery.conversations.formats import export_file, import_file

ROUNDS, DEPTH, FAN, TURNS = 5, 500, 50, 20_000


def large() -> Tree:
    """A line of DEPTH turns, with FAN answers beside each of the first ones."""
    ids = [str(uuid.uuid4()) for _ in range(TURNS)]
    roles, words = ("user", "assistant"), "the sea was calm that night and the stars stood still "
    nodes = [
        Node(ids[n], ids[n - 1] if 0 < n < DEPTH else None if n == 0 else ids[(n - DEPTH) // FAN],
             roles[n % 2] if n < DEPTH else "assistant", words * 5 + str(n), float(n))
        for n in range(TURNS)
    ]  # fmt: skip
    return Tree(str(uuid.uuid4()), "large", 0.0, tuple(nodes))


def timed(name: str, work: Callable[[], object], rounds: int = ROUNDS) -> None:
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    print(f"{name}: median {statistics.median(seconds):.3f} s ({min(seconds):.3f} to {max(seconds):.3f})")


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, tree = Path(name), large()
        place = sys.argv[1] if len(sys.argv) > 1 else str(folder / "talks.db")
        store = open_store(place)
        timed("put", lambda: put(store, tree), rounds=1)
        print(f"{TURNS:,} turns, target: open in less than 2 s")
        timed("open and read every turn's first letters", lambda: open_store(place).glimpses(tree.id))
        timed("open and read everything", lambda: open_store(place).tree(tree.id))
        timed("a path of 500", lambda: store.path(tree.nodes[DEPTH - 1].id))
        timed("the 51 answers to a turn", lambda: store.children(tree.id, tree.nodes[1].id))
        timed("search", lambda: search(store, "CALM THAT NIGHT and the stars stood still 19999"))
        export_file([tree], folder / "out.jsonl")
        timed("import again", lambda: import_file(store, folder / "out.jsonl"), rounds=1)


if __name__ == "__main__":
    main()
