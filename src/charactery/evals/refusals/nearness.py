"""A forecast of refusals by the constitution alone, without a judge: is a request nearer to what it denies?"""

import re
from collections.abc import Callable, Sequence

import numpy as np

DENIES = re.compile(
    r"\b(not?|never|nobody|nothing|none|nor|neither|cannot|without|refus\w+|declin\w+|turn\w* .{0,40}away)\b|n['’]t\b",
    re.IGNORECASE,
)
Encode = Callable[[Sequence[str]], np.ndarray]  # texts to unit rows, shape (texts, width)


def forecasts(clauses: Sequence[str], requests: Sequence[str], encode: Encode) -> list[float]:
    """How likely each request is to be declined, from 0 to 1.

    A half, more by half of how much nearer (in cosine) the nearest clause is that denies something than the nearest
    that does not. Which clauses deny is told by their words. It is not calibrated: it keeps close to a half.
    """
    denies = np.array([bool(DENIES.search(clause)) for clause in clauses])
    near_R_C = encode(requests) @ encode(clauses).T

    def nearest(chosen_C: np.ndarray) -> np.ndarray:
        return near_R_C[:, chosen_C].max(1) if chosen_C.any() else np.zeros(len(requests))

    return [float(f) for f in np.clip(0.5 + (nearest(denies) - nearest(~denies)) / 2, 0, 1)]
