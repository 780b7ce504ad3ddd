"""Models that transformers' own code reads: each says what it says alone, whatever rows share and however padded."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from charactery.errors import ModelNotFound
from charactery.models.chat import user
from charactery.models.local import LocalModel, Request, Sampler
from charactery.models.network import answers_whole, pads_anywhere
from plainly import SHARING, one_at_a_time, plain_score


def test_scores_keep_what_a_model_does_to_its_logits(tiny_model: LocalModel) -> None:
    """Granite divides its logits and Gemma 2 caps them; a score without that is another model's."""
    from transformers import Gemma2Config, Gemma2ForCausalLM, GraniteConfig, GraniteForCausalLM

    shape: dict[str, Any] = {
        "vocab_size": 456, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 2, "initializer_range": 0.25, "head_dim": 16,
        "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2, "attn_implementation": "eager",
    }  # fmt: skip
    torch.manual_seed(0)
    granite = GraniteForCausalLM(GraniteConfig(**shape, logits_scaling=8.0))
    gemma = Gemma2ForCausalLM(Gemma2Config(**shape, final_logit_softcapping=2.0))
    for network in (granite, gemma):
        model = LocalModel(network, tiny_model.tokenizer, "scaled")
        pairs = [([7, 8, 9], [20, 21]), ([7, 8, 10, 11], [30]), ([7, 8, 9], [31])]
        for (context, continuation), score in zip(pairs, model.score(pairs), strict=True):
            torch.testing.assert_close(score, plain_score(network, context, continuation), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", [
    "final_logit_softcapping", "logit_scale", "logits_scaling", "lm_head_multiplier", "output_multiplier",
    "logits_soft_cap", "output_logit_soft_cap",
])  # fmt: skip
def test_whatever_is_done_to_logits_is_left_to_the_model(name: str) -> None:
    def network(**config: Any) -> Any:
        told = SimpleNamespace(**config)
        told.get_text_config = lambda: told
        return SimpleNamespace(config=told, base_model=None)

    assert answers_whole(network(**{name: 0.5})) and not answers_whole(network(**{name: 1}))
    assert not answers_whole(network(**{name: None})) and not answers_whole(network())
    alone = network()
    alone.base_model = alone
    assert answers_whole(alone)


def random_network(kind: str, spread: float, **more: Any) -> Any:
    """A small random model of a kind. In float64, so that rounding does not turn a draw."""
    import transformers

    config = getattr(transformers, f"{kind}TextConfig", None) or getattr(transformers, f"{kind}Config")
    torch.manual_seed(0)
    return getattr(transformers, f"{kind}ForCausalLM")(config(
        vocab_size=456, hidden_size=64, intermediate_size=96, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, max_position_embeddings=512, initializer_range=spread,
        bos_token_id=1, eos_token_id=2, pad_token_id=2, **more,
    )).double()  # fmt: skip


LINEAR = {f"linear_{part}": 2 for part in ("num_key_heads", "num_value_heads")}
LINEAR |= {f"linear_{part}": 16 for part in ("key_head_dim", "value_head_dim")}
KINDS: dict[str, dict[str, Any]] = {  # a state beside keys and values; the same; layers that read an earlier one's keys
    "Qwen3_5": {"layer_types": ["linear_attention", "full_attention"] * 2, **LINEAR},
    "Lfm2": {"layer_types": ["conv", "full_attention"] * 2},
    "Gemma4": {
        "layer_types": ["sliding_attention", "full_attention"] * 2, "num_kv_shared_layers": 2, "global_head_dim": 16,
        "vocab_size_per_layer_input": 456, "hidden_size_per_layer_input": 8,
    },
    "Mamba": {"state_size": 8},  # a state and no keys at all, and no positions
    "Mamba2": {"state_size": 8, "num_heads": 8, "n_groups": 1, "chunk_size": 8},
}  # fmt: skip


@pytest.mark.parametrize("kind", [*KINDS])
def test_models_that_keep_more_than_keys_and_values(kind: str, tiny_model: LocalModel) -> None:
    """Together as alone, and scores as without a cache."""
    network = random_network(kind, 0.1, **KINDS[kind])
    network.generation_config.eos_token_id = list(range(0, 456, 20))  # so that some end early
    model = LocalModel(network, tiny_model.tokenizer, kind)
    if "Mamba" in kind:
        ends, model.ends = model.ends, [2]
        greedy = model.generate([Request(messages, 0) for messages in SHARING], Sampler(12, 0))
        network.generation_config.eos_token_id = 2
        assert greedy == [one_at_a_time(network, model, messages, 12) for messages in SHARING]
        model.ends = ends
    requests = [Request(messages, seed) for seed, messages in enumerate([*SHARING, SHARING[0]])]
    together = model.generate(requests, Sampler(16, 1.0))
    assert together == [model.generate([r], Sampler(16, 1.0))[0] for r in requests]
    assert len({a.tokens for a in together}) > 1 and any(a.ended for a in together)
    pairs = [([7, 8, 9, 10], [20, 21]), ([7, 8, 10, 11, 12], [30]), ([7, 8, 9, 10], [31])]
    for (context, continuation), score in zip(pairs, model.score(pairs), strict=True):
        expected = plain_score(network, context, continuation)
        torch.testing.assert_close(score.double(), expected.double(), atol=1e-5, rtol=0)


WINDOWED: dict[str, dict[str, Any]] = {  # a window counts places
    "Mistral": {"sliding_window": 12}, "Gemma3": {"sliding_window": 12, "layer_types": ["sliding_attention"] * 4},
}  # fmt: skip


@pytest.mark.parametrize("kind", [*WINDOWED])
def test_a_window_is_of_tokens_and_not_of_padding(kind: str, tiny_model: LocalModel) -> None:
    """Behind a beginning that rows share, a short row's places are not taken by what is no token."""
    network = random_network(kind, 0.3, **WINDOWED[kind])
    model = LocalModel(network, tiny_model.tokenizer, kind)
    begun = "You are a captain of few words who keeps an honest log and is kind to the crew. "
    asked = [(user(begun + text),) for text in ("Hm?", "Why is the sky blue at noon, and black at night, and red?")]
    answers = model.generate([Request(messages, 0) for messages in asked], Sampler(12, 0))
    assert answers == [one_at_a_time(network, model, messages, 12) for messages in asked]
    several = model.generate([Request(asked[0], seed) for seed in range(3)], Sampler(12, 0))
    assert several == [answers[0]] * 3


def test_attention_by_distance_counts_places_too() -> None:
    from transformers import BloomConfig, FalconConfig, LlamaConfig, MistralConfig, MptConfig

    for config in (BloomConfig(), MptConfig(), FalconConfig(alibi=True), MistralConfig(sliding_window=64)):
        assert not pads_anywhere(config), config.model_type
    assert (
        pads_anywhere(LlamaConfig())
        and pads_anywhere(FalconConfig())
        and pads_anywhere(MistralConfig(sliding_window=None))
    )


def test_a_model_that_keeps_what_it_read_in_a_way_unknown_is_refused(tiny_model: LocalModel) -> None:
    from transformers import RwkvConfig, RwkvForCausalLM

    network = RwkvForCausalLM(RwkvConfig(vocab_size=456, hidden_size=32, num_hidden_layers=2, context_length=128))
    with pytest.raises(ModelNotFound, match="RwkvForCausalLM keeps what it has read in a way that is not known"):
        LocalModel(network, tiny_model.tokenizer, "rwkv").generate([Request((user("Hm?"),), 0)], Sampler(4, 0))
