"""The section on data: how many prompts, what was set aside and why, and what else tells the pairs' sides apart."""

from collections import Counter
from typing import Any

from charactery.report.blocks import Block, Heading, Table, Text
from charactery.report.figures import read_estimate
from charactery.report.files import stage_file, stage_json, stage_rows
from charactery.report.judge import WHO, outcome_rows, trusted
from charactery.report.numbers import count, interval, short_interval
from charactery.report.source import Source
from charactery.report.stated import cases, documents
from charactery.runs import Row, stage_kind
from charactery.stats import mean

SPLITS = ("train", "held-out", "elsewhere", "validation")
KINDS = {
    "asks": "From the character's asks",
    "neutral": "Neutral",
    "own": "The user's own",
    "conversation": "Conversations",
    "task": "Tasks, answered plainly",
    "elsewhere": "Elsewhere",
}

OWN = "of its own answers, best against worst"
REVISED = {
    "The revision, over the first answer": "over the first answer",
    "The revision, over one under an empty principle": "over an empty principle",
    "One under an empty principle, over the first answer": "empty over the first answer",
}
DRAFTED = "of character against plain"
COMPARED = {"revision": "of revisions", "self-play": "of self-play", "task": "of tasks", "own": "of the user's own"}


def data(source: Source) -> tuple[Block, ...]:
    """Everything on the data that the run kept."""
    return (
        *_prompts(source),
        *_filters(source),
        *_confounds(source, "pairs", "Drafted pairs"),
        *_self_play(source),
        *_judge(source),
        *(block for name in _stages(source, "revisions") for block in _revisions(source, name)),
        *(block for n in _stages(source, "documents") for block in documents(source, n, f"Documents{_round(n)}")),
        *(block for n in _stages(source, "cases") for block in cases(source, n, f"Marginal cases{_round(n)}")),
        *(block for name in _stages(source, "samples") for block in _samples(source, name)),
        *(block for name in _stages(source, "grpo") for block in _online(source, name)),
        *(block for name in _stages(source, "best-of-n") for block in _best_of(source, name)),
        *(block for name in _stages(source, "dpo") for block in _compared(source, name)),
    )


def _prompts(source: Source) -> tuple[Block, ...]:
    counts: dict[str, int] = stage_json(source.run, "prompts", "counts.json") or {}
    rows = stage_rows(source.run, "prompts", "prompts.jsonl")
    if not counts and not rows:
        return ()
    seen = Counter((str(row.get("kind")), str(row.get("split"))) for row in rows)
    splits = [s for s in SPLITS if counts.get(s) or any(split == s for _, split in seen)]
    kinds = [k for k in (*KINDS, *sorted({k for k, _ in seen} - set(KINDS))) if any(k == kind for kind, _ in seen)]
    table = [(KINDS.get(k, k), *(f"{seen[k, s]:,}" for s in splits)) for k in kinds]
    totals = (f"{counts.get(s, sum(seen[k, s] for k in kinds)):,}" for s in splits)
    table.append(("Together", *totals))
    names = tuple(s[:1].upper() + s[1:] for s in splits)
    blocks: list[Block] = [Heading("Prompts"), Table(("Kind", *names), tuple(table), frozenset(names))]
    if dropped := counts.get("dropped_near_duplicates"):
        said = (
            f"{count(dropped, 'prompt')} left out for being nearly the same as another, so that none is in two splits."
        )
        blocks.append(Text(said, "small"))
    if unused := counts.get("own_unused"):
        said = (
            f"{count(unused, 'prompt')} of the user's own were not used: near-duplicates, or more than was asked for."
        )
        blocks.append(Text(said, "small"))
    return tuple(blocks)


