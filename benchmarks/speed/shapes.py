"""Randomly initialised Llamas of other shapes, for what a larger model would take."""

import math
from pathlib import Path

import torch

from charactery.models.chat import prompt_tokens, user
from charactery.models.local import pick_dtype
from charactery.models.speaker import Models
from charactery.models.subject import parse_subject

SHAPES: dict[str, tuple[int, int, int, int, int]] = {  # width, of the middle, layers, heads, heads of keys and values
    "tiny": (64, 128, 2, 4, 2),
    "1b": (2048, 8192, 16, 32, 8),
    "3b": (3072, 8192, 28, 24, 8),
    "7b": (4096, 11008, 32, 32, 32),
}
ENDS = 2.0  # standard deviations above its mean at which the end of an answer is as likely as all else: 1 token in 44


def build(
    folder: Path, shape: str, device: str, tokenizer_folder: Path | None = None, dtype: torch.dtype | None = None
) -> int:
    """Save a random Llama of this shape, by default with the embedded model's tokenizer; its products' parameters."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder or Models(device).folder(parse_subject("smollm2")))
    width, middle, layers, heads, groups = SHAPES[shape]
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=width, intermediate_size=middle, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=groups, max_position_embeddings=4096, tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    torch.manual_seed(0)
    torch.set_default_dtype(dtype or pick_dtype(device))
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
