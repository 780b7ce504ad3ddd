"""Reasoning left free: what stands between its marks is neither learnt from nor judged."""

import re
from collections.abc import Callable, Iterable
from typing import Any

import torch

from charactery.models.chat import prompt_text, user

MARKS = "think|thinking|reasoning"  # <think> … </think>; what is never closed goes to the end
REASONING = re.compile(rf"<({MARKS})>.*?(?:</\1>|\Z)", re.DOTALL)
LEFT_OPEN = re.compile(rf"<({MARKS})>(?:(?!</\1>).)*\Z", re.DOTALL)
CLOSED_UNOPENED = re.compile(rf"(?:(?!<(?:{MARKS})>).)*?</({MARKS})>", re.DOTALL)

Batch = dict[str, Any]


def left_open(tokenizer: Any) -> str:
    """What the chat template puts before an answer from a mark on that it opens, such as "<think>\n"; "" for none.

    And "" where its closing mark is a special token, which an answer's text is without: all of it would be inside.
    """
    frame = prompt_text(tokenizer, [user("\x00")]).rpartition("\x00")[2]
    found = LEFT_OPEN.search(frame)
    return found[0] if found and f"</{found[1]}>" not in tokenizer.all_special_tokens else ""


def without_reasoning(text: str, begun: str = "") -> str:
    """A text with its reasoning taken out. `begun` is the mark, and what follows it, that was opened before the text.

    A text that closes a mark it did not open began inside, as those of servers do whose template opened it.
    """
    return REASONING.sub("", (begun or _unopened(text)) + text).strip()


def _unopened(text: str) -> str:
    closed = CLOSED_UNOPENED.match(text)
    return f"<{closed[1]}>" if closed else ""


def reasoned(ids: list[int], tokenizer: Any, begun: str = "") -> list[bool]:
    """Of each token, whether any of it is reasoning, the marks among it; `begun` as above."""
    pieces = tokenizer.batch_decode([[i] for i in ids], clean_up_tokenization_spaces=False)
    text = "".join(pieces)
    begun = begun or _unopened(text)
    inside = [False] * len(ids)
    spans = [match.span() for match in REASONING.finditer(begun + text)]
    start = len(begun)
    for n, piece in enumerate(pieces):
        end = start + len(piece)
        inside[n] = any(start < to and end > since for since, to in spans)
        start = end
    return inside


def leaving_reasoning(collate: Callable[[list[Any]], Batch], tokenizer: Any) -> Callable[[list[Any]], Batch]:
    """A collator whose batches have no loss on the reasoning in completions: TRL's `labels` and `completion_mask`."""
    frame = left_open(tokenizer)

    def begun(before: list[int]) -> str:
        """The frame's open mark, where it is what these tokens end in: not every template keeps it before a reply."""
        text = tokenizer.decode(before[-len(frame.encode()) :]) if frame else ""
        return frame if frame and text.rstrip().endswith(frame.rstrip()) else ""

    def collated(rows: list[Any]) -> Batch:
        batch = collate(rows)
        for before in ("", "KL_"):
            ids: Any
            mask: Any
            labels: Any
            ids, mask, labels = (batch.get(f"{before}{key}") for key in ("input_ids", "completion_mask", "labels"))
            for n in range(len(ids) if ids is not None else 0):
                learnt = mask[n] != 0 if mask is not None else labels[n] != -100
                places = learnt.nonzero()[:, 0]  # of the completion alone: what a prompt says does not open a mark here
                inside = reasoned(ids[n][places].tolist(), tokenizer, begun(ids[n][: learnt.int().argmax()].tolist()))
                free = places[torch.tensor(inside, dtype=torch.bool)]
                if mask is not None:
                    mask[n, free] = 0
                if labels is not None:
                    labels[n, free] = -100
        return batch

    return collated


def leaves_something(collated: Callable[[list[Any]], Batch], rows: Iterable[Any]) -> bool:
    """Whether any completion of these rows has a token that a batch has loss on."""
    for row in rows:
        batch = collated([row])
        mask, labels = batch.get("completion_mask"), batch.get("labels")
        if (mask is not None and mask.any()) or (mask is None and labels is not None and (labels != -100).any()):
            return True
    return False