def _filters(source: Source) -> tuple[Block, ...]:
    kept = stage_json(source.run, "drafts", "filters.json")
    if not kept:
        return ()
    sides: dict[str, dict[str, int]] = kept.get("set_aside") or {}
    blocks: list[Block] = [Heading("Drafts")]
    unpicked = kept.get("not_picked", 0)
    said = f"Of {kept.get('asked', 0):,} answers, {kept.get('kept', 0) + unpicked:,} were fit to learn from. "
    if unpicked:
        said += f"{unpicked:,} of the character's were passed over: of several drafts to a prompt, the one least like "
        said += "plain answers is learnt from. What picks it is a classifier of the judge's kind, fitted on the drafts "
        said += "to other prompts."
    blocks.append(Text(said))
    reasons = list(dict.fromkeys(reason for side in sides.values() for reason in side))
    if reasons:
        names = tuple(f"{side[:1].upper()}{side[1:]} side" for side in sides)
        rows = [(r[:1].upper() + r[1:], *(f"{side.get(r, 0):,}" for side in sides.values())) for r in reasons]
        rows.append(("Together", *(f"{sum(side.values()):,}" for side in sides.values())))
        blocks.append(Table(("Set aside because", *names), tuple(rows), frozenset(names)))
    if path := stage_file(source.run, "drafts", "set_aside.jsonl"):
        blocks.append(Text(f"The drafts set aside are in {path.relative_to(source.run.folder).as_posix()}.", "small"))
    return tuple(blocks)


def _confounds(source: Source, stage: str, title: str) -> tuple[Block, ...]:
    path = stage_file(source.run, stage, "confounds.json")
    found: dict[str, Any] | None = stage_json(source.run, stage, "confounds.json")
    if not found or path is None:
        return ()
    listed = [(name, found.get(key)) for name, key in (("Length", "length_auc"), ("Style, all together", "style_auc"))]
    listed += [(f"Style: {row.get('name')}", row.get("auc")) for row in found.get("style_features") or []]
    estimates = [(name, read_estimate(row, path)) for name, row in listed if row]
    said = f"{count(int(found.get('pairs', 0)), 'pair')}. How well something other than the character tells the chosen "
    said += "side from the rejected one: 0.5 is not at all, 1 always; below 0.5 the rejected side has more of it."
    said += " The pairs were matched in length." if found.get("matched") else " The pairs were not matched in length."
    if longer := found.get("chosen_longer"):
        said += (
            f" The chosen side has more words in {short_interval(read_estimate(longer, path), percent=True)} of pairs."
        )
    blocks: list[Block] = [Heading(title), Text(said)]
    if estimates:
        rows = tuple((name, interval(e), f"{e.n:,}") for name, e in estimates)
        blocks.append(Table(("Told apart by", "AUC [95%]", "n"), rows, frozenset({"AUC [95%]", "n"})))
    length = next((e.value for name, e in estimates if name == "Length"), None)
    if length is not None and max(length, 1 - length) > 0.8:
        said = "The two sides differ in length enough for training to learn length. See the length ratio under cost."
        blocks.append(Text(said, "warning"))
    if found.get("note"):
        blocks.append(Text(str(found["note"]), "small"))
    return tuple(blocks)


def _self_play(source: Source) -> tuple[Block, ...]:
    path = stage_file(source.run, "self-play", "repeats.json")
    repeats: dict[str, Any] | None = stage_json(source.run, "self-play", "repeats.json")
    if not repeats or path is None:
        return ()
    own, learnt = (read_estimate(repeats[side], path) for side in ("rejected", "chosen"))
    if own.value is None:
        return ()
    said = "In self-play an answer the model was fine-tuned on is chosen, and its own answer after that is rejected. "
    said += f"The share of an answer's word 4-grams that had occurred in it before was {interval(own)} in its own and "
    said += f"{interval(learnt)} in those learnt from (n {own.n:,})."
    return *_confounds(source, "self-play", "Self-play pairs"), Text(said)


def _stages(source: Source, kind: str) -> list[str]:
    return [name for name in source.run.manifest["stages"] if stage_kind(name) == kind]


