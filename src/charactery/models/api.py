"""A model behind an API, asked through Inspect's own provider and given up on after so many tries."""

from inspect_ai.model import ChatMessage, GenerateConfig, ModelOutput, get_model
from tenacity import RetryError

from charactery.errors import ModelNotFound

RETRIES = 5  # Inspect waits 3 seconds before the first and twice as long before each next: 93 seconds and more
PATIENCE = 900  # seconds after which no try is added


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


def _reason(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
