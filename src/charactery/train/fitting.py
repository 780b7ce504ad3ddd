"""Training in the memory there is."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from accelerate.utils.memory import clear_device_cache

from charactery.memory import halved, out_of_memory
from charactery.models.local import LocalModel, card_memory
from charactery.runs import process_count
from charactery.train.settings import Dpo, Grpo, Sft, at_once

Settings = TypeVar("Settings", Sft, Dpo, Grpo)


def train_fitting(
    begin: Callable[[], tuple[LocalModel, Path | None]],
    train: Callable[[LocalModel, Path | None, Settings], Path],
    settings: Settings,
    batch: int,
) -> Path:
    """What `train` makes of the model and the adapter that `begin` gives, both anew each time: training uses them up.

    Out of memory, it goes on from its last checkpoint with half as many rows in memory at once. A step is of `batch`
    rows, as before, and gradients are added. Not where several processes train: the others wait for one that failed.
    """
    while True:
        model, start = begin()
        parameters = sum(p.numel() for p in model.model.parameters())  # before an adapter is put into it
        try:
            return train(model, start, settings)
        except (MemoryError, RuntimeError) as error:
            card = card_memory(model.device)
            now = at_once(settings, batch, parameters, card)
            least = at_once(replace(settings, together=1), batch, parameters, card)
            if now == least or process_count() > 1 or not out_of_memory(error):
                raise
        del model
        clear_device_cache(garbage_collection=True)
        while (fewer := at_once(settings, batch, parameters, card)) == now:
            settings = replace(settings, together=settings.together // 2)
        halved(f"a step trains on {fewer} rows at once, not {now}, from the last checkpoint on")