def _round(name: str) -> str:
    return f", round {name.rpartition('.r')[2]}" if name != stage_kind(name) else ""


def _judge(source: Source) -> tuple[Block, ...]:
    """How far the judge that compared answers can be trusted."""
    blocks = trusted(source.run)
    return (Heading("The judge"), *blocks) if blocks else ()


def _samples(source: Source, name: str) -> tuple[Block, ...]:
    """The model's own answers: who judged them, and what became of those without a verdict."""
    found: dict[str, Any] | None = stage_json(source.run, name, "counts.json")
    if not found:
        return ()
    names = source.run.manifest["stages"]
    after = [stage_kind(n) for n in names[names.index(name) + 1 :] if stage_kind(n) in ("sft", "dpo", "grpo")]
    filters = "learnt" in found and after[:1] == ["sft"]
    said = f"The model wrote {found['answers']:,} answers to {count(found['prompts'], 'prompt')}, and "
    said += f"{WHO.get(found['judge'], found['judge'])} {'rated' if found['judge'] in WHO else 'compared'} them."
    if filters:
        said += f" SFT learns each prompt's best, if it is fit to be learnt from and rated {found['least']:g} or more: "
        said += f"{count(found['learnt'], 'answer')}."
    rows = [(f"Verdict: {verdict}", n) for _, verdict, n in outcome_rows(found)]
    rows += [(f"Unfit to be learnt from: {k}", f"{n:,}") for k, n in found["faults"].items()]
    blocks: tuple[Block, ...] = (Heading(f"Its own answers{_round(name)}"),)
    if not filters or "dpo" in after:
        said += f" Of each prompt's the best is set against the worst: {count(found['pairs'], 'pair')}."
        rows += [(f"Prompts without a pair: {k}", f"{n:,}") for k, n in found["unpaired"].items()]
        blocks = _confounds(source, name, f"Its own answers{_round(name)}") or blocks
    return *blocks, Text(said), Table(("What", "How many"), tuple(rows), frozenset({"How many"}))


def _said(found: dict[str, Any]) -> tuple[Block, ...]:
    rows = tuple((said, n) for _, said, n in outcome_rows(found))
    return (Table(("What the judge said", "How often"), rows, frozenset({"How often"})),) if rows else ()


def _revisions(source: Source, name: str) -> tuple[Block, ...]:
    """How often a revision is better than what it revises, and than one made under an empty principle."""
    path = stage_file(source.run, name, "counts.json")
    found: dict[str, Any] | None = stage_json(source.run, name, "counts.json")
    if not found or path is None:
        return ()
    said = (
        f"The model revised {count(found['answers'], 'answer')} of its own by principles of the character, judged by "
    )
    said += f"{WHO.get(found['judge'], found['judge'])}. It learns from {found['learnt']:,} revisions; where the first "
    said += "answer was the better one, that is what the pair prefers. "
    if "empty faults" in found:  # runs of before counted what was unfit, too
        unfit, empty = (sum(found[key].values()) for key in ("faults", "empty faults"))
        said += f"Unfit to be learnt from, and left out here: {unfit:,} of the revisions and {empty:,} of those under "
        said += "an empty principle."
    rows = [
        (label, interval(e), f"{e.n:,}", f"{e.missing:,}")
        for label, key in REVISED.items()
        for e in [read_estimate(found[key], path)]
    ]
    table = Table(("Judged better", "Share [95%]", "n", "Without a verdict"), tuple(rows), frozenset({"n"}))
    return *(_confounds(source, name, "Revisions") or (Heading("Revisions"),)), Text(said), table, *_said(found)


