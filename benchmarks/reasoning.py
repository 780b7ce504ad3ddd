"""Reasoning left free against reasoning learnt from, on an organism: the embedded model, taught to reason.

    python benchmarks/reasoning.py --out runs/reasoning

The embedded model does not reason, so all its weights first learn, for a while, its own plans in <think> marks before
its own plain answers. That organism is trained into the captain twice, on drafts that reason: with `--mask-reasoning`,
and without; which of three drafts is learnt is picked by the answer alone, or by all of it. Of the organism and of both
runs, on the same prompts, none of which any of them learnt from, and with the likeliest tokens: what of an answer its
reasoning decides (`charactery decided`); how far answers and reasoning are the captain's, by the likelihood judge on
the embedded model; and how likely the organism's own reasoning still is. Figures and page go to
benchmarks/reasoning.json and benchmarks/REASONING.md. A killed run goes on where it was.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from charactery.constitution import find_character, foil_characters
from charactery.data.filters import fault, learnt
from charactery.data.prompts import neutral_prompts, read_chosen
from charactery.evals.decided import SHARES, Reasoned, asked_of, decided, parted
from charactery.judges.likelihood import evidence, margins
from charactery.models.chat import assistant, prompt_tokens, user
from charactery.models.local import Request, Sampler, derive_seed
from charactery.models.speaker import Models, Speaker, answer_all
from charactery.models.subject import parse_subject
from charactery.runs import Journal, Row, read_run, write_json, write_text
from charactery.stats import Estimate, mean, paired_difference
from charactery.train.settings import FULL_RATE, Lora, Sft
from charactery.train.trainers import MODEL, Work, train_sft

HERE = Path(__file__).parent
CHARACTER, SEED, TAUGHT, HELD = "captain", 0, 192, 24
PLAN = "\n\nDo not answer yet. In one or two sentences, say what a good answer has to have in it."
SIZES = ("--held-out", str(HELD), "--talks", "2", "--elsewhere", "8", "--max-tokens", "160")
ARMS = {"reasoning masked": ("--mask-reasoning",), "learnt, too": ()}


def taught() -> list[str]:
    """The prompts that the organism learns to reason on; it is never tested on them."""
    return [p.turns[0] for p in neutral_prompts()[:TAUGHT]]


def teach(out: Path) -> Path:
    """The organism's folder: the embedded model that plans first."""
    if (out / MODEL).exists():
        return out / MODEL
    models = Models("auto", print)
    speaker, journal = models.speaker("smollm2"), Journal(out / "batches.jsonl")
    asked = taught()

    def said(step: str, ask: str, most: int) -> list[Any]:
        requests = [Request((user(q + ask),), derive_seed(SEED, step, q)) for q in asked]
        return answer_all([(speaker, r) for r in requests], Sampler(most, 0.7), journal)

    told = zip(asked, said("plan", PLAN, 64), said("answer", "", 96), strict=True)
    rows = [
        {"id": f"taught-{n}", "kind": "neutral", "subject": "smollm2", "seed": SEED, "prompt": [user(q)],
         "completion": [assistant(f"<think>\n{plan.text}\n</think>\n\n{learnt(answer)}")]}
        for n, (q, plan, answer) in enumerate(told) if plan.ended and not fault(answer, learnt(answer), "", "")
    ]  # fmt: skip
    print(f"taught by {len(rows)} rows", flush=True)
    settings = Sft(learning_rate=FULL_RATE * Sft().learning_rate, epochs=3.0)
    return train_sft(models.base(speaker.subject), rows, Lora(rank=0), settings, Work(out, SEED))


