"""One path from messages to tokens, for data, training, evals and talk alike."""

from collections.abc import Sequence
from typing import Any, TypedDict

from jinja2 import TemplateError

from charactery.errors import CharacteryError

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
BEGIN = "{{ bos_token }}"


def base_template(tokenizer: Any) -> str:
    """The frame for a model without a chat template, begun as its tokenizer begins every text.

    What the frame makes is tokenized without special tokens, and many base models are lost without their first.
    """
    begun = tokenizer.bos_token_id is not None and tokenizer("x")["input_ids"][:1] == [tokenizer.bos_token_id]
    return f"{BEGIN}{BASE_TEMPLATE}" if begun else BASE_TEMPLATE


def prompt_text(tokenizer: Any, messages: Sequence[Message], prefill: str = "") -> str:
    """The text a model reads before it answers `messages`, by the tokenizer's chat template; with `prefill` the
    beginning of the answer, too, which it then goes on with.

    Where the template refuses a system message, that stands at the head of the first user turn. Raises CharacteryError
    for messages that the template refuses all the same.
    """
    text = _rendered(tokenizer, messages)
    if not prefill:
        return text
    return f"{text}{'' if _open_ended(tokenizer, _tokens(tokenizer, text)) else ' '}{prefill}"


def prompt_tokens(tokenizer: Any, messages: Sequence[Message], prefill: str = "") -> list[int]:
    """The same as token ids. The template writes its own special tokens, so none are added."""
    return _tokens(tokenizer, prompt_text(tokenizer, messages, prefill))


def _rendered(tokenizer: Any, messages: Sequence[Message]) -> str:
    refused: TemplateError | None = None
    for read in (list(messages), _folded(messages)):
        try:
            return str(tokenizer.apply_chat_template(read, tokenize=False, add_generation_prompt=True))
        except TemplateError as error:
            refused = refused or error
    raise CharacteryError(
        f"the chat template of {tokenizer.name_or_path or 'the model'} does not take a conversation of "
        f"{', '.join(m['role'] for m in messages)} ({refused}); leave out what it refuses, or take another model"
    ) from refused


def _folded(messages: Sequence[Message]) -> list[Message]:
    """Messages with the system message at the head of the first user turn: Gemma 2 has no system turn."""
    if [m["role"] for m in messages[:2]] != ["system", "user"]:
        return list(messages)
    first, second, *rest = messages
    return [user(f"{first['content']}\n\n{second['content']}"), *rest]


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
    said = prompt_text(tokenizer, [user("\x00")]).split("\x00")[0]
    return said.removeprefix(tokenizer.bos_token) if tokenizer.chat_template == BEGIN + BASE_TEMPLATE else said
