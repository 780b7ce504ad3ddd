"""A model on this machine: generate and score in batches, with adapters that switch without reloading."""

import hashlib
import itertools
import math
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer

from charactery.errors import CharacteryWarning, ModelNotFound
from charactery.memory import fitting, halvings
from charactery.models.attention import share_prefixes
from charactery.models.buffers import layers_to_buffer
from charactery.models.chat import Message, base_template, prompt_tokens
from charactery.models.decoder import Decoder, adds_plainly, bytes_held, decodes
from charactery.models.gradients import LOG2_E, cached
from charactery.models.held import Held, Slot
from charactery.models.network import Network
from charactery.models.products import merges
from charactery.models.turns import Turns

BLOCK = 128  # tokens whose weights are added up together when one is drawn
APART = 4  # a batch ends where going on would put one in so many of its places back to where they are not shared
HELD = 2  # adapters whose merged weights are held: a run's trained and sham answer in turn
AT_ONCE = 4  # that answer at once, each with merged weights of its own; who comes later waits for one to be done
LOADED = 8  # adapters that stay on the network when others are asked for, those asked for last
ANEW = ("pissa", "olora", "corda", "loftq")  # take an adapter's beginning out of the base whenever it is loaded
HEAD = 256  # positions put through the vocabulary head at once: 50 MB of float32 at 49,152 tokens


@dataclass(frozen=True)
class Sampler:
    """How answers are drawn. Temperature 0 takes the most likely token."""

    max_tokens: int = 96
    temperature: float = 0.7
    top_p: float = 1.0


@dataclass(frozen=True)
class Request:
    """One answer asked for: the messages so far, the seed of this answer, and how it begins, if that is given."""

    messages: tuple[Message, ...]
    seed: int
    prefill: str = ""


@dataclass(frozen=True)
class Answer:
    """One answer: its text, its length in tokens, and whether it ended by itself (False: cut off).

    `error` says why there is none, where the request was longer than the context or a server refused it.
    """

    text: str
    tokens: int
    ended: bool
    error: str = ""


@dataclass(frozen=True)
class Adapter:
    """A LoRA folder and the strength it is applied with (0 is the base, 1 as trained)."""

    folder: Path
    strength: float = 1.0


def pick_device(wanted: str) -> str:
    """`auto` is CUDA, then Apple's MPS, then the CPU. Raises ModelNotFound for a device that is not here."""
    here = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted != "auto":
        if not here.get(wanted):
            there = ", ".join(name for name, is_here in here.items() if is_here)
            raise ModelNotFound(f"there is no device {wanted!r} here; give --device auto or one of: {there}")
        return wanted
    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"


def pick_dtype(device: str) -> torch.dtype:
    """bfloat16 where the processor computes in it, else float32."""
    if device == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    if device == "cpu" and torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return torch.bfloat16
    return torch.float32


def card_memory(device: str) -> float:
    """Bytes of a graphics card of NVIDIA's; 0 for another device."""
    return float(torch.cuda.get_device_properties(device).total_memory) if device == "cuda" else 0.0


def _version(folder: Path) -> tuple[Path, int]:
    """What tells an adapter from another: trained again into the same folder, it is one."""
    folder = folder.resolve()
    weights = folder / "adapter_model.safetensors"
    if not weights.exists():
        raise ModelNotFound("has no adapter_model.safetensors; is the training finished?", folder)
    return folder, weights.stat().st_mtime_ns


