"""Bulk answers: what is done is not done again, a kill costs one batch, and too little memory costs only time."""

import asyncio
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from inspect_ai.model import ModelOutput, get_model
from inspect_ai.model._model import ModelGenerateError

from charactery.constitution import find_character, system_prompt
from charactery.errors import CharacteryWarning, ModelNotFound
from charactery.memory import halvings
from charactery.models.chat import assistant, system, user
from charactery.models.local import Adapter, Answer, LocalModel, Request, Sampler
from charactery.models.speaker import PLACE, Ask, Models, Speaker, answer_all, as_character, batches, places, stretches
from charactery.models.subject import parse_subject
from charactery.runs import Journal
from conftest import build_model
from test_models_subject import make_run

SAMPLER = Sampler(max_tokens=6, temperature=1.0)
WORDS = ("hi", "tea, then?", "why is the sky blue", "b", "a rope and a sail and a knot", "e", "so it is", "x y z")
ASKED = [Request((user(text),), seed) for seed, text in enumerate(WORDS)]


def each(speaker: Speaker, requests: Sequence[Request]) -> list[Ask]:
    return [(speaker, request) for request in requests]


@pytest.fixture
def speaker(tiny_model: LocalModel) -> Speaker:
    return Speaker(parse_subject("smollm2"), tiny_model, None, "tiny")


def watch(model: LocalModel, fail: Callable[[int], None] = lambda size: None) -> list[int]:
    """The sizes of the batches that `model` is asked for from now on; `fail` may raise on one."""
    sizes: list[int] = []
    generate = model.generate

    def watched(requests: Sequence[Request], *args: Any) -> list[Answer]:
        sizes.append(len(requests))
        fail(len(requests))
        return generate(requests, *args)

    model.generate = watched  # type: ignore[method-assign]
    return sizes


def test_answers_come_in_the_order_asked(speaker: Speaker, tmp_path: Path, tiny_model: LocalModel) -> None:
    sizes, seen = watch(tiny_model), []
    answers = answer_all(each(speaker, ASKED), SAMPLER, Journal(tmp_path / "j"), seen.append, batch_size=3)
    assert sizes == seen == [2, 3, 3]
    one_by_one = answer_all(each(speaker, ASKED), SAMPLER, Journal(tmp_path / "k"), batch_size=1)
    assert answers == one_by_one  # in float32 the company an answer keeps does not matter here
    assert len({a.text for a in answers}) == len(ASKED)


def test_what_is_in_the_journal_is_not_asked_again(speaker: Speaker, tmp_path: Path, tiny_model: LocalModel) -> None:
    first = answer_all(each(speaker, ASKED), SAMPLER, Journal(tmp_path / "j"), batch_size=3)
    before = (tmp_path / "j").read_bytes()
    sizes, seen = watch(tiny_model), []
    assert answer_all(each(speaker, ASKED), SAMPLER, Journal(tmp_path / "j"), seen.append, batch_size=3) == first
    assert sizes == [] and sum(seen) == len(ASKED)
    assert (tmp_path / "j").read_bytes() == before


def test_a_line_torn_by_a_kill_costs_its_batch_alone(speaker: Speaker, tmp_path: Path, tiny_model: LocalModel) -> None:
    path = tmp_path / "j"
    first = answer_all(each(speaker, ASKED), SAMPLER, Journal(path), batch_size=3)
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    sizes = watch(tiny_model)
    assert answer_all(each(speaker, ASKED), SAMPLER, Journal(path), batch_size=3) == first
    assert sizes == [3]
    assert path.read_bytes() == whole


@pytest.mark.parametrize("what", ["seed", "sampler", "subject", "text"])
def test_another_question_is_asked_anew(speaker: Speaker, tmp_path: Path, tiny_model: LocalModel, what: str) -> None:
    answer_all(each(speaker, ASKED), SAMPLER, Journal(tmp_path / "j"))
    sizes, asked, sampler = watch(tiny_model), list(ASKED), SAMPLER
    if what == "seed":
        asked[3] = replace(asked[3], seed=99)
    elif what == "sampler":
        sampler = replace(SAMPLER, temperature=0.9)
    elif what == "subject":
        speaker = replace(speaker, identity="another")
    else:
        asked[0] = Request((user("ho"),), 0)
    answer_all(each(speaker, asked), sampler, Journal(tmp_path / "j"))
    assert sizes == [8]


def no_memory_on_a_gpu(size: int) -> None:
    if size > 2:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def no_memory_on_the_cpu(size: int) -> None:
    if size > 2:
        torch.empty(2**60)  # torch's own error


