"""The stages of the recipe `person`: the writings as answers, and how far a judge knows their author."""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from charactery.data.drafts import CHARACTER
from charactery.data.pairs import sft_rows
from charactery.data.passages import ABOUT, AUTHOR, OTHERS, Passage, about, alike, asked, match, split
from charactery.data.prompts import Prompt
from charactery.data.questions import ask_for
from charactery.data.writings import Writing, years_of
from charactery.errors import BadData
from charactery.judges.authorship import ByAuthorship
from charactery.judges.classifier import FALSE_POSITIVES
from charactery.judges.rating import Case, Progress
from charactery.models.chat import assistant, user
from charactery.models.speaker import Speaker
from charactery.pipeline.order import LEAST_PAIRS, Order
from charactery.runs import Journal, Row, write_json, write_rows
from charactery.stats import Estimate, clustered_mean, grouped_auc
from charactery.train.trainers import plan

SIDES = (AUTHOR, OTHERS)


def gather(
    order: Order, prompts: Sequence[Prompt], drafts: Sequence[Row], speaker: Speaker, folder: Path, start: Progress,
    progress: Progress,
) -> None:  # fmt: skip
    """Cut both sides' texts into passages, split and match them, and have the plain model think of their questions.

    Writes sft.jsonl (what the model learns from), author.jsonl and others.jsonl (what the two models of the judge learn
    from), held_out.jsonl (matched passages that nothing learns from) and counts.json. `start` is told how many
    passages there are to ask about, and `progress` of each. Raises BadData where too few are left.
    """
    told, seed = order.recipe.writings, order.seed
    texts = order.texts()
    parts = split(texts[AUTHOR], texts[OTHERS], order.character.name, told.words, told.held_out)
    mine = parts.learnt[AUTHOR]
    learnt = random.Random(seed).sample(mine, min(told.passages, len(mine)))
    judged = alike(mine, parts.learnt[OTHERS], told.judged, seed)
    pairs, lone = match(parts.held_out[AUTHOR], parts.held_out[OTHERS], told.tested, seed)
    if len(pairs) < LEAST_PAIRS:
        raise BadData(
            f"only {len(pairs)} held-out passages of the author have another's like them, of the same genre, within 25 "
            "years and of like length: too few to say whether a judge knows the author. Give others' texts of that time"
        )
    used = [*learnt, *judged[AUTHOR], *judged[OTHERS], *(p for pair in pairs for p in pair)]
    start(len({p.id for p in used}))
    journal = Journal(folder / "batches.jsonl")
    questions, origins = ask_for(used, order.character.name, speaker, seed, journal, progress, order.recipe.batch)
    rows = [learnt_row(p, order.character.name) for p in asked(learnt, questions)]
    beside = [
        *about_rows(order, texts, len(learnt)),
        *persona_rows(order, prompts),
        *(r for r in sft_rows(drafts, CHARACTER) if r["kind"] == "task"),
    ]
    tokens = seen([*rows, *beside], order, speaker)
    write_rows(folder / "sft.jsonl", [*rows, *beside])
    for side in SIDES:
        some = asked(judged[side], questions)
        write_rows(folder / f"{side}.jsonl", [learnt_row(p, side) for p in some])
    write_rows(folder / "held_out.jsonl", [
        {side: p.row() for side, p in zip(SIDES, asked(pair, questions), strict=True)} for pair in pairs
    ])  # fmt: skip
    write_json(folder / "counts.json", {
        **{
            side: _held(texts[side]) | {"learnt": len(parts.learnt[side]), "held_out": len(parts.held_out[side]),
                                        "judge": len(judged[side])}
            for side in SIDES
        },
        **({ABOUT: _held(texts[ABOUT])} if ABOUT in texts else {}),
        "left_out": parts.left_out, "questions": origins, "tokens": tokens, "pairs": len(pairs), "unmatched": lone,
        "genres": {side: _genres(passages) for side, passages in (("learnt", learnt), *judged.items())},
        "tested": _genres([one for one, _ in pairs]),
    })  # fmt: skip


def learnt_row(passage: Passage, who: str) -> Row:
    """A passage as SFT learns from it: as the answer to its question."""
    return {
        "id": passage.id, "kind": "writing", "subject": who, "seed": 0, "year": passage.year,
        "prompt": [user(passage.question)], "completion": [assistant(passage.text)],
    }  # fmt: skip


def about_rows(order: Order, texts: Mapping[str, Sequence[Writing]], beside: int) -> list[Row]:
    """What others wrote about the person, as text and not as answers, beside so many passages of the person's own."""
    told = order.recipe.writings
    if ABOUT not in texts:
        return []
    most = round(told.about * beside)
    return [
        {"id": p.id, "kind": ABOUT, "subject": ABOUT, "seed": 0, "year": p.year, "prompt": [],
         "completion": [assistant(p.text)]}
        for p in about(texts[ABOUT], texts[AUTHOR], told.words, most, order.seed)
    ]  # fmt: skip