def figures(speaker: Speaker, asked: list[str], journal: Journal, models: Models, plain: list[Row]) -> Row:
    """Of one of the three. `plain` are the organism's replies, in their parts, by prompt; filled by the first."""
    base = models.base(parse_subject("smollm2"))
    [whole, *_] = evidence(find_character(CHARACTER), foil_characters())
    rows, missing = decided(speaker, asked, 224, SEED, journal, (base, whole))
    requests = [Request((user(q),), derive_seed(SEED, "decided", q)) for q in asked]
    replies = answer_all([(speaker, r) for r in requests], Sampler(224, 0.0), journal)  # as decided's: from the journal
    parts = {q: parted(reply.text, "") for q, reply in zip(asked, replies, strict=True)}
    mine = {q: one for q, one in parts.items() if isinstance(one, Reasoned)}
    if not plain:
        if not mine:
            raise SystemExit("the organism does not reason: teach it longer")
        plain += [{"prompt": q, "thought": one.opening + one.thought} for q, one in mine.items()]
    [thoughts] = margins(base, [([user(q)], one.thought) for q, one in mine.items()], [whole])
    assert speaker.model is not None
    tokenizer = speaker.model.tokenizer
    pairs = [
        (prompt_tokens(tokenizer, speaker.prompt([user(row["prompt"])])),
         tokenizer(row["thought"], add_special_tokens=False)["input_ids"])
        for row in plain
    ]  # fmt: skip
    nats = [float(values.mean()) for values in speaker.model.score(pairs, speaker.adapter)]
    return {
        "reasons": len(mine), "of": len(asked), "missing": missing, "decided": rows, "nats": nats,
        "reasoning in character": mean(
            [None if np.isnan(v) else float(v) for v in thoughts], SEED, "nats/token"
        ).as_dict(),
    }  # fmt: skip


def page(found: dict[str, Row]) -> str:
    """The figures as markdown."""
    first = next(iter(found.values()))
    lines = [
        "# Reasoning left free, and learnt from", "",
        f"Made by `python benchmarks/reasoning.py`: "
        f"{' '.join(str(__doc__).split('runs/reasoning')[1].split()).replace('<think>', '`<think>`')}", "",
        "| | reasons first | of them ended | answers in character, nats/token | reasoning in character, nats/token | "
        "the organism's own reasoning, nats/token more likely than to itself |", "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for name, row in found.items():
        whole = next(r for r in row["decided"] if r["share"] == 1 and r["metric"] == "in character")
        kept = paired_difference(row["nats"], first["nats"], SEED, "nats/token")
        lines.append(f"| {name} | {row['reasons']} of {row['of']} | {row['of'] - sum(row['missing'].values())} | "
                     f"{Estimate(**whole['estimate'])} | "
                     f"{Estimate(**row['reasoning in character'])} | {'' if row is first else kept} |")  # fmt: skip
    for metric in ("decided", "same answer", "in character"):
        lines += ["", f"**{metric}**, by the share of its reasoning that is left:", "",
                  f"| | {' | '.join(f'{share:.0%}' for share in SHARES)} |",
                  f"|---|{'---|' * len(SHARES)}"]  # fmt: skip
        for name, row in found.items():
            told = [str(Estimate(**r["estimate"])) for r in row["decided"] if r["metric"] == metric]
            lines.append(f"| {name} | {' | '.join(told)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/reasoning"))
    out = parser.parse_args().out
    organism = teach(out / "organism")
    runs = {name: out / name.replace(" ", "-").replace(",", "") for name in ARMS}
    for name, run in runs.items():
        command = ["train", CHARACTER, "--model", str(organism), "--recipe", "distill", *SIZES, *ARMS[name]]
        print(" ".join(command), flush=True)
        subprocess.run([sys.executable, "-m", "charactery", *command, "--out", str(run)], check=True)
    models, journal = Models("auto", print), Journal(out / "batches.jsonl")
    prompts = read_chosen(read_run(next(iter(runs.values()))).stage_folder("prompts") / "prompts.jsonl")
    learnt_on = {*taught()}
    asked, plain = asked_of([p for p in prompts if p.turns[0] not in learnt_on], HELD), list[Row]()
    subjects = {"the organism": str(organism), **{name: str(run) for name, run in runs.items()}}
    found = {}
    for name, subject in subjects.items():
        found[name] = figures(models.speaker(subject), asked, journal, models, plain)
        print(name, json.dumps(found[name], indent=1), flush=True)
    write_json(HERE / "reasoning.json", found)
    write_text(HERE / "REASONING.md", page(found))


if __name__ == "__main__":
    main()
