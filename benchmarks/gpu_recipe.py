"""One recipe from end to end on a randomly initialised model of a larger shape: do speed and memory hold?

    python -m benchmarks.gpu_recipe                                # 1.2 billion parameters, on the card if there is one
    python -m benchmarks.gpu_recipe --shape tiny --device cpu      # the same, to see that it goes through

A random model answers in words drawn by lot and learns nothing worth having; what it takes is what one that was trained
takes. It has the embedded model's tokenizer, and an end of answer that comes by itself about once in fifty tokens, or
nothing it drafts would be fit to learn from. Model and run lie in a temporary folder, and go when it ends.

Of each stage: seconds, tokens written and read a second, the most memory, and the share of the device's best at
bfloat16 products that its own come to at least: twice the parameters for a token written, four times for a token read
in fine-tuning (back to the activations, not to the frozen weights), six times in DPO (the reference reads, too).
"""

import argparse
import math
import os
import platform
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from benchmarks.speed.ceiling import best

from charactery.constitution import find_character
from charactery.data.prompts import Sizes
from charactery.models.chat import prompt_tokens, user
from charactery.models.local import LocalModel, pick_device, pick_dtype
from charactery.models.speaker import Models
from charactery.models.subject import parse_subject
from charactery.pipeline.distil import Watch, train
from charactery.pipeline.order import Order
from charactery.pipeline.recipe import find_recipe
from charactery.runs import Run, read_rows, stage_kind

SHAPES: dict[str, tuple[int, int, int, int, int]] = {  # width, of the middle, layers, heads, heads of keys and values
    "tiny": (64, 128, 2, 4, 2),
    "1b": (2048, 8192, 16, 32, 8),
    "3b": (3072, 8192, 28, 24, 8),
    "7b": (4096, 11008, 32, 32, 32),
}
ENDS = 2.0  # standard deviations above its mean at which the end of an answer is as likely as all else: 1 token in 44
SIDE = 8192  # of the square matrices whose product is the card's best
FORWARDS = {"drafts": 2.0, "self-play": 2.0, "sft": 4.0, "dpo": 6.0}  # operations a parameter and token


def build(folder: Path, shape: str, device: str) -> int:
    """Save a random Llama of this shape, with the embedded model's tokenizer; the parameters of its products."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(Models(device).folder(parse_subject("smollm2")))
    width, middle, layers, heads, groups = SHAPES[shape]
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=width, intermediate_size=middle, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=groups, max_position_embeddings=4096, tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    torch.manual_seed(0)
    torch.set_default_dtype(pick_dtype(device))
    try:
        with torch.device(device):
            network = LlamaForCausalLM(config)
    finally:
        torch.set_default_dtype(torch.float32)
    with torch.no_grad():
        prompt = torch.tensor([prompt_tokens(tokenizer, (user("Hello"),))], device=device)
        first = network.model(prompt).last_hidden_state[0, -1].float()
        end = torch.randn(width, device=device) * math.log(len(tokenizer)) / ENDS / math.sqrt(width)
        end -= (end @ first) / (first @ first) * first  # no answer ends before it begins
        network.lm_head.weight[tokenizer.eos_token_id] = end
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return int(sum(p.numel() for name, p in network.named_parameters() if "embed_tokens" not in name))


def best_rate(device: str) -> float:
    """bfloat16 operations a second, as measured here."""
    side = SIDE if device == "cuda" else SIDE // 8
    one, other = (torch.randn(side, side, device=device).bfloat16() for _ in range(2))

    def product() -> None:
        torch.mm(one, other)
        if device == "cuda":
            torch.cuda.synchronize()

    return 2.0 * side**3 / best(product)


def counting(counts: dict[str, float]) -> None:
    """From now on, count what models write and score."""
    drawn, score = LocalModel._drawn, LocalModel.score

    def draws(self: LocalModel, *given: Any, **named: Any) -> list[list[int]]:
        out = drawn(self, *given, **named)
        counts["written"] += sum(map(len, out))
        return out

    def scores(self: LocalModel, pairs: Any, *given: Any, **named: Any) -> list[torch.Tensor]:
        counts["read"] += sum(len(said) for _, said in pairs)
        return score(self, pairs, *given, **named)

    LocalModel._drawn, LocalModel.score = draws, scores  # type: ignore[method-assign]


def measured(run: Callable[[], Run], device: str) -> tuple[Run, dict[str, dict[str, float]]]:
    """Do a run; of each stage the tokens written and read, and the card's peak in bytes."""
    counts, found = {"written": 0.0, "read": 0.0}, {}
    counting(counts)
    stage = Run.stage

    def watched(self: Run, name: str, *given: Any, **named: Any) -> Path:
        before = dict(counts)
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        folder = stage(self, name, *given, **named)
        found[name] = {key: counts[key] - before[key] for key in counts}
        found[name]["card"] = torch.cuda.max_memory_allocated() if device == "cuda" else 0.0
        if (log := folder / "log.jsonl").exists():
            found[name]["read"] += max(float(row.get("num_tokens", 0)) for row in read_rows(log))
        print(f"  {name}", flush=True)
        return folder

    Run.stage = watched  # type: ignore[method-assign]
    return run(), found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="1b")
    parser.add_argument("--recipe", default="distill+dpo")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--train", type=int, default=96, help="training prompts; a step of SFT takes eight")
    options = parser.parse_args()
    device = pick_device(options.device)
    recipe = find_recipe(options.recipe)
    recipe = replace(
        recipe, sizes=Sizes(options.train, 16, 2, 8, 8), sft=replace(recipe.sft, epochs=1.0), self_play=32,
        grpo=replace(recipe.grpo, steps=3),
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "model"
        parameters = build(weights, options.shape, device)
        rate = best_rate(device)
        order = Order(find_character("captain"), Path(folder) / "run", str(weights), recipe=recipe, device=device)
        run, found = measured(lambda: train(order, Watch()), device)
        card = torch.cuda.get_device_name() if device == "cuda" else f"{os.cpu_count()} cores of {platform.machine()}"
        print(
            f"\n{options.recipe} on {options.shape}, {parameters / 1e9:.3f} billion parameters in products, on {card}; "
            f"at best {rate / 1e12:.3g} × 10¹² bfloat16 operations a second, measured\n"
        )
        print("| stage | seconds | tokens written/s | tokens read/s | share of best | memory, GB | card, GB |")
        print("|---|---|---|---|---|---|---|")
        for name, of in found.items():
            record = run.record(name)
            assert record is not None
            seconds = max(record.seconds, 0.01)  # a stage with nothing to do takes none
            tokens = of["read"] if stage_kind(name) in ("sft", "dpo") else of["written"]
            needed = FORWARDS.get(stage_kind(name), 0.0) * parameters * tokens
            share = f"{needed / rate / seconds:.1%}" if needed else "–"
            print(
                f"| {name} | {record.seconds:.1f} | {of['written'] / seconds:,.0f} | "
                f"{of['read'] / seconds:,.0f} | {share} | {record.peak_mb / 1e3:.2f} | {of['card'] / 1e9:.2f} |"
            )


if __name__ == "__main__":
    main()