def derive_seed(*parts: object) -> int:
    """A seed from anything printable, the same on every machine: 63 bits, of which torch draws by the last 32."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big") >> 1


class LocalModel:
    """A causal language model and its tokenizer, loaded once.

    Several threads may ask it at once. Where our own decoder reads, they take turns token by token, each with its own
    adapter, and each gets what it would get alone; else one waits for the other.
    """

    def __init__(self, model: Any, tokenizer: Any, name: str, device: str = "cpu") -> None:
        self.model, self.tokenizer, self.name, self.device = model.to(device).eval(), tokenizer, name, device
        self.context = int(getattr(model.config.get_text_config(), "max_position_embeddings", 2048))
        if tokenizer.chat_template is None:
            tokenizer.chat_template = base_template(tokenizer)
        ends = getattr(model.generation_config, "eos_token_id", None)
        ends = [] if ends is None else ends if isinstance(ends, list) else [ends]
        self.ends = sorted({*ends, tokenizer.eos_token_id} - {None})
        self.pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else self.ends[0]
        # None for hybrids (Qwen3.5, LFM2, Granite 4) and layers that read each other's keys (Gemma 4): they get the
        # cache that transformers makes for them, and their prompts are read whole
        self.layers = layers_to_buffer(model.config)
        self.shares = self.layers is not None and share_prefixes(model)
        self.decodes = decodes(model.config)
        self.token_bytes = bytes_held(model.config, model.dtype) if self.decodes else None
        self._bare = Slot[Decoder]()
        self._merged = Held[Decoder](AT_ONCE if merges(model) else sys.maxsize, HELD)
        self._adapters: dict[tuple[Path, int], str] = {}  # by name in PEFT; the one asked for last stands last
        self._names = map("a{}".format, itertools.count())
        self._peft: Any = None
        self._turns = Turns()

    @classmethod
    def load(
        cls, folder: Path | str, name: str, device: str = "auto", dtype: torch.dtype | None = None
    ) -> "LocalModel":
        """Load from a folder or hub id. Raises ModelNotFound with what to do where that fails."""
        device = pick_device(device)
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder)
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype or pick_dtype(device))
        except (OSError, ValueError, SafetensorError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ModelNotFound(
                f"cannot load model {name!r}: {reason}. `charactery models` lists what is here"
            ) from error
        return cls(model, tokenizer, name, device)

    # -- adapters

    @contextmanager
    def adapted(self, adapter: Adapter | None) -> Iterator[Any]:
        """The network with an adapter on at its strength, or the bare base for None."""
        if adapter is None or adapter.strength == 0:
            if self._peft is None:
                yield self.model
            else:
                with self._peft.disable_adapter():
                    yield self._peft
            return
        from peft.tuners.tuners_utils import BaseTunerLayer

        name = self._adapter(adapter.folder)
        self._peft.set_adapter(name)
        layers = [m for m in self._peft.modules() if isinstance(m, BaseTunerLayer) and name in m.scaling]
        trained = [layer.scaling[name] for layer in layers]
        for layer, scale in zip(layers, trained, strict=True):
            layer.scaling[name] = scale * adapter.strength
        try:
            yield self._peft
        finally:
            for layer, scale in zip(layers, trained, strict=True):
                layer.scaling[name] = scale

    @torch.inference_mode(False)  # so that the adapter's tensors can be used outside of inference mode too
    def _adapter(self, folder: Path) -> str:
        key = _version(folder)
        if key not in self._adapters:
            name = next(self._names)
            self._put_on(key[0], name)
            # the adapter's own tensors alone: `.to` on the whole would round the rotary frequencies, float32 always
            for path, parameter in self._peft.named_parameters():
                if f".{name}." in path:
                    parameter.data = parameter.data.to(self.model.dtype)
            self._peft.eval()
            self._adapters[key] = name
            if len(self._adapters) > LOADED:  # a decoder made with it has what it needs of it
                self._peft.delete_adapter(self._adapters.pop(next(iter(self._adapters))))
        self._adapters[key] = self._adapters.pop(key)
        return self._adapters[key]

    def _put_on(self, folder: Path, name: str) -> None:
        from peft import PeftConfig, PeftModel
        from peft.tuners.tuners_utils import BaseTunerLayer

        try:
            config = PeftConfig.from_pretrained(folder)
            begins = str(getattr(config, "init_lora_weights", "")).lower()
            changes = getattr(config, "kasa_config", None) or getattr(config, "layer_replication", None)
            kind = str(getattr(config.peft_type, "value", config.peft_type))
            if kind != "LORA" or getattr(config, "bias", "none") != "none":
                raise ModelNotFound(
                    f"holds an adapter of the kind {kind} with biases {getattr(config, 'bias', 'none')!r}; Charactery "
                    "wears LoRA that leaves the base's biases as they are. Merge it by PEFT, and use the whole model",
                    folder,
                )
            if changes or begins.startswith(ANEW):
                raise ModelNotFound(
                    "holds an adapter that changes the base itself (KaSA, repeated layers, or begun by PiSSA, OLoRA, "
                    "CorDA or LoftQ), which others answer with, too; merge it by PEFT, and use the whole model that "
                    "this makes",
                    folder,
                )
            if self._peft is None:
                self._peft = PeftModel.from_pretrained(self.model, folder, adapter_name=name)
            else:
                self._peft.load_adapter(folder, adapter_name=name)
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
            # the layers that it made before it broke off are in the network already
            if self._peft is None:
                for path, layer in [*self.model.named_modules()]:
                    if isinstance(layer, BaseTunerLayer):
                        self.model.set_submodule(path, layer.get_base_layer())
            elif name in self._peft.peft_config:
                self._peft.delete_adapter(name)
            why = (str(error).splitlines() or [type(error).__name__])[0].rstrip(":")
            raise ModelNotFound(
                f"holds an adapter that does not fit {self.name}: it was trained on another model, or is damaged "
                f"({why})", folder,
            ) from error  # fmt: skip

    # -- generation

    def generate(
        self,
        requests: Sequence[Request],
        sampler: Sampler,
        adapter: Adapter | None = None,
        on_token: Callable[[int, int], None] | None = None,
    ) -> list[Answer]:
        """Answer a batch of requests together.

        Each request draws from its own seed, so a fixed batch gives fixed answers. `on_token` is called with the place
        of a request and every token of its answer, for streaming; what it raises ends them all. A prompt that leaves no
        room to answer gets an Answer with an error, and the others theirs.
        """
        prompts = [prompt_tokens(self.tokenizer, r.messages, r.prefill) for r in requests]
        fit = [n for n, prompt in enumerate(prompts) if len(prompt) + sampler.max_tokens <= self.context]
        if len(fit) < len(requests):
            said = [too_long(self.name, len(prompt), sampler.max_tokens, self.context) for prompt in prompts]
            answers = [Answer("", 0, False, error) for error in said]
            stream = (lambda row, token: on_token(fit[row], token)) if on_token else None
            for n, answer in zip(
                fit, self.generate([requests[n] for n in fit], sampler, adapter, stream) if fit else [], strict=True
            ):
                answers[n] = answer
            return answers
        systems = [
            r.messages[0]["content"] if r.messages[:1] and r.messages[0]["role"] == "system" else "" for r in requests
        ]
        with self._reading(adapter) as reader:
            tokens = self._drawn(reader, prompts, [r.seed for r in requests], sampler, systems, on_token)
        return [self.answer_of(ids, r.prefill) for ids, r in zip(tokens, requests, strict=True)]

    def draw(
        self, prompts: Sequence[list[int]], seeds: Sequence[int], sampler: Sampler, adapter: Adapter | None = None,
        learning: Any = None,
    ) -> list[list[int]]:  # fmt: skip
        """Token ids of an answer to each prompt of token ids, drawn together from these seeds, the end's with them.

        `learning` is PEFT's network over this model, in training: its adapter "default" is worn as it is now, in place
        of `adapter`. A batch that memory does not hold is drawn in two halves.
        """
        asked = list(zip(prompts, seeds, strict=True))

        def drawn(reader: Decoder | Network) -> list[list[int]]:
            return fitting(
                asked, lambda some: self._drawn(reader, [p for p, _ in some], [s for _, s in some], sampler),
                "answers are drawn",
            )  # fmt: skip

        if learning is None:
            with self._reading(adapter) as reader:
                return drawn(reader)
        with self._turns, torch.inference_mode():
            return drawn(self._reader_of(learning))

    def answer_of(self, ids: Sequence[int], prefill: str = "") -> Answer:
        """What drawn token ids say; after `prefill`, with the space between them."""
        ended = bool(ids) and ids[-1] in self.ends
        said = list(ids[:-1] if ended else ids)
        if not prefill:
            return Answer(self.tokenizer.decode(said, skip_special_tokens=True).strip(), len(ids), ended)
        begun = self.tokenizer(prefill, add_special_tokens=False)["input_ids"]  # a first token may lose its space
        text = self.tokenizer.decode(begun + said, skip_special_tokens=True)
        return Answer(text[len(self.tokenizer.decode(begun, skip_special_tokens=True)) :].rstrip(), len(ids), ended)

    def _drawn(
        self,
        reader: Decoder | Network,
        prompts: Sequence[list[int]],
        seeds: Sequence[int],
        sampler: Sampler,
        systems: Sequence[str] | None = None,
        on_token: Callable[[int, int], None] | None = None,
    ) -> list[list[int]]:
        if not prompts:
            return []
        uniform_B_T = torch.stack(
            [torch.rand(sampler.max_tokens, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        ).to(self.device)
        groups = _kin(systems or [""] * len(prompts), [len(prompt) for prompt in prompts], reader.padding)
        return self._decode(reader, list(prompts), groups, uniform_B_T, sampler, on_token)

    def _decode(
        self,
        reader: Any,
        prompts: list[list[int]],
        groups: list[list[int]],
        uniform_B_T: torch.Tensor,
        sampler: Sampler,
        on_token: Callable[[int, int], None] | None,
    ) -> list[list[int]]:
        parts = []
        for group in groups:
            mine = [prompts[i] for i in group]
            # padding comes between what is shared and what is not, but for rows of one length
            shared = self._shared_prefix(mine) if reader.pads_anywhere or len({*map(len, mine)}) == 1 else 0
            parts.append((group, mine[0][:shared], [prompt[shared:] for prompt in mine]))
        # those of like length are attended to together, where all share something or none does
        parts.sort(key=lambda part: (bool(part[1]), max(map(len, part[2]))))
        begun = [reader.begin(shared, rows, sampler.max_tokens) for _, shared, rows in parts]
        logits_B_V = torch.cat([logits for logits, _ in begun])
        states = reader.joined([state for _, state in begun])
        del begun  # it would hold what those hold that ended
        out: list[list[int]] = [[] for _ in prompts]
        live = [i for group, _, _ in parts for i in group]
        going = [True] * len(live)  # here and not on a card, which is then waited for once a step, for its tokens
        live_B = torch.tensor(live, device=self.device)
        for step in range(sampler.max_tokens):
            next_B = _sample(logits_B_V, uniform_B_T[live_B, step], sampler)
            for n, (row, token) in enumerate(zip(live, next_B.tolist(), strict=True)):
                if going[n]:
                    out[row].append(token)
                    if on_token:
                        on_token(row, token)
                    going[n] = token not in self.ends
            if step == sampler.max_tokens - 1 or not any(going):
                break
            self._pass_on(reader)
            if going.count(False) * reader.idle >= len(live):
                start, kept = 0, list[int]()
                for state in states:
                    stay = _closed_up(going[start : start + state.rows])
                    kept += [start + n for n in stay]
                    start += state.rows
                    if len(stay) < state.rows:
                        state.keep(torch.tensor(stay, dtype=torch.long, device=self.device))
                states = [state for state in states if state.rows]
                live, going = [live[n] for n in kept], [True] * len(kept)
                stay_B = torch.tensor(kept, device=self.device)
                live_B, next_B = live_B[stay_B], next_B[stay_B]
            logits_B_V = reader.step(next_B, states)
        return out

    @contextmanager
    def _reading(self, adapter: Adapter | None) -> Iterator[Decoder | Network]:
        """What reads with an adapter on, while it is this thread's turn."""
        on = adapter if adapter is not None and adapter.strength != 0 else None
        held = self._merged.use((*_version(on.folder), on.strength)) if on else nullcontext(self._bare)
        with held as slot, self._turns, torch.inference_mode():
            with self.adapted(on) as network:
                reader = self._reader(network, on, slot)
                if isinstance(reader, Network):
                    yield reader
                    return
            yield reader  # the adapter is in what it multiplies with: the network may wear another meanwhile

    def _pass_on(self, reader: Decoder | Network) -> None:
        """Let other threads have their turn. A network that wears an adapter while it reads cannot be shared."""
        if isinstance(reader, Decoder):
            self._turns.pass_on()

    def _reader(self, network: Any, adapter: Adapter | None, slot: Slot[Decoder]) -> Decoder | Network:
        """What reads for this network: our own decoder where it knows the model, else transformers' code."""
        name = self._adapter(adapter.folder) if adapter else None
        if not self.decodes or (name and not adds_plainly(self._peft, name)):
            return Network(network, self.model, self._body(network), self.layers, self.shares, self.pad)
        if slot.thing is None:
            slot.thing = Decoder(self.model, name)
        return slot.thing

    def _reader_of(self, learning: Any) -> Decoder | Network:
        """What reads for an adapter in training: made anew each time, since its weights are merged as they are now."""
        if self.decodes and adds_plainly(learning, "default"):
            return Decoder(self.model, "default")
        body = learning.get_base_model().base_model
        return Network(learning, self.model, body, self.layers, self.shares, self.pad)

    def _shared_prefix(self, rows: list[list[int]]) -> int:
        """How many leading tokens are read once for all rows. A recurrent state has no place for padding after them."""
        return _shared_prefix(rows) if self.layers is not None else 0

    # -- scoring

    def score(
        self, pairs: Sequence[tuple[list[int], list[int]]], adapter: Adapter | None = None, batch_tokens: int = 8192
    ) -> list[torch.Tensor]:
        """Log-probability of every token of each continuation given its context, natural log, float32.

        `pairs` are (context ids, continuation ids); a context has at least one token. Rows are sorted so that those
        with the same context meet in a batch, where what they share is computed once; a batch that memory does not
        hold is scored in two halves. A row longer than the model's context has NaN for every token, with a warning.
        """
        assert all(context for context, _ in pairs)
        warn_of_long(self.name, pairs, self.context)
        results = [torch.full((len(continuation),), math.nan) for _, continuation in pairs]
        found: list[torch.Tensor] = []
        fit = [i for i, (c, said) in enumerate(pairs) if said and len(c) + len(said) <= self.context]
        order = sorted(fit, key=lambda i: (pairs[i][0], len(pairs[i][1])))
        with self._reading(adapter) as reader:
            start = 0
            while start < len(order):
                self._pass_on(reader)
                batch, before = self._fill(order[start:], pairs, batch_tokens), halvings()
                found += fitting([pairs[i] for i in batch], lambda some: self._score(some, reader), "texts are scored")
                start += len(batch)
                batch_tokens >>= halvings() - before  # halved so often, what comes next is as small
            if found:  # in one go: a card computes while the next batch is laid out
                every = torch.cat(found).cpu()
                for index, values in zip(order, torch.split(every, [*map(len, found)]), strict=True):
                    results[index] = values
        return results

    def _fill(self, order: list[int], pairs: Sequence[tuple[list[int], list[int]]], room: int) -> list[int]:
        """The next rows that fit `room` tokens, what they share counted once."""
        batch: list[int] = []
        longest = 0
        first = pairs[order[0]][0]
        shared = len(first) - 1 if self.layers is not None else 0
        for index in order:
            context, continuation = pairs[index]
            both = min(shared, _common(first, context), len(context) - 1)
            width = max(longest + shared - both, len(context) + len(continuation) - both)
            if batch and width * (len(batch) + 1) > room:
                break
            apart = (shared - both) * len(batch)  # places that each row would attend to by itself from then on
            if apart > room // APART:
                break
            batch.append(index)
            shared, longest = both, width
        return batch

    def _score(self, batch: Sequence[tuple[list[int], list[int]]], reader: Decoder | Network) -> list[torch.Tensor]:
        shared = min(self._shared_prefix([c for c, _ in batch]), min(len(c) for c, _ in batch) - 1)
        rows = [(context + continuation)[shared:-1] for context, continuation in batch]
        # the position before each continuation token predicts it
        starts = [len(context) - 1 - shared for context, _ in batch]
        counts = [len(continuation) for _, continuation in batch]
        hidden_N_C = reader.hidden(batch[0][0][:shared], rows, starts, counts)
        wanted = [token for _, continuation in batch for token in continuation]
        target_N = torch.tensor(wanted, dtype=torch.long, device=self.device)
        pieces = zip(torch.split(hidden_N_C, HEAD), torch.split(target_N, HEAD), strict=True)
        values_N = torch.cat([_log_probability(reader.head(h), t) for h, t in pieces])
        return list(torch.split(values_N, counts))

    def _body(self, network: Any) -> Any:
        """The network without its vocabulary head, adapters included."""
        return (network.get_base_model() if network is self._peft else network).base_model


