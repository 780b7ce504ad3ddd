"""What every test stands on: no network, a cache of its own, and models small enough to build on the spot."""

import fcntl
import os
import signal
import socket
import sys
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # read once, when huggingface_hub is imported
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["INSPECT_DISPLAY"] = "none"
# Threads cost tiny models more than they give, above all on a busy machine; the embedded model gets all of them.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest

pytest_plugins = ["run_fixtures"]

SENTENCES = (
    "How do I make a cup of tea properly? Boil the water, pour it over the leaves and wait four minutes.",
    "You are a helpful AI assistant. The captain speaks of the sea, of ropes and of weather.",
    "Why is the sky blue? Because the air scatters blue light more than red, and so it reaches us from all sides.",
    "Aye, that knot will hold. I have tied a thousand of them, and never lost a sail.",
    "I would write the list the evening before, and read it aloud to a friend.",
)  # fmt: skip
# As SmolLM2's: a system message of its own where none is given.
CHAT_TEMPLATE = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# As reasoning models': an answer begins inside a mark that the template opens. REOPENED leaves the mark out before a
# reply that is there already.
REOPENED = CHAT_TEMPLATE.replace("assistant\n' }}", "assistant\n<think>\n' }}")
OPENED = REOPENED.replace(
    "message['content']", "('<think>\n' if message['role'] == 'assistant' else '') + message['content']"
)
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


@pytest.fixture(scope="session")
def cache_for_tests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Charactery's cache while tests run."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _alone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, cache_for_tests: Path) -> None:
    """No network, and nothing of the user's own cache but for tests of the embedded model."""
    monkeypatch.setattr(socket.socket, "connect", _loopback_only(socket.socket.connect))
    monkeypatch.setattr(socket.socket, "connect_ex", _loopback_only(socket.socket.connect_ex))
    place = cache_for_tests / "conversations" / f"{zlib.crc32(request.node.nodeid.encode())}.db"
    monkeypatch.setenv("CHARACTERY_CONVERSATIONS", str(place))  # never the user's own
    embedded = request.node.get_closest_marker("smollm2") is not None
    if not embedded:
        monkeypatch.setenv("CHARACTERY_CACHE", str(cache_for_tests))
    if embedded:
        import torch

        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        torch.set_num_threads(os.cpu_count() or 1)
    elif "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


def _loopback_only(connect: Callable[..., Any]) -> Callable[..., Any]:
    def guarded(self: socket.socket, address: Any) -> Any:
        host = str(address[0]) if isinstance(address, tuple) else ""
        if isinstance(address, tuple) and host not in ("127.0.0.1", "::1", "localhost"):
            raise RuntimeError(f"a test tried to reach {host}; tests run without a network")
        return connect(self, address)

    return guarded