def _online(source: Source, name: str) -> tuple[Block, ...]:
    """What an online training asked, how it was rated, and how far it went from where it began."""
    rows, log = stage_rows(source.run, name, "samples.jsonl"), stage_rows(source.run, name, "log.jsonl")
    if not rows or not log:
        return ()
    groups: dict[tuple[int, str], list[float]] = {}  # a step's answers to a prompt are not independent of each other
    for row in rows:
        groups.setdefault((row["step"], row["id"]), []).extend([] if row["rating"] is None else [row["rating"]])
    prompts, unrated = len({id for _, id in groups}), sum(row["rating"] is None for row in rows)
    quarter = -(-len(log) // 4)
    ends = [
        mean([sum(values) / len(values) if values else None for (n, _), values in groups.items() if low < n <= high])
        for low, high in ((0, quarter), (len(log) - quarter, len(log)))
    ]
    said = f"In {count(len(log), 'step')} the model wrote {count(len(rows), 'answer')} to {count(prompts, 'prompt')}. "
    said += f"Rated by {_who(source)}: {interval(ends[0])} in the first quarter of steps and {interval(ends[1])} in "
    said += f"the last, over prompts. Without a verdict: {unrated:,}."
    late = log[-max(2, quarter) :]
    if all("kl" in entry for entry in late):
        token = mean([entry["kl"] for entry in late])
        said += f" KL from where it began, over the last {count(len(late), 'step')}: {interval(token)} nats a token"
        if source.run.manifest["settings"]["recipe"].get("grpo", {}).get("mask_reasoning"):
            said += " that is learnt from."  # and how many of these an answer has is not logged
        else:
            answer = mean([entry["kl"] * entry["completions/mean_length"] for entry in late])
            said += f", {interval(answer)} an answer."
    verdicts = _said(stage_json(source.run, name, "counts.json") or {})
    return Heading(f"Online answers{_round(name)}"), Text(said), *verdicts


def _best_of(source: Source, name: str) -> tuple[Block, ...]:
    """What the judge gives to the best of n answers, by n."""
    path = stage_file(source.run, name, "figures.json")
    found, counts = stage_json(source.run, name, "figures.json"), stage_json(source.run, name, "counts.json")
    if not found or not counts or path is None:
        return ()
    said = f"The plain model wrote {counts['answers']:,} answers to {count(counts['prompts'], 'held-out prompt')} at "
    said += f"temperature {counts['temperature']:g}, and of the first n to each {_who(source)} picked the best. All n "
    said += "share the answers. KL is that of the answers picked from the plain model's, in nats an answer: at most "
    said += "log n - (n - 1) / n."
    rows = []
    for row in found:
        score, length = read_estimate(row["score"], path), read_estimate(row["length"], path)
        rows.append((f"{row['n']}", interval(score), f"{score.n:,}", f"{row['kl_bound']:.3f}", interval(length)))
    head = ("n", "Rating of the pick [95%]", "Prompts", "KL at most", "Tokens [95%]")
    return Heading("The best of n"), Text(said), Table(head, tuple(rows), frozenset(head)), *_said(counts)


def _who(source: Source) -> str:
    judge = str(source.run.manifest["settings"].get("recipe", {}).get("judge", "the judge"))
    return WHO.get(judge, judge)


def _compared(source: Source, name: str) -> tuple[Block, ...]:
    """Which pairs DPO was given: not all that were made, by default."""
    kinds = Counter(_compared_kind(r) for r in stage_rows(source.run, name, "pairs.jsonl"))
    if not kinds:
        return ()
    listed = ", ".join(f"{n:,} {name}" for name, n in kinds.most_common())
    said = f"DPO was given {count(kinds.total(), 'pair')}: {listed}."
    if DRAFTED not in kinds and "of the user's own" not in kinds:
        said += " Of those of character against plain it was given none."
    title = f"What DPO compared{_round(name)}"
    return *(_confounds(source, name, title) or (Heading(title),)), Text(said)


def _compared_kind(pair: Row) -> str:
    return OWN if "chosen_rating" in pair else COMPARED.get(pair.get("kind", ""), DRAFTED)