@pytest.mark.parametrize("fail", [no_memory_on_a_gpu, no_memory_on_the_cpu])
def test_too_little_memory_halves_the_batch(
    speaker: Speaker, tmp_path: Path, tiny_model: LocalModel, fail: Callable[[int], None]
) -> None:
    expected = answer_all(each(speaker, ASKED), SAMPLER, Journal(tmp_path / "small"), batch_size=2)
    sizes = watch(tiny_model, fail)
    journal, before = Journal(tmp_path / "j"), halvings()
    with pytest.warns(CharacteryWarning, match="memory ran short: 8 answers"):
        assert answer_all(each(speaker, ASKED), SAMPLER, journal, batch_size=8) == expected
    assert sizes == [8, 4, 2, 2, 2, 2]
    assert halvings() == before + 2
    assert answer_all(each(speaker, ASKED), SAMPLER, Journal(tmp_path / "j"), batch_size=8) == expected
    assert len(sizes) == 6


def test_an_error_that_is_not_memory_is_raised_at_once(
    speaker: Speaker, tmp_path: Path, tiny_model: LocalModel
) -> None:
    def broken(size: int) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    sizes = watch(tiny_model, broken)
    with pytest.raises(RuntimeError, match="shapes"):
        answer_all(each(speaker, ASKED), SAMPLER, Journal(tmp_path / "j"))
    assert sizes == [8]


def test_one_request_that_does_not_fit_alone_is_an_error(
    speaker: Speaker, tmp_path: Path, tiny_model: LocalModel
) -> None:
    def never(size: int) -> None:
        raise torch.OutOfMemoryError("out")

    watch(tiny_model, never)
    with pytest.raises(torch.OutOfMemoryError):
        answer_all(each(speaker, ASKED[:2]), SAMPLER, Journal(tmp_path / "j"))


def test_a_character_stands_before_any_system_message() -> None:
    talk = (user("a"), assistant("b"), user("c"))
    assert as_character(talk, "You are P.") == (system("You are P."), *talk)
    assert as_character((system("Help."), *talk), "You are P.") == (system("You are P.\n\nHelp."), *talk)


def test_a_prompted_subject_reads_its_character(tiny_model: LocalModel) -> None:
    captain = find_character("captain")
    prompted = Speaker(parse_subject("smollm2+captain"), tiny_model, None, "tiny")
    plain = Speaker(parse_subject("smollm2"), tiny_model, None, "tiny")
    [seen] = [prompted.prompt(ASKED[0].messages)[0]]
    assert seen == system(system_prompt(captain))
    tiny_model.context = 10_000
    asked = Request((seen, *ASKED[0].messages), 0)
    assert prompted.answer([ASKED[0]], SAMPLER) == plain.answer([asked], SAMPLER)
    assert prompted.answer([ASKED[0]], SAMPLER) != plain.answer([ASKED[0]], SAMPLER)


def test_subjects_of_one_base_share_its_weights_and_differ_in_identity(
    tiny_model_folder: Path, tiny_adapters: list[Path], tmp_path: Path
) -> None:
    run = make_run(tmp_path / "run", (), settings={"model": str(tiny_model_folder)})
    for name, adapter in zip(("01-sft", "02-dpo"), tiny_adapters, strict=True):
        (run / "stages" / name).mkdir(parents=True)
        (run / "stages" / name / "adapter").symlink_to(adapter)
    models = Models("cpu")
    speakers = [models.speaker(text) for text in (str(tiny_model_folder), f"{run}", f"{run}@0.5", f"{run}:sft")]
    assert len({id(s.model) for s in speakers}) == 1
    assert len({s.identity for s in speakers}) == 4
    assert speakers[2].adapter == Adapter(run / "stages/02-dpo/adapter", 0.5)
    assert Models("cpu").speaker(f"{run}@0.5").identity == speakers[2].identity
    answers = [s.answer([ASKED[4]], Sampler(6, 0)) for s in speakers]
    assert len({a[0].text for a in answers}) >= 3


def test_a_folder_and_a_hub_id_of_one_name_are_two_models(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_model_folder, tmp_path / "org/name")
    hub = shutil.copytree(tiny_model_folder, tmp_path / "cache")
    monkeypatch.setattr("charactery.models.speaker.from_hub", lambda name: hub)
    models = Models("cpu")
    here, there = models.speaker("org/name"), models.speaker("hf:org/name")
    assert here.subject.base == there.subject.base and here.model is not there.model
    assert batches(each(here, ASKED[:1]) + each(there, ASKED[:1]), 9) == [[0], [1]]


