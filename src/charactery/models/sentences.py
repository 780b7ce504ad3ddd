"""Sentence embeddings, for near-duplicates and for the classifier judge."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from charactery.models.local import pick_dtype
from charactery.models.weights import fetch


class SentenceEncoder:
    """MiniLM: texts to unit vectors, by the mean of the last layer over real tokens."""

    def __init__(self, folder: Path | None = None) -> None:
        from transformers import AutoModel, AutoTokenizer

        folder = folder or fetch("minilm")
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        # half the time in bfloat16, and the same vectors to a cosine of 0.9999
        self.model: Any = AutoModel.from_pretrained(folder, dtype=pick_dtype("cpu")).eval()

    def __call__(self, texts: Sequence[str], batch_size: int = 16) -> np.ndarray:
        """Unit rows, shape (len(texts), width), float32. Texts are read up to 256 tokens."""
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        rows: dict[int, np.ndarray] = {}
        with torch.inference_mode():
            for start in range(0, len(order), batch_size):
                batch = order[start : start + batch_size]
                tokens = self.tokenizer(
                    [texts[i] or " " for i in batch], padding=True, truncation=True, max_length=256, return_tensors="pt"
                )
                hidden_B_T_D = self.model(**tokens).last_hidden_state.float()
                real_B_T_1 = tokens["attention_mask"][:, :, None]
                mean_B_D = (hidden_B_T_D * real_B_T_1).sum(1) / real_B_T_1.sum(1)
                unit = torch.nn.functional.normalize(mean_B_D, dim=-1).numpy()
                rows |= dict(zip(batch, unit, strict=True))
        return np.stack([rows[i] for i in range(len(texts))]) if texts else np.zeros((0, self.model.config.hidden_size))