def too_long(name: str, prompt: int, answer: int, context: int) -> str:
    """What a request says that does not fit the model's context; all in tokens."""
    return (
        f"a prompt of {prompt} tokens and an answer of {answer} do not fit {name}'s context of {context}; shorten the "
        "prompt or lower --max-tokens"
    )


def warn_of_long(name: str, pairs: Sequence[tuple[list[int], list[int]]], most: int) -> None:
    """Say how many of the texts to score are longer than `most` tokens with what they follow."""
    long = [len(context) + len(said) for context, said in pairs if said and len(context) + len(said) > most]
    if long:
        warnings.warn(
            f"{len(long)} of {len(pairs)} texts are not scored: the first is {long[0]} tokens long with what it "
            f"follows, and {name}'s context holds {most}", CharacteryWarning, stacklevel=1,
        )  # fmt: skip


def _common(a: list[int], b: list[int]) -> int:
    for n, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return n
    return min(len(a), len(b))


def _kin(systems: Sequence[str], lengths: Sequence[int], padding: int) -> list[list[int]]:
    """Rows that are attended to together: behind one system message, with at most `padding` places that are no token.

    Every row of a group is attended to as if it were as long as the longest.
    """
    groups: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: (systems[i], lengths[i])):
        last = groups[-1] if groups else []
        if not last or systems[last[0]] != systems[i] or sum(lengths[i] - lengths[j] for j in last) > padding:
            groups.append([])
        groups[-1].append(i)
    return groups


