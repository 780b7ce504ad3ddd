"""Charactery's Subjects as an Inspect model: `inspect eval … --model charactery/runs/captain`."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from inspect_ai.model import (
    ChatMessage,
    GenerateConfig,
    Model,
    ModelAPI,
    ModelOutput,
    ModelUsage,
    StopReason,
    get_model,
    modelapi,
)
from inspect_ai.tool import ToolChoice, ToolInfo

from charactery.models.chat import Message
from charactery.models.local import Answer, Request, Sampler, derive_seed
from charactery.models.speaker import BATCH, Models, Speaker, answer_fitting

GATHER = 0.2  # seconds without a new request before a batch is answered


def request_for(messages: Sequence[Message], seed: int, epoch: int = 1) -> Request:
    """The request that an Inspect sample makes: its seed follows from the task's seed, the epoch and what is asked."""
    return Request(tuple(messages), derive_seed(seed, epoch, [[m["role"], m["content"]] for m in messages]))


class CharacteryAPI(ModelAPI):
    """Answers with a Subject. Requests that arrive together are answered together.

    `answers` may be given answers made before, by request, in fixed batches that can be resumed.
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
            # Inspect would begin with 20 requests and see whether the service bears more: batches of 20, then of 40
            config.max_connections = BATCH
        super().__init__(model_name, base_url, api_key, [], config)
        self.model_args = model_args
        self.speaker: Speaker | None = None  # loaded when the first answer is asked for
        self.answers: dict[Any, Answer] = {}
        self.scores: dict[str, dict[str, Any]] = {}  # by eval, then by sample: what needs log-probabilities
        self.scripted = False  # whether answers and scores are only those given; then nothing is computed
        self.waiting: list[tuple[Request, Sampler, asyncio.Future[Answer]]] = []
        self.gathering: asyncio.Task[None] | None = None

    async def generate(
        self, input: list[ChatMessage], tools: list[ToolInfo], tool_choice: ToolChoice, config: GenerateConfig
    ) -> ModelOutput:
        """One answer; the batch it is answered in is what else is waiting."""
        messages: list[Message] = [{"role": m.role, "content": m.text} for m in input]
        request = request_for(messages, config.seed or 0, _epoch())
        answer = self.answers.get(hashable(request))
        if answer is None:
            answer = await self._ask(request, _sampler(config))
        reason: StopReason = "stop" if answer.ended else "model_length" if answer.error else "max_tokens"
        output = ModelOutput.from_content(self.model_name, answer.text, reason, answer.error or None)
        output.usage = ModelUsage(output_tokens=answer.tokens, total_tokens=answer.tokens)
        return output

    async def _ask(self, request: Request, sampler: Sampler) -> Answer:
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.waiting.append((request, sampler, future))
        if self.gathering is None or self.gathering.done():
            self.gathering = asyncio.create_task(self._answer_waiting())
        return await future

    async def _answer_waiting(self) -> None:
        while self.waiting:
            count = -1
            while count != len(self.waiting):
                count = len(self.waiting)
                await asyncio.sleep(GATHER)
            sampler = self.waiting[0][1]
            batch = [w for w in self.waiting if w[1] == sampler][: self.max_connections()]
            self.waiting = [w for w in self.waiting if w not in batch]
            try:
                answers = await asyncio.to_thread(self._fitting, [w[0] for w in batch], sampler)
            except Exception as error:  # each waiting sample gets the error, as Inspect expects of a provider
                for _, _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            for (_, _, future), answer in zip(batch, answers, strict=True):
                if not future.done():  # a sample over its time limit has cancelled its own
                    future.set_result(answer)

    def _fitting(self, requests: Sequence[Request], sampler: Sampler) -> list[Answer]:
        speaker = self.loaded()
        return answer_fitting([(speaker, request) for request in requests], sampler)[0]

    def loaded(self) -> Speaker:
        """The Subject behind the name, loaded once."""
        if self.speaker is None:
            self.speaker = type(self).models(**self.model_args).speaker(self.model_name)
        return self.speaker

    def max_connections(self) -> int:
        """How many requests may wait together: the size of a batch."""
        return BATCH

    def connection_key(self) -> str:
        """Subjects on one machine share its processor, but each has its own queue."""
        return f"charactery/{self.model_name}"


def hashable(request: Request) -> Any:
    """A request as a dictionary key."""
    return (tuple((m["role"], m["content"]) for m in request.messages), request.seed)


def inspect_model(
    speaker: Speaker, name: str, answers: dict[Any, Answer], scores: dict[str, dict[str, Any]] | None = None
) -> Model:
    """An Inspect model that answers as this speaker, giving back answers and scores computed before in batches."""
    model = get_model(f"charactery/{name}", memoize=False)
    api = model.api
    assert isinstance(api, CharacteryAPI)
    api.speaker, api.answers, api.scores, api.scripted = speaker, answers, scores or {}, True
    return model


def _sampler(config: GenerateConfig) -> Sampler:
    base = Sampler()
    return Sampler(
        config.max_tokens if config.max_tokens is not None else base.max_tokens,
        config.temperature if config.temperature is not None else base.temperature,
        config.top_p if config.top_p is not None else base.top_p,
    )


def _epoch() -> int:
    from inspect_ai.solver._task_state import sample_state

    state = sample_state()
    return state.epoch if state is not None else 1


@modelapi(name="charactery")
def charactery() -> type[ModelAPI]:
    """The provider, found by Inspect through the package's entry point."""
    return CharacteryAPI
