"""Reasoning left free: what stands between its marks is neither learnt from nor judged."""

import re
from collections.abc import Callable
from typing import Any

import torch

MARKS = ("think", "thinking", "reasoning")  # <think> … </think>; what is never closed goes to the end
REASONING = re.compile(r"<({})>.*?(?:</\1>|\Z)".format("|".join(MARKS)), re.DOTALL)

Batch = dict[str, Any]


def without_reasoning(text: str) -> str:
    """A text with its reasoning taken out."""
    return REASONING.sub("", text).strip()


def reasoned(ids: list[int], tokenizer: Any) -> list[bool]:
    """Of each token, whether any of it is reasoning, the marks among it."""
    pieces = tokenizer.batch_decode([[i] for i in ids], clean_up_tokenization_spaces=False)
    inside = [False] * len(ids)
    spans = [match.span() for match in REASONING.finditer("".join(pieces))]
    start = 0
    for n, piece in enumerate(pieces):
        end = start + len(piece)
        inside[n] = any(start < to and end > since for since, to in spans)
        start = end
    return inside


def leaving_reasoning(collate: Callable[[list[Any]], Batch], tokenizer: Any) -> Callable[[list[Any]], Batch]:
    """A collator whose batches have no loss on the reasoning in completions: TRL's `labels` and `completion_mask`."""

    def collated(rows: list[Any]) -> Batch:
        batch = collate(rows)
        for before in ("", "KL_"):
            ids: Any
            mask: Any
            labels: Any
            ids, mask, labels = (batch.get(f"{before}{key}") for key in ("input_ids", "completion_mask", "labels"))
            for n in range(len(ids) if ids is not None else 0):
                learnt = mask[n] != 0 if mask is not None else labels[n] != -100
                places = learnt.nonzero()[:, 0]  # of the completion alone: a prompt's marks do not open one here
                free = places[torch.tensor(reasoned(ids[n][places].tolist(), tokenizer), dtype=torch.bool)]
                if mask is not None:
                    mask[n, free] = 0
                if labels is not None:
                    labels[n, free] = -100
        return batch

    return collated