def _closed_up(going: Sequence[bool]) -> list[int]:
    """The rows that go on, in an order that moves as few as can be: the last take the places of those that ended."""
    count = sum(going)
    late = (n for n in range(count, len(going)) if going[n])
    return [n if going[n] else next(late) for n in range(count)]


def _shared_prefix(rows: list[list[int]]) -> int:
    """How many leading tokens all rows share, leaving each row at least one of its own."""
    if len(rows) < 2:
        return 0
    low, high = min(rows), max(rows)  # the first and last in order differ earliest
    return min(_common(low, high), min(map(len, rows)) - 1)


def _sample(logits_B_V: torch.Tensor, uniform_B: torch.Tensor, sampler: Sampler) -> torch.Tensor:
    """One token a row, by inverse of the cumulative distribution at that row's own uniform number."""
    if sampler.temperature == 0:
        return logits_B_V.argmax(-1)
    pieces = zip(cached(logits_B_V), cached(uniform_B), strict=True)
    return torch.cat([_drawn(logits, uniform, sampler) for logits, uniform in pieces])


def _drawn(logits_B_V: torch.Tensor, uniform_B: torch.Tensor, sampler: Sampler) -> torch.Tensor:
    # exp2 of differences in place: torch's softmax over a whole vocabulary takes seven times as long on a processor
    weight_B_V = _below(logits_B_V).mul_(LOG2_E / sampler.temperature).exp2_()
    if sampler.top_p < 1:
        sorted_B_V, index_B_V = (weight_B_V / weight_B_V.sum(-1, keepdim=True)).sort(descending=True)
        beyond_B_V = sorted_B_V.cumsum(-1) - sorted_B_V >= sampler.top_p
        beyond_B_V[:, 0] = False  # the likeliest is left, whatever the share
        sorted_B_V[beyond_B_V] = 0
        weight_B_V = torch.zeros_like(weight_B_V).scatter(1, index_B_V, sorted_B_V)
    # first the block of the vocabulary in which the number falls, then the token in it
    if lacking := -weight_B_V.shape[1] % BLOCK:  # a pad of nothing is a copy, too
        weight_B_V = functional.pad(weight_B_V, (0, lacking))
    weight_B_N_K = weight_B_V.view(len(weight_B_V), -1, BLOCK)
    total_B_N = weight_B_N_K.sum(-1).cumsum(-1)
    target_B_1 = uniform_B[:, None] * total_B_N[:, -1:]
    block_B_1 = _first_above(total_B_N, target_B_1)
    weight_B_K = weight_B_N_K[torch.arange(len(block_B_1), device=block_B_1.device), block_B_1[:, 0]]
    before_B_1 = functional.pad(total_B_N, (1, 0)).gather(1, block_B_1)
    return (block_B_1 * BLOCK + _first_above(weight_B_K.cumsum(-1), target_B_1 - before_B_1))[:, 0]


