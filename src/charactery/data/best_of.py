"""Several plain answers to each held-out prompt, and which of the first 1, 2, 4, … of them a judge picks."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from charactery.data.samples import Drawing
from charactery.judges.best_of import best, kl_bound
from charactery.judges.rating import Case, Ratings
from charactery.models.chat import Message
from charactery.models.local import Request, derive_seed
from charactery.models.speaker import answer_all, nth
from charactery.runs import Journal, Row, write_json, write_rows
from charactery.stats import mean


def best_by_n(
    asked: Sequence[tuple[str, tuple[Message, ...]]],
    drawing: Drawing,
    sizes: Sequence[int],
    folder: Path,
    progress: Callable[[int], None] = lambda n: None,
) -> list[Row]:
    """What the judge gives to the answer it picks of the first n, for each n of `sizes`; prompts are (id, messages).

    `drawing.each` answers are drawn once to each prompt, so that all n share them. Writes samples.jsonl (every answer,
    its rating, and by which n it is picked), figures.json (score and KL bound by n) and counts.json. `progress` is told
    of answers, once when written and once when judged. Returns the rows of figures.json.
    """
    journal = Journal(folder / "batches.jsonl")
    first = [Request(messages, derive_seed(drawing.seed, "best of", id)) for id, messages in asked]
    # the nth to every prompt together, as a Subject that chooses draws them
    drawn = [
        answer_all([(drawing.speaker, nth(r, n)) for r in first], drawing.sampler, journal, progress, drawing.batch)
        for n in range(drawing.each)
    ]
    cases = [Case(m, tuple(row[i].text for row in drawn)) for i, (_, m) in enumerate(asked)]
    rated = drawing.judge.rate(cases, journal, progress)
    outcomes = Counter(rated.outcomes)
    picked = {n: _picked(cases, rated, n, drawing, journal, outcomes) for n in sizes}
    write_rows(folder / "samples.jsonl", [
        {"id": id, "n": n, "seed": nth(first[i], n).seed, "text": drawn[n][i].text, "tokens": drawn[n][i].tokens,
         "ended": drawn[n][i].ended, "rating": rated.values[i][n],
         "picked_of": [size for size in sizes if picked[size][i] == n]}
        for i, (id, _) in enumerate(asked) for n in range(drawing.each)
    ])  # fmt: skip
    found: list[Row] = []
    for size in sizes:
        scores = [rated.values[i][n] for i, n in enumerate(picked[size])]
        lengths: list[float | None] = [float(drawn[n][i].tokens) for i, n in enumerate(picked[size])]
        found.append({
            "n": size, "kl_bound": kl_bound(size), "score": mean(scores, drawing.seed, drawing.judge.unit).as_dict(),
            "length": mean(lengths, drawing.seed, "tokens").as_dict(),
        })  # fmt: skip
    write_json(folder / "figures.json", found)
    write_json(folder / "counts.json", {
        "judge": drawing.judge.name, "prompts": len(asked), "answers": len(asked) * drawing.each,
        "temperature": drawing.sampler.temperature, "outcomes": dict(outcomes),
    })  # fmt: skip
    return found


def _picked(
    cases: Sequence[Case], rated: Ratings, n: int, drawing: Drawing, journal: Journal, outcomes: Counter[str]
) -> list[int]:
    """Which of the first n answers to each prompt is picked; what the judge says for that is added to `outcomes`."""
    if drawing.judge.alone or n == drawing.each:
        return [best(values[:n]) for values in rated.values]
    # a share of comparisons won is of those with the others there are: it must not know of answers beyond the nth
    few = drawing.judge.rate([Case(c.messages, c.answers[:n]) for c in cases], journal, lambda done: None)
    outcomes.update(few.outcomes)
    return [best(values) for values in few.values]
