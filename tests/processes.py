"""SFT, DPO, GRPO and a resumed SFT, in each process of a launcher's: `… processes.py MODEL_FOLDER OUT_FOLDER`."""

import os
import sys
from dataclasses import replace
from pathlib import Path

from charactery.runs import Row, write_json
from charactery.train.settings import Sft
from charactery.train.trainers import Work, train_dpo, train_sft
from killed_training import DPO, LORA, SFT, dpo_rows, load, sft_rows, train


def main(model_folder: Path, out: Path) -> None:
    """Train in `out`; DPO begins at `start`, and `resumed` is an SFT that one process has begun."""
    told: list[int] = []

    def work(name: str) -> Work:
        def progress(step: int, steps: int, log: Row) -> None:
            told.append(step)

        return Work(out / name, 3, progress=progress)

    def sft(name: str, settings: Sft) -> None:
        train_sft(load(model_folder), sft_rows(), LORA, settings, work(name))

    sft("sft", replace(SFT, together=1))  # gradients are added up over steps and processes
    train_dpo(load(model_folder), dpo_rows(), out / "start", DPO, work("dpo"))
    train("grpo", load(model_folder), out, progress=work("grpo").progress)
    sft("resumed", SFT)
    write_json(out / f"told-{os.environ['RANK']}.json", told)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
