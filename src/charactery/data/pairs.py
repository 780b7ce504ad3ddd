"""Preference pairs from drafts, and how far length and style alone would give away which one is "chosen"."""

import random
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from charactery.data.drafts import CHARACTER, PLAIN, PLAIN_AGAIN
from charactery.data.filters import trim
from charactery.data.prompts import NEAR, Encode, Prompt
from charactery.errors import BadData
from charactery.judges.classifier import cross_fit
from charactery.runs import Row, digest, numbered_rows
from charactery.stats import auc, nothing, rate

LENGTHS_MATCH = 1.25  # matched pairs differ in words by at most this factor


def make_pairs(drafts: Sequence[Row], match_lengths: bool = False, sham_seed: int | None = None) -> list[Row]:
    """Pairs where both sides of a prompt were kept: chosen is the character's answer, rejected the plain one.

    To a task it is the other way about: there the character does not belong.
    Two answers that are the same make no pair. With `match_lengths`, neither side is longer more often
    (tasks apart). With `sham_seed`, two plain answers, which is chosen drawn by coin: nothing to learn. Columns open in
    `datasets` and TRL unchanged: prompt, chosen, rejected as messages, then where each came from.
    """
    by_prompt: dict[str, dict[str, Row]] = {}
    for row in drafts:
        by_prompt.setdefault(row["id"], {})[row["side"]] = row
    rng = random.Random(sham_seed)
    pairs = []
    for id, sides in by_prompt.items():
        names = [CHARACTER, PLAIN] if sham_seed is None else [PLAIN, PLAIN_AGAIN]
        if sham_seed is None and next(iter(sides.values()))["kind"] == "task":
            names.reverse()
        if not all(name in sides for name in names):
            continue
        if sham_seed is not None:
            rng.shuffle(names)
        chosen, rejected = (sides[name] for name in names)
        if chosen["text"].strip() != rejected["text"].strip():
            pairs.append(pair_of(id, chosen, rejected))
    if not match_lengths:
        return pairs
    return matched([p for p in pairs if p["kind"] != "task"]) + [p for p in pairs if p["kind"] == "task"]


def pair_of(id: str, chosen: Row, rejected: Row) -> Row:
    """A pair of two drafts (or rows with their kind, messages, text, subject and seed) to the same messages."""
    row: Row = {"id": id, "kind": chosen["kind"], "prompt": chosen["messages"]}
    for side, draft in (("chosen", chosen), ("rejected", rejected)):
        row[side] = [{"role": "assistant", "content": draft["text"]}]
        row[f"{side}_subject"], row[f"{side}_seed"] = draft["subject"], draft["seed"]
    return row


def contrasted(pairs: Sequence[Row], count: int, seed: int) -> list[Row]:
    """The pairs to train on: all to tasks and all of the user's own, and `count` of the others, drawn by the seed."""
    drafted = [n for n, pair in enumerate(pairs) if pair["kind"] not in ("task", "own")]
    left_out = set(random.Random(seed).sample(drafted, max(0, len(drafted) - count)))
    return [pair for n, pair in enumerate(pairs) if n not in left_out]


def matched(pairs: list[Row]) -> list[Row]:
    """Pairs of like length, in as many of which the chosen side is longer as the rejected one.

    The longer answer is cut at the sentence end nearest to the shorter's length, but where one side has been longer
    more often so far, at one that makes the other side longer, if there is one. Pairs that still differ are left out;
    then, of the side that is longer more often, the pairs that differ most.
    """
    kept: list[tuple[float, Row]] = []
    lead = 0  # pairs with chosen longer, less pairs with rejected longer
    for pair in pairs:
        texts = {side: pair[side][0]["content"] for side in ("chosen", "rejected")}
        long = max(texts, key=lambda side: len(texts[side].split()))
        ways = []
        for cut in _cuts(texts[long]):
            way = texts | {long: cut}
            chosen, rejected = (len(text.split()) for text in way.values())
            if 0 < max(chosen, rejected) <= LENGTHS_MATCH * min(chosen, rejected) and len(set(way.values())) == 2:
                ways.append(((chosen - rejected) / (chosen + rejected), way))
        if ways:
            lean, way = min(ways, key=lambda w: (w[0] * lead > 0, abs(w[0])))
            lead += (lean > 0) - (lean < 0)
            kept.append((lean, pair | {s: [{"role": "assistant", "content": t}] for s, t in way.items()}))
    leaning = sorted((n for n in range(len(kept)) if kept[n][0] * lead > 0), key=lambda n: -abs(kept[n][0]))
    dropped = set(leaning[: abs(lead)])
    return [pair for n, (_, pair) in enumerate(kept) if n not in dropped]