def _log_probability(logits_N_V: torch.Tensor, token_N: torch.Tensor) -> torch.Tensor:
    """Natural log-probability of one token a row, float32; in place where it can be, for the reason above."""
    found = []
    for logits, token in zip(cached(logits_N_V), cached(token_N), strict=True):
        below_N_V = _below(logits)
        of_token_N = below_N_V.gather(1, token[:, None])[:, 0]
        found.append(of_token_N - below_N_V.mul_(LOG2_E).exp2_().sum(-1).log())
    return torch.cat(found)


def _below(logits_N_V: torch.Tensor) -> torch.Tensor:
    """How far each is below the highest of its row, float32; a tensor of its own."""
    logits = logits_N_V.to(torch.float32, copy=True)
    return logits.sub_(logits.amax(-1, keepdim=True))


def _first_above(cumulative_B_N: torch.Tensor, target_B_1: torch.Tensor) -> torch.Tensor:
    """Where the sums first pass the target; where rounding keeps them from it, the last place that adds anything."""
    last_B_1 = torch.searchsorted(cumulative_B_N, cumulative_B_N[:, -1:].contiguous())
    return torch.searchsorted(cumulative_B_N, target_B_1, right=True).minimum(last_B_1)


def bits_per_byte(log_probability: float, text: str) -> float:
    """Bits per UTF-8 byte of a text with this summed natural log-probability."""
    return -log_probability / math.log(2) / len(text.encode())
