"""A loaded Subject as a conversation hears it: the prompt as text, and the answer in pieces of text."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from charactery.errors import Stop
from charactery.models.chat import Message, prompt_text
from charactery.models.local import Answer, LocalModel, Request, Sampler
from charactery.models.speaker import Speaker

HALF = "\ufffd"  # what a tokenizer makes of half a character


class SpeakerVoice:
    """A Speaker and how it answers. It is a `charactery.conversations.Voice`."""

    def __init__(self, speaker: Speaker, sampler: Sampler) -> None:
        self.speaker, self.how = speaker, sampler
        self.subject, self.weights, self.sampler = speaker.subject.text, speaker.identity, asdict(sampler)
        if speaker.made_of:
            self.sampler["model"] = speaker.made_of

    def prompt(self, messages: Sequence[Message], prefill: str = "") -> str:
        """The text that is read for messages; for a model behind an API the messages sent, as JSON."""
        read = self.speaker.prompt(messages)
        if self.speaker.model is None:
            return json.dumps(read, ensure_ascii=False)
        return prompt_text(self.speaker.model.tokenizer, read, prefill)

    def answer(
        self, messages: Sequence[Message], seeds: Sequence[int], on_text: Callable[..., None], prefill: str = ""
    ) -> list[Answer]:
        """An answer for each seed. `on_text(text, row)` is told each one's, piece by piece where the model streams; a
        Stop that it raises ends them, and what there is of each is given.

        With `prefill` answers begin so, and what follows it is given.
        """
        requests = [Request(tuple(messages), seed, prefill) for seed in seeds]
        model = self.speaker.model
        if not isinstance(model, LocalModel):  # nothing is streamed
            return [_storable(answer) for answer in self.speaker.answer(requests, self.how)]
        told: list[Callable[..., None]] = [on_text, *(partial(on_text, row=row) for row in range(1, len(seeds)))]
        streams = [Stream(model.tokenizer, one, prefill) for one in told]
        try:
            answers = self.speaker.answer(requests, self.how, lambda row, token: streams[row](token))
        except Stop:
            answers = [model.answer_of(stream.drawn, prefill) for stream in streams]
        return [_storable(answer) for answer in answers]


def _storable(answer: Answer) -> Answer:
    return replace(answer, text=answer.text.replace("\0", HALF))


class Stream:
    """Tokens become text, a piece at a time; half a character waits for its other half."""

    def __init__(self, tokenizer: Any, on_text: Callable[[str], None], prefill: str = "") -> None:
        self.tokenizer, self.on_text = tokenizer, on_text
        self.said: list[int] = tokenizer(prefill, add_special_tokens=False)["input_ids"] if prefill else []
        self.begun = len(self.said)
        self.shown = tokenizer.decode(self.said, skip_special_tokens=True).lstrip() if prefill else ""

    @property
    def drawn(self) -> list[int]:
        """The tokens so far, without those of the prefill."""
        return self.said[self.begun :]

    def __call__(self, token: int) -> None:
        self.said.append(token)
        text = self.tokenizer.decode(self.said, skip_special_tokens=True).lstrip()
        if len(text) > len(self.shown) and not text.endswith(HALF):
            piece, self.shown = text[len(self.shown) :], text
            self.on_text(piece.replace("\0", HALF))  # a NUL is no text
