"""The classifier judge: is this answer more like the prompted model's, or like the plain one's and other characters'?

Trained per run on answers to the training prompts, over sentence embeddings, cross-fitted by prompt. Its threshold is
set on plain answers, and on other characters', that were outside the fit: at most one in twenty of either passes. Of a
character that is not among them, more may: the controls of a run say how many.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from charactery.errors import BadData
from charactery.runs import Row, write_json
from charactery.stats import Estimate, auc

FALSE_POSITIVES = 0.05
OTHERS = "another character"  # the side of those who are neither the character nor plain
SHUFFLED = "constitution shuffled"  # the likelihood judge's own control: the character's and its foils' words so
BESIDE_OTHERS = "prompted beside another character"  # its prompted answers by the evidence that OTHERS is read by
LEAST = 20  # answers a side to be fitted on
Encode = Callable[[Sequence[str]], np.ndarray]


@dataclass(frozen=True)
class ClassifierJudge:
    """A linear judge over embeddings: in character where weights · embedding + bias exceeds the threshold.

    `auc` is of cross-fitted scores, by the side that the character's answers are told from; `length_auc` is that of an
    answer's length alone, against the first of those sides. `begun` is of a run that leaves reasoning free, which this
    judge does not hear then: the mark that the chat template opens before an answer (`left_open`), or "".
    """

    weights: tuple[float, ...]
    bias: float
    threshold: float
    auc: dict[str, Estimate]
    length_auc: Estimate
    begun: str | None = None

    def hear(self, texts: Sequence[str], encode: Encode) -> list[float | None]:
        """Log-odds of being in character of each answer, as below; None where nothing of it is to be heard."""
        heard = [heard_of(text, self.begun) for text in texts]
        spoken = sorted({text for text in heard if text})
        odds = dict(zip(spoken, self.log_odds(encode(spoken)).tolist(), strict=True)) if spoken else {}
        return [odds.get(text) for text in heard]

    def log_odds(self, embeddings_N_D: np.ndarray) -> np.ndarray:
        """Log-odds of being in character, less the threshold: above 0 is in character. Shape (N,)."""
        return np.asarray(embeddings_N_D @ np.asarray(self.weights) + self.bias - self.threshold)

    def save(self, path: Path) -> None:
        """Write as JSON."""
        write_json(path, {
            "weights": list(self.weights), "bias": self.bias, "threshold": self.threshold,
            "auc": {side: e.as_dict() for side, e in self.auc.items()}, "length_auc": self.length_auc.as_dict(),
            "begun": self.begun,
        })  # fmt: skip

    @classmethod
    def from_row(cls, row: Row) -> "ClassifierJudge":
        """The judge that `save` wrote."""
        aucs, by_length = {side: Estimate(**e) for side, e in row["auc"].items()}, Estimate(**row["length_auc"])
        return cls(tuple(row["weights"]), row["bias"], row["threshold"], aucs, by_length, row.get("begun"))


def heard_of(text: str, begun: str | None) -> str:
    """What this judge hears of an answer: all, or where `begun` is not None, what is left of it without reasoning."""
    from charactery.models.reasoning import without_reasoning

    return text.strip() if begun is None else without_reasoning(text, begun)


def check_drafts(drafts: Sequence[Row], positive: str, negative: str, begun: str | None = None) -> list[Row]:
    """The drafts of either side. Raises BadData below 20 a side; `begun` as the judge's."""
    rows = [d for d in drafts if d["side"] in (positive, negative)]
    many, few = (sum(d["side"] == side for d in rows) for side in (positive, negative))
    if min(many, few) < LEAST:
        more, longer = "ask for more training prompts (--train)", "let answers be longer (--max-tokens)"
        raise BadData(
            f"the classifier judge needs {LEAST} drafts a side and has {many} in character and {few} plain; "
            + (more if begun is None else f"what is reasoning alone does not count: {longer}")
        )
    return rows


def linear() -> Any:
    """The model behind the judge: logistic regression on embeddings of unit length, sides weighed alike."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=10.0, class_weight="balanced", max_iter=2000)


def cross_fit(
    model: Any, features_N_F: np.ndarray, labels_N: np.ndarray, groups_N: Sequence[Any], seed: int
) -> tuple[np.ndarray, list[Any]]:
    """Each row's log-odds by a fit on the other folds (five, a group never split), shape (N,), and the fits."""
    from sklearn.base import clone
    from sklearn.model_selection import GroupKFold

    folds = GroupKFold(min(5, len(set(groups_N))), shuffle=True, random_state=seed)
    scores_N, fits = np.zeros(len(labels_N)), []
    for fit, rest in folds.split(features_N_F, labels_N, groups_N):
        fits.append(clone(model).fit(features_N_F[fit], labels_N[fit]))
        scores_N[rest] = fits[-1].decision_function(features_N_F[rest])
    return scores_N, fits


def fit_classifier(
    drafts: Sequence[Row],
    positive: str,
    negatives: Sequence[str],
    encode: Encode,
    seed: int,
    begun: str | None = None,
) -> ClassifierJudge:
    """Fit on answers of the side `positive` against those of `negatives`, the plain side first; `begun` as the judge's.

    Five folds by prompt give every answer a score from a fit that did not see its prompt; the threshold is the
    smallest that lets at most 5% of each negative side pass. The judge kept is the mean of the five fits, so that it
    is the one the threshold was set on. Raises BadData below 20 answers of the positive or the first negative side.
    """
    heard = [draft | {"text": heard_of(draft["text"], begun)} for draft in drafts]
    rows = [row for row in heard if row["side"] in (positive, *negatives) and row["text"]]
    check_drafts(rows, positive, negatives[0], begun)
    labels_N = np.array([d["side"] == positive for d in rows])
    vectors_N_D = encode([d["text"] for d in rows])
    scores_N, fits = cross_fit(linear(), vectors_N_D, labels_N, [d["id"] for d in rows], seed)
    by_side = {side: scores_N[[d["side"] == side for d in rows]] for side in (positive, *negatives)}
    told_from = [side for side in negatives if len(by_side[side])]
    thresholds = [np.sort(by_side[s])[::-1][math.floor(FALSE_POSITIVES * len(by_side[s]))] for s in told_from]
    lengths = {s: [float(len(d["text"].split())) for d in rows if d["side"] == s] for s in (positive, negatives[0])}
    return ClassifierJudge(
        tuple(np.mean([m.coef_[0] for m in fits], axis=0).tolist()),
        float(np.mean([m.intercept_[0] for m in fits])),
        float(max(thresholds)),
        {side: auc(by_side[side].tolist(), by_side[positive].tolist(), seed) for side in told_from},
        auc(lengths[negatives[0]], lengths[positive], seed),
        begun,
    )
