"""The network's forward in TRL's trainers: our decoder, and the vocabulary on completion positions only.

TRL's fused head scores every position when there is no Triton. On two CPU cores that made a step of supervised
fine-tuning three times as long; the figures are in docs/lab-notebook.md.
"""

import types
from typing import Any

import torch
from trl.trainer.utils import FusedCausalLMOutput

from charactery.models.decoder import Decoder, adds_plainly, decodes
from charactery.models.gradients import chosen
from charactery.models.network import answers_whole
from charactery.models.products import both_ways


def score_completions_only(network: Any) -> None:
    """Replace the fused forward that TRL has put on `network` (the bare causal model, not its PEFT wrapper).

    The result is TRL's own: per-token log-probabilities of the next token, zero where the label is -100.
    """
    vocabulary = network.get_output_embeddings()
    if type(vocabulary) is not torch.nn.Linear or vocabulary.bias is not None or vocabulary.weight.requires_grad:
        return  # it learns too, or has an adapter: TRL's way knows how
    fused = network.forward
    plain = decodes(network.config) and all(adds_plainly(network, name) for name in getattr(network, "peft_config", ()))
    decoder = Decoder(network, learns=True) if plain else None
    head, back = (decoder.head, decoder.head_back) if decoder else both_ways([vocabulary.weight], packs=False)

    def forward(self: Any, *args: Any, fused_lm_head: bool = False, labels: Any = None, **kwargs: Any) -> Any:
        """As TRL's; whatever else is asked of the network goes to the forward that was there."""
        if not fused_lm_head or labels is None or kwargs.get("output_router_logits") or answers_whole(self):
            return fused(*args, fused_lm_head=fused_lm_head, labels=labels, **kwargs)
        items = kwargs.pop("num_items_in_batch", None)
        kwargs["use_cache"] = False
        target_B_T = labels[:, 1:]
        mask_B_T = target_B_T != -100
        spans = _spans(mask_B_T, *args, **kwargs)
        if decoder is not None and spans is not None:
            with torch.autocast(labels.device.type, enabled=False):
                hidden_N_C = decoder.hidden((), *spans)
        else:
            hidden_N_C = self.base_model(*args, **kwargs).last_hidden_state[:, :-1][mask_B_T]
        with torch.autocast(labels.device.type, enabled=False):
            log_probability_N, entropy_N, mean_N, top_N = chosen(hidden_N_C, target_B_T[mask_B_T], head, back)

        def spread(values_N: torch.Tensor) -> torch.Tensor:
            return values_N.new_zeros(mask_B_T.shape).masked_scatter(mask_B_T, values_N)

        log_probs = spread(log_probability_N)
        loss = -log_probs.sum() / (mask_B_T.sum().clamp(min=1) if items is None else items)
        return FusedCausalLMOutput(
            loss=loss, log_probs=log_probs, entropy=spread(entropy_N), mean_logits=spread(mean_N),
            is_top1=spread(top_N), label_mask=mask_B_T,
        )  # fmt: skip

    network.forward = types.MethodType(forward, network)


def _spans(
    mask_B_T: torch.Tensor, input_ids: Any = None, attention_mask: Any = None, **others: Any
) -> tuple[list[list[int]], list[int], list[int]] | None:
    """Rows without padding, and where in each the completion is predicted; None for what is no plain batch of rows."""
    if input_ids is None or attention_mask is None or others.get("position_ids") is not None:
        return None
    # each copied from a card at one go: what follows would wait for it at every step
    input_ids, attention_mask, mask_B_T = (t.cpu() for t in (input_ids, attention_mask, mask_B_T))
    rows = [ids[real.bool()].tolist() for ids, real in zip(input_ids, attention_mask, strict=True)]
    counts = mask_B_T.sum(1)
    starts = mask_B_T.int().argmax(1)
    in_one_piece = (mask_B_T.cumsum(1) > 0).sum(1)  # from the first label to the row's end, padding included
    padded_before = attention_mask.int().argmax(1)
    whole = torch.tensor([len(row) for row in rows])
    ends = padded_before + whole - 1 - starts  # labels from the first to the last token of a row
    if (counts == 0).any() or (counts != torch.minimum(ends, in_one_piece)).any():
        return None
    return rows, (starts - padded_before).tolist(), counts.tolist()