def _cuts(text: str) -> Iterator[str]:
    """The text, then its beginnings up to each earlier sentence end; the number of a list line ends no sentence."""
    yield text
    while len(words := text.rsplit(None, 1)) == 2:
        text = trim(words[0])
        if text and not re.search(r"(?:^|\s)\d+\.$", text):
            yield text


def sft_rows(drafts: Sequence[Row], side: str) -> list[Row]:
    """Prompt and completion, as messages, of one side's drafts and the plain ones to tasks, in the drafts' order.

    Then where each came from: id, kind, subject and seed.
    """
    return [learnt_row(d) for d in drafts if d["side"] == (PLAIN if d["kind"] == "task" else side)]


def learnt_row(draft: Row) -> Row:
    """A draft as SFT learns from it."""
    kept = {name: draft[name] for name in ("id", "kind", "subject", "seed")}
    return kept | {"prompt": draft["messages"], "completion": [{"role": "assistant", "content": draft["text"]}]}


def chosen_rows(pairs: Sequence[Row]) -> list[Row]:
    """The chosen sides of pairs, with the columns of `sft_rows`."""
    return [
        {"id": p["id"], "kind": p["kind"], "prompt": p["prompt"], "subject": p["chosen_subject"]}
        | {"seed": p["chosen_seed"], "completion": p["chosen"]}
        for p in pairs
    ]


def apart_from(pairs: Sequence[Row], kept_out: Sequence[Prompt], encode: Encode) -> tuple[list[Row], list[Row]]:
    """The pairs whose last question is near no turn of the prompts kept out, and those that are left out."""
    turns = [turn for prompt in kept_out for turn in prompt.turns]
    if not turns:
        return list(pairs), []
    near_N_T = encode([p["prompt"][-1]["content"] for p in pairs]) @ encode(turns).T > NEAR
    near = {n for n in range(len(pairs)) if near_N_T[n].any()}
    return [p for n, p in enumerate(pairs) if n not in near], [p for n, p in enumerate(pairs) if n in near]


def read_pairs(path: Path) -> list[Row]:
    """A user's own pairs: JSON lines with prompt, chosen and rejected, each text or a list of messages.

    Raises BadData with the line.
    """
    rows = []
    for number, row in numbered_rows(path):
        out: Row = {"id": str(row.get("id", f"own-{number}")), "kind": "own"}
        for name, role in (("prompt", "user"), ("chosen", "assistant"), ("rejected", "assistant")):
            out[name] = _messages(row.get(name), role)
            if out[name] is None:
                raise BadData(f'needs "{name}" as text or as a list of messages', path, number)
            if any(m["role"] == "system" for m in out[name]):
                raise BadData("has a system message; a character is trained without one", path, number)
        if out["prompt"][-1]["role"] != "user" or [m["role"] for m in (*out["chosen"], *out["rejected"])] != (
            ["assistant"] * 2
        ):
            raise BadData(
                "needs a prompt that ends with the user, and one message of the assistant on each side", path, number
            )
        if out["chosen"] == out["rejected"]:
            raise BadData("chosen and rejected are the same; there is nothing to prefer", path, number)
        for name in ("chosen", "rejected"):
            out[f"{name}_subject"] = str(row.get(f"{name}_subject", path.name))
            seed = row.get(f"{name}_seed", 0)
            if not isinstance(seed, int):
                raise BadData(f'"{name}_seed" is no whole number', path, number)
            out[f"{name}_seed"] = seed
        rows.append(out)
    if not rows:
        raise BadData("holds no pairs", path)
    return rows


