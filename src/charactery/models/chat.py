"""One path from messages to tokens, for data, training, evals and talk alike."""

from collections.abc import Sequence
from typing import Any, TypedDict

ROLES = ("system", "user", "assistant")


class Message(TypedDict):
    """One turn: `role` is system, user or assistant."""

    role: str
    content: str


def user(text: str) -> Message:
    """A user's turn."""
    return {"role": "user", "content": text}


def assistant(text: str) -> Message:
    """The model's turn."""
    return {"role": "assistant", "content": text}


def system(text: str) -> Message:
    """A system message."""
    return {"role": "system", "content": text}


# A dialogue frame for base models, which have no chat template of their own.
BASE_TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}\n\n"
    "{% else %}{{ 'User' if m.role == 'user' else 'Assistant' }}: {{ m.content }}"
    "{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}{{ '\n\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)


def prompt_text(tokenizer: Any, messages: Sequence[Message]) -> str:
    """The text a model reads before it answers `messages`, by the tokenizer's chat template."""
    return str(tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True))


def prompt_tokens(tokenizer: Any, messages: Sequence[Message]) -> list[int]:
    """The same as token ids. The template writes its own special tokens, so none are added."""
    ids: list[int] = tokenizer(prompt_text(tokenizer, messages), add_special_tokens=False)["input_ids"]
    return ids


def reply_tokens(tokenizer: Any, prompt: Sequence[int], text: str) -> list[int]:
    """Token ids of a reply to be scored after these prompt ids.

    A frame that ends in a word or a colon (`Assistant:`) is followed by a space, one that ends in white space or in a
    token of its own is not.
    """
    last = prompt[-1]
    open_ended = last in tokenizer.added_tokens_decoder or tokenizer.decode([last])[-1:].isspace()
    ids: list[int] = tokenizer(text if open_ended else f" {text}", add_special_tokens=False)["input_ids"]
    return ids


def plain_system(tokenizer: Any) -> str:
    """What the template itself says before a lone user turn, for the report: plain is not always nothing."""
    text = prompt_text(tokenizer, [user("\x00")])
    return text.split("\x00")[0]
