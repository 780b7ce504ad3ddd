"""Inspect asks a Subject and gets what Charactery itself would have said, made before or on the spot."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import torch
from inspect_ai import Task
from inspect_ai import eval as inspect_eval
from inspect_ai.dataset import Sample
from inspect_ai.log import EvalLog
from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageUser,
    GenerateConfig,
    Model,
    ModelOutput,
    ModelUsage,
    get_model,
)
from inspect_ai.solver import generate

from charactery.errors import CharacteryError, CharacteryWarning
from charactery.models.chat import BASE_TEMPLATE, prompt_tokens, reply_tokens, system, user
from charactery.models.decoder import Decoder
from charactery.models.inspect_provider import (
    CharacteryAPI,
    count_halved,
    hashable,
    inspect_model,
    request_for,
    subject_model,
)
from charactery.models.local import Answer, LocalModel, Request, Sampler
from charactery.models.speaker import Models, Speaker
from charactery.models.subject import parse_subject
from charactery.runs import Journal
from test_models_speaker import watch

CONFIG = GenerateConfig(max_tokens=8, temperature=1.0, seed=3)
SAMPLER = Sampler(8, 1.0)


@pytest.fixture
def speaker(tiny_model: LocalModel) -> Speaker:
    return Speaker(parse_subject("smollm2"), tiny_model, None, "tiny")


def run_task(
    speaker: Speaker, folder: Path, answers: dict[object, Answer], epochs: int = 1, by_name: str | None = None
) -> EvalLog:
    """Two questions, the second with a system message."""
    samples = [
        Sample(id=1, input="Why is the sky blue?"),
        Sample(id=2, input=[ChatMessageSystem(content="Be brief."), ChatMessageUser(content="Tea?")]),
    ]
    [log] = inspect_eval(
        Task(dataset=samples, solver=generate(), config=CONFIG, epochs=epochs),
        model=by_name or inspect_model(speaker, "tiny", answers),
        log_dir=str(folder),
        display="none",
        log_level="error",
    )
    assert log.status == "success", log.error
    return log


def said(log: EvalLog) -> dict[tuple[object, int], str]:
    assert log.samples is not None
    return {(s.id, s.epoch): s.output.completion for s in log.samples}


def direct(speaker: Speaker, epoch: int = 1) -> list[tuple[Request, Answer]]:
    asked = [
        request_for([user("Why is the sky blue?")], 3, epoch),
        request_for([system("Be brief."), user("Tea?")], 3, epoch),
    ]
    return list(zip(asked, speaker.answer(asked, SAMPLER), strict=True))


def test_answers_are_those_asked_for_directly(speaker: Speaker, tmp_path: Path) -> None:
    log = run_task(speaker, tmp_path, {}, epochs=2)
    first, second = direct(speaker), direct(speaker, epoch=2)
    assert first[0][1].text != second[0][1].text  # each epoch draws anew
    expected = {(n + 1, e + 1): a.text for e, row in enumerate((first, second)) for n, (_, a) in enumerate(row)}
    assert said(log) == expected
    assert log.samples is not None
    output = log.samples[0].output
    assert output.usage is not None and output.usage.output_tokens == first[0][1].tokens
    assert output.stop_reason == ("stop" if first[0][1].ended else "max_tokens")


def test_a_subject_is_found_by_its_name(tiny_model_folder: Path, tmp_path: Path) -> None:
    speaker = Models().speaker(str(tiny_model_folder))
    log = run_task(speaker, tmp_path, {}, by_name=f"charactery/{tiny_model_folder}")
    assert said(log) == {(n + 1, 1): answer.text for n, (_, answer) in enumerate(direct(speaker))}


def test_answers_made_before_are_given_back(speaker: Speaker, tmp_path: Path, tiny_model: LocalModel) -> None:
    (first, answer), (_, other) = direct(speaker)
    made_before = Answer("Because I said so.", 5, True)
    assert answer != made_before
    sizes = watch(tiny_model)
    log = run_task(speaker, tmp_path, {hashable(first): made_before})
    assert said(log) == {(1, 1): "Because I said so.", (2, 1): other.text}
    assert sizes == [1]


def test_what_is_asked_together_is_answered_together(speaker: Speaker, tmp_path: Path, tiny_model: LocalModel) -> None:
    sizes = watch(tiny_model)
    run_task(speaker, tmp_path, {}, epochs=3)
    assert sum(sizes) == 6 and max(sizes) > 1


def test_a_request_longer_than_the_context_is_that_samples_alone(speaker: Speaker, tmp_path: Path) -> None:
    samples = [Sample(id=1, input="Why is the sky blue?"), Sample(id=2, input="tea " * 1200)]
    task = Task(dataset=samples, solver=generate(), config=CONFIG)
    model = inspect_model(speaker, "tiny", {})
    [log] = inspect_eval(task, model=model, log_dir=str(tmp_path), display="none", log_level="error")
    assert log.status == "success" and log.samples is not None
    one, two = sorted(log.samples, key=lambda s: str(s.id))
    assert one.output.completion == direct(speaker)[0][1].text and one.output.error is None
    assert (two.output.completion, two.output.stop_reason) == ("", "model_length")
    assert "do not fit" in str(two.output.error)


@pytest.mark.parametrize(
    "unmet", [{"stop_seqs": ["\n"]}, {"num_choices": 2}, {"top_k": 5}, {"frequency_penalty": 0.5}, {"best_of": 2}]
)
def test_what_cannot_be_done_is_said(speaker: Speaker, unmet: dict[str, Any]) -> None:
    api = subject_model(speaker).api
    with pytest.raises(CharacteryError, match=f"do not answer with {next(iter(unmet))};"):
        asyncio.run(api.generate([ChatMessageUser(content="Tea?")], [], "none", GenerateConfig(**unmet)))


def test_no_mass_at_all_is_the_likeliest_token(speaker: Speaker) -> None:
    def asked(**how: Any) -> str:
        config = GenerateConfig(max_tokens=8, seed=3, num_choices=1, stop_seqs=[], top_k=0, **how)
        made = asyncio.run(subject_model(speaker).api.generate([ChatMessageUser(content="Tea?")], [], "none", config))
        assert isinstance(made, ModelOutput)
        return made.completion

    assert asked(top_p=0, temperature=1.0) == asked(temperature=0.0) != asked(temperature=1.0)


def test_too_little_memory_halves_the_batch(
    speaker: Speaker, tmp_path: Path, tiny_model: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = {(n + 1, 1): answer.text for n, (_, answer) in enumerate(direct(speaker))}
    step, steps = Decoder.step, 0

    def stepped(self: Decoder, token_B: torch.Tensor, states: Any) -> torch.Tensor:
        nonlocal steps
        steps += 1
        if len(token_B) > 1 and steps > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return step(self, token_B, states)

    monkeypatch.setattr(Decoder, "step", stepped)
    sizes = watch(tiny_model)
    with pytest.warns(CharacteryWarning, match="memory ran short: 2 answers"):
        log = run_task(speaker, tmp_path, {})
    assert said(log) == expected and sizes == [2, 1, 1]
    assert [s.output.metadata for s in log.samples or []] == [{"batch_halved": 1}] * 2


def test_what_memory_halved_says_so_and_goes_on_saying_so(
    speaker: Speaker, tiny_model: LocalModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[ChatMessage]] = [[ChatMessageUser(content=text)] for text in ("Tea?", "Why?", "Is it blue?")]

    def all_of_it(journal: str) -> tuple[list[ModelOutput], int]:
        model = subject_model(speaker, journal=Journal(tmp_path / journal))

        async def together() -> list[ModelOutput]:
            scored, reply = GenerateConfig(prompt_logprobs=1), ChatMessageAssistant(content="Aye.")
            return list(await asyncio.gather(
                *(model.api.generate(one, [], "none", CONFIG) for one in asked),  # type: ignore[arg-type]
                *(model.api.generate([*one, reply], [], "none", scored) for one in asked),  # type: ignore[arg-type]
            ))  # fmt: skip

        return asyncio.run(together()), count_halved(model)

    outputs, halved = all_of_it("roomy")
    assert [o.metadata for o in outputs] == [None] * 6 and halved == 0
    score = LocalModel._score

    def short(self: LocalModel, batch: Any, reader: Any) -> list[torch.Tensor]:
        no_room(len(batch))
        return score(self, batch, reader)

    def no_room(size: int) -> None:
        if size > 2:
            raise MemoryError

    monkeypatch.setattr(LocalModel, "_score", short)
    watch(tiny_model, no_room)
    with pytest.warns(CharacteryWarning, match="memory ran short: 3"):
        outputs, halved = all_of_it("kept")
    assert [o.metadata for o in outputs] == [{"batch_halved": 1}] * 6 and halved == 6
    sizes = watch(tiny_model)
    again, halved = all_of_it("kept")  # on from where it was stopped, with nothing left to compute
    assert not sizes and [o.metadata for o in again] == [{"batch_halved": 1}] * 6 and halved == 6


def test_an_error_reaches_every_sample_that_waits(speaker: Speaker, tiny_model: LocalModel) -> None:
    def broken(size: int) -> None:
        raise RuntimeError("no such luck")

    async def both() -> list[object]:
        api = inspect_model(speaker, "tiny", {}).api
        watch(tiny_model, broken)
        asked = [api.generate([ChatMessageUser(content=text)], [], "none", CONFIG) for text in ("a", "b")]
        return await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 20)

    assert [str(e) for e in asyncio.run(both())] == ["no such luck"] * 2


def test_a_model_that_cannot_be_loaded_is_every_samples_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: CharacteryAPI) -> Speaker:
        raise CharacteryError("not here")

    async def both() -> list[object]:
        api = CharacteryAPI("smollm2")
        monkeypatch.setattr(CharacteryAPI, "loaded", fail)
        asked = [api.generate([ChatMessageUser(content=text)], [], "none", CONFIG) for text in ("a", "b")]
        return await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 20)

    assert [str(e) for e in asyncio.run(both())] == ["not here"] * 2


def test_a_sample_that_is_cancelled_leaves_the_others(speaker: Speaker) -> None:
    async def two() -> str:
        api = inspect_model(speaker, "tiny", {}).api
        first, second = (
            asyncio.create_task(api.generate([ChatMessageUser(content=text)], [], "none", CONFIG)) for text in "ab"
        )
        await asyncio.sleep(0.05)
        first.cancel()
        return (await asyncio.wait_for(second, 20)).completion

    [expected] = speaker.answer([request_for([user("b")], 3)], SAMPLER)
    assert asyncio.run(two()) == expected.text


@pytest.mark.parametrize(("config", "most"), [(CONFIG, 50), (CONFIG.model_copy(update={"max_connections": 8}), 8)])
def test_as_many_are_asked_at_once_as_there_are(
    config: GenerateConfig, most: int, speaker: Speaker, tmp_path: Path, tiny_model: LocalModel
) -> None:
    """Inspect would begin with 20 at once; who asks for fewer gets fewer."""
    sizes = watch(tiny_model)
    task = Task([Sample(id=n, input=f"Question {n}?") for n in range(50)], solver=generate(), config=config)
    model = inspect_model(speaker, "tiny", {})
    [log] = inspect_eval(task, model=model, display="none", log_dir=str(tmp_path), log_level="error")
    assert log.status == "success" and sum(sizes) == 50 and max(sizes) == most


def test_answers_fill_their_batches_beside_scores(
    speaker: Speaker, tiny_model: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("charactery.models.inspect_provider.GATHER", 1.0)  # on a busy machine too

    async def both() -> None:
        model = inspect_model(speaker, "tiny-70", {})  # Inspect keeps how many may be asked at once by the name
        asked = []
        for n in range(70):
            question = ChatMessageUser(content=f"Question {n}?")
            asked.append(model.generate([question], config=CONFIG))
            scored = [question, ChatMessageAssistant(content="Aye.")]
            asked.append(model.generate(scored, config=GenerateConfig(prompt_logprobs=1)))
        await asyncio.gather(*asked)

    sizes = watch(tiny_model)
    asyncio.run(both())
    assert sizes == [70]


def test_long_requests_are_answered_fewer_at_once(
    speaker: Speaker, tiny_model: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("charactery.models.inspect_provider.GATHER", 1.0)
    monkeypatch.setattr("charactery.models.inspect_provider.BATCH", 4)
    assert tiny_model.token_bytes
    monkeypatch.setattr("charactery.models.speaker.PLACE", (SAMPLER.max_tokens + 5) * tiny_model.token_bytes)

    async def all_of_them() -> None:
        api = inspect_model(speaker, "tiny", {}).api
        texts = ["a", "b", "c", "d", "e", *(letter * 20 for letter in "fgh")]
        await asyncio.gather(*(api.generate([ChatMessageUser(content=t)], [], "none", CONFIG) for t in texts))

    sizes = watch(tiny_model)
    asyncio.run(all_of_them())
    assert sizes == [4, 2, 2]  # the shortest four; one of a place and one of two; two of two


def scores(model: Model, messages: list[ChatMessage]) -> ModelOutput:
    config = GenerateConfig(prompt_logprobs=1)
    return asyncio.run(model.api.generate(messages, [], "none", config))  # type: ignore[arg-type,return-value]


def test_a_reply_is_scored_token_by_token(speaker: Speaker, tiny_model: LocalModel) -> None:
    reply = "Because it scatters light."
    asked = [ChatMessageUser(content="Why is the sky blue?"), ChatMessageAssistant(content=reply)]
    output = scores(subject_model(speaker), [*asked])
    told = output.choices[0].prompt_logprobs
    assert told is not None and "".join(t.token for t in told.content) == reply and output.completion == ""
    context = prompt_tokens(tiny_model.tokenizer, [user("Why is the sky blue?")])
    ids = tiny_model.tokenizer(reply, add_special_tokens=False)["input_ids"]
    [wanted] = tiny_model.score([(context, ids)])
    assert [t.logprob for t in told.content] == pytest.approx(wanted.tolist(), abs=1e-5)
    long = scores(subject_model(speaker), [ChatMessageUser(content="tea " * 1200), asked[1]])
    assert long.stop_reason == "model_length" and long.choices[0].prompt_logprobs is None


def test_a_base_models_dialogue_frame_is_followed_by_a_space(tiny_model: LocalModel) -> None:
    tokenizer = tiny_model.tokenizer
    own = reply_tokens(tokenizer, prompt_tokens(tokenizer, [user("Tea?")]), "(A)")
    assert tokenizer.decode(own) == "(A)"  # after the line's end
    assert tokenizer.decode(reply_tokens(tokenizer, [tokenizer.eos_token_id], "(A)")) == "(A)"
    tokenizer.chat_template = BASE_TEMPLATE
    plain = reply_tokens(tokenizer, prompt_tokens(tokenizer, [user("Tea?")]), "(A)")
    assert tokenizer.decode(plain) == " (A)"


def test_answers_and_scores_are_kept(speaker: Speaker, tiny_model: LocalModel, tmp_path: Path) -> None:
    asked: list[ChatMessage] = [ChatMessageUser(content="Tea?"), ChatMessageAssistant(content="Aye.")]

    def both() -> tuple[str, str]:
        model = subject_model(speaker, journal=Journal(tmp_path / "kept.jsonl"))
        answer = asyncio.run(model.api.generate(asked[:1], [], "none", CONFIG))
        return answer.completion, str(scores(model, asked).choices[0].prompt_logprobs)  # type: ignore[union-attr]

    first = both()
    sizes = watch(tiny_model)
    assert both() == first and sizes == []


def test_a_model_behind_an_api_answers_in_its_own_way(monkeypatch: pytest.MonkeyPatch) -> None:
    model = get_model("charactery/mockllm/model+captain", memoize=False)
    assert isinstance(model.api, CharacteryAPI) and not model.api.scores_replies
    heard: list[Any] = []

    def outputs(input: list[ChatMessage], tools: Any, choice: Any, config: GenerateConfig) -> ModelOutput:
        heard.append((input, config))
        output = ModelOutput.from_content("mockllm/model", "Aye.")
        output.usage = ModelUsage()
        return output

    mock = get_model("mockllm/model", custom_outputs=outputs, memoize=False)
    monkeypatch.setattr("charactery.models.api.get_model", lambda name: mock)
    config = GenerateConfig(logprobs=True, top_logprobs=5, seed=1)
    for _ in range(2):
        said = asyncio.run(model.api.generate([ChatMessageUser(content="Tea?")], [], "none", config))
        assert said.completion == "Aye."  # type: ignore[union-attr]
    [(input, with_config)] = heard  # the second was kept
    assert [m.role for m in input] == ["system", "user"] and "captain" in input[0].text.lower()
    assert with_config.top_logprobs == 5