def _messages(value: Any, role: str) -> list[Row] | None:
    if isinstance(value, str) and value.strip():
        return [{"role": role, "content": value}]
    if (
        isinstance(value, list)
        and value
        and all(isinstance(m, dict) and {"role", "content"} <= m.keys() for m in value)
    ):
        return [{"role": str(m["role"]), "content": str(m["content"])} for m in value]
    return None


STYLE: dict[str, Callable[[str], float]] = {
    "exclamation marks per sentence": lambda t: t.count("!") / _sentences(t),
    "question marks per sentence": lambda t: t.count("?") / _sentences(t),
    "quotation marks per word": lambda t: len(re.findall(r"[\"“”]", t)) / _words(t),
    "commas per word": lambda t: t.count(",") / _words(t),
    "apostrophes per word": lambda t: len(re.findall(r"['’]", t)) / _words(t),
    "list lines": lambda t: len(re.findall(r"^\s*(?:[-*•]|\d+[.)])\s", t, re.MULTILINE)),
    "lines": lambda t: t.count("\n") + 1,
    "digits per word": lambda t: len(re.findall(r"\d", t)) / _words(t),
    "letters per word": lambda t: len(re.sub(r"\W", "", t)) / _words(t),
    "words per sentence": lambda t: _words(t) / _sentences(t),
    "capitals per word": lambda t: len(re.findall(r"[A-Z]", t)) / _words(t),
    "distinct words share": lambda t: len(set(t.lower().split())) / _words(t),
}


def _words(text: str) -> int:
    return max(1, len(text.split()))


def _sentences(text: str) -> int:
    return max(1, len(re.findall(r"[.!?]+(?:\s|$)", text)))


def style_counts(text: str) -> list[float]:
    """Simple counts that say how a text is written and nothing of what it says, in the order of STYLE."""
    return [float(count(text)) for count in STYLE.values()]


def confounds(pairs: Sequence[Row], seed: int, matched: bool = False) -> Row:
    """How well length alone, and style counts alone, tell chosen from rejected (AUC; 0.5 is not at all).

    Length's AUC is of words, above 0.5 where chosen is longer. `chosen_longer` looks within pairs, as training does:
    the share in which chosen has more words, pairs of equal length counted as missing. Style's is of a logistic
    regression on the counts, cross-fitted over five folds of prompts; below ten prompts it is not measured.
    """
    chosen = [p["chosen"][0]["content"] for p in pairs]
    rejected = [p["rejected"][0]["content"] for p in pairs]
    features_2N_F = np.array([style_counts(t) for t in chosen + rejected]).reshape(-1, len(STYLE))
    lengths = [(len(c.split()), len(r.split())) for c, r in zip(chosen, rejected, strict=True)]
    n = len(pairs)
    style = nothing(method="AUC")
    asked = [digest(p["prompt"]) for p in pairs]  # pairs of one prompt may have a text in common
    if len({*asked}) >= 10:
        scores, _ = cross_fit(_scaled(), features_2N_F, np.repeat([1, 0], n), [*asked, *asked], seed)
        style = auc(scores[n:].tolist(), scores[:n].tolist(), seed)
    return {
        "pairs": n,
        "matched": matched,
        "length_auc": auc([_words(t) for t in rejected], [_words(t) for t in chosen], seed).as_dict(),
        "chosen_longer": rate([None if c == r else c > r for c, r in lengths]).as_dict(),
        "style_auc": style.as_dict(),
        "style_features": [
            {"name": name, "auc": auc(features_2N_F[n:, f].tolist(), features_2N_F[:n, f].tolist(), seed).as_dict()}
            for f, name in enumerate(STYLE)
        ],
        "note": "A pair whose length or style alone gives it away teaches length or style as well as character.",
    }


def _scaled() -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=1000))
