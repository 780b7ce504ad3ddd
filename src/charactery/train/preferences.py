"""The losses of pairs, as TRL has them."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader

from charactery.errors import CharacteryError
from charactery.runs import Row
from charactery.train.settings import Dpo

IDS = ("prompt_ids", "chosen_ids", "rejected_ids")  # of a pair, as TRL has made it


def dataset(rows: Sequence[Row], *columns: str) -> Any:
    """These columns of rows, as TRL's trainers want them."""
    from datasets import Dataset

    return Dataset.from_list([{c: row[c] for c in columns} for row in rows])


def bare(network: Any) -> Any:
    """The causal model within PEFT's wrapper, or itself."""
    return network.get_base_model() if hasattr(network, "get_base_model") else network


def trainer_of_pairs(settings: Dpo, common: Row, pairs: Sequence[Row], context: int) -> tuple[Any, Any, Any]:
    """TRL's trainer for a loss of pairs, its settings, and the rows as it wants them."""
    if settings.loss == "orpo":
        from trl.experimental.orpo import ORPOConfig, ORPOTrainer

        config = ORPOConfig(**common, max_length=context, beta=settings.beta)
        return ORPOTrainer, config, dataset(pairs, "prompt", "chosen", "rejected")
    if settings.loss == "kto":
        from trl import KTOConfig, KTOTrainer

        together = common["per_device_train_batch_size"]
        if together < 2:
            raise CharacteryError(
                "the loss kto sets each answer beside another pair's prompt, and here a step goes through memory one "
                "pair at a time; take another --loss, or an even number of pairs"
            )
        common = common | {"per_device_train_batch_size": 2 * together}
        config = KTOConfig(**common, max_length=None, beta=settings.beta)
        return KTOTrainer, config, dataset(unpaired(pairs, together), "prompt", "completion", "label")
    from trl import DPOConfig

    loss = {"dpo": "sigmoid", "ipo": "ipo"}[settings.loss]
    losses, weights = ([loss, "sft"], [1.0, settings.nll]) if settings.nll else ([loss], [1.0])
    config = DPOConfig(**common, max_length=None, beta=settings.beta, loss_type=losses, loss_weights=weights)
    return _near_reference(settings.kl), config, dataset(pairs, "prompt", "chosen", "rejected")


def reference_once(trainer: Any, settings: Dpo) -> None:
    """Where TRL's DPOTrainer is to meet pairs more than once: read each under the reference now, and keep that with it.

    To be called before a checkpoint is loaded. Where the reference is asked for its single tokens (`settings.kl`), or
    there is none, nothing is kept; nor where each pair is met once, which would cost as much.
    """
    if settings.kl or settings.loss not in ("dpo", "ipo"):
        return
    keys = [tuple(tuple(row[ids]) for ids in IDS) for row in trainer.train_dataset]
    rows = dict(zip(keys, trainer.train_dataset, strict=True))
    if len(rows) == len(keys):
        return
    loader = trainer.accelerator.prepare(
        DataLoader([*rows.values()], trainer.args.per_device_train_batch_size, collate_fn=trainer.data_collator)  # type: ignore[arg-type]
    )
    network, gathered = trainer.ref_model or trainer.model, trainer.accelerator.gather_for_metrics
    sides = zip(*(gathered(trainer.compute_ref_log_probs(network, batch)) for batch in loader), strict=True)
    for side, sums in zip(("chosen", "rejected"), sides, strict=True):
        known = dict(zip(rows, torch.cat(sums).tolist(), strict=True))
        trainer.train_dataset = trainer.train_dataset.add_column(f"ref_{side}_logps", [known[key] for key in keys])
    trainer.precompute_ref_logps = True


def unpaired(pairs: Sequence[Row], together: int) -> list[Row]:
    """For KTO, the chosen of so many pairs, then their rejected: its baseline sets each answer beside the prompt of the
    row after it, which must be another's."""
    return [
        {"prompt": pair["prompt"], "completion": pair[side], "label": side == "chosen"}
        for n in range(0, len(pairs), together) for side in ("chosen", "rejected") for pair in pairs[n : n + together]
    ]  # fmt: skip


def _near_reference(weight: float) -> Any:
    """TRL's DPOTrainer, with half the squared log-ratio to the reference, a token of the pairs, added at a weight.

    Its gradient is that of the reverse KL divergence where the tokens are the policy's own (Schulman 2020,
    http://joschu.net/blog/kl-approx.html), and it does not explode where they are not.
    """
    from trl import DPOTrainer

    if not weight:
        return DPOTrainer

    class NearReference(DPOTrainer):  # type: ignore[misc]
        def _compute_loss(self, model: Any, inputs: Any, return_outputs: bool) -> Any:
            heard: list[torch.Tensor] = []
            networks = [bare(self.model), *([self.ref_model] if self.ref_model is not None else [])]
            hooks = [n.register_forward_hook(lambda module, args, out: heard.append(out.log_probs)) for n in networks]
            try:
                found = super()._compute_loss(model, inputs, return_outputs)
            finally:
                for hook in hooks:
                    hook.remove()
            policy_B_T, reference_B_T = heard
            learnt_B_T = inputs["completion_mask"][:, 1:].bool()
            divergence = 0.5 * (policy_B_T - reference_B_T)[learnt_B_T].square().mean()
            self._metrics["train" if self.model.training else "eval"]["kl"].append(divergence.item())
            if return_outputs:
                return found[0] + weight * divergence, found[1]
            return found + weight * divergence

    return NearReference
