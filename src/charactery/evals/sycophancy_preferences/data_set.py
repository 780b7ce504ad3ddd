"""A preference data set as a Subject, `pairs:FILE.jsonl`: a provider of Inspect's, with its file's preferences."""

from pathlib import Path
from typing import Any

from inspect_ai.model import ChatMessage, GenerateConfig, ModelAPI, ModelOutput, modelapi
from inspect_ai.tool import ToolChoice, ToolInfo

from charactery.data.pairs import read_pairs
from charactery.evals.sycophancy_preferences.task import SHOWN, comparison, shown_second, sides_of, talk_of
from charactery.models.subject import PAIRS


class PairsAPI(ModelAPI):
    """Asked to compare the two answers of one of its pairs, it names the chosen one; to all else it says nothing."""

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig = GenerateConfig(),  # noqa: B008 - Inspect's own signature
        **model_args: Any,
    ) -> None:
        super().__init__(model_name, base_url, api_key, [], config)
        self.preferred: dict[str, str] = {}
        for pair in read_pairs(Path(model_name)):
            talk, sides = talk_of(pair["prompt"]), sides_of(pair)
            order = shown_second(talk, *sides)
            self.preferred[comparison(talk, *sides[:: 1 - 2 * order])] = SHOWN[order]

    async def generate(
        self, input: list[ChatMessage], tools: list[ToolInfo], tool_choice: ToolChoice, config: GenerateConfig
    ) -> ModelOutput:
        """What the file prefers."""
        return ModelOutput.from_content(self.model_name, self.preferred.get(input[-1].text, ""))


@modelapi(name=PAIRS)
def pairs() -> type[ModelAPI]:
    """The provider of preference data sets."""
    return PairsAPI
