"""What is written as GGUF is read by llama.cpp, which says the same next words as PEFT on the base does."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from charactery.errors import CharacteryError
from charactery.models.chat import prompt_tokens, user
from charactery.models.speaker import Models
from charactery.models.subject import parse_subject
from charactery.models.weights import embedded_folder, fetch
from charactery.runs import write_json
from charactery.share.gguf_file import adapter_lacking, write_adapter_gguf
from charactery.share.merge import merge

xllamacpp = pytest.importorskip("xllamacpp")

ASKED = "How do I tie a knot that will hold?"
TOKENS = 200


def random_adapter(base: Path, folder: Path, size: float, **more: Any) -> Path:
    """A LoRA on all matrices of the layers whose B is random, so that it changes what is said."""
    from peft import LoraConfig, get_peft_model

    network = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM", **more)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = get_peft_model(network, config)
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(0, size)
    network.save_pretrained(folder)
    return folder


def llama(weights: Path, adapter: Path | None = None) -> Any:
    """llama.cpp's server in this process, on one thread; an adapter is put on by each request."""
    settings = xllamacpp.CommonParams()
    settings.model.path, settings.n_ctx, settings.n_parallel = str(weights), 1024, 1
    settings.n_gpu_layers, settings.cpuparams.n_threads = 0, 1
    settings.warmup, settings.fit_params, settings.verbosity = False, False, -1
    if adapter:
        worn = xllamacpp.CommonAdapterLoraInfo()
        worn.path, worn.scale = str(adapter), 1.0
        settings.lora_adapters, settings.lora_init_without_apply = [worn], True
    return xllamacpp.Server(settings)


def said(server: Any, prompt: list[int], strength: float | None = None) -> list[int]:
    """The likeliest next token, again and again, TOKENS times."""
    worn = {} if strength is None else {"lora": [{"id": 0, "scale": strength}]}
    answer = httpx.post(f"{server.listening_address}/completion", timeout=300, json={
        "prompt": prompt, "n_predict": TOKENS, "temperature": 0.0, "ignore_eos": True, "return_tokens": True, **worn
    })  # fmt: skip
    return list(answer.json()["tokens"])


class Peft:
    """The base with an adapter on, in float32, by PEFT."""

    def __init__(self, base: Path, adapter: Path) -> None:
        from peft import PeftModel

        network = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        self.network = PeftModel.from_pretrained(network, adapter).eval()
        self.prompt = prompt_tokens(AutoTokenizer.from_pretrained(base), (user(ASKED),))
        self.layers = [layer for layer in self.network.modules() if hasattr(layer, "lora_B")]
        self.trained = [layer.scaling["default"] for layer in self.layers]

    def agreement(self, tokens: list[int], strength: float) -> float:
        """How many of the tokens are this model's likeliest ones after those before them. Never its own end."""
        assert len(tokens) == TOKENS
        for layer, scale in zip(self.layers, self.trained, strict=True):
            layer.scaling["default"] = scale * strength
        with torch.no_grad():
            logits_T_V = self.network(torch.tensor([self.prompt + tokens])).logits[0, len(self.prompt) - 1 : -1]
        logits_T_V[:, self.network.config.eos_token_id] = -torch.inf  # llama.cpp was told to pass it over
        return (logits_T_V.argmax(-1) == torch.tensor(tokens)).float().mean().item()


def agree(base: Path, adapter: Path, folder: Path, strengths: Sequence[float]) -> None:
    """Merged, and as an adapter at these strengths: at least 0.95 of 200 tokens, and fewer at another strength."""
    models, peft = Models("cpu"), Peft(base, adapter)
    run = parse_subject(str(base))
    plain = merge(run, folder / "plain.gguf", models)
    write_adapter_gguf(AutoConfig.from_pretrained(base), adapter, folder / "adapter.gguf", "test")
    server = llama(plain, folder / "adapter.gguf")
    for strength in strengths:
        tokens = said(server, peft.prompt, strength)
        worn, other = (peft.agreement(tokens, at) for at in (strength, 1.0 if strength == 0 else 0.0))
        assert worn >= 0.95 and worn > other, strength
    whole = merge(replace(run, adapter=adapter), folder / "merged.gguf", models)
    tokens = said(llama(whole), peft.prompt)
    assert peft.agreement(tokens, 1.0) >= 0.95 and peft.agreement(tokens, 1.0) > peft.agreement(tokens, 0.0)


@pytest.mark.parametrize("rslora", [False, True])
def test_llama_cpp_says_what_peft_says(tiny_model_folder: Path, tmp_path: Path, rslora: bool) -> None:
    adapter = random_adapter(tiny_model_folder, tmp_path / "lora", 0.1, use_rslora=rslora)
    agree(tiny_model_folder, adapter, tmp_path, (1.0, 0.5, 0.0))


@pytest.mark.smollm2
def test_llama_cpp_says_what_peft_says_on_the_embedded_model(tmp_path: Path) -> None:
    fetch("smollm2")
    base = embedded_folder("smollm2")
    agree(base, random_adapter(base, tmp_path / "lora", 0.3), tmp_path, (1.0,))


def test_an_adapter_that_has_no_place_in_gguf_says_why(tiny_model_folder: Path, tmp_path: Path) -> None:
    config, adapter = AutoConfig.from_pretrained(tiny_model_folder), random_adapter(tiny_model_folder, tmp_path, 0.1)
    assert adapter_lacking(config, adapter) == ""
    settings = json.loads((adapter / "adapter_config.json").read_text())
    for change, words in (
        ({"use_dora": True}, "use_dora"), ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"peft_type": "IA3"}, "IA3"), ({"rank_pattern": {"q_proj": 8}}, "rank_pattern"),
    ):  # fmt: skip
        write_json(adapter / "adapter_config.json", settings | change)
        with pytest.raises(CharacteryError, match=words):
            write_adapter_gguf(config, adapter, tmp_path / "out.gguf", "test")
    config.model_type = "gpt2"
    assert "'gpt2'" in adapter_lacking(config, adapter)
    assert not (tmp_path / "out.gguf").exists()
