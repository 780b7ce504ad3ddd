"""The decoder of our own gives what transformers' code gives: logits, hidden states, and an adapter's gradients."""

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
import transformers
from torch.nn import functional

from charactery.models import attending, gradients
from charactery.models.attending import LONG, STRIDE, Keys, Shared, attend, by_products, fused, mask_of
from charactery.models.decoder import FAMILIES, Decoder, adds_plainly, bytes_held, decodes
from charactery.models.gradients import QUERIES, attended, chosen
from charactery.models.lines import Batch, Lines
from charactery.train.head import _spans

NAMES = {"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2", "qwen3": "Qwen3"}
MORE: dict[str, dict[str, Any]] = {
    "llama": {"attention_bias": True, "mlp_bias": True},
    "mistral": {"sliding_window": None, "head_dim": 8},
    "qwen2": {},
    "qwen3": {"head_dim": 32},
}
SHARED = [5, 6, 7, 8]
ROWS = [[10, 11, 12], [10, 11, 13, 14, 15], [16], [10, 11, 12], [10, 17, 18]]


SHAPE = {
    "vocab_size": 97, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 512, "initializer_range": 0.2,
}  # fmt: skip


def config(family: str, **more: Any) -> Any:
    return getattr(transformers, f"{NAMES[family]}Config")(**(SHAPE | MORE[family] | more))


def network(family: str, seed: int = 0, **more: Any) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = getattr(transformers, f"{NAMES[family]}ForCausalLM")(config(family, **more)).eval()
        for name, parameter in made.named_parameters():
            if name.endswith("bias") or "norm" in name:  # zeros and ones would hide one left out
                parameter.data.uniform_(0.5, 1.5)
    return made.requires_grad_(False)


def adapted(made: Any, targets: str | list[str] = "all-linear") -> Any:
    from peft import LoraConfig, get_peft_model

    with torch.random.fork_rng():
        torch.manual_seed(3)
        peft = get_peft_model(made, LoraConfig(r=4, lora_alpha=12, target_modules=targets, task_type="CAUSAL_LM"))
        for name, parameter in peft.named_parameters():
            if "lora_B" in name:
                parameter.data.normal_(0, 0.1)
    return peft