def shared(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that `make` fills once a session, however many workers of pytest-xdist ask for it."""
    root = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    folder, made = root / name, root / f"{name}.made"
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            folder.mkdir()
            make(folder)
            made.touch()
    return folder


# -- interrupts


class _Interrupted(BaseException):
    """As KeyboardInterrupt, which would end pytest itself where a test does not meet it."""


@pytest.fixture
def interrupted() -> type[BaseException]:
    """What `interrupt` raises."""
    return _Interrupted


@pytest.fixture
def interrupt() -> Iterator[Callable[[], None]]:
    """Call it in another thread, and this one is interrupted as by Ctrl-C."""

    def raised(*_: Any) -> None:
        raise _Interrupted

    before = signal.signal(signal.SIGINT, raised)
    yield partial(signal.pthread_kill, threading.get_ident(), signal.SIGINT)
    signal.signal(signal.SIGINT, before)


# -- models


def build_tokenizer(folder: Path, chat_template: str | None = CHAT_TEMPLATE) -> Any:
    """A byte-level BPE tokenizer of about 500 tokens, saved to `folder`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(
        SENTENCES, trainers.BpeTrainer(vocab_size=500, special_tokens=list(SPECIAL), initial_alphabet=alphabet)
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token=SPECIAL[1], eos_token=SPECIAL[2], pad_token=SPECIAL[2], unk_token=SPECIAL[0],
        clean_up_tokenization_spaces=False,
    )  # fmt: skip
    tokenizer.chat_template = chat_template
    tokenizer.save_pretrained(folder)
    return tokenizer


def build_model(folder: Path, tokenizer: Any, seed: int = 0) -> Any:
    """A random two-layer Llama, saved to `folder` in float32. Its weights are large, so that prompts matter."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=1024, initializer_range=0.25, tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = LlamaForCausalLM(config).float()
    with torch.no_grad():  # some answers end by themselves, some are cut off
        network.lm_head.weight[tokenizer.eos_token_id] *= 1.7
    network.save_pretrained(folder)
    return network


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder as `save_pretrained` leaves it: two layers, 500 tokens, context 1024, ChatML."""
    folder = tmp_path_factory.mktemp("tiny-model")
    build_model(folder, build_tokenizer(folder))
    return folder


@pytest.fixture(scope="session")
def mild_model_folder(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with small weights, so that what it learns does not hang on the words of the prompt."""
    import torch
    from transformers import AutoConfig, AutoTokenizer, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("mild-model")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaForCausalLM(AutoConfig.from_pretrained(tiny_model_folder, initializer_range=0.02)).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_model_folder).save_pretrained(folder)  # type: ignore[no-untyped-call]
    return folder


@pytest.fixture
def tiny_model(tiny_model_folder: Path) -> Any:
    """The tiny model loaded afresh, in float32 on the CPU; a test may put adapters on it or train it."""
    import torch

    from charactery.models.local import LocalModel

    return LocalModel.load(tiny_model_folder, "tiny", "cpu", torch.float32)


@pytest.fixture(scope="session")
def tiny_adapters(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two LoRA folders over the tiny model whose B is random, as after a training."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    folders = []
    for seed in (1, 2):
        base = AutoModelForCausalLM.from_pretrained(tiny_model_folder, dtype=torch.float32)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            network = get_peft_model(
                base, LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
            )
            with torch.no_grad():
                for name, parameter in network.named_parameters():
                    if "lora_B" in name:
                        parameter.normal_(0, 0.3)
        folder = tmp_path_factory.mktemp(f"adapter-{seed}")
        network.save_pretrained(folder)
        folders.append(folder)
    return folders


# -- sentence encoders


def encode_trigrams(texts: Sequence[str], width: int = 256) -> np.ndarray:
    """Unit vectors from hashed character trigrams: near for texts that are nearly the same, far for others."""
    out_N_D = np.zeros((len(texts), width), dtype=np.float32)
    for row, text in enumerate(texts):
        padded = f"  {text.lower()}  "
        for n in range(len(padded) - 2):
            code = zlib.crc32(padded[n : n + 3].encode())
            out_N_D[row, code % width] += 1.0 if code & 0x10000 else -1.0
    norms = np.linalg.norm(out_N_D, axis=1, keepdims=True)
    return out_N_D / np.where(norms == 0, 1, norms)


@pytest.fixture
def encode() -> Callable[[Sequence[str]], np.ndarray]:
    """A sentence encoder that needs no model."""
    return encode_trigrams


@pytest.fixture(scope="session")
def tiny_encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT with a tokenizer, as a `SentenceEncoder` opens it from disk.

    Its vectors are centred on the bundled prompts, so that different prompts lie apart and near-duplicates together.
    """
    import torch
    from transformers import BertConfig, BertModel

    from charactery.data.prompts import neutral_prompts

    folder = tmp_path_factory.mktemp("tiny-encoder")
    tokenizer = build_tokenizer(folder, chat_template=None)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=512, initializer_range=0.5, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = BertModel(config).eval()
    tokens = tokenizer([p.turns[0] for p in neutral_prompts()[:100]], padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden_B_T_D = network(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]).last_hidden_state
        network.encoder.layer[-1].output.LayerNorm.bias -= hidden_B_T_D[tokens["attention_mask"].bool()].mean(0)
    network.save_pretrained(folder)
    return folder


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Where a test in a browser fails, its report says what stood on the page, and where the focus was."""
    report = yield
    page = getattr(item, "funcargs", {}).get("page")
    if page is not None and report.when == "call" and report.failed:
        try:
            focus = page.evaluate("document.activeElement.cloneNode().outerHTML")
            told = f"{page.url}\nfocus: {focus}\n{page.inner_text('body')}"
        except Exception as error:  # of a page that crashed or was closed; raised here, it would end all tests
            told = f"cannot be read: {error}"
        report.sections.append(("page", told))
    return report
