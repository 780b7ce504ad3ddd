"""Charactery's Subjects as an Inspect model: `inspect eval … --model charactery/runs/captain`.

Asked for `prompt_logprobs` with a reply of the assistant's at the end, it generates nothing: it gives the
log-probability of every token of that reply, and of nothing before it.
"""

import asyncio
import bisect
import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, ClassVar

from inspect_ai.model import (
    ChatMessage,
    ChatMessageSystem,
    GenerateConfig,
    Logprob,
    Logprobs,
    Model,
    ModelAPI,
    ModelOutput,
    ModelUsage,
    StopReason,
    get_model,
    modelapi,
)
from inspect_ai.tool import ToolChoice, ToolInfo

from charactery.constitution import system_prompt
from charactery.errors import CharacteryError
from charactery.memory import halvings
from charactery.models.api import ask_api
from charactery.models.chat import Message, prompt_tokens, reply_tokens
from charactery.models.local import Answer, LocalModel, Request, Sampler, derive_seed
from charactery.models.speaker import BATCH, Models, Speaker, answer_fitting, places
from charactery.models.subject import Subject, parse_subject
from charactery.runs import Journal, digest

GATHER = 0.2  # seconds without a new request before a batch is answered
PATIENCE = 8  # looks at most
WAITING = 4096  # requests that may wait together; what answers them takes BATCH at a time
# What Inspect can ask for that would change an answer, and nothing here does; 0 and empty ask for nothing.
UNMET = (
    "stop_seqs", "top_k", "best_of", "frequency_penalty", "presence_penalty", "logit_bias", "response_schema",
)  # fmt: skip
HALVED = "batch_halved"  # in an output's metadata, and before a key of what is kept: how often memory halved its batch


Scored = list[tuple[str, float]] | str  # the tokens of a reply with their log-probabilities, or why there are none
Asked = Request | tuple[Message, ...]  # an answer asked for, or messages whose last is to be scored


def request_for(messages: Sequence[Message], seed: int, epoch: int = 1) -> Request:
    """The request that an Inspect sample makes: its seed follows from the task's seed, the epoch and what is asked."""
    return Request(tuple(messages), derive_seed(seed, epoch, [[m["role"], m["content"]] for m in messages]))


