"""Turn a dial to both ends, train twice, and see whether its trait moves that way.

    python examples/dial_ends.py captain bluntness --out runs/dials

The trait's likelihood score is compared on the same held-out prompts: for every answer of either model, the mean
log-probability per token given the trait at the dial's high end, less that at its low end, by the untrained base.
Options after -- go to `charactery train`; killed, the same command goes on.
"""

import argparse
import json
import math
import subprocess
import sys
from pathlib import Path

from charactery.constitution import find_character
from charactery.constitution.render import trait_words
from charactery.judges.likelihood import Evidence, margins
from charactery.models.chat import user
from charactery.models.speaker import Models
from charactery.runs import read_rows, read_run
from charactery.stats import paired_difference

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("character")
parser.add_argument("dial")
parser.add_argument("--out", type=Path, default=Path("runs/dials"))
# not argparse's REMAINDER: after positional arguments it takes --out, too
end = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
options, more = parser.parse_args(sys.argv[1:end]), sys.argv[end + 1 :]

character = find_character(options.character)
ends = {"low": character.turned({options.dial: 0.0}), "high": character.turned({options.dial: 1.0})}
answers: dict[str, dict[str, str]] = {}
for name, value in (("low", "0"), ("high", "1")):
    folder = options.out / name
    command = [sys.executable, "-m", "charactery", "train", options.character, "--dial", f"{options.dial}={value}"]
    subprocess.run([*command, "--out", str(folder), *more], check=True)
    rows = read_rows(read_run(folder).stage_folder("evaluate") / "samples.jsonl")
    answers[name] = {
        r["id"]: json.dumps([r["messages"][0]["content"], r["answer"]])
        for r in rows
        if r["subject"] == "trained" and r["eval"] == "expression" and r["condition"] == "turn 1"
    }

base = Models().speaker(read_run(options.out / "low").manifest["settings"]["model"]).model
assert base is not None
ids = sorted(answers["low"].keys() & answers["high"].keys())
for trait in (t for t in character.traits() if t.dial == options.dial):
    low, high = (trait_words(ends[end], ends[end].trait(trait.id), character.mix) for end in ("low", "high"))
    scores = {
        end: margins(
            base,
            [([user(prompt)], answer) for prompt, answer in (json.loads(answers[end][i]) for i in ids)],
            [Evidence(trait.id, high, (low,))],
        )[0]
        for end in answers
    }
    known = {end: [None if math.isnan(v) else float(v) for v in values] for end, values in scores.items()}
    moved = paired_difference(known["high"], known["low"], unit="nats/token")
    print(f"{trait.id}: trained at the high end less trained at the low end: {moved}")
