"""A model on a server with vLLM's completions API: the same generate and score as a model here has.

Prompts are sent as tokens, so that the chat frame is ours. Log-probabilities are the server's `prompt_logprobs`, which
OpenAI's own API does not have. An adapter goes by its name on the server; a run's is loaded there by its path.
"""

import math
import multiprocessing
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import httpx
import torch
from transformers import AutoTokenizer, GenerationConfig

from charactery.errors import CharacteryWarning, ModelNotFound
from charactery.models.chat import base_template, prompt_tokens
from charactery.models.local import Adapter, Answer, Request, Sampler, too_long, warn_of_long
from charactery.models.weights import cache_folder
from charactery.runs import digest, file_digest

KEY = "CHARACTERY_SERVER_KEY"  # the environment's variable for a server that asks for a key
LOOKS_UP = 0.2  # seconds
IN_FLIGHT = 64  # requests at once; the server batches them as it likes
TRIES, BUSY = 6, (429, 502, 503, 504)
LOST = 3  # times that a request is sent whose reply does not come: each may take as long as an answer
LONG = 600.0  # seconds for one answer: a server under load keeps requests waiting


class _Refused(ModelNotFound):
    """A request that a server does not take, while it may take others."""


class ServerModel:
    """One model of a server, `URL` or `URL#NAME` (default: the first it serves), with its tokenizer here."""

    def __init__(self, address: str) -> None:
        """Raises ModelNotFound where no server answers, or it has no such model, or there is no tokenizer for it."""
        self.name = address
        self.url, _, wanted = address.partition("#")
        self.url = self.url.rstrip("/")
        headers = {"Authorization": f"Bearer {os.environ[KEY]}"} if os.environ.get(KEY) else {}
        self.client = httpx.Client(headers=headers, timeout=httpx.Timeout(LONG, connect=10.0))
        models = {m["id"]: m for m in self._call("GET", "models")["data"]}
        bases = [m for m in models.values() if not m.get("parent")]
        if wanted and wanted not in models:
            raise ModelNotFound(f"{self.url} serves no {wanted!r}; it serves {', '.join(models) or 'nothing'}")
        if not bases:
            raise ModelNotFound(f"{self.url} serves no model")
        self.served = wanted or bases[0]["id"]
        base = models.get(models[self.served].get("parent") or self.served, bases[0])
        self.context = int(base.get("max_model_len") or 2048)
        source = base.get("root") or base["id"]
        said = [[m["id"], m.get("root"), m.get("max_model_len")] for m in (models[self.served], base)]
        self.identity = digest([self.name, said])  # a server may be started again with another model
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(source)
        except (OSError, ValueError) as error:
            raise ModelNotFound(
                f"{self.url} serves {source}, whose tokenizer cannot be loaded here: {str(error).splitlines()[0]}"
            ) from error
        if self.tokenizer.chat_template is None:
            self.tokenizer.chat_template = base_template(self.tokenizer)
        self.ends = sorted({*_ends(source), self.tokenizer.eos_token_id} - {None})
        self._adapters: dict[tuple[Adapter, int], str] = {}  # trained again into the same folder, it is another

    def generate(
        self,
        requests: Sequence[Request],
        sampler: Sampler,
        adapter: Adapter | None = None,
        on_token: Callable[[int, int], None] | None = None,
    ) -> list[Answer]:
        """Answer each request, with its seed; what a seed gives depends on the server. Nothing is streamed.

        A prompt that leaves no room to answer, or that the server refuses, gets an Answer with an error. Raises
        ModelNotFound where a server fails.
        """
        model = self._served(adapter)

        def one(request: Request) -> Answer:
            prompt = prompt_tokens(self.tokenizer, request.messages, request.prefill)
            if len(prompt) + sampler.max_tokens > self.context:
                return Answer("", 0, False, too_long(self.name, len(prompt), sampler.max_tokens, self.context))
            said = self._call("POST", "completions", {
                "model": model, "prompt": prompt, "max_tokens": sampler.max_tokens, "temperature": sampler.temperature,
                # the server would fill in the model's own defaults
                "top_p": sampler.top_p, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0,
                "seed": request.seed % 2**63, "stop_token_ids": self.ends,
            })  # fmt: skip
            choice, ended = said["choices"][0], said["choices"][0]["finish_reason"] == "stop"
            text = choice["text"].rstrip() if request.prefill else choice["text"].strip()
            return Answer(text, int(said["usage"]["completion_tokens"]), ended)

        told = _each(one, requests)
        return [Answer("", 0, False, str(a)) if isinstance(a, _Refused) else a for a in told]

    def score(self, pairs: Sequence[tuple[list[int], list[int]]], adapter: Adapter | None = None) -> list[torch.Tensor]:
        """Log-probability of every token of each continuation given its context, natural log, float32.

        A row longer than the model's context has NaN for every token, as on this machine, and so has one that the
        server refuses; with a warning.
        """
        return [
            torch.full((len(continuation),), math.nan) if isinstance(values, str) else values
            for values, (_, continuation) in zip(self.score_or_reason(pairs, adapter), pairs, strict=True)
        ]

    def score_or_reason(
        self, pairs: Sequence[tuple[list[int], list[int]]], adapter: Adapter | None = None
    ) -> list[torch.Tensor | str]:
        """The same, with the server's reason in place of a row that it refuses."""
        model, most = self._served(adapter), self.context - 1  # the server adds a token
        warn_of_long(self.name, pairs, most)

        def one(pair: tuple[list[int], list[int]]) -> torch.Tensor:
            context, continuation = pair
            ids = context + continuation
            if len(ids) > most:
                return torch.full((len(continuation),), math.nan)
            said = self._call("POST", "completions", {
                "model": model, "prompt": ids, "max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 1,
            })  # fmt: skip
            told = said["choices"][0].get("prompt_logprobs")
            if told is None:
                raise ModelNotFound(
                    f"{self.url} gives no log-probabilities of a prompt (prompt_logprobs), as vLLM does"
                )
            places = zip(ids[len(context) :], told[len(context) :], strict=True)
            return torch.tensor([place[str(token)]["logprob"] for token, place in places], dtype=torch.float32)

        told = _each(one, pairs)
        if refused := [values for values in told if isinstance(values, _Refused)]:
            warnings.warn(
                f"{len(refused)} of {len(told)} texts are not scored: {refused[0]}", CharacteryWarning, stacklevel=1
            )
        return [str(values) if isinstance(values, _Refused) else values for values in told]

    def _served(self, adapter: Adapter | None) -> str:
        """The name under which the server has this adapter; loaded there on first use, from this file system."""
        if adapter is None or adapter.strength == 0:
            return self.served
        folder = adapter.folder.resolve()
        weights = folder / "adapter_model.safetensors"
        if not weights.exists():
            raise ModelNotFound("has no adapter_model.safetensors; is the training finished?", folder)
        key = (adapter, weights.stat().st_mtime_ns)
        if key not in self._adapters:
            name = f"charactery-{digest([file_digest(weights), adapter.strength])[:16]}"
            path = folder if adapter.strength == 1 else _scaled(folder, adapter.strength, name)
            self._call("POST", "load_lora_adapter", {"lora_name": name, "lora_path": str(path)})
            self._adapters[key] = name
        return self._adapters[key]

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        for attempt in range(TRIES):
            if attempt:
                time.sleep(0.5 * 2 ** (attempt - 1))
            try:
                reply = self.client.request(method, f"{self.url}/{path}", json=body)
            except httpx.HTTPError as error:
                # asked for its models it has not answered yet: a wrong address is said at once
                if isinstance(error, httpx.TransportError) and path != "models" and attempt < LOST - 1:
                    continue
                raise ModelNotFound(
                    f"no server answers at {self.url} ({type(error).__name__}); start one, with `vllm serve MODEL` say"
                ) from error
            if reply.status_code not in BUSY:
                break
        if path == "load_lora_adapter" and (reply.status_code == 200 or "already" in reply.text):
            return None
        if path == "load_lora_adapter":
            raise ModelNotFound(
                f"{self.url} does not load adapters ({reply.status_code}); start it with --enable-lora and "
                "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, on this file system, or give the name of one it serves"
            )
        if reply.status_code != 200:
            kind = _Refused if reply.status_code == 400 else ModelNotFound
            raise kind(f"{self.url} answers {reply.status_code}: {' '.join(reply.text.split())[:200]}")
        return reply.json()


