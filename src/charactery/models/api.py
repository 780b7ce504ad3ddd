"""A model behind an API, asked through Inspect's own provider and given up on after so many tries."""

import asyncio
import math
from collections.abc import Sequence
from typing import Any

from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageUser,
    GenerateConfig,
    ModelOutput,
    get_model,
)
from inspect_ai.model._model import ModelGenerateError
from tenacity import RetryError

from charactery.errors import ModelNotFound
from charactery.models.local import Request, Sampler

RETRIES = 5  # Inspect waits 3 seconds before the first and twice as long before each next: 93 seconds and more
PATIENCE = 900  # seconds after which no try is added
LIKELIEST = 5  # tokens whose probabilities are asked for; some services give no more
REFUSED = (400, 404, 422, 501)  # statuses of a request that will not be done as it is
UNABLE = (401, 402, 403, 408, 409, 425, 429)  # of 4xx, those that the request itself is not to blame for
BROKEN = (500, 501)  # those of services that fail at a request they do not know
_answered: set[str] = set()  # models that have given an answer in this process
_gives: dict[str, bool] = {}  # by model, whether it gave log-probabilities, or an answer without them alone


async def ask_api(name: str, messages: list[ChatMessage], config: GenerateConfig) -> ModelOutput:
    """One answer of the model that Inspect knows by this name (`openai/…`).

    Left to itself, Inspect asks again for ever. Raises ModelNotFound with the reason where there is no such provider,
    or no answer after RETRIES more tries; `max_retries` and `timeout` in `config` go before ours.
    """
    try:
        model = get_model(name)
    except Exception as error:  # Inspect raises its own and others' errors for a missing key or package
        raise ModelNotFound(f"cannot reach {name}: {_reason(error)}") from error
    try:
        limits = GenerateConfig(max_retries=RETRIES, timeout=PATIENCE)
        return await model.generate(messages, config=limits.merge(config))
    except RetryError as error:
        tries = error.last_attempt.attempt_number
        why = error.last_attempt.exception() or error
        raise ModelNotFound(f"cannot reach {name} in {tries} tries: {_reason(why)}") from error


async def outputs(name: str, requests: Sequence[Request], sampler: Sampler, likeliest: int = 0) -> list[ModelOutput]:
    """An output for each request; `likeliest` asks for the log-probabilities of so many tokens at each place.

    A service that refuses to give those is asked without them from then on; one request finds out before the rest are
    sent. A request that is refused gets an output with an error, and the others theirs. Raises what `ask_api` does, and
    ModelNotFound where the service answers none, or refuses all of several and has answered nothing before.
    """
    kinds: dict[str, Any] = {"system": ChatMessageSystem, "user": ChatMessageUser, "assistant": ChatMessageAssistant}

    async def one(request: Request) -> ModelOutput:
        config = GenerateConfig(
            max_tokens=sampler.max_tokens, temperature=sampler.temperature, seed=request.seed % 2**31,
            top_p=sampler.top_p if sampler.top_p < 1 else None,
        )  # fmt: skip
        messages = [kinds[m["role"]](content=m["content"]) for m in request.messages]
        if not likeliest or not _gives.get(name, True):
            return await ask_api(name, messages, config)
        told = GenerateConfig(logprobs=True, top_logprobs=likeliest)
        try:
            output = await ask_api(name, messages, config.merge(told))
        except Exception as error:
            if not _refusal(error) and not (_broke(error) and name not in _gives):
                raise
            output = await ask_api(name, messages, config)
            _gives.setdefault(name, False)
        else:
            _gives[name] = True
        return output

    async def kept(request: Request) -> ModelOutput:
        try:
            return await one(request)
        except Exception as error:
            status = getattr(error, "status_code", None)
            refused = isinstance(status, int) and 400 <= status < 500 and status not in UNABLE
            if status in REFUSED or refused or type(error) is ValueError:
                return ModelOutput.from_content(name, "", "unknown", f"{name} refuses it: {_reason(error)}")
            if status is None and not isinstance(error, ModelGenerateError):
                raise
            raise ModelNotFound(f"{name} does not answer ({status or 'no status'}): {_reason(error)}") from error

    alone = 1 if likeliest and name not in _gives else 0
    told = [await kept(request) for request in requests[:alone]]
    told += await asyncio.gather(*(kept(request) for request in requests[alone:]))
    if not all(output.error for output in told):
        _answered.add(name)
    elif len(told) > 1 and name not in _answered:  # it is no request's own fault
        raise ModelNotFound(str(told[0].error))
    return told


def _refusal(error: Exception) -> bool:
    """Whether a service, or Inspect's provider of it, will not have the request as it is."""
    status = getattr(error, "status_code", 0)  # Inspect's own error has None where the provider gave no status
    return status in (*REFUSED, None) or type(error) is ValueError


def _broke(error: Exception) -> bool:
    """Whether the last of all tries ended in an error of the service's own."""
    cause = error.__cause__
    last = cause.last_attempt.exception() if isinstance(cause, RetryError) else None
    return getattr(last, "status_code", None) in BROKEN


def likely_first(
    name: str, requests: Sequence[Request], sampler: Sampler
) -> list[tuple[str, dict[str, float], str | None]]:
    """What is said to each request, the probabilities of the likeliest words it could have begun with, and an error
    where the request was refused, or its answer withheld.

    White space around a word does not count, nor what there is of it before the first. {} where the service gives none.
    """
    found = []
    for output in asyncio.run(outputs(name, requests, sampler, LIKELIEST)):
        given = output.choices[0].logprobs if output.choices else None
        first = next((token for token in given.content if token.token.strip()), None) if given else None
        words: dict[str, float] = {}
        for token in (first.top_logprobs if first else None) or []:
            word = token.token.strip()
            words[word] = words.get(word, 0.0) + math.exp(token.logprob)
        withheld = "content filter" if output.stop_reason == "content_filter" else None
        found.append((output.completion.strip(), words, output.error or withheld))
    return found


def _reason(error: BaseException) -> str:
    said = getattr(error, "provider_message", None) or str(error)  # Inspect's own error begins with the whole request
    return next(iter(said.strip().splitlines()), "") or type(error).__name__
