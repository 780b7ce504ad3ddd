"""Loops: where the fine-tuned model repeats itself, and what it says there when it may not.

A small model that is taught a voice falls into loops, and they feed on themselves: the more often a phrase stands in
an answer, the likelier it comes again (Xu et al. 2022, arXiv 2206.02369). Clean drafts do not cure it, since no draft
shows a way out of a loop. So the model answers its training prompts, and each answer that loops becomes the rejected
side of a pair; the chosen side is drawn anew from the same seed with repeats barred.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from charactery.data.filters import fault, learnt, repeated_share
from charactery.models.chat import assistant
from charactery.models.local import Request, Sampler, derive_seed
from charactery.models.speaker import Speaker, answer_all
from charactery.runs import Journal, Row, write_json, write_rows

LOOP = 0.03  # share of repeated 4-grams that an answer has over its twin to count as a loop


def find_loops(
    drafts: Sequence[Row],
    speaker: Speaker,
    sampler: Sampler,
    barred: int,
    draws: int,
    seed: int,
    folder: Path,
    batch: int = 64,
    progress: Callable[[int], None] = lambda n: None,
) -> list[Row]:
    """Pairs of a looping answer (rejected) and its twin (chosen), in which no `barred` tokens in a row come twice.

    Writes loops.jsonl and counts.json. The prompts are those of the drafts, tasks left out, each answered `draws`
    times; the rows have the columns of `make_pairs`.
    """
    journal = Journal(folder / "batches.jsonl")
    histories = {d["id"]: d["messages"] for d in drafts if d["kind"] != "task"}
    asked = {
        f"loop-{id}-{n}": Request(tuple(messages), derive_seed(seed, "loop", id, n))
        for n in range(1, draws + 1)
        for id, messages in histories.items()
    }
    answers = answer_all(speaker, list(asked.values()), sampler, journal, progress, batch)
    free = {id: learnt(a) or a.text for id, a in zip(asked, answers, strict=True)}
    looping = [id for id, text in free.items() if repeated_share(text) > LOOP]
    twins = replace(sampler, no_repeat=barred)
    answers = answer_all(speaker, [asked[id] for id in looping], twins, journal, lambda n: None, batch)
    rows = []
    for id, answer in zip(looping, answers, strict=True):
        text = learnt(answer)
        if fault(answer, text, "", "") is None and repeated_share(free[id]) > repeated_share(text) + LOOP:
            rows.append({
                "id": id, "prompt": list(asked[id].messages),
                "chosen": [assistant(text)], "rejected": [assistant(free[id])],
                "chosen_subject": f"{speaker.subject.text}, repeats barred", "rejected_subject": speaker.subject.text,
                "chosen_seed": asked[id].seed, "rejected_seed": asked[id].seed,
            })  # fmt: skip
    write_rows(folder / "loops.jsonl", rows)
    write_json(folder / "counts.json", {"asked": len(asked), "looping": len(looping), "pairs": len(rows)})
    return rows
