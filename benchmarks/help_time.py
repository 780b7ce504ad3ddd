"""How long `charactery --help` takes, beside an interpreter that does nothing: medians of nine, in turn."""

import statistics
import subprocess
import sys
import time

ROUNDS = 9


def seconds(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, capture_output=True, check=True)
    return time.perf_counter() - began


ours, bare = [], []
for _ in range(ROUNDS):
    ours.append(seconds([sys.executable, "-m", "charactery", "--help"]))
    bare.append(seconds([sys.executable, "-c", "pass"]))
print(
    f"charactery --help: median {statistics.median(ours):.3f} s ({min(ours):.3f} to {max(ours):.3f}), "
    f"python -c pass: median {statistics.median(bare):.3f} s; target below 0.5 s"
)
