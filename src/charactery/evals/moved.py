"""What else moved: phrases and manners of the trained model that neither the plain nor the prompted model has.

Nobody has to list a side effect beforehand. What the character brings, the prompted model has as well; what is the
model's own, the plain one has; what is left came with training.
"""

import re
from collections.abc import Sequence

import numpy as np
from scipy import stats

from charactery.data.pairs import STYLE
from charactery.runs import Row
from charactery.stats import Estimate, mean, rate

ROLES = ("plain", "prompted", "trained")
WHERE = {"held-out": ("turn 1", "turn 3"), "elsewhere": ("elsewhere",)}  # every prompt once, so that rows are apart
LONGEST = 3  # words of a phrase
LEAST = 5  # answers of the trained model that a phrase must be in, to be tried at all
LEVEL = 0.05


def moved(rows: Sequence[Row], seed: int) -> Row:
    """What of the trained model's answers is clear of both the plain and the prompted model's.

    `rows` are those of samples.jsonl. A phrase is tried by the sign test on the prompts where one model's answer has it
    and the other's has not, a manner (counts that say how a text is written) by Wilcoxon's signed ranks; of the two
    comparisons the weaker counts, and the level of 5% is Holm's over all that was tried in one place.

    Returns `tried` (how many, by place) and `found`: name, kind, where, p, and by role an Estimate.
    """
    tried: dict[str, int] = {}
    found: list[Row] = []
    for where, conditions in WHERE.items():
        texts = _texts(rows, conditions)
        ids = sorted(set.intersection(*({*texts[role]} for role in ROLES)))
        if len(ids) < LEAST:
            continue
        answers = {role: [texts[role][id] for id in ids] for role in ROLES}
        every = [*_phrases(answers), *_manners(answers, seed)]
        tried[where] = len(every)
        found += [row | {"where": where} for row in _clear(every)]
    return {"tried": tried, "found": found}


def _texts(rows: Sequence[Row], conditions: Sequence[str]) -> dict[str, dict[str, str]]:
    out: dict[str, dict[str, str]] = {role: {} for role in ROLES}
    for r in rows:
        if r["eval"] == "expression" and r["condition"] in conditions and r["subject"] in ROLES and r["answer"]:
            out[r["subject"]][f"{r['condition']} {r['id']}"] = r["answer"]
    return out


def grams(text: str) -> set[str]:
    """The phrases of one to three words in a text."""
    words = re.findall(r"[\w'’]+", text.lower())
    return {" ".join(words[n : n + size]) for size in range(1, LONGEST + 1) for n in range(len(words) - size + 1)}


def _phrases(answers: dict[str, list[str]]) -> list[Row]:
    held = {role: [grams(text) for text in texts] for role, texts in answers.items()}
    out = []
    for phrase in sorted(set().union(*held["trained"])):
        has = {role: np.array([phrase in one for one in sets]) for role, sets in held.items()}
        if has["trained"].sum() >= LEAST:
            p = max(_more(has["trained"], has[role]) for role in ROLES[:2])
            out.append({"name": phrase, "kind": "phrase", "p": p, "has": has})
    return out


def _more(here: np.ndarray, there: np.ndarray) -> float:
    """One-sided sign test that a phrase is in more of the answers here."""
    gained, lost = int((here & ~there).sum()), int((there & ~here).sum())
    return float(stats.binom.sf(gained - 1, gained + lost, 0.5)) if gained else 1.0


def _manners(answers: dict[str, list[str]], seed: int) -> list[Row]:
    out = []
    for name, count in STYLE.items():
        values = {role: np.array([float(count(text)) for text in texts]) for role, texts in answers.items()}
        apart = [values["trained"] - values[role] for role in ROLES[:2]]
        same_way = apart[0].mean() * apart[1].mean() > 0
        p = max(float(stats.wilcoxon(d).pvalue) if d.any() else 1.0 for d in apart) if same_way else 1.0
        estimates = {role: mean(values[role].tolist(), seed) for role in ROLES}
        out.append({"name": name, "kind": "manner", "p": p, "estimates": estimates})
    return out


def _clear(every: list[Row]) -> list[Row]:
    """What Holm's procedure leaves standing, the clearest first; of phrases in the same answers one alone."""
    out: list[Row] = []
    for rank, row in enumerate(sorted(every, key=lambda row: (row["p"], -len(row["name"])))):
        if row["p"] > LEVEL / (len(every) - rank):
            break
        if "has" not in row or not any(_alike(row, kept) for kept in out if "has" in kept):
            out.append(row)
    return [
        {
            "name": row["name"], "kind": row["kind"], "p": row["p"],
            **{role: _estimate(row, role).as_dict() for role in ROLES},
        }
        for row in out
    ]  # fmt: skip


def _alike(a: Row, b: Row) -> bool:
    """Whether two phrases are in the same answers, all but a fifth, as parts of one saying are."""
    here, there = a["has"]["trained"], b["has"]["trained"]
    return bool((here & there).sum() >= 0.8 * min(here.sum(), there.sum()))


def _estimate(row: Row, role: str) -> Estimate:
    one: Estimate = rate([bool(v) for v in row["has"][role]]) if "has" in row else row["estimates"][role]
    return one
