"""Scripted subjects: a model provider of Inspect's that answers each ask as it was told to."""

import math
from collections.abc import Mapping
from typing import Any

from inspect_ai.model import (
    ChatMessage,
    GenerateConfig,
    Logprob,
    Logprobs,
    Model,
    ModelAPI,
    ModelOutput,
    get_model,
    modelapi,
)
from inspect_ai.solver._task_state import sample_state
from inspect_ai.tool import ToolChoice, ToolInfo

from charactery.evals.asking import NOW
from charactery.evals.asks import FLOOR

Reply = tuple[float, ...] | str  # how likely each option is, or what is said
Plan = Mapping[str, Reply]  # by the name of the ask


class ScriptedAPI(ModelAPI):
    """Answers by `plans`, by sample id. Asked for text where options were planned, it says the likeliest."""

    scores_replies = True

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig = GenerateConfig(),  # noqa: B008 - Inspect's own signature
        **model_args: Any,
    ) -> None:
        super().__init__(model_name, base_url, api_key, [], config)
        self.plans: Mapping[str, Plan] = {}

    async def generate(
        self, input: list[ChatMessage], tools: list[ToolInfo], tool_choice: ToolChoice, config: GenerateConfig
    ) -> ModelOutput:
        """The planned answer to the ask in progress."""
        state = sample_state()
        assert state is not None, "scripted subjects answer within an eval"
        ask = NOW.get()
        reply = self.plans[str(state.sample_id)][ask.name]
        if isinstance(reply, str):
            return ModelOutput.from_content(self.model_name, reply)
        options = ask.options
        if not config.prompt_logprobs:
            return ModelOutput.from_content(self.model_name, options[max(range(len(reply)), key=reply.__getitem__)])
        said = input[-1].text
        output = ModelOutput.from_content(self.model_name, "")
        value = math.log(max(reply[options.index(said)], FLOOR))
        output.choices[0].prompt_logprobs = Logprobs(content=[Logprob(token=said, logprob=value)])
        return output

    def max_connections(self) -> int:
        """As many as there are: nothing is computed."""
        return 1000


def scripted_model(name: str, plans: Mapping[str, Plan]) -> Model:
    """An Inspect model that answers by these plans."""
    model = get_model(f"charactery-scripted/{name}", memoize=False)
    assert isinstance(model.api, ScriptedAPI)
    model.api.plans = plans
    return model


@modelapi(name="charactery-scripted")
def scripted() -> type[ModelAPI]:
    """The provider of the scripted subjects."""
    return ScriptedAPI
