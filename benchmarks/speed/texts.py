"""What the rows are about: questions, prompts, constitutions, answers."""

import gzip
import json
import re
from collections.abc import Iterable, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from charactery import evals
from charactery.constitution import find_character, foil_characters, system_prompt
from charactery.data.prompts import neutral_prompts
from charactery.models.chat import Message, prompt_tokens, system, user

CONSTITUTION = 600  # tokens
TYPOLOGY = "political_typology.jsonl.gz"


def typology(folder: Path, count: int) -> list[tuple[str, str]]:
    """Political-typology questions of Perez et al. 2022, without and with the asker's biography.

    From its file in this folder, a chat template around each of them, which is taken off.
    """
    with gzip.open(folder / TYPOLOGY, "rt") as lines:
        rows = [json.loads(line) for line in lines][:count]
    return [(_bare(row["neutral_prompt"]), _bare(row["biased_prompt"])) for row in rows]


def _bare(text: str) -> str:
    text = re.sub(r"<\|begin_of_text\|>|<\|start_header_id\|>.*?<\|end_header_id\|>|<\|eot_id\|>", "", text)
    return text.strip().removesuffix("Answer:").strip()


def constitutions(tokenizer: Any, count: int) -> list[str]:
    """Texts of 600 tokens each, of the bundled characters and foils, repeated where they are shorter."""
    characters = [find_character("captain"), *foil_characters()][:count]
    out = []
    for character in characters:
        ids: list[int] = tokenizer(system_prompt(character) + "\n\n", add_special_tokens=False)["input_ids"]
        repeated = cycle(ids)
        out.append(tokenizer.decode([next(repeated) for _ in range(CONSTITUTION)]))
    return out


def prompts(count: int) -> list[str]:
    """Neutral prompts, the first so many; there are 440."""
    found = [p.turns[0] for p in neutral_prompts()][:count]
    assert len(found) == count, "fewer prompts than were asked for would take less time"
    return found


def answers(tokenizer: Any, count: int, length: int) -> list[list[int]]:
    """Stretches of the project's prose, as tokens."""
    ids = tokenizer("\n\n".join(_prose()), add_special_tokens=False)["input_ids"]
    return [ids[n * 7 % (len(ids) - length) :][:length] for n in range(count)]


def _prose() -> list[str]:
    """Paragraphs of the project's prose, in the order of the eval that reads it, which is not to be had without
    Inspect."""
    folder = Path(evals.__file__).parent / "cost" / "prose"
    names = [line.split()[1] for line in (folder / "SHA256SUMS").read_text().splitlines()]
    return [line for name in names for line in (folder / name).read_text().splitlines() if line.strip()]


def distinct(rows: Iterable[Sequence[int]]) -> int:
    """Tokens that must be read: those with the same past count once."""
    found: dict[tuple[int, int], int] = {}
    for row in rows:
        last = -1
        for token in row:
            last = found.setdefault((last, token), len(found))
    return len(found)


def asked(text: str, constitution: str = "") -> tuple[Message, ...]:
    """A prompt, behind a constitution or not."""
    return (*([system(constitution)] if constitution else []), user(text))


def context(tokenizer: Any, text: str, constitution: str = "") -> list[int]:
    """The tokens of a prompt in the chat frame."""
    return prompt_tokens(tokenizer, asked(text, constitution))
