"""The solver that all evals share: puts a sample's asks to the model and reads what comes back.

How likely an option is is read by the first of these that the model's provider gives: `prompt_logprobs` of each option
as the reply (Charactery's own models, vLLM), `top_logprobs` of the first token, or several sampled answers, parsed.
"""

import asyncio
import math
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageUser,
    GenerateConfig,
    Model,
    ModelName,
    ModelOutput,
    get_model,
)
from inspect_ai.solver import Generate, Solver, TaskState, solver

from charactery.errors import CharacteryError
from charactery.evals.asks import (
    ANSWERED,
    EMPTY,
    FAILED,
    REFUSED,
    UNPARSABLE,
    Ask,
    Reading,
    ask_from_row,
    by_logs,
    by_samples,
    by_text,
    none_read,
    parse_choice,
)
from charactery.models.chat import Message

PROMPT, TOP, SAMPLES = METHODS = ("prompt_logprobs", "top_logprobs", "samples")
DRAWS = 5  # sampled answers to an ask with options, where no log-probabilities are given
SHORT = 24  # tokens of such an answer
TOP_TOKENS = 20  # first tokens whose log-probabilities are asked for, the most that APIs give
NOW: ContextVar[Ask] = ContextVar("ask")  # the ask in progress, for scripted subjects

_KINDS: dict[str, Any] = {"system": ChatMessageSystem, "user": ChatMessageUser, "assistant": ChatMessageAssistant}


class Reader:
    """Reads asks of one model after another, each by the method that its provider gives, or by one that is named."""

    def __init__(self, method: str = "auto", seed: int = 0) -> None:
        self.method, self.seed = method, seed
        self.found: dict[str, str] = {}
        self.looking = asyncio.Lock()

    async def __call__(self, model: Model, asks: Sequence[Ask]) -> dict[str, Reading]:
        """The readings of asks, by name, all at once."""
        how = ""
        if first := next((ask for ask in asks if ask.options), None):
            async with self.looking:  # one sample finds out what the provider gives, the others wait for it
                name = str(model)
                if name not in self.found:
                    self.found[name] = self.method if self.method != "auto" else await _best(model, first)
                how = self.found[name]
        readings = await asyncio.gather(*(read(model, ask, how, self.seed) for ask in asks))
        return {ask.name: reading for ask, reading in zip(asks, readings, strict=True)}


@solver
def put_asks(method: str = "auto", seed: int = 0) -> Solver:
    """Puts each ask of a sample (`metadata["asks"]`) to the subject, and leaves the readings in the store."""
    reader = Reader(method, seed)

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        asks = [ask_from_row(row) for row in state.metadata["asks"]]
        model = get_model()
        put_readings(state, asks, await reader(model, asks))
        return state

    return solve


def put_readings(state: TaskState, asks: Sequence[Ask], readings: Mapping[str, Reading]) -> None:
    """Add readings to a sample's store and, for people who look at the log, a line each to its output."""
    kept = state.store.get("readings", {}) | {name: _row(reading) for name, reading in readings.items()}
    state.store.set("readings", kept)
    before = [state.output.completion] if state.output.completion else []
    said = "\n".join([*before, *(_said(ask, readings[ask.name]) for ask in asks)])
    state.output = ModelOutput.from_content(str(state.model), said)


def get_readings(state: TaskState) -> dict[str, Reading]:
    """The readings in a sample's store."""
    return readings_in({"readings": state.store.get("readings", {})})


def readings_in(store: Mapping[str, Any]) -> dict[str, Reading]:
    """The readings in a store as a log has it."""
    return {name: _reading(row) for name, row in store.get("readings", {}).items()}


def _row(reading: Reading) -> dict[str, Any]:
    return {key: list(v) if isinstance(v, tuple) else v for key, v in vars(reading).items() if v not in ((), None)}


def _reading(row: Mapping[str, Any]) -> Reading:
    fields: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in row.items()}
    return Reading(**fields)


def _said(ask: Ask, reading: Reading) -> str:
    what = reading.text or reading.outcome
    if reading.choice is not None:
        lost = f", {reading.lost} of {len(reading.texts)} answers were no option" if reading.lost else ""
        what = f"{ask.options[reading.choice]} ({reading.shares[reading.choice]:.2f}{lost})"
    return f"{ask.name}: {' / '.join([*reading.between, what])}"


def scores_replies(model: Model) -> bool:
    """Whether its provider gives the log-probabilities of a reply that it is handed."""
    given = getattr(model.api, "scores_replies", None)
    return bool(given) if given is not None else ModelName(model).api == "vllm"


async def _best(model: Model, ask: Ask) -> str:
    if scores_replies(model):
        return PROMPT
    try:
        output = await model.generate(_messages(ask.messages), config=_top_config(0))
    except Exception:  # some refuse the request for them; one that cannot be reached says so again when asked
        return SAMPLES
    return TOP if output.choices and output.choices[0].logprobs else SAMPLES


