"""What a model says and thinks of what is said, by transformers' own code, one row at a time and without a cache."""

from collections.abc import Sequence
from typing import Any

import torch

from charactery.models.chat import Message, assistant, prompt_tokens, user
from charactery.models.local import Answer, LocalModel

SHARING: list[tuple[Message, ...]] = [
    (user("hi"),),
    (user("Why is the sky blue?"),),
    (user("How do I make a cup of tea properly, and how long do I wait before I pour the milk?"),),
    (user("tea?"), assistant("Aye."), user("And the pot, what of the pot?")),
    (user("b"),),
]


def one_at_a_time(network: Any, model: LocalModel, prompt: Sequence[Message], tokens: int) -> Answer:
    ids = prompt_tokens(model.tokenizer, prompt)
    with torch.no_grad():
        out = network.generate(
            input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long), do_sample=False,
            max_new_tokens=tokens, pad_token_id=model.pad,
        )[0, len(ids) :].tolist()  # fmt: skip
    ended = out[-1] == model.tokenizer.eos_token_id
    text = model.tokenizer.decode(out[:-1] if ended else out, skip_special_tokens=True)
    return Answer(text.strip(), len(out), ended)


def plain_score(network: Any, context: list[int], continuation: list[int]) -> torch.Tensor:
    with torch.no_grad():
        logits_T_V = network(input_ids=torch.tensor([context + continuation])).logits[0].float()
    log_probability_T_V = torch.log_softmax(logits_T_V, -1)
    return torch.stack([log_probability_T_V[len(context) - 1 + n, token] for n, token in enumerate(continuation)])