class CharacteryAPI(ModelAPI):
    """Answers with a Subject. Requests that arrive together are answered together.

    `answers` may be given answers made before, by request, in fixed batches that can be resumed. What comes of a batch
    that memory halved says so in its metadata, as "batch_halved"; `halved` counts them.
    """

    models: ClassVar[Callable[..., Models]] = Models  # what loads a Subject; Inspect's entry point adds the judges

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig = GenerateConfig(),  # noqa: B008 - Inspect's own signature
        **model_args: Any,
    ) -> None:
        if config.max_connections is None and getattr(config, "adaptive_connections", None) is None:
            # Inspect would begin with 20 requests and see whether the service bears more. All of them wait instead, so
            # that batches are full where samples ask for answers and for scores
            config.max_connections = WAITING
        super().__init__(model_name, base_url, api_key, [], config)
        self.model_args = model_args
        self.speaker: Speaker | None = None  # loaded when the first answer is asked for
        self._subject: Subject | None = None
        self.answers: dict[Any, Answer] = {}
        self.scores: dict[str, dict[str, Any]] = {}  # by eval, then by sample: what needs log-probabilities
        self.scripted = False  # whether answers and scores are only those given; then nothing is computed
        self.kept: dict[str, Any] = {}  # what was answered and scored before, by digest of what was asked
        self.journal: Journal | None = None
        self.waiting: list[tuple[Asked, Sampler | None, asyncio.Future[Any]]] = []
        self.gathering: asyncio.Task[None] | None = None
        self.halved = 0

    async def generate(
        self, input: list[ChatMessage], tools: list[ToolInfo], tool_choice: ToolChoice, config: GenerateConfig
    ) -> ModelOutput:
        """One answer; the batch it is answered in is what else is waiting."""
        if self.subject.kind == "inspect" and not self.answers:
            return await self._elsewhere(input, config)
        messages: list[Message] = [{"role": m.role, "content": m.text} for m in input]
        if config.prompt_logprobs and messages[-1]["role"] == "assistant":
            if self.subject.best_of:  # those of the plain model would be taken for its own
                raise CharacteryError("the best of several answers has no log-probabilities; give --method samples")
            tokens, halved = await self._ask(tuple(messages), None)
            return self._told(self._scored(tokens), halved)
        request, sampler = request_for(messages, config.seed or 0, _epoch()), _sampler(config)
        answer, halved = self.answers.get(hashable(request)), 0
        if answer is None:
            answer, halved = await self._ask(request, sampler)
        reason: StopReason = "stop" if answer.ended else "max_tokens"
        if answer.error:
            reason = "model_length" if self._overfills(request, sampler) else "unknown"
        output = ModelOutput.from_content(self.model_name, answer.text, reason, answer.error or None)
        output.usage = ModelUsage(output_tokens=answer.tokens, total_tokens=answer.tokens)
        return self._told(output, halved)

    @property
    def subject(self) -> Subject:
        """Whom the name means; nothing is loaded."""
        if self.speaker is not None:
            return self.speaker.subject
        if self._subject is None:
            self._subject = parse_subject(self.model_name)
        return self._subject

    @property
    def scores_replies(self) -> bool:
        """Whether it gives `prompt_logprobs`: a model here or on a server of ours does, a choice among answers not."""
        return self.subject.kind != "inspect" and not self.subject.best_of

    def keep_in(self, journal: Journal) -> None:
        """Take answers and scores from this journal where they are in it, and put new ones there."""
        self.journal = journal
        self.kept = {key: value for rows in journal.done.values() for key, value in rows}

    def _told(self, output: ModelOutput, halved: int) -> ModelOutput:
        """The output, which says if memory halved its batch: the texts depend on it."""
        if halved:
            self.halved += 1
            output.metadata = {HALVED: halved}
        return output

    def _overfills(self, request: Request, sampler: Sampler) -> bool:
        """Whether a request leaves no room to answer in the context, as far as is known here."""
        speaker = self.loaded()
        if speaker.model is None:
            return False
        prompt = prompt_tokens(speaker.model.tokenizer, speaker.prompt(request.messages))
        return len(prompt) + sampler.max_tokens > speaker.model.context

    def _scored(self, tokens: Scored) -> ModelOutput:
        output = ModelOutput.from_content(self.model_name, "")
        if isinstance(tokens, str):
            return ModelOutput.from_content(self.model_name, "", "unknown", tokens)
        if any(math.isnan(value) for _, value in tokens):
            return ModelOutput.from_content(self.model_name, "", "model_length", "longer than the model's context")
        content = [Logprob(token=token, logprob=value) for token, value in tokens]
        output.choices[0].prompt_logprobs = Logprobs(content=content)
        return output

    async def _elsewhere(self, input: list[ChatMessage], config: GenerateConfig) -> ModelOutput:
        """A model behind an API answers by Inspect's own provider, with the Subject's character before the rest."""
        subject = self.subject
        if subject.character is not None:
            prompt = system_prompt(subject.character)
            if input[0].role == "system":
                prompt, input = f"{prompt}\n\n{input[0].text}", input[1:]
            input = [ChatMessageSystem(content=prompt), *input]
        said = [[m.role, m.text] for m in input]
        key = digest([subject.base, said, _epoch(), config.model_dump(exclude_none=True)])
        if key not in self.kept:
            output = await ask_api(subject.base, input, config)
            self._keep([(key, output.model_dump(mode="json", exclude_none=True))])
        return ModelOutput.model_validate(self.kept[key])

    def _keep(self, rows: list[tuple[str, Any]]) -> None:
        self.kept |= dict(rows)
        if self.journal is not None and rows:
            self.journal.add(digest([key for key, _ in rows]), [list(row) for row in rows])

    async def _ask(self, asked: Asked, sampler: Sampler | None) -> Any:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.waiting.append((asked, sampler, future))
        if self.gathering is None or self.gathering.done():
            self.gathering = asyncio.create_task(self._answer_waiting())
        return await future

    async def _answer_waiting(self) -> None:
        while self.waiting:
            await self._gathered()
            sampler = self.waiting[0][1]
            batch = sorted((w for w in self.waiting if w[1] == sampler), key=lambda w: _length(w[0]))
            try:
                speaker = await asyncio.to_thread(self.loaded)
                taken = itertools.accumulate(_places(speaker, w[0], sampler) for w in batch)
                batch = batch[: bisect.bisect_right([*taken], BATCH)]
                answers = await asyncio.to_thread(self._kept_or_made, [w[0] for w in batch], sampler)
            except Exception as error:  # each waiting sample gets the error, as Inspect expects of a provider
                for _, _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            finally:
                going = {id(w) for w in batch}
                self.waiting = [w for w in self.waiting if id(w) not in going]
            for (_, _, future), answer in zip(batch, answers, strict=True):
                if not future.done():  # a sample over its time limit has cancelled its own
                    future.set_result(answer)

    async def _gathered(self) -> None:
        """Returns once requests have stopped coming in. A sleep that ended late was kept from ending by samples that
        the loop was busy with, and those may be about to ask: it tells nothing."""
        for _ in range(PATIENCE):
            count, began = len(self.waiting), time.monotonic()
            await asyncio.sleep(GATHER)
            if count == len(self.waiting) and time.monotonic() - began < 1.5 * GATHER:
                return

    def _kept_or_made(self, asked: Sequence[Any], sampler: Sampler | None) -> list[tuple[Any, int]]:
        """Answers, or scores where there is no sampler, and how often memory ran short while each was made.

        Scores asked for twice are computed once.
        """
        speaker, before = self.loaded(), halvings()
        if sampler is None:
            keys = [digest([speaker.identity, "score", speaker.prompt(m)]) for m in asked]
        elif self.journal is None:
            answers = answer_fitting([(speaker, request) for request in asked], sampler)
            return [(answer, halvings() - before) for answer in answers]
        else:
            keys = [digest([speaker.identity, asdict(sampler), speaker.prompt(r.messages), r.seed]) for r in asked]
        fresh = {key: one for key, one in zip(keys, asked, strict=True) if key not in self.kept}
        if sampler is None:
            made: list[Any] = self._scores(speaker, list(fresh.values()))
        else:
            told = answer_fitting([(speaker, request) for request in fresh.values()], sampler) if fresh else []
            made = [asdict(answer) for answer in told]
        halved = halvings() - before
        marks = [(f"{HALVED} {key}", halved) for key in fresh if halved]
        self._keep([*zip(fresh, made, strict=True), *marks])
        found = [self.kept[key] if sampler is None else Answer(**self.kept[key]) for key in keys]
        return [(one, self.kept.get(f"{HALVED} {key}", 0)) for key, one in zip(keys, found, strict=True)]

    def _scores(self, speaker: Speaker, asked: Sequence[tuple[Message, ...]]) -> list[Scored]:
        model = speaker.model
        assert model is not None, "a model behind an API is asked through its own provider"
        tokenizer, pairs = model.tokenizer, []
        for messages in asked:
            context = prompt_tokens(tokenizer, speaker.prompt(messages[:-1]))
            pairs.append((context, reply_tokens(tokenizer, context, messages[-1]["content"])))
        score: Any = model.score if isinstance(model, LocalModel) else model.score_or_reason  # no row is refused here
        told = zip(pairs, score(pairs, speaker.adapter) if pairs else [], strict=True)
        return [
            row if isinstance(row, str) else [*zip(map(tokenizer.decode, reply), row.tolist(), strict=True)]
            for (_, reply), row in told
        ]

    def loaded(self) -> Speaker:
        """The Subject behind the name, loaded once."""
        if self.speaker is None:
            self.speaker = type(self).models(**self.model_args).speaker(self.model_name)
        return self.speaker

    def max_connections(self) -> int:
        """How many requests may wait together; they are answered in batches."""
        return WAITING

    def connection_key(self) -> str:
        """Subjects on one machine share its processor, but each has its own queue."""
        return f"charactery/{self.model_name}"


