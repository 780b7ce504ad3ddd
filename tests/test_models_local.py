"""Generating and scoring in batches gives what one prompt at a time through transformers gives, adapters and all."""

import math
import shutil
import time
import warnings
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import wraps
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from charactery import cli
from charactery.errors import CharacteryWarning, ModelNotFound
from charactery.models import attending, decoder, local, products
from charactery.models.chat import BASE_TEMPLATE, Message, assistant, prompt_tokens, system, user
from charactery.models.held import Held, Slot
from charactery.models.local import Adapter, LocalModel, Request, Sampler, _kin, bits_per_byte, derive_seed
from charactery.models.network import Network
from charactery.runs import open_run, read_manifest
from plainly import SHARING, one_at_a_time, plain_score

GREEDY = Sampler(max_tokens=24, temperature=0)
DRAWN = Sampler(max_tokens=16, temperature=1.0)
# Ragged, all behind the template's own system message: they share a prefix.

# Under a base model's frame these differ from the first token on.
APART: list[tuple[Message, ...]] = [
    (system("Be brief."), user("Why?")),
    (user("How do I tie a knot that holds?"),),
    (assistant("Aye, that knot will hold."), user("Will it?")),
    (system("You write the list the evening before, and you read it aloud to a friend."), user("b")),
    (system(""), user("x")),
]


def requests(prompts: Sequence[Sequence[Message]], first_seed: int = 0) -> list[Request]:
    return [Request(tuple(p), first_seed + n) for n, p in enumerate(prompts)]


def with_peft(folder: Path, adapter: Path | None) -> Any:
    """The network as transformers and PEFT load it, with nothing of Charactery's."""
    network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    if adapter is not None:
        from peft import PeftModel

        network = PeftModel.from_pretrained(network, adapter).eval()
    return network


# -- generation


@pytest.mark.parametrize("adapted", [False, True], ids=["base", "adapter"])
@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("prompts", [SHARING, APART], ids=["sharing", "apart"])
def test_greedy_answers_are_those_of_one_prompt_at_a_time(
    tiny_model: LocalModel, tiny_model_folder: Path, tiny_adapters: list[Path],
    prompts: list[tuple[Message, ...]], size: int, adapted: bool,
) -> None:  # fmt: skip
    if prompts is APART:
        tiny_model.tokenizer.chat_template = BASE_TEMPLATE
        assert local._shared_prefix([prompt_tokens(tiny_model.tokenizer, p) for p in prompts]) == 0
    else:
        assert local._shared_prefix([prompt_tokens(tiny_model.tokenizer, p) for p in prompts]) > 10
    folder = tiny_adapters[0] if adapted else None
    network = with_peft(tiny_model_folder, folder)
    answers = tiny_model.generate(requests(prompts[:size]), GREEDY, Adapter(folder) if folder else None)
    assert answers == [one_at_a_time(network, tiny_model, p, GREEDY.max_tokens) for p in prompts[:size]]
    if size == 5:
        assert len({a.text for a in answers}) == 5


def test_a_row_that_ends_early_leaves_the_others_as_they_were(tiny_model: LocalModel, tiny_model_folder: Path) -> None:
    network = with_peft(tiny_model_folder, None)
    prompts = [(user(text),) for text in ("hi", "tea?", "why is the sky blue", "b", "e", "f")]
    answers = tiny_model.generate(requests(prompts), Sampler(40, 0))
    assert {a.ended for a in answers} == {True, False}
    assert len({a.tokens for a in answers}) >= 3
    assert answers == [one_at_a_time(network, tiny_model, p, 40) for p in prompts]


def test_several_answers_to_a_prompt_are_those_of_one(tiny_model: LocalModel, tiny_model_folder: Path) -> None:
    network = with_peft(tiny_model_folder, None)
    prompts = [*SHARING, *SHARING[::-1], SHARING[2]]
    for model in (tiny_model, through_transformers(tiny_model)):
        answers = model.generate(requests(prompts), GREEDY)
        assert answers == [one_at_a_time(network, tiny_model, p, GREEDY.max_tokens) for p in prompts]
        drawn = model.generate(requests(prompts), DRAWN)
        assert drawn[:5] == model.generate(requests(SHARING), DRAWN) and drawn[2] != drawn[-1]


def test_rows_that_have_ended_stay_until_they_are_an_eighth(tiny_model: LocalModel, tiny_model_folder: Path) -> None:
    network = with_peft(tiny_model_folder, None)
    prompts = [(user(text),) for text in "abcdefghijklmnopqrstuvwxyz"]
    answers = tiny_model.generate(requests(prompts), Sampler(40, 0))
    assert 1 < sum(a.ended for a in answers) < len(prompts)
    assert answers == [one_at_a_time(network, tiny_model, p, 40) for p in prompts]


