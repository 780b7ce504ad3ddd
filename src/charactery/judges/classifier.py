"""The classifier judge: is this answer more like the prompted model's or the plain one's?

Trained per run on prompted against plain answers to the training prompts, over sentence embeddings and words,
cross-fitted by prompt. Its threshold is set on plain answers that were outside the fit, so that one in twenty passes.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from charactery.errors import BadData
from charactery.runs import Row, write_json
from charactery.stats import Estimate, auc

FALSE_POSITIVES = 0.05
LEAST = 20  # answers a side to be fitted on
Encode = Callable[[Sequence[str]], np.ndarray]


class Word(NamedTuple):
    """A word that the judge reads: its inverse document frequency, and what its TF-IDF adds to the log-odds."""

    text: str
    idf: float
    weight: float


@dataclass(frozen=True)
class ClassifierJudge:
    """A linear judge of an answer's sentence embedding (`weights`) and the TF-IDF of its words (`words`).

    In character is where the log-odds, with the bias, exceed the threshold. `auc` is of cross-fitted scores on the
    drafts, `length_auc` that of the answer's length alone on the same drafts.
    """

    weights: tuple[float, ...]
    words: tuple[Word, ...]
    bias: float
    threshold: float
    auc: Estimate
    length_auc: Estimate

    def log_odds(self, texts: Sequence[str], encode: Encode) -> np.ndarray:
        """Log-odds of being in character, less the threshold: above 0 is in character. Shape (len(texts),)."""
        embedded_N = encode(texts) @ np.asarray(self.weights)
        worded_N = tfidf(texts, {w.text: w.idf for w in self.words}) @ np.array([w.weight for w in self.words])
        return np.asarray(embedded_N + worded_N + self.bias - self.threshold)

    def telling_words(self, most: int = 10) -> tuple[list[str], list[str]]:
        """The words that speak most for the character and those that speak most against it, strongest first.

        Strength is what a word adds over all answers, so a rare one must weigh much to be told.
        """
        ordered = sorted(self.words, key=lambda w: w.weight * w.idf * math.exp(-w.idf))  # exp(-idf): share that say it
        against, mine = [w.text for w in ordered if w.weight < 0], [w.text for w in ordered[::-1] if w.weight > 0]
        return mine[:most], against[:most]

    def save(self, path: Path) -> None:
        """Write as JSON."""
        write_json(path, {
            "weights": list(self.weights), "bias": self.bias, "threshold": self.threshold,
            "auc": self.auc.as_dict(), "length_auc": self.length_auc.as_dict(),
            "words": {w.text: {"idf": w.idf, "weight": w.weight} for w in self.words},
        })  # fmt: skip

    @classmethod
    def from_row(cls, row: Row) -> "ClassifierJudge":
        """The judge that `save` wrote. Without words it is one of embeddings alone."""
        estimates = {name: Estimate(**row[name]) for name in ("auc", "length_auc")}
        words = tuple(Word(text, **numbers) for text, numbers in row.get("words", {}).items())
        return cls(tuple(row["weights"]), words, row["bias"], row["threshold"], **estimates)


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
    """The model behind the judge and the picker of drafts: logistic regression, sides weighed alike."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=10.0, class_weight="balanced", max_iter=2000)


def cross_fit(
    model: Any, features_N_F: Any, labels_N: np.ndarray, groups_N: Sequence[Any], seed: int
) -> tuple[np.ndarray, list[Any]]:
    """Each row's log-odds by a fit on the other folds (five, a group never split), shape (N,), and the fits.

    The features may be dense or sparse.
    """
    from sklearn.base import clone
    from sklearn.model_selection import GroupKFold

    folds = GroupKFold(min(5, len(set(groups_N))), shuffle=True, random_state=seed)
    scores_N, fits = np.zeros(len(labels_N)), []
    for fit, rest in folds.split(features_N_F, labels_N, groups_N):
        fits.append(clone(model).fit(features_N_F[fit], labels_N[fit]))
        scores_N[rest] = fits[-1].decision_function(features_N_F[rest])
    return scores_N, fits


def learn_words(texts: Sequence[str]) -> dict[str, float]:
    """The words that occur in at least two of the texts, in alphabetical order, with their idf; perhaps none."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    reader = TfidfVectorizer(sublinear_tf=True, min_df=2)
    try:
        reader.fit(texts)
    except ValueError:  # no word at all, or none twice
        return {}
    return dict(zip(reader.get_feature_names_out().tolist(), reader.idf_.tolist(), strict=True))


def tfidf(texts: Sequence[str], idf: dict[str, float]) -> Any:
    """How much each text says each word: 1 + log of its count, times its idf, rows of unit length; sparse, (N, V)."""
    from scipy.sparse import csr_array
    from sklearn.feature_extraction.text import TfidfVectorizer

    if not texts or not idf:  # which scikit-learn refuses
        return csr_array((len(texts), len(idf)))
    reader = TfidfVectorizer(sublinear_tf=True, vocabulary=list(idf))
    reader.idf_ = np.array(list(idf.values()))
    return reader.transform(texts)


def fit_classifier(drafts: Sequence[Row], positive: str, negative: str, encode: Encode, seed: int) -> ClassifierJudge:
    """Fit on drafts of two sides (`positive` and `negative` name them).

    Five folds by prompt give every draft a score from a fit that did not see its prompt; the threshold is the
    smallest that lets at most 5% of the plain ones pass. The judge kept is the mean of the five fits, so that it is
    the one the threshold was set on. For fits to have a mean, their features must be the same: the words and their idf
    come from all drafts of both sides, without a look at which side is which. Raises BadData below 20 drafts a side.
    """
    from scipy.sparse import csr_array, hstack

    rows = check_drafts(drafts, positive, negative)
    labels_N = np.array([d["side"] == positive for d in rows])
    texts = [d["text"] for d in rows]
    vectors_N_D, idf = encode(texts), learn_words(texts)
    features_N_F = hstack([csr_array(vectors_N_D), tfidf(texts, idf)]).tocsr()
    scores_N, fits = cross_fit(linear(), features_N_F, labels_N, [d["id"] for d in rows], seed)
    weights_D, weights_V = np.split(np.mean([m.coef_[0] for m in fits], axis=0), [vectors_N_D.shape[1]])
    plain = np.sort(scores_N[~labels_N])[::-1]
    allowed = math.floor(FALSE_POSITIVES * len(plain))
    lengths = np.array([len(text.split()) for text in texts], dtype=float)
    return ClassifierJudge(
        tuple(weights_D.tolist()),
        tuple(Word(*word) for word in zip(idf, idf.values(), weights_V.tolist(), strict=True)),
        float(np.mean([m.intercept_[0] for m in fits])),
        float(plain[allowed]),
        auc(scores_N[~labels_N].tolist(), scores_N[labels_N].tolist(), seed),
        auc(lengths[~labels_N].tolist(), lengths[labels_N].tolist(), seed),
    )
