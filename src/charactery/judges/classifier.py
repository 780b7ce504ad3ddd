"""The classifier judge: is this answer more like the prompted model's or the plain one's?

Trained per run on prompted against plain answers to the training prompts, over sentence embeddings, cross-fitted by
prompt. Its threshold is set on plain answers that were outside the fit, so that one in twenty of them passes.
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
LEAST = 20  # answers a side to be fitted on
Encode = Callable[[Sequence[str]], np.ndarray]


@dataclass(frozen=True)
class ClassifierJudge:
    """A linear judge over embeddings: in character where weights · embedding + bias exceeds the threshold.

    `auc` is of cross-fitted scores on the drafts, `length_auc` that of the answer's length alone on the same drafts.
    """

    weights: tuple[float, ...]
    bias: float
    threshold: float
    auc: Estimate
    length_auc: Estimate

    def log_odds(self, embeddings_N_D: np.ndarray) -> np.ndarray:
        """Log-odds of being in character, less the threshold: above 0 is in character. Shape (N,)."""
        return np.asarray(embeddings_N_D @ np.asarray(self.weights) + self.bias - self.threshold)

    def save(self, path: Path) -> None:
        """Write as JSON."""
        write_json(path, {
            "weights": list(self.weights), "bias": self.bias, "threshold": self.threshold,
            "auc": self.auc.as_dict(), "length_auc": self.length_auc.as_dict(),
        })  # fmt: skip

    @classmethod
    def from_row(cls, row: Row) -> "ClassifierJudge":
        """The judge that `save` wrote."""
        estimates = {name: Estimate(**row[name]) for name in ("auc", "length_auc")}
        return cls(tuple(row["weights"]), row["bias"], row["threshold"], **estimates)


def check_drafts(drafts: Sequence[Row], positive: str, negative: str) -> list[Row]:
    """The drafts of either side. Raises BadData below 20 a side."""
    rows = [d for d in drafts if d["side"] in (positive, negative)]
    many, few = (sum(d["side"] == side for d in rows) for side in (positive, negative))
    if min(many, few) < LEAST:
        raise BadData(
            f"the classifier judge needs {LEAST} drafts a side and has {many} in character and {few} plain; "
            "ask for more training prompts (--train)"
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


def fit_classifier(drafts: Sequence[Row], positive: str, negative: str, encode: Encode, seed: int) -> ClassifierJudge:
    """Fit on drafts of two sides (`positive` and `negative` name them).

    Five folds by prompt give every draft a score from a fit that did not see its prompt; the threshold is the
    smallest that lets at most 5% of the plain ones pass. The judge kept is the mean of the five fits, so that it is
    the one the threshold was set on. Raises BadData below 20 drafts a side.
    """
    rows = check_drafts(drafts, positive, negative)
    labels_N = np.array([d["side"] == positive for d in rows])
    vectors_N_D = encode([d["text"] for d in rows])
    scores_N, fits = cross_fit(linear(), vectors_N_D, labels_N, [d["id"] for d in rows], seed)
    plain = np.sort(scores_N[~labels_N])[::-1]
    allowed = math.floor(FALSE_POSITIVES * len(plain))
    lengths = np.array([len(d["text"].split()) for d in rows], dtype=float)
    return ClassifierJudge(
        tuple(np.mean([m.coef_[0] for m in fits], axis=0).tolist()),
        float(np.mean([m.intercept_[0] for m in fits])),
        float(plain[allowed]),
        auc(scores_N[~labels_N].tolist(), scores_N[labels_N].tolist(), seed),
        auc(lengths[~labels_N].tolist(), lengths[labels_N].tolist(), seed),
    )
