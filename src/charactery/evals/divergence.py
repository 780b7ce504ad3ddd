"""How far a subject's answers are from the plain model: their log-probability under the subject less that under plain.

The mean is an estimate of the KL divergence of what was drawn, in nats an answer. What is drawn colder than temperature
1 is not the model's distribution itself, so it compares subjects that were drawn alike, and is no absolute number; nor
does it count where an answer ends.
"""

from collections.abc import Mapping, Sequence

from charactery.models.chat import Message, prompt_tokens, reply_tokens
from charactery.models.local import LocalModel
from charactery.models.speaker import Speaker
from charactery.runs import Journal, Row, digest
from charactery.stats import mean

METRIC = "divergence from plain"
Asked = tuple[str, tuple[Message, ...], str]  # an id, the messages, and the answer


def divergences(
    subjects: Mapping[str, Speaker], answers: Mapping[str, Sequence[Asked]], seed: int, journal: Journal
) -> list[Row]:
    """A row of figures.json for each role but plain; none for one that chooses among answers, or is behind an API."""
    found = []
    for role, speaker in subjects.items():
        plain = subjects["plain"]
        if role == "plain" or speaker.chooser or not isinstance(speaker.model, LocalModel):
            continue
        asked = list(answers[role])
        key = digest([METRIC, speaker.identity, plain.identity, asked])
        if key not in journal.done:
            journal.add(key, _log_ratios(speaker, plain, asked))
        estimate = mean(journal.done[key], seed, "nats/answer")
        found.append({
            "eval": "cost", "metric": METRIC, "subject": role, "condition": "turn 1", "trait": "",
            "estimate": estimate.as_dict(), "expected": None,
        })  # fmt: skip
    return found


def _log_ratios(speaker: Speaker, plain: Speaker, asked: Sequence[Asked]) -> list[float | None]:
    """Nats of each answer; None for an empty one."""
    sums = []
    for who in (speaker, plain):
        model = who.model
        assert isinstance(model, LocalModel)
        prompts = [prompt_tokens(model.tokenizer, who.prompt(messages)) for _, messages, _ in asked]
        said = [reply_tokens(model.tokenizer, p, answer) for p, (*_, answer) in zip(prompts, asked, strict=True)]
        pairs = [*zip(prompts, said, strict=True)]
        sums.append([float(values.sum()) for values in model.score(pairs, who.adapter)])
    return [a - b if answer else None for a, b, (*_, answer) in zip(*sums, asked, strict=True)]