@pytest.mark.parametrize("changed", ["weights", "template", "nothing"])
def test_a_folder_that_has_changed_is_loaded_anew(tiny_model_folder: Path, tmp_path: Path, changed: str) -> None:
    folder, models = shutil.copytree(tiny_model_folder, tmp_path / "mine"), Models("cpu")
    before = models.speaker(str(folder))
    if changed == "weights":
        build_model(folder, before.model.tokenizer, seed=7)  # type: ignore[union-attr]
    elif changed == "template":
        (folder / "chat_template.jinja").write_text("{{ messages[-1]['content'] }}")
    after = models.speaker(str(folder))
    same = changed == "nothing"
    assert (after.model is before.model, after.identity == before.identity) == (same, same)
    assert (after.made_of == before.made_of) == (changed != "weights")
    assert (after.answer(ASKED[:1], SAMPLER) == before.answer(ASKED[:1], SAMPLER)) == same
    assert len(models._bases) == 1


def test_a_model_behind_an_api_has_no_weights_here() -> None:
    models = Models("cpu")
    speaker = models.speaker("openai/gpt-4o")
    assert (speaker.model, speaker.identity) == (None, "openai/gpt-4o")
    with pytest.raises(ModelNotFound, match="answers over an API"):
        models.base(speaker.subject)


def test_a_model_behind_an_api_is_asked_through_inspect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def count(self: object, text: str) -> int:  # Inspect's own count would fetch a vocabulary
        return len(text.split())

    monkeypatch.setattr("inspect_ai.model._model.ModelAPI.count_text_tokens", count)
    speaker = Models("cpu").speaker("mockllm/model")
    answers = answer_all(each(speaker, ASKED[:2]), SAMPLER, Journal(tmp_path / "j"))
    assert [a.text for a in answers] == ["Default output from mockllm/model"] * 2
    assert all(a.ended for a in answers)


class Status(Exception):
    """As a service's package raises it."""

    def __init__(self, status_code: int) -> None:
        super().__init__(f"status {status_code}")
        self.status_code = status_code


@pytest.fixture
def behind(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[str], ModelOutput]], Speaker]:
    """A model behind an API that answers what it is told to, by the last message."""

    async def count(self: object, text: str) -> int:
        return len(text.split())

    monkeypatch.setattr("inspect_ai.model._model.ModelAPI.count_text_tokens", count)

    def made(says: Callable[[str], ModelOutput], anew: bool = True) -> Speaker:
        if anew:
            monkeypatch.setattr("charactery.models.api._answered", set())

        def outputs(input: Any, tools: Any, choice: Any, config: Any) -> ModelOutput:
            return says(input[-1].text)

        mock = get_model("mockllm/model", custom_outputs=outputs, memoize=False)
        monkeypatch.setattr("charactery.models.api.get_model", lambda name: mock)
        return Models("cpu").speaker("mockllm/model")

    return made


def aye(stop_reason: Any = "stop", text: str = "Aye.") -> ModelOutput:
    return ModelOutput.from_content("mockllm/model", text, stop_reason)


def raises(error: BaseException) -> ModelOutput:
    raise error


@pytest.mark.parametrize(
    "error",
    [Status(400), Status(413), ValueError("too long")],
)
def test_what_a_service_refuses_is_that_requests_alone(behind: Any, tmp_path: Path, error: Exception) -> None:
    speaker = behind(lambda text: raises(error) if text == "b" else aye())
    answers = answer_all(each(speaker, ASKED[2:5]), SAMPLER, Journal(tmp_path / "j"))
    assert [a.text for a in answers] == ["Aye.", "", "Aye."]
    why = f"mockllm/model refuses it: {error}"
    assert [a.error for a in answers] == ["", why, ""]
    # of a service that has answered before, so is a batch that holds nothing else; it is asked for again alone
    speaker = behind(lambda text: raises(error), anew=False)
    assert [a.error for a in speaker.answer(ASKED[:2], SAMPLER)] == [why] * 2
    speaker = behind(lambda text: raises(error))
    assert [a.error for a in speaker.answer(ASKED[:1], SAMPLER)] == [why]
    with pytest.raises(ModelNotFound, match="mockllm/model refuses it"):
        speaker.answer(ASKED[:3], SAMPLER)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), asyncio.CancelledError(), ZeroDivisionError()])