@pytest.mark.parametrize("padding", [0, decoder.Decoder.padding], ids=["apart", "joined"])
def test_long_answers_of_several_groups_outgrow_their_keys_while_rows_end(
    padding: int, tiny_model: LocalModel, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The room for keys is made longer many times, before and after rows have changed places, in groups of any age."""
    monkeypatch.setattr(decoder.Decoder, "padding", padding)
    network = with_peft(tiny_model_folder, None)
    systems = [(), (system("Be brief."),), (system("The captain speaks of the sea, of ropes and of weather."),)]
    prompts = [(*said, user(text)) for said in systems for text in ("hi", "tea?", "why is the sky blue", *"bcdefg")]
    rounds: list[list[tuple[int, int]]] = []
    begun, alive = list[weakref.ref[Any]](), list[int]()
    begin, step = decoder.Decoder.begin, decoder.Decoder.step

    def begins(self: Any, *what: Any) -> Any:
        logits, state = begin(self, *what)
        begun.append(weakref.ref(state))
        return logits, state

    def watched(self: Any, token_B: torch.Tensor, states: Any) -> torch.Tensor:
        rounds.append([(state.width, state.rows) for state in states])
        alive.append(sum(state() is not None for state in begun))
        return step(self, token_B, states)

    monkeypatch.setattr(decoder.Decoder, "begin", begins)
    monkeypatch.setattr(decoder.Decoder, "step", watched)
    answers = tiny_model.generate(requests(prompts), Sampler(60, 0))
    assert answers == [one_at_a_time(network, tiny_model, p, 60) for p in prompts]
    assert len(rounds) == 59 and (len(rounds[0]) == 1 if padding else len(rounds[0]) >= 3)
    assert alive[0] == len(rounds[0])  # what was joined to another is let go
    assert 1 < sum(a.tokens == 60 for a in answers) < sum(a.tokens > attending.STRIDE for a in answers) < len(prompts)
    fewer = [n for n, (one, two) in enumerate(pairwise(rounds)) if sum(r for _, r in one) > sum(r for _, r in two)]
    assert len(fewer) >= 3 and fewer[-1] > 2 * attending.STRIDE


def through_transformers(model: LocalModel) -> LocalModel:
    """The same model without the decoder of our own."""
    copy = LocalModel(model.model, model.tokenizer, model.name)
    copy.decodes = False
    return copy


def test_a_network_whose_attention_stays_its_own_answers_and_scores_the_same(
    tiny_model: LocalModel, tiny_model_folder: Path
) -> None:
    network = AutoModelForCausalLM.from_pretrained(tiny_model_folder, dtype=torch.float32, attn_implementation="eager")
    own = through_transformers(LocalModel(network, tiny_model.tokenizer, "tiny"))
    assert own.shares is False and tiny_model.shares is True
    assert own.generate(requests(SHARING), GREEDY) == tiny_model.generate(requests(SHARING), GREEDY)
    pairs = scoring_pairs(tiny_model)["contexts that share a beginning"]
    for mine, theirs in zip(own.score(pairs), tiny_model.score(pairs), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=0)


def test_through_transformers_what_rows_share_is_held_once_and_several_answers_read_a_prompt_once(
    tiny_model: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    caches: list[Any] = []
    rows: list[int] = []
    started = Network._started
    monkeypatch.setattr(Network, "_started", lambda *a: rows.append(a[2]) or caches.append(started(*a)) or caches[-1])
    through_transformers(tiny_model).generate(requests([*SHARING, SHARING[2]]), GREEDY)
    (cache,) = caches
    keys, _ = cache.prefix(0)
    assert rows == [len(SHARING)]
    assert keys.shape[0] == 1 and keys.shape[2] > 10
    assert cache.layers[0].keys.shape[2] == cache.get_seq_length() - keys.shape[2]


def test_the_same_batch_and_seeds_give_the_same_answers(tiny_model: LocalModel) -> None:
    torch.manual_seed(1)
    first = tiny_model.generate(requests(SHARING), DRAWN)
    torch.manual_seed(2)  # the global generator plays no part
    assert tiny_model.generate(requests(SHARING), DRAWN) == first
    assert all(a != b for a, b in zip(first, tiny_model.generate(requests(SHARING, 100), DRAWN), strict=True))


def test_a_seed_belongs_to_its_request_not_to_its_place_in_the_batch(tiny_model: LocalModel) -> None:
    asked = requests(SHARING)
    together = tiny_model.generate(asked, DRAWN)
    assert tiny_model.generate(asked[::-1], DRAWN)[::-1] == together
    same_prompt = tiny_model.generate([Request(SHARING[0], seed) for seed in range(6)], DRAWN)
    assert len({a.text for a in same_prompt}) == 6


def test_streaming_gives_every_token_of_every_request(tiny_model: LocalModel) -> None:
    told: list[tuple[int, int]] = []
    asked = requests([(user("tea?"),), *SHARING])
    answers = tiny_model.generate(asked, Sampler(40, 0), on_token=lambda row, token: told.append((row, token)))
    for row, answer in enumerate(answers):
        tokens = [token for one, token in told if one == row]
        assert len(tokens) == answer.tokens
        assert tiny_model.tokenizer.decode(tokens, skip_special_tokens=True).strip() == answer.text


def test_a_prompt_that_leaves_no_room_says_so_and_the_others_are_answered(tiny_model: LocalModel) -> None:
    long = (user("tea " * 900),)
    count = len(prompt_tokens(tiny_model.tokenizer, long))
    sampler = Sampler(max_tokens=300, temperature=0)
    first, none, last = tiny_model.generate(requests([SHARING[0], long, SHARING[1]]), sampler)
    assert [first, last] == tiny_model.generate(requests(SHARING[:2]), sampler) and not first.error
    assert (none.text, none.tokens, none.ended) == ("", 0, False)
    for words in (str(count), "300", "1024", "tiny", "--max-tokens"):
        assert words in none.error
    streamed: set[int] = set()
    tiny_model.generate(requests([long, SHARING[0]]), sampler, on_token=lambda row, token: streamed.add(row))
    assert streamed == {1}  # by its place among all that were asked for
    pairs = [([1] * 10, [5] * 3), ([1] * 1000, [5] * 25), ([1] * 999, [5] * 25), ([1] * 1024, [])]
    with pytest.warns(CharacteryWarning) as said:
        values = tiny_model.score(pairs)
    [one] = said
    assert str(one.message) == (
        "1 of 4 texts are not scored: the first is 1025 tokens long with what it follows, and tiny's context holds 1024"
    )
    assert [len(v) for v in values] == [3, 25, 25, 0]
    assert [bool(v.isnan().any()) for v in values] == [False, True, False, False] and values[1].isnan().all()


def test_the_command_line_says_a_warning_in_a_line(
    tiny_model: LocalModel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "app", lambda **_: tiny_model.score([([1] * 1000, [5] * 25), ([1], [5])]))
    with warnings.catch_warnings():
        cli.main()
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("charactery: 1 of 2 texts are not scored: the first is 1025 tokens long")


def test_a_folder_that_is_no_model_says_what_to_do(tiny_model_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="charactery models"):
        LocalModel.load(tmp_path, "nothing", "cpu")
    for file in tiny_model_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])  # a download that was cut off
    with pytest.raises(ModelNotFound, match="cannot load model 'half'"):
        LocalModel.load(tmp_path, "half", "cpu")


# -- sampling


def probabilities(sampler: Sampler, logits: Sequence[float], draws: int = 20_000) -> torch.Tensor:
    """Shares of each token over evenly spread uniform numbers."""
    uniform_B = (torch.arange(draws) + 0.5) / draws
    tokens_B = local._sample(torch.tensor([logits]).expand(draws, -1), uniform_B, sampler)
    return torch.bincount(tokens_B, minlength=len(logits)) / draws


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tokens_are_drawn_with_the_models_probabilities(temperature: float) -> None:
    logits = [2.0, -1.0, 0.5, 0.0, 3.0]
    expected = torch.softmax(torch.tensor(logits) / temperature, -1)
    found = probabilities(Sampler(temperature=temperature), logits)
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=0)


def test_random_draws_pass_a_chi_square() -> None:
    logits = torch.tensor([0.0, 1.0, -1.0, 0.5])
    uniform_B = torch.rand(5000, generator=torch.Generator().manual_seed(7))
    tokens_B = local._sample(logits.expand(5000, -1), uniform_B, Sampler(temperature=1.0))
    expected = 5000 * torch.softmax(logits, -1)
    chi_square = ((torch.bincount(tokens_B, minlength=4) - expected) ** 2 / expected).sum()
    assert chi_square < 16.3  # 3 degrees of freedom, p = 0.001


def test_top_p_keeps_the_fewest_tokens_that_hold_p() -> None:
    logits = [math.log(p) for p in (0.05, 0.5, 0.15, 0.3)]
    found = probabilities(Sampler(temperature=1.0, top_p=0.7), logits)
    torch.testing.assert_close(found, torch.tensor([0, 0.625, 0, 0.375]), atol=2e-4, rtol=0)
    found = probabilities(Sampler(temperature=1.0, top_p=0.01), logits)
    assert found.tolist() == [0, 1, 0, 0]


def test_temperature_nought_takes_the_likeliest_and_the_ends_of_the_uniform_are_safe() -> None:
    logits = [-1e9, 1.0, 2.0, -1e9]
    assert probabilities(Sampler(temperature=0), logits, 10).tolist() == [0, 0, 1, 0]
    ends = torch.tensor([0.0, 1 - 2**-24])
    tokens = local._sample(torch.tensor([logits]).expand(2, -1), ends, Sampler(temperature=1.0))
    assert tokens.tolist() == [1, 2]  # never a token of no probability


# -- scoring


def scoring_pairs(model: LocalModel) -> dict[str, list[tuple[list[int], list[int]]]]:
    contexts = [prompt_tokens(model.tokenizer, p) for p in SHARING]
    answers = [
        model.tokenizer(t, add_special_tokens=False)["input_ids"] for t in ("Aye.", "The sky is blue today.", "x")
    ]
    apart = [[5, 9, 77], [301, 4], [12], [44, 44, 44, 44, 44, 44, 44]]
    return {
        "one context, several answers": [(contexts[1], a) for a in answers],
        "contexts that share a beginning": [(c, a) for a in answers for c in contexts],
        "contexts that share nothing": [(c, answers[1]) for c in apart],
        "one context inside another": [([7, 8], answers[1]), ([7, 8, 9, 10, 11], answers[0]), ([7], answers[2])],
        "duplicates": [(contexts[0], answers[0]), (contexts[2], answers[1]), (contexts[0], answers[0])],
        "one alone": [(contexts[3], answers[1])],
        "contexts of one token": [([7], [5]), ([7], [9, 9])],
        "nothing to score beside something": [(contexts[0], []), (contexts[0], answers[0])],
        "long answers": [(contexts[n], [(31 * i + 7 * n) % 450 for i in range(60 + 9 * n)]) for n in range(3)],
    }


@pytest.mark.parametrize("adapted", [False, True], ids=["base", "adapter"])
@pytest.mark.parametrize("room", [8192, 60])
@pytest.mark.parametrize("theirs", [False, True], ids=["decoder", "transformers"])
def test_scores_are_those_of_a_plain_forward(
    tiny_model: LocalModel, tiny_model_folder: Path, tiny_adapters: list[Path], adapted: bool, room: int, theirs: bool
) -> None:
    folder = tiny_adapters[0] if adapted else None
    network = with_peft(tiny_model_folder, folder)
    model = through_transformers(tiny_model) if theirs else tiny_model
    assert model.shares is True and model.decodes is not theirs
    for name, pairs in scoring_pairs(model).items():
        scores = model.score(pairs, Adapter(folder) if folder else None, batch_tokens=room)
        assert [len(s) for s in scores] == [len(c) for _, c in pairs], name
        for (context, continuation), score in zip(pairs, scores, strict=True):
            if continuation:
                expected = plain_score(network, context, continuation)
                torch.testing.assert_close(score, expected, atol=1e-4, rtol=0, msg=lambda m, name=name: f"{name}: {m}")
                assert score.sum().item() == pytest.approx(expected.sum().item(), abs=1e-3), name


def test_scoring_reads_a_shared_context_once(tiny_model: LocalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted where the work is: tokens put through the products, and places that attend."""
    context = list(range(20, 220))
    pairs = [([*context, n], [300 + n, 5, n, 7]) for n in range(8)]
    put: list[int] = []
    places: list[int] = []
    through, body = decoder.Decoder._through, tiny_model.model.model.forward

    def watched(self: Any, batch: Any, *more: Any) -> torch.Tensor:
        put.append(len(batch.token_N))
        places.append(sum(lines.index_B_L.numel() for lines in batch.lines))
        return through(self, batch, *more)

    monkeypatch.setattr(decoder.Decoder, "_through", watched)
    tiny_model._bare.thing = None  # what a batch before this shared is held
    expected = tiny_model.score(pairs)
    assert put == places == [200, 8 * 4]
    for room, rows in ((5 * 8, 8), (5 * 4, 4)):  # as many rows as have room, what they share counted once
        put.clear()
        tiny_model.score(pairs, batch_tokens=room)
        assert put == [rows * 4] * (8 // rows)  # the context is the last batch's
    put.clear()

    @wraps(body)
    def forward(**inputs: Any) -> Any:
        put.append(inputs["input_ids"].numel())
        return body(**inputs)

    monkeypatch.setattr(tiny_model.model.model, "forward", forward)
    found = through_transformers(tiny_model).score(pairs)
    assert put == [200, 8 * 4]
    for one, two in zip(found, expected, strict=True):
        torch.testing.assert_close(one, two, atol=1e-4, rtol=0)


def short_of_memory(
    monkeypatch: pytest.MonkeyPatch, model: LocalModel, most: int, error: Exception
) -> tuple[LocalModel, list[int]]:
    """A model whose first layer does not bear more than `most` tokens, and the tokens that it was given."""
    given: list[int] = []

    def bear(tokens: int) -> None:
        given.append(tokens)
        if tokens > most:
            raise error

    after, mlp = decoder.Decoder._after, model.model.model.layers[0].mlp
    forward = mlp.forward
    monkeypatch.setattr(
        decoder.Decoder, "_after",
        lambda self, layer, x, heard: (layer is self.layers[0] and bear(len(x))) or after(self, layer, x, heard),
    )  # fmt: skip
    monkeypatch.setattr(mlp, "forward", lambda x: bear(x.shape[:2].numel()) or forward(x))
    return model, given


OUT: list[Exception] = [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("can't allocate memory: 1 bytes")]


@pytest.mark.parametrize("error", OUT, ids=["cuda", "cpu"])
@pytest.mark.parametrize("theirs", [False, True], ids=["decoder", "transformers"])
def test_too_little_memory_scores_a_batch_in_halves(
    tiny_model: LocalModel, monkeypatch: pytest.MonkeyPatch, error: Exception, theirs: bool
) -> None:
    model = through_transformers(tiny_model) if theirs else tiny_model
    pairs = [([400 - n, n + 10, 9], [n, 2 * n, 7]) for n in range(7)]
    expected = model.score(pairs)
    model, given = short_of_memory(monkeypatch, model, 10, error)
    with pytest.warns(CharacteryWarning, match="memory ran short: 7 texts") as caught:
        found = model.score(pairs)
    assert given == [35, 20, 10, 10, 10, 5] and len(caught) == 2
    for one, two in zip(found, expected, strict=True):
        torch.testing.assert_close(one, two, atol=1e-4, rtol=0)
    # and of several batches those after the one that was halved are as small from the start
    model, given = short_of_memory(monkeypatch, model, 10, error)
    with pytest.warns(CharacteryWarning, match="memory ran short: 3 texts") as caught:
        found = model.score(pairs, batch_tokens=20)
    assert len(caught) == 1 and given == [15, 10, 5, 5, 5, 5, 5]
    for one, two in zip(found, expected, strict=True):
        torch.testing.assert_close(one, two, atol=1e-4, rtol=0)
    # and one alone that does not fit is an error, after which the model is as it was
    model, given = short_of_memory(monkeypatch, model, 4, error)
    with pytest.warns(CharacteryWarning), pytest.raises(type(error), match="memory"):
        model.score(pairs[:2])
    monkeypatch.undo()
    for one, two in zip(model.score(pairs), expected, strict=True):
        torch.testing.assert_close(one, two, atol=1e-4, rtol=0)


def test_a_runs_manifest_tells_of_what_memory_halved(
    tiny_model: LocalModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = [[400 - n, n + 10, 9] for n in range(7)]
    expected = tiny_model.draw(prompts, range(7), GREEDY)
    model, _ = short_of_memory(monkeypatch, tiny_model, 10, MemoryError())
    drawn: list[Any] = []
    with open_run(tmp_path, {"settings": {}, "stages": ["grpo", "evaluate"]}) as run:
        with pytest.warns(CharacteryWarning, match="memory ran short: 7 answers are drawn"):
            run.stage("grpo", lambda folder: drawn.append(model.draw(prompts, range(7), GREEDY)), print)
        with pytest.warns(CharacteryWarning, match="memory ran short: 7 texts are scored"):
            run.stage("evaluate", lambda folder: drawn.append(model.score([(p, [7, 7]) for p in prompts])), print)
    assert drawn[0] == expected
    records = [record for name in ("grpo", "evaluate") if (record := run.record(name))]
    assert [record.halved for record in records] == [2, 2]
    assert read_manifest(tmp_path)["batches_halved"] == 4


def test_another_error_in_scoring_is_raised_at_once(tiny_model: LocalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    model, given = short_of_memory(monkeypatch, tiny_model, 5, RuntimeError("shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="shapes"):
        model.score([([400 - n, 9], [n, 7]) for n in range(4)])
    assert len(given) == 1


@pytest.mark.parametrize("theirs", [False, True], ids=["decoder", "transformers"])
def test_nothing_to_score_or_to_say_is_no_error(tiny_model: LocalModel, theirs: bool) -> None:
    model = through_transformers(tiny_model) if theirs else tiny_model
    for contexts in ([], [[5, 6], [5, 6, 7]], [[5, 6], [5, 6]], [[5]]):
        assert [s.tolist() for s in model.score([(context, []) for context in contexts])] == [[] for _ in contexts]
    assert model.generate([], GREEDY) == model.draw([], [], GREEDY) == []


def test_bits_per_byte_counts_bytes() -> None:
    assert bits_per_byte(-math.log(2) * 12, "Grüße") == pytest.approx(12 / 7)


# -- adapters


def scores(model: LocalModel, adapter: Adapter | None) -> torch.Tensor:
    context = prompt_tokens(model.tokenizer, SHARING[1])
    return model.score([(context, [20, 300, 41, 9])], adapter)[0]


def test_strength_runs_from_the_base_to_as_trained(tiny_model: LocalModel, tiny_adapters: list[Path]) -> None:
    base = scores(tiny_model, None)
    whole = scores(tiny_model, Adapter(tiny_adapters[0]))
    assert (base - whole).abs().max() > 0.1
    assert torch.equal(scores(tiny_model, Adapter(tiny_adapters[0], 0.0)), base)
    slight = scores(tiny_model, Adapter(tiny_adapters[0], 0.01))
    assert 0 < (slight - base).abs().max() < 0.1 * (whole - base).abs().max()
    half = scores(tiny_model, Adapter(tiny_adapters[0], 0.5))
    assert not torch.allclose(half, base, atol=1e-3) and not torch.allclose(half, whole, atol=1e-3)


def made(base: Path, folder: Path, **settings: Any) -> Path:
    """A LoRA folder over a model whose weights are random, as after a training."""
    from peft import LoraConfig, get_peft_model

    network = get_peft_model(with_peft(base, None), LoraConfig(r=4, lora_alpha=8, task_type="CAUSAL_LM", **settings))
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(3)
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.normal_(0, 0.3)
    network.save_pretrained(folder, save_embedding_layers=False)
    return folder


ON_EMBEDDINGS: dict[str, dict[str, Any]] = {
    "beside": {"target_modules": ["embed_tokens", "q_proj"]},
    "anew": {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]},
}


@pytest.mark.parametrize("embeddings", [False, True], ids=["linear", "embeddings"])
def test_half_strength_is_half_the_update(
    tiny_model: LocalModel, tiny_model_folder: Path, tiny_adapters: list[Path], tmp_path: Path, embeddings: bool
) -> None:
    folder = made(tiny_model_folder, tmp_path / "a", **ON_EMBEDDINGS["beside"]) if embeddings else tiny_adapters[0]
    network = with_peft(tiny_model_folder, folder)
    for layer in network.modules():
        if hasattr(layer, "lora_B"):
            layer.scaling["default"] *= 0.5
    context = prompt_tokens(tiny_model.tokenizer, SHARING[1])
    expected = plain_score(network, context, [20, 300, 41, 9])
    torch.testing.assert_close(scores(tiny_model, Adapter(folder, 0.5)), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", [*ON_EMBEDDINGS])
def test_an_adapter_on_the_embeddings_is_worn_by_no_other(
    tiny_model: LocalModel, tiny_model_folder: Path, tiny_adapters: list[Path], tmp_path: Path, kind: str
) -> None:
    context = prompt_tokens(tiny_model.tokenizer, SHARING[1])
    folders = [made(tiny_model_folder, tmp_path / "a", **ON_EMBEDDINGS[kind]), None, tiny_adapters[0]]
    found = [scores(tiny_model, Adapter(folder) if folder else None) for folder in folders]
    for folder, one in zip(folders, found, strict=True):
        expected = plain_score(with_peft(tiny_model_folder, folder), context, [20, 300, 41, 9])
        torch.testing.assert_close(one, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("bias", ["all", "lora_only", "ia3"])
def test_an_adapter_with_more_than_lora_is_refused(
    tiny_model: LocalModel, tiny_model_folder: Path, tmp_path: Path, bias: str
) -> None:
    if bias == "ia3":
        from peft import IA3Config, get_peft_model

        network = AutoModelForCausalLM.from_pretrained(tiny_model_folder)
        folder = tmp_path / "a"
        settings = IA3Config(task_type="CAUSAL_LM", target_modules=["q_proj"], feedforward_modules=[])
        get_peft_model(network, settings).save_pretrained(folder)
    else:
        folder = made(tiny_model_folder, tmp_path / "a", target_modules=["q_proj"], bias=bias)
    base = scores(tiny_model, None)
    with pytest.raises(ModelNotFound, match=r"holds an adapter of the kind (LORA with biases|IA3)"):
        scores(tiny_model, Adapter(folder))
    tiny_model._bare.thing = None  # made of the network as it is now
    assert torch.equal(scores(tiny_model, None), base)


def test_a_share_of_nothing_leaves_the_likeliest() -> None:
    logits_B_V = torch.tensor([[0.0, 5.0, 1.0, 2.0]] * 3)
    drawn = local._sample(logits_B_V, torch.tensor([0.0, 0.5, 0.99]), Sampler(8, 1.0, top_p=0.0))
    assert drawn.tolist() == [1, 1, 1]


@pytest.mark.parametrize("kind", ["kasa", "layers", "pissa", "olora"])
def test_an_adapter_that_changes_the_base_is_refused(
    tiny_model: LocalModel, tiny_model_folder: Path, tmp_path: Path, kind: str
) -> None:
    from peft import KasaConfig

    more: dict[str, Any] = {"kasa": {"kasa_config": KasaConfig()}, "layers": {"layer_replication": [(0, 2), (1, 2)]}}
    settings = more.get(kind, {"init_lora_weights": kind})
    folder = made(tiny_model_folder, tmp_path / "a", target_modules=["q_proj"], **settings)
    base = scores(tiny_model, None)
    with pytest.raises(ModelNotFound, match="changes the base itself"):
        scores(tiny_model, Adapter(folder))
    tiny_model._bare.thing = None  # made of the network as it is now
    assert torch.equal(scores(tiny_model, None), base)


@pytest.mark.parametrize("theirs", [False, True], ids=["decoder", "transformers"])
def test_only_so_many_adapters_stay_loaded(
    tiny_model: LocalModel, tiny_adapters: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, theirs: bool
) -> None:
    monkeypatch.setattr(local, "LOADED", 2)
    tiny_model.decodes = not theirs
    folders = [shutil.copytree(tiny_adapters[n % 2], tmp_path / f"{n}") for n in range(4)]
    expected = [scores(tiny_model, Adapter(folder)) for folder in tiny_adapters]
    for n in (0, 1, 0, 2, 0, 3, 2, 1):
        assert torch.equal(scores(tiny_model, Adapter(folders[n])), expected[n % 2]), n
        assert len(tiny_model._peft.peft_config) <= 2
    assert [folder for folder, _ in tiny_model._adapters] == [folders[2].resolve(), folders[1].resolve()]


def test_adapters_switch_and_leave_the_base_alone(
    tiny_model: LocalModel, tiny_model_folder: Path, tiny_adapters: list[Path]
) -> None:
    first, second = (Adapter(folder) for folder in tiny_adapters)
    base, answers = scores(tiny_model, None), tiny_model.generate(requests(SHARING), GREEDY)
    kept = {}
    for adapter in (first, second, Adapter(tiny_adapters[0], 0.3), first, second):
        found = scores(tiny_model, adapter)
        if adapter in kept:
            assert torch.equal(found, kept[adapter])
        kept[adapter] = found
        assert torch.equal(scores(tiny_model, None), base)
    assert tiny_model.generate(requests(SHARING), GREEDY) == answers
    context = prompt_tokens(tiny_model.tokenizer, SHARING[1])
    for adapter in (first, second):
        alone = plain_score(with_peft(tiny_model_folder, adapter.folder), context, [20, 300, 41, 9])
        torch.testing.assert_close(kept[adapter], alone, atol=1e-4, rtol=0)


def test_an_adapter_in_bfloat16_leaves_the_base_as_loaded(tiny_model_folder: Path, tiny_adapters: list[Path]) -> None:
    model = LocalModel.load(tiny_model_folder, "tiny", "cpu", torch.bfloat16)
    before, buffers = scores(model, None), {name: b.clone() for name, b in model.model.named_buffers()}
    scores(model, Adapter(tiny_adapters[0]))
    assert torch.equal(scores(model, None), before)
    for name, buffer in buffers.items():  # the rotary frequencies stay in float32
        found = model.model.get_buffer(name)
        assert found.dtype == buffer.dtype and torch.equal(found, buffer), name


def merged_by_hand(folder: Path, adapter: Path, strength: float) -> Any:
    """transformers' network in float32 with the adapter in its weights, all as bfloat16 holds them."""
    network = with_peft(folder, adapter)

    def rounded() -> None:
        for parameter in network.parameters():
            parameter.data = parameter.data.bfloat16().float()

    rounded()
    for layer in network.modules():
        if hasattr(layer, "lora_B"):
            up, down = layer.lora_B["default"].weight, layer.lora_A["default"].weight
            layer.base_layer.weight.data += strength * layer.scaling["default"] * (up @ down).detach()
    network = network.unload()
    rounded()
    return network


@pytest.mark.skipif(not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="no bfloat16 on this processor")
@pytest.mark.parametrize("strength", [1.0, 0.5, -1.0])
def test_an_adapter_in_packed_bfloat16_is_added_to_the_weights(
    tiny_model_folder: Path, tiny_adapters: list[Path], monkeypatch: pytest.MonkeyPatch, strength: float
) -> None:
    laid_out: list[torch.Size] = []
    lay_out = products.laid_out
    monkeypatch.setattr(products, "laid_out", lambda w, bias: laid_out.append(w.shape) or lay_out(w, bias))
    model = LocalModel.load(tiny_model_folder, "tiny", "cpu", torch.bfloat16)
    exact = merged_by_hand(tiny_model_folder, tiny_adapters[0], strength)
    adapter = Adapter(tiny_adapters[0], strength)
    pairs = [pair for some in scoring_pairs(model).values() for pair in some if pair[1]]
    found = torch.cat(model.score(pairs, adapter))
    assert len(laid_out) == 2 * 5 + 1
    expected = torch.cat([plain_score(exact, *pair) for pair in pairs])
    prompts = [prompt_tokens(model.tokenizer, p) for p in SHARING]
    with torch.inference_mode(), model.adapted(adapter) as network:
        logits_B_V = model._reader(network, adapter, Slot()).begin([], prompts, 0)[0].float()
    with torch.no_grad():
        expected_B_V = torch.stack([exact(torch.tensor([p])).logits[0, -1] for p in prompts])
        # what the rounding of activations alone makes of the same weights, in transformers' code
        rough = AutoModelForCausalLM.from_pretrained(tiny_model_folder, dtype=torch.bfloat16).eval()
        rough.load_state_dict(exact.state_dict())
        theirs = torch.cat([plain_score(rough, *pair) for pair in pairs])
        theirs_B_V = torch.stack([rough(torch.tensor([p])).logits[0, -1].float() for p in prompts])
    assert (found - expected).abs().mean() < 1.2 * (theirs - expected).abs().mean()
    assert (logits_B_V - expected_B_V).abs().mean() < 1.2 * (theirs_B_V - expected_B_V).abs().mean()
    # with the sum in the weights themselves every number is the same
    by_hand = LocalModel(rough, model.tokenizer, "by hand")
    assert torch.equal(found, torch.cat(by_hand.score(pairs)))
    greedy = model.generate(requests(SHARING), GREEDY, adapter)
    assert greedy == by_hand.generate(requests(SHARING), GREEDY) != model.generate(requests(SHARING), GREEDY)


def test_an_error_under_an_adapter_leaves_its_strength_as_trained(
    tiny_model: LocalModel, tiny_adapters: list[Path]
) -> None:
    expected = scores(tiny_model, Adapter(tiny_adapters[0]))
    with pytest.raises(ZeroDivisionError), tiny_model.adapted(Adapter(tiny_adapters[0], 0.1)):
        raise ZeroDivisionError
    assert torch.equal(scores(tiny_model, Adapter(tiny_adapters[0])), expected)


def test_an_adapter_that_is_not_finished_says_so(tiny_model: LocalModel, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"adapter_model\.safetensors"):
        tiny_model.generate(requests(SHARING), GREEDY, Adapter(tmp_path))


def test_seeds_are_the_same_everywhere() -> None:
    assert derive_seed(0, "draft", "plain", "own-1") == derive_seed(0, "draft", "plain", "own-1")
    assert derive_seed(0, "a") != derive_seed(1, "a")
    assert 0 <= derive_seed(0, "a") < 2**63


def test_a_group_has_one_system_message_and_little_padding() -> None:
    systems, lengths = ["", "b", "", "a", "", "b", ""], [90, 7, 5, 8, 6, 9, 10]
    assert _kin(systems, lengths, 9) == [[2, 4, 6], [0], [3], [1, 5]]
    assert _kin(systems, lengths, 8) == [[2, 4], [6], [0], [3], [1, 5]]
    assert _kin(systems, lengths, 1000) == [[2, 4, 6, 0], [3], [1, 5]]
    assert _kin([], [], 1) == []


def test_a_batch_ends_where_its_rows_would_no_longer_share_their_start(tiny_model: LocalModel) -> None:
    pairs = [([first] * 100 + [3, n], [4, 5]) for first in (1, 2) for n in range(10)]
    assert tiny_model._fill([*range(20)], pairs, 2500) == [*range(10)]  # 20 rows of 104 places would fit
    # what hardly anything is lost by goes together: two questions with two options each
    few = [([first] * 100 + [3], [n]) for first in (1, 2) for n in (6, 7)]
    assert tiny_model._fill([*range(4)], few, 2500) == [*range(4)]


@pytest.mark.parametrize("own", [True, False])
def test_threads_take_turns_token_by_token_each_with_its_adapter(
    tiny_model: LocalModel, tiny_adapters: list[Path], own: bool
) -> None:
    tiny_model.decodes = own  # else through transformers' code, which wears one adapter at a time
    worn = [None, Adapter(tiny_adapters[0]), Adapter(tiny_adapters[0], 0.5), Adapter(tiny_adapters[1], 2)]
    asked = [Request((user("Tea?"),), 7)]
    alone = [tiny_model.generate(asked, DRAWN, adapter) for adapter in worn]
    assert len({answers[0].text for answers in alone}) == 4
    order: list[int] = []
    with ThreadPoolExecutor(len(worn)) as pool:
        with tiny_model._turns:  # until all of them wait
            told = [pool.submit(tiny_model.generate, asked, DRAWN, a, lambda _row, _token, n=n: order.append(n))
                    for n, a in enumerate(worn)]  # fmt: skip
            while len(tiny_model._turns._waiting) < len(worn):
                time.sleep(0.001)
        assert [one.result() for one in told] == alone
    rounds = order[: len(worn)]
    assert len({*rounds}) == (len(worn) if own else 1)
    assert [tiny_model.generate(asked, DRAWN, adapter) for adapter in worn] == alone


@pytest.mark.skipif(not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="no bfloat16 on this processor")
def test_only_so_many_merged_copies_are_held_however_many_adapters_answer_at_once(
    tiny_model_folder: Path, tiny_adapters: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    alive, most = weakref.WeakSet[Any](), [0]

    class Counted(decoder.Decoder):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            alive.add(self)
            most[0] = max(most[0], len(alive))

    monkeypatch.setattr(local, "Decoder", Counted)
    model = LocalModel.load(tiny_model_folder, "tiny", "cpu", torch.bfloat16)
    worn = [Adapter(folder, strength) for folder in tiny_adapters for strength in (0.5, 1, 1.5, 2)]
    asked = [Request((user("Tea?"),), 7)]
    alone = [model.generate(asked, DRAWN, adapter) for adapter in worn]
    assert most == [local.HELD]
    with ThreadPoolExecutor(len(worn)) as pool:
        assert [*pool.map(lambda adapter: model.generate(asked, DRAWN, adapter), worn)] == alone
    assert local.HELD <= most[0] <= local.AT_ONCE < len(worn) and len(alive) == local.HELD


def test_who_wants_one_more_waits_until_another_is_done_with() -> None:
    held, order = Held[str](most=2, idle=1), []

    def third() -> None:
        with held.use("c"):
            order.append("c")

    with ThreadPoolExecutor(1) as pool:
        with held.use("a") as first:
            first.thing = "kept"
            with held.use("b"), held.use("a") as again:  # what is in use takes no more room
                assert again is first
                waits = pool.submit(third)
                time.sleep(0.05)
                order.append("b")
            waits.result(30)
            with held.use("a") as again:
                assert again.thing == "kept"
        assert order == ["b", "c"]
        with held.use("a") as again:
            assert again.thing == "kept"  # the last one used; b and c are let go of
        with held.use("b"):
            pass
        with held.use("a") as again:
            assert again.thing is None


def test_a_thread_that_is_cut_short_lets_the_others_go_on(tiny_model: LocalModel) -> None:
    asked = [Request((user("Tea?"),), 7)]

    def stop(row: int, token: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tiny_model.generate(asked, DRAWN, None, stop)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(tiny_model.generate, asked, DRAWN).result(30) == tiny_model.generate(asked, DRAWN)
