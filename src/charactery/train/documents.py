"""Documents among the rows of SFT: plain text without a chat template, with loss on every token but the first."""

from collections.abc import Sequence
from itertools import takewhile
from typing import Any

from charactery.models.chat import prompt_tokens
from charactery.runs import Row


def as_read(rows: Sequence[Row], tokenizer: Any) -> list[Row]:
    """Rows as TRL's SFTTrainer takes them: messages, or tokens where some rows are documents (without a prompt).

    TRL takes a data set of one sort only; the tokens are those it would make itself of each sort.
    """
    if all(row["prompt"] for row in rows):
        return [{name: row[name] for name in ("prompt", "completion")} for row in rows]
    return [_read(row, tokenizer) for row in rows]


def _read(row: Row, tokenizer: Any) -> Row:
    """Token ids and which of them are learnt."""
    if not row["prompt"]:
        ids = tokenizer(row["completion"][0]["content"] + tokenizer.eos_token)["input_ids"]
        return {"input_ids": ids, "completion_mask": [1] * len(ids)}
    prompt = prompt_tokens(tokenizer, row["prompt"])
    text = tokenizer.apply_chat_template([*row["prompt"], *row["completion"]], tokenize=False)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(prompt, ids, strict=False)))
    return {"input_ids": ids, "completion_mask": [0] * same + [1] * (len(ids) - same)}
