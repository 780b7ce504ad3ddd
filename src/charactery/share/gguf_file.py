"""A network and its tokenizer as a GGUF file, or an adapter alone, for llama.cpp and what is built on it.

Keys and names: github.com/ggml-org/ggml, docs/gguf.md. Written are models of the Llama kind with a byte-level BPE; for
others `lacking` says what is in the way.
"""

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from safetensors.torch import load_file

from charactery.errors import CharacteryError

# model_type: the architecture's name in GGUF, and whether it turns its heads in pairs, so that q and k are reordered
KINDS = {"llama": ("llama", True), "mistral": ("llama", True), "qwen2": ("qwen2", False), "qwen3": ("qwen3", False)}
FILE_TYPES = {
    "float32": gguf.LlamaFileType.ALL_F32, "float16": gguf.LlamaFileType.MOSTLY_F16,
    "bfloat16": gguf.LlamaFileType.MOSTLY_BF16,
}  # fmt: skip
# How text is cut before the merges, by the name that llama.cpp knows it under: a pattern is part of the vocabulary.
_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
SPLITS = {_WORDS + r"\p{N}{1,3}" + _REST: "llama-bpe", _WORDS + r"\p{N}" + _REST: "qwen2"}


def lacking(config: Any, tokenizer: Any) -> str:
    """Why a model cannot be written as GGUF here, or "" where it can."""
    if config.model_type not in KINDS:
        return f"its kind is {config.model_type!r}, and GGUF is written of {', '.join(KINDS)}"
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type", "default") != "default":
        return f"its positions are scaled ({rope['rope_type']}), which is not written"
    apart = config.model_type == "mistral" and getattr(config, "sliding_window", None)
    if apart or any(kind != "full_attention" for kind in getattr(config, "layer_types", None) or ()):
        return "some of its layers see a window of the text only, which is not written"
    if _cut(tokenizer) is None:
        return "its tokenizer is not one of the byte-level BPE kinds that are written (GPT-2, SmolLM, Llama 3, Qwen2)"
    return ""


def write_gguf(network: Any, tokenizer: Any, path: Path, name: str, dtype: str = "float16") -> None:
    """Write the file: matrices in `dtype` (float32, float16 or bfloat16), the rest in float32.

    Raises CharacteryError where the model has no place in GGUF, or a weight none in float16.
    """
    if why := lacking(network.config, tokenizer):
        raise CharacteryError(f"this model cannot be written as GGUF: {why}. Give --to a folder, and convert that")
    config = network.config
    architecture, in_pairs = KINDS[config.model_type]
    writer = gguf.GGUFWriter(path, architecture)
    _write_shape(writer, config, name, dtype)
    _write_tokenizer(writer, tokenizer, config.vocab_size)
    names = _names(config)
    for theirs, tensor in network.state_dict().items():
        if theirs == "lm_head.weight" and config.tie_word_embeddings:
            continue  # a file without output weights reads its embeddings there
        ours = names.get_name(theirs, (".weight", ".bias"))
        if ours is None:
            raise CharacteryError(
                f"this model cannot be written as GGUF: there is no place for its {theirs}. Give --to a folder, and "
                "convert that"
            )
        values = tensor.detach().float().numpy()
        _add(writer, ours, _turned(ours, values, config) if in_pairs else values, dtype)
    _finish(writer)


def adapter_lacking(config: Any, adapter: Path) -> str:
    """Why an adapter's folder cannot be written as GGUF for a base of this configuration, or "" where it can."""
    if config.model_type not in KINDS:
        return f"its base's kind is {config.model_type!r}, and GGUF is written of {', '.join(KINDS)}"
    settings = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    if settings.get("peft_type") != "LORA":
        return f"it is no LoRA but {settings.get('peft_type')}"
    if not isinstance(settings.get("r"), int) or not isinstance(settings.get("lora_alpha"), int | float):
        return "its settings have no r or no lora_alpha"
    apart = ("rank_pattern", "alpha_pattern", "use_dora", "lora_bias", "modules_to_save", "trainable_token_indices")
    if more := next((key for key in apart if settings.get(key)), None):
        return f"it has a {more}, which is not written"
    return ""


def write_adapter_gguf(config: Any, adapter: Path, path: Path, name: str) -> None:
    """Write a LoRA folder as llama.cpp's adapter file, in float16: of each matrix `lora_a` (r, in), `lora_b` (out, r).

    It goes on a GGUF file of the base with this configuration. Form: github.com/ggml-org/llama.cpp,
    convert_lora_to_gguf.py. Raises CharacteryError where `adapter_lacking` says why.
    """
    if why := adapter_lacking(config, adapter):
        raise CharacteryError(f"this adapter cannot be written as GGUF: {why}", adapter)
    settings = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    architecture, in_pairs = KINDS[config.model_type]
    rank, alpha, names = settings["r"], float(settings["lora_alpha"]), _names(config)
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, alpha * rank**0.5 if settings.get("use_rslora") else alpha)
    writer.add_name(name)
    writer.add_file_type(FILE_TYPES["float16"])
    for theirs, tensor in load_file(adapter / "adapter_model.safetensors").items():
        matrix, _, part = theirs.removeprefix("base_model.model.").removesuffix(".weight").rpartition(".lora_")
        ours = names.get_name(f"{matrix}.weight", (".weight",))
        if ours is None or part not in ("A", "B"):
            raise CharacteryError(
                f"this adapter cannot be written as GGUF: there is no place for its {theirs}", adapter
            )
        values = tensor.float().numpy()
        values = _turned(ours, values, config) if in_pairs and part == "B" else values
        _add(writer, f"{ours}.lora_{part.lower()}", values, "float16")
    _finish(writer)