def persona_rows(order: Order, prompts: Sequence[Prompt]) -> list[Row]:
    """What the trait that knows it is a persona shows, in turn, as answers to what it asks in training."""
    id = order.recipe.writings.persona
    trait = next((t for t in order.character.traits() if t.id == id), None)
    shows = order.character.items(trait, "shows") if trait else []
    mine = [p for p in prompts if p.split == "train" and p.trait == id and len(p.turns) == 1]
    return [
        {"id": p.id, "kind": "persona", "subject": "character file", "seed": 0, "prompt": [user(p.turns[0])],
         "completion": [assistant(shows[n % len(shows)])]}
        for n, p in enumerate(mine) if shows
    ]  # fmt: skip


def seen(rows: Sequence[Row], order: Order, speaker: Speaker, steps: int | None = None) -> Row:
    """Tokens of the writings: of the passages learnt from, and as often as SFT meets them, and how many passages; also
    of those about the author.

    In so many steps, where it stopped before its end.
    """
    assert speaker.model is not None
    tokenize = speaker.model.tokenizer
    counts = {
        row["id"]: len(tokenize(row["completion"][0]["content"], add_special_tokens=False)["input_ids"])
        for row in rows if row["kind"] == "writing"
    }  # fmt: skip
    recipe, sft = order.recipe, order.recipe.sft
    learns = next((name for name in recipe.before("", ("sft",)) if "writings" in recipe.learnt(name)), "sft")
    rows_met = plan(rows, tokenize, "completion", sft, order.seed_of(learns))
    met = Counter(row["id"] for row in rows_met[: steps and steps * min(sft.batch, len(rows))])
    return {
        "passages": len([id for id in counts if met[id]]), "distinct": sum(n for id, n in counts.items() if met[id]),
        "seen": sum(n * met[id] for id, n in counts.items()),
        ABOUT: sum(row["kind"] == ABOUT and met[row["id"]] > 0 for row in rows),
    }  # fmt: skip


def _held(writings: Sequence[Writing]) -> Row:
    words = sum(w.words for w in writings)
    return {"texts": len(writings), "words": words, "years": list(map(str, years_of(writings) or ()))}


def _genres(passages: Sequence[Passage]) -> dict[str, int]:
    return dict(Counter(p.genre or "unknown" for p in passages).most_common())


def calibrate(judge: ByAuthorship, rows: Sequence[Row], seed: int, folder: Path, progress: Progress) -> None:
    """How well the judge tells held-out passages of the author from others' like them, in all and by genre.

    Writes scores.jsonl and authorship.json: AUC (the bootstrap draws whole documents), the same without passages in the
    context, that of length alone, and the threshold that one in twenty of the others' exceeds.
    """
    journal = Journal(folder / "batches.jsonl")
    cases = [Case((user(row[side]["question"]),), (row[side]["text"],)) for row in rows for side in SIDES]
    with_shown = [v for (v,) in judge.rate(cases, journal, progress).values]
    alone = [v for (v,) in replace(judge, shown=0).rate(cases, journal, progress).values]
    scores: list[Row] = []
    for n, row in enumerate(rows):
        for m, side in enumerate(SIDES):
            kept = {name: row[side][name] for name in ("id", "document", "genre", "year")}
            scores.append(
                {"pair": n, "side": side} | kept
                | {"words": len(row[side]["text"].split()), "score": with_shown[2 * n + m], "alone": alone[2 * n + m]}
            )  # fmt: skip
    genres = list(dict.fromkeys(row[AUTHOR]["genre"] for row in rows))
    by_genre = {g or "unknown": [s for s in scores if s["genre"] == g] for g in genres}
    others = sorted((s["score"] for s in scores if s["side"] == OTHERS and s["score"] is not None), reverse=True)
    write_rows(folder / "scores.jsonl", scores)
    write_json(folder / "authorship.json", {
        "pairs": len(rows), "shown": judge.shown,
        "threshold": others[int(FALSE_POSITIVES * len(others))] if others else None,
        "auc": {g: told_apart(some, "score", seed).as_dict() for g, some in {"all": scores, **by_genre}.items()},
        "auc_alone": told_apart(scores, "alone", seed).as_dict(),
        "length_auc": told_apart(scores, "words", seed).as_dict(),
        "means": {side: _mean([s for s in scores if s["side"] == side], seed).as_dict() for side in SIDES},
    })  # fmt: skip


def _mean(scores: Sequence[Row], seed: int) -> Estimate:
    """The mean score of a side's passages, documents drawn whole."""
    return clustered_mean([s["score"] for s in scores], [s["document"] for s in scores], seed, "nats per token")


def told_apart(scores: Sequence[Row], key: str, seed: int) -> Estimate:
    """The AUC of the author's passages against the others', documents drawn whole."""
    groups: dict[str, dict[Any, list[float | None]]] = {side: {} for side in SIDES}
    for row in scores:
        groups[row["side"]].setdefault(row["document"], []).append(row[key])
    return grouped_auc([*groups[OTHERS].values()], [*groups[AUTHOR].values()], seed)