def logits(made: Any, tokens: Sequence[int]) -> torch.Tensor:
    return made(torch.tensor([[*tokens]])).logits[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_what_a_token_holds_is_reckoned_from_the_configuration(family: str) -> None:
    made = network(family)
    with torch.inference_mode():
        _, state = Decoder(made).begin([], ROWS, 1)
    tokens = len(ROWS) * state.held[0].shape[3]
    assert sum(held.nbytes for held in state.held) == tokens * bytes_held(made.config, made.dtype)


@pytest.fixture(params=[True, False], ids=["fused", "products"])
def either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of attending on a processor: which one is used depends on the machine."""
    monkeypatch.setattr(attending, "FUSES", request.param)


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("shared", [[], SHARED], ids=["apart", "sharing"])
@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("family", FAMILIES)
def test_rows_together_go_on_as_each_alone(family: str, count: int, shared: list[int]) -> None:
    made = network(family)
    decoder, rows = Decoder(made), [[*row] for row in ROWS[-count:]]
    with torch.inference_mode():
        found, state = decoder.begin(shared, rows, 3)
        for token in (20, 21, 22):
            torch.testing.assert_close(
                found, torch.stack([logits(made, shared + row)[-1] for row in rows]), atol=1e-4, rtol=0
            )
            if token == 22 and count > 1:  # the last takes the place of the first
                rows = [rows[-1], *rows[1:-1]]
                state.keep(torch.tensor([count - 1, *range(1, count - 1)]))
            for row in rows:
                row.append(token)
            found = decoder.step(torch.full((len(rows),), token), [state])
        torch.testing.assert_close(
            found, torch.stack([logits(made, shared + row)[-1] for row in rows]), atol=1e-4, rtol=0
        )


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("family", FAMILIES)
def test_groups_with_other_pasts_take_a_step_together(family: str) -> None:
    made = network(family)
    decoder = Decoder(made)
    pasts = [SHARED + row for row in ROWS[:3]] + [[*row] for row in ROWS[1:]] + [[9, 8, 7, 6, 5]]
    with torch.inference_mode():
        states = [
            decoder.begin(SHARED, ROWS[:3], 2)[1],
            decoder.begin([], ROWS[1:], 2)[1],
            decoder.begin([9, 8], [[7, 6, 5]], 2)[1],
        ]
        for token in (20, 21):
            pasts = [[*past, token + n] for n, past in enumerate(pasts)]
            found = decoder.step(torch.tensor([past[-1] for past in pasts]), states)
            expected = torch.stack([logits(made, past)[-1] for past in pasts])
            torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("family", FAMILIES)
def test_parts_that_share_other_tokens_are_attended_to_as_one(family: str) -> None:
    made = network(family)
    decoder, room = Decoder(made), 2 * STRIDE
    parts = [(SHARED, [[*row] for row in ROWS]), ([9, 8], [[7, 6, 5], [7]]), ([31, *SHARED, 32, 33], [[40, 41]])]
    rows = [shared + row for shared, own in parts for row in own]
    with torch.inference_mode():
        begun = [decoder.begin(shared, own, room) for shared, own in parts]
        [state] = decoder.joined([state for _, state in begun])
        assert not begun[1][1].held  # nothing is held twice
        found = torch.cat([logits for logits, _ in begun])
        for token in range(20, 20 + room):
            expected = torch.stack([logits(made, row)[-1] for row in rows])
            torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
            if token in (21, 23):  # of the second part nobody goes on; then the order changes
                kept = [0, 7, 2, 3] if token == 21 else [3, 1, 0]
                rows = [rows[n] for n in kept]
                state.keep(torch.tensor(kept))
                assert len(state.shared[0][0]) == 2
            rows = [[*row, token + n] for n, row in enumerate(rows)]
            found = decoder.step(torch.tensor([row[-1] for row in rows]), [state])


def test_parts_are_joined_where_little_pads_them() -> None:
    decoder = Decoder(network("llama"))

    def joined(padding: int, *parts: tuple[int, int, int]) -> list[tuple[int, int]]:
        """Of rows, tokens of their own and shared ones."""
        decoder.padding = padding
        states = [
            decoder.begin([part + 5] * shared, [[90 - n, *[9] * (width - 1)] for n in range(rows)], 1)[1]
            for part, (rows, width, shared) in enumerate(parts)
        ]
        return [(state.rows, state.width) for state in decoder.joined(states)]

    with torch.inference_mode():
        assert joined(0, (2, 3, 4), (2, 3, 4)) == [(4, 3)]
        assert joined(0, (2, 3, 4), (2, 4, 4), (2, 4, 4)) == [(2, 3), (4, 4)]  # each of two rows is one place longer
        assert joined(2, (2, 3, 4), (2, 4, 4), (2, 4, 4)) == [(6, 4)]
        for padding, found in ((4, [(2, 3), (2, 3)]), (5, [(4, 3)])):
            assert joined(padding, (2, 3, 4), (2, 3, 8)) == found  # four keys more, and eight places that are read once
        for padding, found in ((1, [(6, 3), (2, 3)]), (2, [(8, 3)])):
            assert joined(padding, (6, 3, 4), (2, 3, 4)) == found  # sixteen places that are read once
        # those that share nothing stay among their own
        assert joined(9, (1, 3, 0), (1, 4, 0), (2, 3, 4)) == [(2, 4), (2, 3)]
        assert joined(9) == []


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("shared", [[], SHARED], ids=["apart", "sharing"])
@pytest.mark.parametrize("family", FAMILIES)
def test_hidden_states_are_those_asked_for(family: str, shared: list[int]) -> None:
    made = network(family)
    starts, counts = [0, 2, 0, 1, 2], [2, 3, 1, 2, 0]
    with torch.inference_mode():
        found = Decoder(made).hidden(shared, ROWS, starts, counts)
        wanted = [
            made.model(torch.tensor([shared + row])).last_hidden_state[0, len(shared) :][start : start + count]
            for row, start, count in zip(ROWS, starts, counts, strict=True)
        ]
    torch.testing.assert_close(found, torch.cat(wanted), atol=1e-4, rtol=0)


# contexts with options: of one token more, of several, of several that begin alike, and a context alone
OPTIONS = [
    [*range(10, 18), *tail] for tail in ([30], [31, 32], [33, 34, 35], [33, 36], [33, 34])
] + [[*range(40, 46), *tail] for tail in ([], [50, 51], [52])] + [[60, 61], [62, 63]]  # fmt: skip


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("shared", [[], SHARED], ids=["apart", "sharing"])
@pytest.mark.parametrize("family", FAMILIES)
def test_options_to_a_context_are_read_in_one_line_and_do_not_see_each_other(family: str, shared: list[int]) -> None:
    folded, apart = Batch(OPTIONS, 0, "cpu", folds=True), Batch(OPTIONS, 0, "cpu")
    assert len(folded.lines[0].index_B_L) == 4 < len(apart.lines[0].index_B_L)
    made = network(family)
    rows = [OPTIONS[n] for n in (7, 0, 3, 9, 1, 5, 2, 8, 4, 6)]
    with torch.inference_mode():
        found = Decoder(made).hidden(shared, rows, [0] * len(rows), [*map(len, rows)])
        wanted = [made.model(torch.tensor([shared + row])).last_hidden_state[0, len(shared) :] for row in rows]
    torch.testing.assert_close(found, torch.cat(wanted), atol=1e-4, rtol=0)


def test_lines_without_padding_that_are_not_in_order_are_put_in_order() -> None:
    rows = [[1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11], [1, 2, 3, 4, 12]]  # the first and the last are one line of six
    batch = Batch(rows, 0, "cpu", folds=True)
    [lines] = batch.lines
    assert lines.index_B_L.shape == (2, 6)
    values = torch.arange(12.0)
    assert batch.spread(values, lines).tolist() == lines.index_B_L.tolist()
    assert batch.gather([batch.spread(values, lines)]).tolist() == values.tolist()
    assert [[batch.token_N[p].item() for p in places] for places in batch.places] == rows


def test_rows_that_part_early_stay_rows() -> None:
    rows = [[1, 2, 3, 4, 5, 6], [1, 7, 8, 9, 10, 11]]
    [lines] = Batch(rows, 0, "cpu", folds=True).lines
    assert lines.index_B_L.shape == (2, 6) and lines.apart is None


def test_tokens_with_the_same_past_are_computed_once() -> None:
    batch = Batch(ROWS, 4, "cpu")
    assert batch.token_N.tolist() == [10, 11, 12, 13, 14, 15, 16, 17, 18]
    assert batch.position_N.tolist() == [4, 5, 6, 6, 7, 8, 4, 5, 6]
    assert batch.places[3] == batch.places[0] and not batch.whole
    values = torch.arange(9.0)[:, None]
    [lines] = batch.lines
    assert batch.gather([batch.spread(values, lines)]).tolist() == values.tolist()


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("folds", [False, True])
def test_lines_of_other_lengths_are_attended_to_apart(folds: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("charactery.models.lines.LOOKS", 0)
    rows = [*map(tuple, OPTIONS), (70, 71, 72)]
    batch = Batch(rows, 4, "cpu", splits=True, folds=folds)
    widths = [lines.index_B_L.shape[1] for lines in batch.lines]
    assert widths == sorted({*widths}) and len(widths) > 2 and not batch.whole
    values = torch.arange(len(batch.token_N) * 2.0).view(-1, 2)
    spread = [batch.spread(values, lines) for lines in batch.lines]
    assert batch.gather(spread).tolist() == values.tolist()
    assert batch.gather(spread, torch.tensor([5, 2])).tolist() == values[[5, 2]].tolist()
    made = network("llama")
    with torch.inference_mode():
        found = Decoder(made, learns=not folds).hidden(SHARED, rows, [0] * len(rows), [*map(len, rows)])
        wanted = [made.model(torch.tensor([[*SHARED, *row]])).last_hidden_state[0, len(SHARED) :] for row in rows]
    torch.testing.assert_close(found, torch.cat(wanted), atol=1e-4, rtol=0)


def test_the_last_layer_goes_on_with_the_wanted_places_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    made, seen = Decoder(network("llama")), []
    after = made._after
    monkeypatch.setattr(made, "_after", lambda layer, x, heard: seen.append(len(x)) or after(layer, x, heard))
    with torch.inference_mode():
        made.hidden(SHARED, ROWS, [0, 4, 0, 2, 0], [1, 1, 0, 1, 0])
        assert seen == [4, 4, 0, 9, 9, 3]
        seen.clear()
        made.begin([], ROWS, 1)
        assert seen == [9, 9, 4]


@pytest.mark.parametrize("targets", ["all-linear", ["k_proj", "down_proj"]], ids=["all", "some"])
@pytest.mark.parametrize("family", FAMILIES)
def test_an_adapter_is_added_at_its_strength(family: str, targets: Any) -> None:
    peft = adapted(network(family), targets)
    bare = peft.get_base_model()
    with torch.inference_mode():
        expected = torch.stack([logits(peft, row)[-1] for row in ROWS])
        torch.testing.assert_close(Decoder(bare, "default").begin([], ROWS, 0)[0], expected, atol=1e-4, rtol=0)
        with peft.disable_adapter():
            plain = torch.stack([logits(peft, row)[-1] for row in ROWS])
        torch.testing.assert_close(Decoder(bare).begin([], ROWS, 0)[0], plain, atol=1e-4, rtol=0)
    assert (expected - plain).abs().max() > 0.1


@pytest.mark.parametrize("targets", ["all-linear", ["k_proj", "down_proj"]], ids=["all", "some"])
@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_are_autograds(family: str, targets: Any) -> None:
    peft = adapted(network(family), targets)
    learning = {name: p for name, p in peft.named_parameters() if p.requires_grad}
    total = torch.cat([logits(peft, row) for row in ROWS]).log_softmax(-1)[:, 3].sum()
    expected = dict(zip(learning, torch.autograd.grad(total, learning.values()), strict=True))
    decoder = Decoder(peft.get_base_model(), learns=True)
    hidden = decoder.hidden((), ROWS, [0] * len(ROWS), [len(row) for row in ROWS])
    mine = decoder.head(hidden).log_softmax(-1)[:, 3].sum()
    torch.testing.assert_close(mine, total, atol=1e-3, rtol=1e-5)
    for name, grad in zip(learning, torch.autograd.grad(mine, learning.values()), strict=True):
        torch.testing.assert_close(grad, expected[name], atol=1e-4, rtol=1e-3, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("family", FAMILIES)
def test_the_way_of_a_graphics_card_has_the_same_gradients(family: str) -> None:
    peft = adapted(network(family))
    learning = [p for p in peft.parameters() if p.requires_grad]
    decoder = Decoder(peft.get_base_model(), learns=True)
    batch = Batch(ROWS, 0, "cpu", splits=True)
    wanted = [*{places[-1]: None for places in batch.places}]  # each once
    ways = [decoder._through(batch, Keys(), keep, wanted) for keep in (None, Keys())]  # keys to keep: as on a card
    torch.testing.assert_close(*ways, atol=1e-5, rtol=1e-5)
    there = torch.randn(ways[0].shape, generator=torch.Generator().manual_seed(0))
    grads = [torch.autograd.grad(way, learning, there) for way in ways]
    for mine, theirs in zip(
        *grads, strict=True
    ):  # sums of terms as large as the largest: that is what rounding goes by
        torch.testing.assert_close(mine, theirs, atol=2e-5 * float(theirs.abs().max()), rtol=0)


def test_what_learns_is_the_adapter_that_is_on() -> None:
    peft = adapted(network("llama"))
    decoder = Decoder(peft.get_base_model(), learns=True)
    with torch.no_grad(), peft.disable_adapter():
        plain = decoder.begin([], ROWS, 0)[0]
        torch.testing.assert_close(plain, torch.stack([logits(peft, row)[-1] for row in ROWS]), atol=1e-4, rtol=0)
    with torch.no_grad():
        before = decoder.begin([], ROWS, 0)[0]
        peft.get_base_model().model.layers[0].self_attn.q_proj.lora_B["default"].weight.mul_(2)
        assert not torch.allclose(decoder.begin([], ROWS, 0)[0], before) and not torch.allclose(before, plain)


@pytest.mark.parametrize("learns", [False, True])
def test_in_bfloat16_it_is_as_near_to_float32_as_transformers(learns: bool) -> None:
    exact = network("llama", num_hidden_layers=6)
    rows = [[(7 * n + r) % 97 for n in range(40)] for r in range(8)]
    with torch.inference_mode():
        expected = torch.cat([logits(exact, row) for row in rows])
        rough = exact.to(torch.bfloat16)
        theirs = torch.cat([logits(rough, row) for row in rows]).float()
        decoder = Decoder(rough, learns=learns)
        mine = decoder.head(decoder.hidden((), rows, [0] * 8, [40] * 8)).float()
    assert (mine - expected).abs().mean() < 1.2 * (theirs - expected).abs().mean()


@pytest.mark.parametrize("scores", [1, 12_000, gradients.SCORES])  # a row at a time; two at a time, in places; all
@pytest.mark.parametrize("length", [1, 7, QUERIES, 2 * QUERIES + 5])
@pytest.mark.parametrize("alike", ["apart", "whole", "padded", "split"])
@pytest.mark.parametrize("asked", [False, True])
def test_what_tokens_hear_is_attention_and_has_its_gradients(
    length: int, alike: str, asked: bool, scores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gradients, "SCORES", scores)
    monkeypatch.setattr("charactery.models.lines.LOOKS", 0)
    if alike == "whole":
        rows = [[100 * n + k for k in range(length)] for n in range(3)]
    else:  # what two rows begin with is one; the third is shorter, or as long and in another order
        rows = [[*range(length)], [*range(length // 2), *range(200, 200 + length)], [500 + k for k in range(length)]]
        rows = rows[::-1] if alike == "apart" else rows
    batch = Batch(rows, 4, "cpu", splits=alike == "split")
    assert batch.whole or (alike != "whole" and len(batch.again_A) == length // 2)
    draw = torch.Generator().manual_seed(0)
    heads, groups, width, count = 6, 2, 16, len(batch.token_N)
    mixed = torch.randn(count, heads + 2 * groups, width, generator=draw, requires_grad=True)
    angle = torch.randn(count, 1, width // 2, generator=draw)
    cos, sin = torch.cat([angle.cos()] * 2, -1), torch.cat([-angle.sin(), angle.sin()], -1)
    places = torch.tensor([count - 1, 0] if asked else [*range(count)])

    expected = torch.zeros(count, heads * width)
    both = gradients.turned(mixed[:, :-groups], cos, sin)
    for row in reversed(batch.places):  # what rows share is heard in the first of them
        query, key, value = (
            t[row].transpose(0, 1)[None] for t in (both[:, :heads], both[:, heads:], mixed[:, -groups:])
        )
        heard = functional.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
        expected = expected.index_put((torch.tensor(row),), heard[0].transpose(0, 1).flatten(1))
    found = attended(mixed, cos, sin, batch, heads, places if asked else None)
    torch.testing.assert_close(found, expected[places], atol=1e-5, rtol=0)
    there = torch.randn(found.shape, generator=draw)
    mine, theirs = (torch.autograd.grad(out, mixed, there)[0] for out in (found, expected[places]))
    torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-4)
    with torch.no_grad():
        assert torch.equal(attended(mixed, cos, sin, batch, heads, None)[places], found)


@pytest.mark.parametrize("at_once", [1, 2, 3, 5, 100])
def test_log_probabilities_of_tokens_and_what_goes_with_them(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gradients, "POSITIONS", at_once)
    monkeypatch.setattr(gradients, "CACHED", 2)
    draw = torch.Generator().manual_seed(0)
    weight = torch.randn(300, 16, generator=draw)
    hidden = torch.randn(5, 16, generator=draw).requires_grad_()
    logits = hidden @ weight.t()
    token = torch.tensor([0, 7, 299, 8, int(logits[4].argmax())])
    every = torch.log_softmax(logits, -1)
    expected = every[torch.arange(5), token]
    widest: list[int] = []

    def head(values: torch.Tensor) -> torch.Tensor:
        widest.append(len(values))
        return values @ weight.t()

    found, entropy, mean, top = chosen(hidden, token, head, lambda grad: grad @ weight)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(entropy, -(every.exp() * every).sum(-1), atol=1e-4, rtol=0)
    torch.testing.assert_close(mean, logits.mean(-1), atol=1e-5, rtol=0)
    assert top.tolist() == (logits.argmax(-1) == token).tolist() and max(widest) <= at_once
    there = torch.tensor([1.0, -2, 0, 3, 0.5])
    grads = [torch.autograd.grad(out, hidden, there)[0] for out in (found, expected)]
    torch.testing.assert_close(*grads, atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(chosen(hidden, token, head, None)[0], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("mask", "labels", "expected"),
    [
        ([1, 1, 1, 1, 0, 0], [0, 0, 1, 1, 0, 0], ([[5, 6, 7, 8]], [1], [2])),
        ([0, 0, 1, 1, 1, 1], [0, 0, 0, 0, 1, 1], ([[7, 8, 9, 10]], [1], [2])),
        ([1, 1, 1, 1, 1, 1], [0, 1, 1, 1, 1, 1], ([[5, 6, 7, 8, 9, 10]], [0], [5])),
        ([1, 1, 1, 1, 1, 1], [0, 1, 0, 1, 1, 1], None),  # a gap
        ([1, 1, 1, 1, 1, 1], [0, 1, 1, 1, 1, 0], None),  # the row goes on after the completion
        ([1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0], None),
    ],
)
def test_a_completion_is_found_in_a_padded_row(mask: list[int], labels: list[int], expected: Any) -> None:
    found = _spans(torch.tensor([labels])[:, 1:] == 1, torch.tensor([[5, 6, 7, 8, 9, 10]]), torch.tensor([mask]))
    assert found == expected


def test_other_models_are_left_to_transformers() -> None:
    assert all(decodes(config(family)) for family in FAMILIES)
    assert not decodes(config("mistral", sliding_window=4096))
    assert not decodes(config("llama", hidden_act="gelu"))
    factors = {"long_factor": [1.0] * 4, "short_factor": [1.0] * 4, "original_max_position_embeddings": 32}
    assert not decodes(config("llama", rope_parameters={"rope_type": "longrope", "rope_theta": 1e4, **factors}))
    assert decodes(config("llama", rope_parameters={"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}))
    assert not decodes(config("qwen2", use_sliding_window=True, sliding_window=64, max_window_layers=1))
    quantized = config("llama")
    quantized.quantization_config = {"quant_method": "gptq", "bits": 4}
    assert not decodes(quantized)
    assert not decodes(transformers.Gemma2Config()) and not decodes(transformers.GPT2Config())


def test_an_adapter_that_is_more_than_products_is_left_to_peft() -> None:
    from peft import IA3Config, KasaConfig, LoraConfig, get_peft_model

    def plain(config: Any) -> bool:
        peft = get_peft_model(network("llama"), config)
        return adds_plainly(peft, "default") and adds_plainly(peft.get_base_model(), "default")

    targets = {"r": 4, "target_modules": ["q_proj"]}
    assert plain(LoraConfig(**targets)) and plain(LoraConfig(**targets, use_rslora=True))
    more: list[dict[str, Any]] = [
        {"use_dora": True}, {"kasa_config": KasaConfig()}, {"layer_replication": [(0, 2), (1, 3)]}, {"bias": "all"},
        {"modules_to_save": ["lm_head"]}, {"target_modules": ["embed_tokens", "q_proj"]},
    ]  # fmt: skip
    for settings in more:
        assert not plain(LoraConfig(**targets | settings)), settings
    assert not plain(IA3Config(target_modules=["q_proj"], feedforward_modules=[]))


def test_reading_takes_memory_as_the_length_and_not_as_its_square(monkeypatch: pytest.MonkeyPatch) -> None:
    made = network("llama")
    product, largest = torch.bmm, 0

    def watched(*args: torch.Tensor) -> torch.Tensor:
        nonlocal largest
        out = product(*args)
        largest = max(largest, out.numel())
        return out

    monkeypatch.setattr(torch, "bmm", watched)
    sizes = {}
    for length in (512, 2048):
        largest = 0
        with torch.inference_mode():
            Decoder(made, learns=True).hidden([], [[n % 50 for n in range(length)]], [0], [length])
        sizes[length] = largest
    assert sizes[2048] == 4 * sizes[512] > 0


@pytest.mark.usefixtures("either_way")
def test_long_lines_are_read_without_a_mask_that_is_the_square_of_their_length() -> None:
    before = Keys([(torch.zeros(1, 2, 5, 16), torch.zeros(1, 2, 5, 16))])
    masks = [mask_of(Lines(torch.zeros(1, n, dtype=torch.long), None), before, torch.float32, True)
             for n in (LONG, LONG + 1)]  # fmt: skip
    assert (masks[0] is not None) == attending.FUSES
    assert masks[1] is None


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("folded", [False, True], ids=["rows", "lines"])
@pytest.mark.parametrize(("shared", "length"), [(0, 7), (5, 7), (9, 7), (40, 2 * QUERIES + 9)])
def test_attention_on_a_card_is_attention_on_a_processor(
    folded: bool, shared: int, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The way that a card takes, here on a processor."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        query, key, value = (torch.randn(3, heads, length, 16) for heads in (4, 2, 2))
        before = (torch.randn(1, 2, shared, 16), torch.randn(1, 2, shared, 16)) if shared else None
    apart = torch.zeros(3, 1, length, length, dtype=torch.bool) if folded else None
    if apart is not None:
        apart[:, :, 5:, 2:5] = True
    lines = Lines(torch.zeros(3, length, dtype=torch.long), apart)
    hidden = torch.ones(length, shared + length, dtype=torch.bool).triu(shared + 1).expand(3, 1, -1, -1)
    if apart is not None:
        hidden = hidden | functional.pad(apart, (shared, 0))
    keys, values = (
        torch.cat([*(t.expand(3, -1, -1, -1) for t in (before or ())[n : n + 1]), own], 2).repeat_interleave(2, 1)
        for n, own in enumerate((key, value))
    )
    expected = functional.scaled_dot_product_attention(query, keys, values, ~hidden)
    monkeypatch.setattr(attending, "COPIED", 2 * 2 * shared * 16)  # two rows at a time
    monkeypatch.setattr(attending, "SHORT", 6)
    for on_processor in (True, False):
        mask = mask_of(lines, Keys([before] if before else []), torch.float32, on_processor)
        found = attend(query, key, value, mask, before, on_processor)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("shared", [0, 5])
def test_a_step_on_a_card_attends_as_one_on_a_processor(shared: int) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        query = torch.randn(3, 9, 16)[:, 5:][:, :, None]  # a part of a tensor, as there
        key, value = torch.randn(3, 2, 7, 16), torch.randn(3, 2, 7, 16)
        before = [torch.randn(1, 2, shared, 16), torch.randn(1, 2, shared, 16)] if shared else []
    mask = torch.zeros(3, 1, 1, 7)
    mask[0, ..., 4:] = mask[1, ..., 2:6] = float("-inf")
    keys, values = (
        torch.cat([*(t.expand(3, -1, -1, -1) for t in before[n : n + 1]), own], 2).repeat_interleave(2, 1)
        for n, own in enumerate((key, value))
    )
    expected = functional.scaled_dot_product_attention(query, keys, values, functional.pad(mask, (shared, 0)))
    for found in (
        fused(query, key, value, Shared(*before) if before else None, attn_mask=mask),
        by_products(query, key, value, Shared(*before) if before else None, mask),
    ):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("less", ["own", "shared"])
def test_of_two_parts_attended_to_the_lesser_is_not_lost(less: str) -> None:
    """A thousandth of the weight, in bfloat16."""
    one = torch.ones(1, 1, 1, 64, dtype=torch.bfloat16)
    score = math.log(1000) / math.sqrt(64)
    key, before = (one * 0, one * score) if less == "own" else (one * score, one * 0)
    value, value_before = (one, one * 0) if less == "own" else (one * 0, one)
    shared, mask = Shared(before, value_before), torch.zeros(1, 1, 1, 1, dtype=one.dtype)
    for found in (fused(one, key, value, shared), by_products(one, key, value, shared, mask)):
        assert found[0, 0, 0, 0].item() == pytest.approx(1 / 1001, rel=0.05)


def test_siblings_weights_are_parts_of_one_tensor_and_stay_what_they_were() -> None:
    made = network("llama")
    layer = made.model.layers[0].self_attn
    parts = [layer.q_proj, layer.k_proj, layer.v_proj]
    expected = torch.cat([p.weight for p in parts]).clone()
    for _ in range(2):  # made once, and found again
        Decoder(made)
        assert torch.equal(torch.cat([p.weight for p in parts]), expected)
        assert len({p.weight.untyped_storage().data_ptr() for p in parts}) == 1