def _names(config: Any) -> Any:
    """Where GGUF has each of transformers' tensors."""
    kind = next(key for key, value in gguf.MODEL_ARCH_NAMES.items() if value == KINDS[config.model_type][0])
    return gguf.get_tensor_name_map(kind, config.num_hidden_layers)


def _finish(writer: Any) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _write_shape(writer: Any, config: Any, name: str, dtype: str) -> None:
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_name(name)
    writer.add_file_type(FILE_TYPES[dtype])
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(width)
    writer.add_value_length(width)
    writer.add_rope_dimension_count(width)
    writer.add_rope_freq_base(float((getattr(config, "rope_parameters", None) or {}).get("rope_theta", 10000.0)))
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)


def _write_tokenizer(writer: Any, tokenizer: Any, rows: int) -> None:
    """Tokens, their kinds and merges. Rows of the embedding beyond the tokens are unused ones."""
    raw, cut = json.loads(tokenizer.backend_tokenizer.to_str()), _cut(tokenizer)
    added = {token["id"]: token for token in raw["added_tokens"]}
    texts = {id: text for text, id in raw["model"]["vocab"].items()} | {id: t["content"] for id, t in added.items()}
    if max(texts) >= rows:
        raise CharacteryError(f"the tokenizer has a token {max(texts)} and the model only {rows} rows for tokens")
    plain, ours = gguf.TokenType.NORMAL, (gguf.TokenType.USER_DEFINED, gguf.TokenType.CONTROL)
    kinds = {id: ours[token["special"]] for id, token in added.items()}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(cut)
    writer.add_token_list([texts.get(id, f"[PAD{id}]") for id in range(rows)])
    writer.add_token_types([kinds.get(id, plain) if id in texts else gguf.TokenType.UNUSED for id in range(rows)])
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in raw["model"]["merges"]])
    for name in ("bos", "eos", "unk", "pad"):
        if (id := getattr(tokenizer, f"{name}_token_id")) is not None:
            getattr(writer, f"add_{name}_token_id")(id)
    writer.add_add_bos_token(tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id)
    if tokenizer.chat_template:
        writer.add_chat_template(tokenizer.chat_template)


def _cut(tokenizer: Any) -> str | None:
    """llama.cpp's name for how the tokenizer cuts text, or None for a tokenizer that is not written here."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    raw: dict[str, Any] = json.loads(backend.to_str()) if backend else {"model": {"type": ""}}
    before: dict[str, Any] = raw.get("pre_tokenizer") or {}
    model: dict[str, Any] = raw["model"]
    steps = before["pretokenizers"] if before.get("type") == "Sequence" else [before]
    last = steps[-1]
    if model["type"] != "BPE" or model.get("byte_fallback") or last.get("type") != "ByteLevel":
        return None
    if last.get("add_prefix_space"):
        return None
    if [step["type"] for step in steps] == ["Split", "ByteLevel"] and not last.get("use_regex", True):
        found = SPLITS.get(steps[0]["pattern"].get("Regex", ""))
        return found if raw["normalizer"] is None or found == "qwen2" else None
    if raw["normalizer"] is not None or not last.get("use_regex", True):
        return None
    if steps[:-1] and not (steps[0]["type"] == "Digits" and steps[0].get("individual_digits") and len(steps) == 2):
        return None
    return "smollm" if steps[:-1] else "gpt-2"


def _turned(name: str, values: np.ndarray, config: Any) -> np.ndarray:
    """Rows of q or k with the two halves of each head interleaved, as llama.cpp turns them; others as they are."""
    of = {"attn_q.": config.num_attention_heads, "attn_k.": config.num_key_value_heads}
    heads = next((count for part, count in of.items() if part in name), 0)
    if not heads:
        return values
    halves = values.reshape(heads, 2, values.shape[0] // heads // 2, *values.shape[1:])
    return halves.swapaxes(1, 2).reshape(values.shape)


def _add(writer: Any, name: str, values: np.ndarray, dtype: str) -> None:
    if values.ndim < 2 or dtype == "float32":
        writer.add_tensor(name, np.ascontiguousarray(values))
        return
    if dtype == "bfloat16":
        packed = torch.from_numpy(np.ascontiguousarray(values)).bfloat16().view(torch.uint8).numpy()
        writer.add_tensor(name, packed, raw_dtype=gguf.GGMLQuantizationType.BF16)
        return
    with np.errstate(over="ignore"):
        half = np.ascontiguousarray(values.astype(np.float16))
    if not np.isfinite(half).all():
        raise CharacteryError(f"{name} has weights beyond what float16 holds; give --dtype bfloat16 or float32")
    writer.add_tensor(name, half)
