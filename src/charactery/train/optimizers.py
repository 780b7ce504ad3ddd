"""Optimisers besides AdamW. Matrices go to the one asked for; what it cannot take, to AdamW.

Muon is torch's (Jordan et al. 2024), its step scaled to AdamW's (Liu et al. 2025, arXiv 2502.16982); SOAP (Vyas et al.
2024, arXiv 2409.11321) and Shampoo (Gupta et al. 2018, arXiv 1802.09568), grafted onto RMSProp's step, are those of
`pytorch-optimizer`. So a learning rate means about the same for all of them.
"""

from collections.abc import Callable, Iterable
from importlib.util import find_spec
from typing import Any

import torch
from torch.optim import Optimizer

from charactery.errors import CharacteryError
from charactery.train.settings import OPTIMIZERS

LONGEST = 1024  # SOAP leaves a matrix's side as it is where it is longer: a square matrix of it is kept, and decomposed
EVERY = 10  # steps between two decompositions


class Together(Optimizer):
    """Several optimisers, each with its own tensors, as one."""

    def __init__(self, parts: list[Optimizer]) -> None:
        self.parts = parts
        super().__init__([group for part in parts for group in part.param_groups], {})

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """A step of each."""
        loss = closure() if closure else None
        for part in self.parts:
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """What each holds."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Give each what it held."""
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self.param_groups = [group for part in self.parts for group in part.param_groups]  # loading makes them anew


def check_optimizer(name: str) -> None:
    """Raises CharacteryError for an optimiser that there is not, or that is not installed."""
    if name not in OPTIMIZERS:
        raise CharacteryError(f"there is no optimizer {name!r}; there are {', '.join(OPTIMIZERS)}")
    if name == "muon" and not hasattr(torch.optim, "Muon"):
        raise CharacteryError(f"torch {torch.__version__} has no Muon; it came with 2.9: pip install 'torch>=2.9'")
    if name in ("soap", "shampoo") and find_spec("pytorch_optimizer") is None:
        raise CharacteryError(f"{name} is pytorch-optimizer's: pip install 'charactery[optimizers]'")


def split(network: Any) -> tuple[list[torch.nn.Parameter], list[torch.nn.Parameter]]:
    """Tensors that learn: matrices of layers, and everything else (embeddings, the vocabulary's head, vectors)."""
    ends = {id(p) for get in ("get_input_embeddings", "get_output_embeddings") if (m := getattr(network, get)())
            for p in m.parameters()}  # fmt: skip
    learning = [p for p in network.parameters() if p.requires_grad]
    matrices = [p for p in learning if p.ndim == 2 and id(p) not in ends]
    mine = {id(p) for p in matrices}
    return matrices, [p for p in learning if id(p) not in mine]


def tensors(network: Any, name: str) -> dict[str, int]:
    """How many tensors each optimiser has."""
    matrices, rest = split(network)
    counts = {"adamw": len(matrices) + len(rest)} if name == "adamw" else {name: len(matrices), "adamw": len(rest)}
    return {optimizer: count for optimizer, count in counts.items() if count}


def optimizer(network: Any, name: str, rate: float) -> Optimizer:
    """An optimiser of a network's tensors that learn, without weight decay."""
    matrices, rest = split(network)
    parts: list[Optimizer] = [_of_matrices(matrices, name, rate)] if matrices else []
    if rest:
        parts.append(torch.optim.AdamW(rest, lr=rate, weight_decay=0.0))
    return Together(parts)


def _of_matrices(matrices: Iterable[torch.nn.Parameter], name: str, rate: float) -> Optimizer:
    if name == "muon":
        return torch.optim.Muon(matrices, lr=rate, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
    import pytorch_optimizer as theirs

    if name == "soap":
        soap: Optimizer = theirs.SOAP(
            matrices, lr=rate, weight_decay=0.0, precondition_frequency=EVERY, max_precondition_dim=LONGEST
        )
        return soap
    assert name == "shampoo", name
    from pytorch_optimizer.optimizer.utils.graft import LayerWiseGrafting, RMSPropGraft
    from pytorch_optimizer.optimizer.utils.partition import BlockPartitioner, PreConditionerType
    from pytorch_optimizer.optimizer.utils.preconditioner import PreConditioner

    # a checkpoint holds them
    torch.serialization.add_safe_globals([PreConditioner, BlockPartitioner, PreConditionerType, RMSPropGraft])
    return theirs.ScalableShampoo(  # type: ignore[no-any-return]
        matrices, lr=rate, betas=(0.9, 0.95), moving_average_for_momentum=True, start_preconditioning_step=EVERY,
        preconditioning_compute_steps=EVERY, graft_type=LayerWiseGrafting.RMSPROP,
    )  # fmt: skip
