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


def prompt_text(tokenizer: Any, messages: Sequence[Message], prefill: str = "") -> str:
    """The text a model reads before it answers `messages`, by the tokenizer's chat template; with `prefill` the
    beginning of the answer, too, which it then goes on with."""
    text = str(tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True))
    if not prefill:
        return text
    return f"{text}{'' if _open_ended(tokenizer, _tokens(tokenizer, text)) else ' '}{prefill}"


def prompt_tokens(tokenizer: Any, messages: Sequence[Message], prefill: str = "") -> list[int]:
    """The same as token ids. The template writes its own special tokens, so none are added."""
    return _tokens(tokenizer, prompt_text(tokenizer, messages, prefill))


def _tokens(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def _open_ended(tokenizer: Any, prompt: Sequence[int]) -> bool:
    """Whether a reply follows these prompt ids without a space."""
    return prompt[-1] in tokenizer.added_tokens_decoder or bool(tokenizer.decode([prompt[-1]])[-1:].isspace())


def reply_tokens(tokenizer: Any, prompt: Sequence[int], text: str) -> list[int]:
    """Token ids of a reply to be scored after these prompt ids.

    A frame that ends in a word or a colon (`Assistant:`) is followed by a space, one that ends in white space or in a
    token of its own is not.
    """
    return _tokens(tokenizer, text if _open_ended(tokenizer, prompt) else f" {text}")


def plain_system(tokenizer: Any) -> str:
    """What the template itself says before a lone user turn, for the report: plain is not always nothing."""
    text = prompt_text(tokenizer, [user("\x00")])
    return text.split("\x00")[0]
