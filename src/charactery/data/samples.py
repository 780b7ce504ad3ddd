"""The model's own answers, several to a prompt, and of each prompt the best against the worst by a judge."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from charactery.data.filters import fault, learnt
from charactery.data.pairs import learnt_row, pair_of
from charactery.judges.rating import Case, Judge
from charactery.models.chat import Message
from charactery.models.local import Request, Sampler, derive_seed
from charactery.models.speaker import BATCH, Speaker, answer_all
from charactery.runs import Journal, Row, write_json, write_rows


@dataclass(frozen=True)
class Drawing:
    """Who answers, how, how often, and who judges. `instructions` and `language` are what a fit answer is held to."""

    speaker: Speaker
    sampler: Sampler
    each: int
    judge: Judge
    seed: int
    instructions: str
    language: str = ""
    batch: int = BATCH
    least: float = 0.0


def best_against_worst(
    asked: Sequence[tuple[str, str, tuple[Message, ...]]],
    drawing: Drawing,
    folder: Path,
    progress: Callable[[int], None] = lambda n: None,
) -> list[Row]:
    """A pair for each prompt (id, kind, messages) whose answers the judge tells apart; columns as of `make_pairs`.

    And for SFT the best answer to each prompt that is fit to be learnt from and rated `least` or more, in sft.jsonl.

    An answer that is unfit to be learnt from (a loop, empty, cut off) can only be the worst. Writes samples.jsonl
    (every answer with its rating), unpaired.jsonl (prompts without a pair, and why) and counts.json. `progress` is told
    of answers, once when written and once when judged.
    """
    journal = Journal(folder / "batches.jsonl")
    drawn = [(n, k) for n in range(len(asked)) for k in range(drawing.each)]
    requests = [Request(asked[n][2], derive_seed(drawing.seed, "samples", asked[n][0], k)) for n, k in drawn]
    answers = answer_all([(drawing.speaker, r) for r in requests], drawing.sampler, journal, progress, drawing.batch)
    texts = [learnt(answer) or answer.text.strip() for answer in answers]
    faults = [
        fault(a, learnt(a), drawing.instructions, drawing.language, least=1)
        for a in answers
    ]  # fmt: skip
    size = drawing.each
    cases = [Case(m, tuple(texts[n * size : (n + 1) * size])) for n, (_, _, m) in enumerate(asked)]
    rated = drawing.judge.rate(cases, journal, progress)
    rows: list[Row] = []
    learn: list[Row] = []
    pairs: list[Row] = []
    unpaired: list[Row] = []
    for n, (id, kind, messages) in enumerate(asked):
        mine = range(n * size, (n + 1) * size)
        values = dict(zip(mine, rated.values[n], strict=True))
        rows += [
            {"id": id, "n": i - n * size, "seed": requests[i].seed, "text": texts[i], "rating": values[i],
             "fault": faults[i]}
            for i in mine
        ]  # fmt: skip
        fit = [i for i in mine if not faults[i]]

        def said(i: int, kind: str = kind, messages: tuple[Message, ...] = messages, id: str = id) -> Row:
            who = {"id": id, "kind": kind, "messages": list(messages), "subject": drawing.speaker.subject.text}
            return who | {"text": texts[i], "seed": requests[i].seed}

        rated_fit = [i for i in fit if (value := values[i]) is not None and value >= drawing.least]
        if rated_fit:
            learn.append(learnt_row(said(max(rated_fit, key=lambda i: values[i] or 0.0))))
        found = _extremes(values, fit)
        if isinstance(found, str):
            unpaired.append({"id": id, "reason": found})
            continue
        best, worst = found
        if texts[best] == texts[worst]:
            unpaired.append({"id": id, "reason": "all the same"})
            continue
        ratings = {"chosen_rating": values[best], "rejected_rating": values[worst]}
        pairs.append(pair_of(f"own-{id}", said(best), said(worst)) | ratings)
    write_rows(folder / "samples.jsonl", rows)
    write_rows(folder / "unpaired.jsonl", unpaired)
    write_rows(folder / "sft.jsonl", learn)
    write_json(folder / "counts.json", {
        "judge": drawing.judge.name, "prompts": len(asked), "answers": len(rows), "pairs": len(pairs),
        "learnt": len(learn), "least": drawing.least,
        "unpaired": dict(Counter(row["reason"] for row in unpaired)), "outcomes": rated.outcomes,
        "faults": dict(Counter(f for f in faults if f)),
    })  # fmt: skip
    return pairs


def _extremes(values: dict[int, float | None], fit: Sequence[int]) -> tuple[int, int] | str:
    """The best answer that is fit and the worst of all, or why there are no two."""
    known = {i: v for i, v in values.items() if v is not None}
    good = [i for i in fit if i in known]
    if not known:
        return "no verdict"
    if not good:
        return "none fit to learn from"
    best = max(good, key=known.__getitem__)
    worst = min(known, key=known.__getitem__)
    if known[best] > known[worst]:
        return best, worst
    return "judged alike" if len({*known.values()}) == 1 else "what is fit is judged lowest"