def hashable(request: Request) -> Any:
    """A request as a dictionary key."""
    return (tuple((m["role"], m["content"]) for m in request.messages), request.seed)


def subject_model(speaker: Speaker, name: str = "", journal: Journal | None = None) -> Model:
    """An Inspect model that answers and scores as this speaker, keeping both in the journal."""
    model = get_model(f"charactery/{name or speaker.subject.text}", memoize=False)
    assert isinstance(model.api, CharacteryAPI)
    model.api.speaker = speaker
    if journal is not None:
        model.api.keep_in(journal)
    return model


def inspect_model(
    speaker: Speaker, name: str, answers: dict[Any, Answer], scores: dict[str, dict[str, Any]] | None = None
) -> Model:
    """An Inspect model that answers as this speaker, giving back answers and scores computed before in batches."""
    model = subject_model(speaker, name)
    api = model.api
    assert isinstance(api, CharacteryAPI)
    api.answers, api.scores, api.scripted = answers, scores or {}, True
    return model


def count_halved(model: Model) -> int:
    """How many of its answers and scores came of a batch that memory halved."""
    assert isinstance(model.api, CharacteryAPI)
    return model.api.halved


def _length(asked: Asked) -> int:
    """Letters that are read: those of like length are padded least, and the options of a question stay together."""
    messages = asked.messages if isinstance(asked, Request) else asked[:-1]
    return sum(len(m["content"]) for m in messages)


def _places(speaker: Speaker, asked: Asked, sampler: Sampler | None) -> int:
    return places((speaker, asked), sampler.max_tokens) if isinstance(asked, Request) and sampler else 1


def _sampler(config: GenerateConfig) -> Sampler:
    """How an answer is drawn. Raises CharacteryError for what would change it and is not done here."""
    unmet = [name for name in UNMET if getattr(config, name)]
    if (config.num_choices or 1) > 1:
        unmet.append("num_choices")
    if unmet:
        raise CharacteryError(f"Charactery's models do not answer with {', '.join(unmet)}; leave that out")
    base = Sampler()
    likeliest = config.top_p == 0  # no more than the one token
    return Sampler(
        config.max_tokens if config.max_tokens is not None else base.max_tokens,
        0.0 if likeliest else config.temperature if config.temperature is not None else base.temperature,
        config.top_p if config.top_p is not None and not likeliest else base.top_p,
    )


def _epoch() -> int:
    from inspect_ai.solver._task_state import sample_state

    state = sample_state()
    return state.epoch if state is not None else 1


@modelapi(name="charactery")
def charactery() -> type[ModelAPI]:
    """The provider, found by Inspect through the package's entry point."""
    return CharacteryAPI
