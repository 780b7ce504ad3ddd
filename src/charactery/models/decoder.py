"""A decoder of the Llama family in few operations: the same weights and numbers as transformers' module, sooner.

transformers' code is made to be read and changed, a model at a time; on a processor its many small operations take as
long as the matrix products. Here siblings that read one input (queries, keys and values; gate and up) are one product,
an adapter is added to the weights beforehand, weights are laid out once as the processor wants them, tokens that rows
share are computed once, and no padding goes through a product.
`tests/test_models_decoder.py` holds it against transformers' own.

Axes: B rows, N distinct tokens of a batch, G groups of heads that share keys, H heads of a group, D width of a head,
C width of the network, S heads of queries and of keys.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from charactery.models.attending import Keys, State, attend, mask_of, pads
from charactery.models.gradients import Product, attended, gate, gated, norm, normed, turn, turned
from charactery.models.lines import Batch
from charactery.models.products import (
    Onto,
    bare,
    beside,
    both_ways,
    learning,
    merges,
    packed,
    packed_gated,
    packed_onto,
)

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")


def decodes(config: Any) -> bool:
    """Whether a model is one that `Decoder` knows: full attention in every layer, rotary positions, gated SiLU."""
    windows = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    rotary = getattr(config, "rope_parameters", None) or {}
    return (
        config.model_type in FAMILIES
        and getattr(config, "quantization_config", None) is None  # its weights are not what is multiplied
        and config.hidden_act == "silu"
        and windows is None
        and rotary.get("rope_type") != "longrope"  # turned by the longest row that is read along
        and {*(getattr(config, "layer_types", None) or ["full_attention"])} == {"full_attention"}
    )


def bytes_held(config: Any, dtype: torch.dtype) -> int:
    """Bytes of the keys and values of one token, of a model that `Decoder` knows."""
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * config.num_hidden_layers * config.num_key_value_heads * width * dtype.itemsize)


def adds_plainly(network: Any, adapter: str) -> bool:
    """Whether one of the adapters that PEFT has put on a network is nothing but a product beside each product."""
    config = network.peft_config[adapter]
    others = ("lora_bias", "modules_to_save", "trainable_token_indices", "target_parameters", "layer_replication")
    return (
        str(getattr(config.peft_type, "value", config.peft_type)) == "LORA"
        and config.bias == "none"
        and not any(getattr(config, name, None) for name in others)
        # DoRA, KaSA and the like have forwards of their own; of embeddings, rows are looked up and not multiplied
        and not any(
            adapter in getattr(module, name, ())
            for module in network.modules()
            for name in ("lora_variant", "lora_embedding_A")
        )
    )


@dataclass
class _Layer:
    norm: Product
    query_key_value: Product
    head_norms: tuple[Product, ...]  # Qwen3's, of queries and of keys
    out: Onto
    norm_after: Product
    mlp: Onto


class Decoder:
    """One network with one adapter, or none, ready to read. Built under `LocalModel.adapted`."""

    pads_anywhere = True  # what is no token is masked, wherever it stands
    padding = 8000  # places without a token that cost less, in a step, than attending to one more group
    idle = 16  # ended rows are dropped once they are one in so many: others are copied to their places

    def __init__(self, network: Any, adapter: str | None = None, learns: bool = False) -> None:
        config = network.config
        self.width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self.groups, self.heads = config.num_key_value_heads, config.num_attention_heads // config.num_key_value_heads
        body = network.model
        packs = merges(network)

        def product(*modules: Any) -> Product:
            if learns:
                return learning(modules, packs)
            return packed(modules, adapter) if packs else beside(modules, adapter)

        on_processor = network.device.type == "cpu"  # elsewhere torch has one call for the norm, and one back
        apply = norm if learns and on_processor else normed
        self.turn: Callable[..., torch.Tensor] = turn if learns else turned

        def onto(module: Any) -> Onto:
            if packs and not learns:
                return packed_onto(module, adapter)
            apart = product(module)
            return lambda x, before: before + apart(x)

        def between(mlp: Any) -> Onto:
            if packs and not learns:
                return packed_gated(mlp, adapter)
            gate_up, down, through = product(mlp.gate_proj, mlp.up_proj), onto(mlp.down_proj), gate if learns else gated
            return lambda x, before: down(through(gate_up(x)), before)

        def weighted(module: Any) -> Product:
            module = bare(module)
            weight, epsilon = module.weight, module.variance_epsilon
            return lambda x: apply(x, weight, epsilon)

        self.layers = [
            _Layer(
                weighted(layer.input_layernorm),
                product(layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj),
                (weighted(layer.self_attn.q_norm), weighted(layer.self_attn.k_norm))
                if config.model_type == "qwen3"
                else (),
                onto(layer.self_attn.o_proj),
                weighted(layer.post_attention_layernorm),
                between(layer.mlp),
            )
            for layer in body.layers
        ]
        self.device, self.learns = network.device, learns
        self.embed, self.rotary, self.last_norm = bare(body.embed_tokens), body.rotary_emb, weighted(body.norm)
        if learns:
            self.head, self.head_back = both_ways([network.get_output_embeddings().weight], packs)
        else:
            self.head = product(network.get_output_embeddings())
        self._shared: tuple[tuple[int, ...], Keys] = (), Keys()

    def begin(self, shared: Sequence[int], rows: Sequence[Sequence[int]], room: int) -> tuple[torch.Tensor, State]:
        """Logits after each row, (B, V), and a State to go on from for `room` tokens; rows start with `shared`."""
        unique = list(dict.fromkeys(map(tuple, rows)))  # several answers to a prompt: it is read once
        place = {row: n for n, row in enumerate(unique)}
        row_B = self._tensor([place[tuple(row)] for row in rows])
        batch = Batch(unique, len(shared), self.device)
        before, own = self._before(shared), Keys()
        last_B_C = self._through(batch, before, own, [places[-1] for places in batch.places])
        return self.head(last_B_C)[row_B], State(before, own, row_B, [len(row) for row in rows], room)

    def joined(self, states: Sequence[State]) -> list[State]:
        """States that have not gone on yet in fewer ones, their rows in the same order.

        Neighbours are joined where attending to what pads them costs less than attending to each by itself.
        """
        runs: list[list[State]] = []
        for state in states:
            last = runs[-1] if runs else []
            both = [*last, state]
            if last and bool(last[0].shared) == bool(state.shared) and pads(both) - pads(last) <= self.padding:
                last.append(state)
            else:
                runs.append([state])
        for first, *others in runs:
            if others:
                first.join(others)
        return [first for first, *_ in runs]

    def hidden(
        self, shared: Sequence[int], rows: Sequence[Sequence[int]], starts: Sequence[int], counts: Sequence[int]
    ) -> torch.Tensor:
        """What the last layer says of `counts` tokens of each row from `starts` on, one after the other, (N, C)."""
        unique = list(dict.fromkeys(map(tuple, rows)))  # options of one token to a question: attended to once
        # a group of lines more is a dozen calls, which cost a graphics card more than padding does
        splits = self.device.type == "cpu"
        batch = Batch(unique, len(shared), self.device, splits, folds=not self.learns)
        places = dict(zip(unique, batch.places, strict=True))
        asked = [p for row, s, n in zip(rows, starts, counts, strict=True) for p in places[tuple(row)][s : s + n]]
        wanted = {place: n for n, place in enumerate(dict.fromkeys(asked))}
        hidden_N_C = self._through(batch, self._before(shared), None, [*wanted])
        return hidden_N_C.index_select(0, self._tensor([wanted[place] for place in asked]))

    def _tensor(self, values: Sequence[int]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.long, device=self.device)

    def _before(self, shared: Sequence[int]) -> "Keys":
        """Keys and values of what rows share; kept for the next batch, which often shares the same."""
        if tuple(shared) != self._shared[0]:
            keys = Keys()
            if shared:
                self._through(Batch([shared], 0, self.device), Keys(), keys, [])
            self._shared = tuple(shared), keys
        return self._shared[1]

    def _through(self, batch: Batch, before: Keys, keep: Keys | None, wanted: Sequence[int]) -> torch.Tensor:
        """What the last layer says at the wanted places, (N, C)."""
        x_N_C = self.embed(batch.token_N)
        cos_N_1_D, sin_N_1_D = self._turns(x_N_C, batch.position_N)
        queries = self.groups * self.heads
        assert not (before and self.learns and torch.is_grad_enabled()), "no gradients flow through what rows share"
        # without gradients, too: a reference that reads by other code would differ from what it is the reference of
        on_processor = self.device.type == "cpu"
        back = self.learns and on_processor and not before and keep is None
        masks = [None if back else mask_of(lines, before, x_N_C.dtype, on_processor) for lines in batch.lines]
        for n, layer in enumerate(self.layers):
            mixed_N_S_D = self._mixed(layer, x_N_C)
            here = None
            if n == len(self.layers) - 1:  # nothing reads the other places any more
                here = self._tensor(wanted)
                x_N_C = x_N_C.index_select(0, here)
            if back:
                heard_N_C = attended(mixed_N_S_D, cos_N_1_D, sin_N_1_D, batch, queries, here)
            else:
                parts = self._turned(mixed_N_S_D, cos_N_1_D, sin_N_1_D)
                outs = []
                for lines, mask in zip(batch.lines, masks, strict=True):
                    both, value = (batch.spread(part, lines).transpose(1, 2) for part in parts)
                    query, key = both[:, :queries], both[:, queries:]
                    if keep is not None:
                        keep.append((key, value))
                    out_B_S_L_D = attend(query, key, value, mask, before[n] if before else None, on_processor)
                    outs.append(out_B_S_L_D.transpose(1, 2))
                heard_N_C = batch.gather(outs, here).flatten(1)
            x_N_C = self._after(layer, x_N_C, heard_N_C)
        normed_N_C: torch.Tensor = self.last_norm(x_N_C)
        return normed_N_C

    def step(self, token_B: torch.Tensor, states: Sequence[State]) -> torch.Tensor:
        """Logits after one more token of every row of these states, (B, V): one product for all of them."""
        x_B_C = self.embed(token_B)
        groups, heads = self.groups, self.heads
        counts = [state.rows for state in states]
        cos_B_1_D, sin_B_1_D = self._turns(x_B_C, torch.cat([state.position_B for state in states]))
        for state in states:
            state.mask_B_1_1_K[..., state.width] = 0
        for n, layer in enumerate(self.layers):
            turned_B_S_D, value_B_G_D = self._turned(self._mixed(layer, x_B_C), cos_B_1_D, sin_B_1_D)
            query_B_S_D, key_B_G_D = turned_B_S_D[:, : groups * heads], turned_B_S_D[:, groups * heads :]
            parts = (torch.split(whole, counts) for whole in (query_B_S_D, key_B_G_D, value_B_G_D))
            heard = [state.attend(n, *part) for state, *part in zip(states, *parts, strict=True)]
            x_B_C = self._after(layer, x_B_C, torch.cat(heard) if len(heard) > 1 else heard[0])
        for state in states:
            state.width, state.position_B = state.width + 1, state.position_B + 1
        return self.head(self.last_norm(x_B_C))

    def _turns(self, x: torch.Tensor, position_N: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and sines of the rotary positions, the first half of the sines negated: see `turned`."""
        cos, sin = self.rotary(x, position_N[None])
        low, high = sin[0, :, None].chunk(2, -1)
        return cos[0, :, None], torch.cat([-low, high], -1)

    def _mixed(self, layer: _Layer, x_N_C: torch.Tensor) -> torch.Tensor:
        """Queries, keys and values side by side, (N, G * H + G + G, D)."""
        mixed_N_S_D = layer.query_key_value(layer.norm(x_N_C)).view(len(x_N_C), -1, self.width)
        if not layer.head_norms:
            return mixed_N_S_D
        query, key, value = torch.split(mixed_N_S_D, [self.groups * self.heads, self.groups, self.groups], 1)
        norm_query, norm_key = layer.head_norms
        return torch.cat([norm_query(query), norm_key(key), value], 1)

    def _turned(
        self, mixed_N_S_D: torch.Tensor, cos_N_1_D: torch.Tensor, sin_N_1_D: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Queries and keys turned to their positions, (N, G * H + G, D), and values, (N, G, D)."""
        return self.turn(mixed_N_S_D[:, : -self.groups], cos_N_1_D, sin_N_1_D), mixed_N_S_D[:, -self.groups :]

    def _after(self, layer: _Layer, x_N_C: torch.Tensor, heard_N_C: torch.Tensor) -> torch.Tensor:
        """What follows attention in a layer."""
        x_N_C = layer.out(heard_N_C, x_N_C)
        return layer.mlp(layer.norm_after(x_N_C), x_N_C)
