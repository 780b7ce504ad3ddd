"""The vocabulary head on completion positions only, for TRL's trainers off Triton.

TRL's fused head scores every position when there is no Triton. On two CPU cores that made a step of supervised
fine-tuning three times as long; the figures are in docs/lab-notebook.md.
"""

import types
from typing import Any

import torch
from trl.trainer.utils import FusedCausalLMOutput

from charactery.models.local import changes_logits


def score_completions_only(network: Any) -> None:
    """Replace the fused forward that TRL has put on `network` (the bare causal model, not its PEFT wrapper).

    The result is TRL's own: per-token log-probabilities of the next token, zero where the label is -100.
    """
    fused = network.forward

    def forward(self: Any, *args: Any, fused_lm_head: bool = False, labels: Any = None, **kwargs: Any) -> Any:
        if not fused_lm_head or labels is None or kwargs.get("output_router_logits") or changes_logits(self.config):
            return fused(*args, fused_lm_head=fused_lm_head, labels=labels, **kwargs)
        items = kwargs.pop("num_items_in_batch", None)
        kwargs["use_cache"] = False
        hidden_B_T_D = self.base_model(*args, **kwargs).last_hidden_state[:, :-1]
        target_B_T = labels[:, 1:]
        mask_B_T = target_B_T != -100
        logits_N_V = self.get_output_embeddings()(hidden_B_T_D[mask_B_T]).float()
        log_probability_N_V = torch.log_softmax(logits_N_V, -1)
        target_N = target_B_T[mask_B_T]
        log_probability_N = log_probability_N_V.gather(1, target_N[:, None])[:, 0]
        with torch.no_grad():
            entropy_N = -(log_probability_N_V.exp() * log_probability_N_V).sum(-1)
            mean_N, top_N = logits_N_V.mean(-1), logits_N_V.argmax(-1) == target_N

        def spread(values_N: torch.Tensor) -> torch.Tensor:
            return values_N.new_zeros(mask_B_T.shape).masked_scatter(mask_B_T, values_N)

        log_probs = spread(log_probability_N)
        loss = -log_probs.sum() / (mask_B_T.sum().clamp(min=1) if items is None else items)
        return FusedCausalLMOutput(
            loss=loss, log_probs=log_probs, entropy=spread(entropy_N), mean_logits=spread(mean_N),
            is_top1=spread(top_N), label_mask=mask_B_T,
        )  # fmt: skip

    network.forward = types.MethodType(forward, network)