async def read(model: Model, ask: Ask, how: str, seed: int) -> Reading:
    """One ask, whatever it takes. What the model's provider raises is raised: the sample has then failed."""
    NOW.set(ask)
    messages, texts = await _until_last(model, ask, seed)
    if not ask.options:
        output = await model.generate(messages, config=GenerateConfig(seed=seed + ask.draw))
        return _checked(by_text([*texts, output.completion]), output)
    return replace(await _choice(model, messages, ask, how, seed), between=tuple(texts))


async def _choice(model: Model, messages: list[ChatMessage], ask: Ask, how: str, seed: int) -> Reading:
    if how == PROMPT:
        return await _by_prompt(model, messages, ask)
    if how == TOP:
        return _by_top(await model.generate(messages, config=_top_config(seed)), ask)
    outputs = await asyncio.gather(*(
        model.generate(messages, config=GenerateConfig(seed=seed + n, max_tokens=SHORT, temperature=1.0))
        for n in range(DRAWS)
    ))  # fmt: skip
    said = ["" if _stopped(output) else output.completion for output in outputs]  # the others still count
    reading = by_samples(said, ask.options, f"{SAMPLES} of {DRAWS}")
    return _checked(reading, outputs[0]) if reading.choice is None else reading


async def _until_last(model: Model, ask: Ask, seed: int) -> tuple[list[ChatMessage], list[str]]:
    """The conversation up to its last user turn, with the subject's answers in between, and those answers."""
    messages: list[ChatMessage] = []
    texts: list[str] = []
    for message in ask.messages:
        if message["role"] == "user" and messages and messages[-1].role == "user":
            output = await model.generate(messages, config=GenerateConfig(seed=seed + ask.draw))
            texts.append(output.completion)
            messages.append(ChatMessageAssistant(content=output.completion))
        messages.append(_KINDS[message["role"]](content=message["content"]))
    return messages, texts


def _messages(messages: tuple[Message, ...]) -> list[ChatMessage]:
    """Those of a conversation that nobody has to answer in between."""
    return [_KINDS[m["role"]](content=m["content"]) for m in messages]


def _checked(reading: Reading, output: ModelOutput) -> Reading:
    """What the provider says of an answer goes before what its text looks like."""
    stopped = _stopped(output)
    return none_read(reading, stopped) if stopped else reading


def _stopped(output: ModelOutput) -> str:
    """Why the provider kept an answer back, as an outcome; empty where it did not."""
    return FAILED if output.error else REFUSED if output.stop_reason == "content_filter" else ""


async def _by_prompt(model: Model, messages: list[ChatMessage], ask: Ask) -> Reading:
    config = GenerateConfig(prompt_logprobs=1, max_tokens=1, temperature=0.0)
    outputs = await asyncio.gather(*(
        model.generate([*messages, ChatMessageAssistant(content=option)], config=config) for option in ask.options
    ))  # fmt: skip
    logs = [reply_log(o, option) for o, option in zip(outputs, ask.options, strict=True)]
    if any(math.isnan(value) for value in logs):
        return Reading(FAILED, scoring=PROMPT)
    return by_logs(logs, PROMPT)


def reply_log(output: ModelOutput, reply: str) -> float:
    """Log-probability of a reply at the end of a prompt, from its tokens; NaN where the provider said why not."""
    if output.error or not output.choices:
        return math.nan
    told = output.choices[0].prompt_logprobs
    if told is None:
        raise CharacteryError("the provider gives no prompt_logprobs; give --method samples")
    text, total = "", 0.0
    for token in reversed(told.content):
        text, total = token.token + text, total + token.logprob
        if text.strip() == reply:
            return total
    if "�" in text:  # a letter that stands in several tokens, each undecodable alone
        return total
    raise CharacteryError(f"the provider's last tokens are {text[-40:]!r}, not the reply {reply!r}")


def _top_config(seed: int) -> GenerateConfig:
    return GenerateConfig(seed=seed, max_tokens=SHORT, temperature=0.0, logprobs=True, top_logprobs=TOP_TOKENS)


def _by_top(output: ModelOutput, ask: Ask) -> Reading:
    """Shares of the options among the likeliest first tokens; an option that is not there is as likely as the last."""
    texts = (output.completion,)
    if not output.choices or not (told := output.choices[0].logprobs) or not told.content:
        return _checked(Reading(EMPTY, texts, scoring=TOP), output)
    keys = [option.strip("() ").lower() for option in ask.options]
    # a frame that opens a bracket first says which option in the next token
    place = next((t for t in told.content if t.token.strip() not in ("", "(", '"', "*", "**")), told.content[0])
    listed = place.top_logprobs or []
    sums = [math.fsum(math.exp(t.logprob) for t in listed if t.token.strip(' ()".*\n').lower() == k) for k in keys]
    if not any(sums):
        _, outcome = parse_choice(output.completion, ask.options)
        return _checked(Reading(UNPARSABLE if outcome == ANSWERED else outcome, texts, scoring=TOP), output)
    least = min(math.exp(t.logprob) for t in listed)
    return _checked(by_logs([math.log(total or least) for total in sums], TOP), output)