def _each(one: Callable[[Any], Any], asked: Sequence[Any]) -> list[Any]:
    """What `one` makes of each, at the same time, or why it was refused. Refused alike, it is no row's own fault."""

    def kept(row: Any) -> Any:
        try:
            return one(row)
        except _Refused as error:
            return error

    # its threads are not waited for: after an interrupt, or one row's failure, others may take as long as an answer
    told: list[Any] = []
    with ThreadPool(min(IN_FLIGHT, len(asked)) or 1) as pool:
        answers = pool.imap(kept, asked)
        while len(told) < len(asked):
            with suppress(multiprocessing.TimeoutError):  # an interrupt that comes just before a wait does not end it
                told.append(answers.next(LOOKS_UP))
    if len(told) > 1 and all(isinstance(t, _Refused) for t in told):
        raise told[0]
    return told


def _ends(source: str) -> list[int]:
    """The end tokens that a model's generation settings name."""
    try:
        ends = GenerationConfig.from_pretrained(source).eos_token_id
    except OSError:
        return []
    return ends if isinstance(ends, list) else [ends] if ends is not None else []


def _scaled(folder: Path, strength: float, name: str) -> Path:
    """A copy of an adapter at another strength: the server has no scale of its own for one."""
    from safetensors.torch import load_file, save_file

    out = cache_folder() / "scaled" / name
    if (out / "done").exists():
        return out
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as scratch:
        fresh = Path(scratch) / name
        fresh.mkdir()
        tensors = load_file(folder / "adapter_model.safetensors")
        save_file(
            {k: v * strength if ".lora_B." in k else v for k, v in tensors.items()}, fresh / "adapter_model.safetensors"
        )
        (fresh / "adapter_config.json").write_bytes((folder / "adapter_config.json").read_bytes())
        (fresh / "done").touch()
        if out.exists() and not (out / "done").exists():
            shutil.rmtree(out)
        try:
            fresh.rename(out)
        except OSError:  # another command was sooner
            if not (out / "done").exists():
                raise
    return out