def test_what_is_no_refusal_ends_the_batch(behind: Any, error: BaseException) -> None:
    speaker = behind(lambda text: raises(error) if text == "b" else aye())
    with pytest.raises(type(error)):
        speaker.answer(ASKED[2:5], SAMPLER)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (Status(401), r"does not answer \(401\)"), (Status(402), r"does not answer \(402\)"),
        (ModelGenerateError("\nRequest:\n{}", provider_message="no"), r"does not answer \(no status\): no"),
    ],
)  # fmt: skip
def test_what_is_not_the_requests_fault_is_not_kept_as_its_own(
    behind: Any, tmp_path: Path, error: Exception, said: str
) -> None:
    speaker, journal = behind(lambda text: raises(error) if text == "b" else aye()), Journal(tmp_path / "j")
    with pytest.raises(ModelNotFound, match=said):
        answer_all(each(speaker, ASKED[2:5]), SAMPLER, journal)
    assert not journal.done


def test_an_answer_that_a_filter_withholds_is_none(behind: Any) -> None:
    speaker = behind(lambda text: aye("content_filter", "Blocked.") if text == "b" else aye("max_tokens"))
    cut, withheld = speaker.answer(ASKED[2:4], SAMPLER)
    assert (cut.text, cut.ended, cut.error) == ("Aye.", False, "")
    assert (withheld.text, withheld.ended) == ("", False) and "content filter): Blocked." in withheld.error


def test_speakers_of_the_same_weights_share_even_batches(tiny_model: LocalModel) -> None:
    plain = Speaker(parse_subject("smollm2"), tiny_model, None, "tiny")
    prompted = Speaker(parse_subject("smollm2+captain"), tiny_model, None, "tiny")
    trained = Speaker(parse_subject("smollm2"), tiny_model, Adapter(Path("a")), "trained")
    asks = [(who, Request((user("a" * size),), 0)) for who in (plain, prompted, trained) for size in (9, 2, 5)]
    mixed = [asks[n] for n in (6, 0, 3, 7, 1, 4, 8, 2, 5)]
    assert batches(asks, 9) == [[1, 2, 0, 4, 5, 3], [7, 8, 6]]
    assert batches(asks, 4) == [[1, 2, 0], [4, 5, 3], [7, 8, 6]]  # three and three, not four and two
    assert batches(asks, 2) == [[1, 2], [0, 4], [5, 3], [7], [8, 6]]
    assert [sorted(batch) for batch in batches(mixed, 9)] == [[0, 3, 6], [1, 2, 4, 5, 7, 8]]
    assert batches([], 4) == []


def test_a_batch_holds_half_as_many_requests_whose_keys_take_much_memory(
    tiny_model: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    speaker = Speaker(parse_subject("smollm2+captain"), tiny_model, None, "tiny")
    fits = PLACE // tiny_model.token_bytes
    short, long = (speaker, Request((user("a" * 9),), 0)), (speaker, Request((user("a" * 3 * fits),), 0))
    assert [places(ask, 96) for ask in (short, long)] == [1, 2]
    assert [places(short, most) for most in (fits - 3, fits - 2)] == [1, 2]
    assert places((speaker, Request((user("a"),), 0, "a" * 3 * fits)), 96) == 2, "what it begins with is held"
    assert places((speaker, Request((user("名" * fits),), 0)), 96) == 2, "a letter of some languages is a token"
    assert batches([long, *[short] * 4, long], 4, 96) == [[1, 2, 3, 4], [0, 5]]
    elsewhere = Speaker(parse_subject("mockllm/model"), None, None, "m")
    assert places((elsewhere, short[1]), 96) == 2
    monkeypatch.setattr(tiny_model, "token_bytes", None)  # read by transformers' code
    assert places(short, 96) == 2


def test_what_is_cut_is_even_and_never_empty() -> None:
    assert stretches([1] * 9, 4) == [(0, 3), (3, 6), (6, 9)] and stretches([2, 1, 2, 1], 3) == [(0, 2), (2, 4)]
    assert stretches([2, 2], 1) == [(0, 1), (1, 2)] and stretches([2, 1], 2) == [(0, 2)] and stretches([], 4) == []


def test_what_speakers_say_does_not_depend_on_the_company(tiny_model: LocalModel, tmp_path: Path) -> None:
    tiny_model.context = 10_000
    speakers = [Speaker(parse_subject(f"smollm2{c}"), tiny_model, None, c) for c in ("", "+captain", "+hhh")]
    asks = [(who, request) for who in speakers for request in ASKED]
    together = answer_all(asks, SAMPLER, Journal(tmp_path / "j"))
    alone = [who.answer([request], SAMPLER)[0] for who, request in asks]
    assert together == alone
    assert len({a.text for a in together}) > len(ASKED)
