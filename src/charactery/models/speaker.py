"""Loaded Subjects: one interface for models here and models behind an API, and bulk answers that can be resumed."""

import asyncio
import bisect
import itertools
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from charactery.constitution import system_prompt
from charactery.errors import ModelNotFound
from charactery.memory import fitting
from charactery.models.chat import Message, system
from charactery.models.local import Adapter, Answer, LocalModel, Request, Sampler, derive_seed
from charactery.models.subject import Kind, Subject, parse_subject
from charactery.models.weights import FRAME, fetch, frame_hash, from_hub, stamp, tensors_hash
from charactery.runs import Journal, Row, digest, file_digest

if TYPE_CHECKING:
    from inspect_ai.model import ModelOutput

    from charactery.models.server import ServerModel

BATCH = 256  # places of a batch
PLACE = 12_000_000  # bytes of keys and values that go into one of them: 520 tokens of SmolLM2
LETTERS = 3  # bytes of text to a token, at least about


def as_character(messages: Sequence[Message], prompt: str) -> tuple[Message, ...]:
    """Messages with a character in the system prompt, before any system message there is."""
    if messages and messages[0]["role"] == "system":
        return (system(f"{prompt}\n\n{messages[0]['content']}"), *messages[1:])
    return (system(prompt), *messages)


class Chooser(Protocol):
    """Picks one of `n` answers to the same messages. `identity` names exactly how, for journals."""

    @property
    def n(self) -> int:
        """How many answers there are to pick from."""

    @property
    def identity(self) -> str:
        """Who picks, and by what."""

    def pick(self, cases: Sequence[tuple[Sequence[Message], Sequence[str]]]) -> list[int]:
        """Of each case, which answer; cases are (messages, answers)."""


@dataclass(frozen=True)
class Speaker:
    """A Subject that is loaded. `identity` names exactly what answers, for journals and manifests.

    With a `chooser`, each answer is the one it picks of several. `made_of` are the hashes of its parts by themselves:
    of the base's tensors, and of the adapter's file with its strength.
    """

    subject: Subject
    model: "LocalModel | ServerModel | None"
    adapter: Adapter | None
    identity: str
    chooser: Chooser | None = None
    made_of: Row = field(default_factory=dict, compare=False)

    def prompt(self, messages: Sequence[Message]) -> tuple[Message, ...]:
        """The messages as this subject reads them: with its character, if it has one."""
        if self.subject.character is None:
            return tuple(messages)
        return as_character(messages, system_prompt(self.subject.character))

    def answer(
        self, requests: Sequence[Request], sampler: Sampler, on_token: Callable[[int, int], None] | None = None
    ) -> list[Answer]:
        """Answer a batch."""
        return answer([(self, request) for request in requests], sampler, on_token)


class Models:
    """The models of one command: each base is loaded once, whatever subjects and threads share it.

    `choosing` makes what picks for a Subject that is the best of several answers: judges, which this layer has none of.
    """

    def __init__(
        self,
        device: str = "auto",
        say: Callable[[str], None] = lambda line: None,
        choosing: "Callable[[Models, Subject], Chooser] | None" = None,
    ) -> None:
        self.device, self.say, self.choosing = device, say, choosing
        self._bases: dict[tuple[Kind, str], tuple[Any, LocalModel]] = {}  # each with its files as they were
        self._servers: dict[str, ServerModel] = {}
        self._loading = threading.RLock()

    def folder(self, subject: Subject) -> Path | str:
        """Where a local subject's weights lie: a folder, or a hub id."""
        if subject.kind == "embedded":
            return fetch(subject.base, self.say)
        if subject.kind == "gguf":
            return _converted(Path(subject.base), self.say)
        return from_hub(subject.base) if subject.kind == "hub" else subject.base

    def base(self, subject: Subject) -> LocalModel:
        """The base model of a local subject, loaded anew where its files have changed.

        Raises ModelNotFound for one behind an API or on a server.
        """
        if not subject.here:
            raise ModelNotFound(f"{subject.base} answers over an API; this step needs a model on this machine")
        key, files = (subject.kind, subject.base), _files(subject)
        with self._loading:
            if key not in self._bases or self._bases[key][0] != files:
                self._bases.pop(key, None)  # two may not fit
                self._bases[key] = files, LocalModel.load(self.folder(subject), subject.base, self.device)
            return self._bases[key][1]

    def release(self) -> None:
        """Let go of the loaded bases, before a trainer needs the memory; they are loaded anew when asked for."""
        self._bases.clear()

    def base_hash(self, subject: Subject) -> str:
        """What names the base in a manifest: the hash of its tensors, or what is known of one that is not here."""
        if subject.kind == "server":
            return self._server(subject).identity
        if not subject.here:
            return subject.base
        folder = self.folder(subject)
        if not Path(folder).exists():  # a hub id: its files lie in the hub's cache once it is loaded
            from huggingface_hub import snapshot_download

            self.base(subject)
            folder = snapshot_download(str(folder), local_files_only=True, allow_patterns=["*.safetensors"])
        return tensors_hash(Path(folder))

    def frame_hash(self, subject: Subject) -> str | None:
        """What names all else of a folder that decides its answers; None of other bases, whose files nobody edits."""
        return frame_hash(Path(subject.base)) if subject.kind == "folder" else None

    def speaker(self, subject: Subject | str) -> Speaker:
        """Load what a Subject names."""
        with self._loading:
            return self._speaker(subject)

    def _speaker(self, subject: Subject | str) -> Speaker:
        subject = parse_subject(subject) if isinstance(subject, str) else subject
        if subject.kind == "inspect":
            return Speaker(subject, None, None, subject.base)
        adapter = Adapter(subject.adapter, subject.strength) if subject.adapter else None
        parts: list[Any] = [self.base_hash(subject)]
        made_of: Row = {"base": parts[0]}
        if frame := self.frame_hash(subject):
            parts.append(frame)
        if subject.adapter:
            made_of |= {
                "adapter": file_digest(subject.adapter / "adapter_model.safetensors"),
                "strength": subject.strength,
            }
            parts += [made_of["adapter"], subject.strength]
        chooser = self._chooser(subject) if subject.best_of else None
        if chooser:
            parts += ["best of", chooser.n, chooser.identity]
        return Speaker(subject, self._model(subject), adapter, digest(parts), chooser, made_of)

    def _chooser(self, subject: Subject) -> Chooser:
        if self.choosing is None:
            raise ModelNotFound(f"{subject.text!r} is the best of several answers, and nothing here judges them")
        return self.choosing(self, subject)

    def _model(self, subject: Subject) -> "LocalModel | ServerModel":
        return self._server(subject) if subject.kind == "server" else self.base(subject)

    def _server(self, subject: Subject) -> "ServerModel":
        if subject.base not in self._servers:
            from charactery.models.server import ServerModel

            self._servers[subject.base] = ServerModel(subject.base)
        return self._servers[subject.base]


Ask = tuple[Speaker, Request]


def answer_all(
    asks: Sequence[Ask],
    sampler: Sampler,
    journal: Journal,
    progress: Callable[[int], None] = lambda done: None,
    batch_size: int = BATCH,
) -> list[Answer]:
    """Answer every request, in fixed batches; finished batches are read from the journal.

    Speakers of the same weights share batches, whatever character is in their prompts; those that choose do not.
    """
    answers: dict[int, Answer] = {}
    for batch in batches(asks, batch_size, sampler.max_tokens):
        asked = [asks[i] for i in batch]
        read = [[s.identity, s.prompt(r.messages), r.seed, *([r.prefill] if r.prefill else [])] for s, r in asked]
        key = digest([asdict(sampler), read])
        if key not in journal.done:
            journal.add(key, [asdict(answer) for answer in answer_fitting(asked, sampler)])
        answers |= {i: Answer(**row) for i, row in zip(batch, journal.done[key], strict=True)}
        progress(len(batch))
    return [answers[i] for i in range(len(asks))]


def places(ask: Ask, max_tokens: int) -> int:
    """How many places of a batch a request takes: one if its keys and values are few, else two.

    Two, too, where that is not known (models that transformers' code reads) or does not matter (those not here). What a
    Speaker's own character says is not counted: rows share it.
    """
    speaker, request = ask
    if not isinstance(speaker.model, LocalModel) or speaker.model.token_bytes is None:
        return 2
    text = sum(len(part.encode()) for part in (*(m["content"] for m in request.messages), request.prefill))
    return 1 if (text // LETTERS + max_tokens) * speaker.model.token_bytes <= PLACE else 2


def batches(asks: Sequence[Ask], most: int, max_tokens: int = 0) -> list[list[int]]:
    """Indices in batches of about `most` places and as even as can be; each is for the same weights, of like length."""
    speakers = list({id(speaker): speaker for speaker, _ in asks}.values())
    place = {id(speaker): n for n, speaker in enumerate(speakers)}
    by_weights: dict[Any, list[int]] = {}
    for i, (speaker, _) in enumerate(asks):
        weights = (speaker.subject.kind, speaker.subject.base, speaker.adapter, speaker.identity)
        by_weights.setdefault(weights, []).append(i)
    out = []
    for indices in by_weights.values():
        indices.sort(key=lambda i: (place[id(asks[i][0])], sum(len(m["content"]) for m in asks[i][1].messages)))
        out += [indices[start:end] for start, end in stretches([places(asks[i], max_tokens) for i in indices], most)]
    return out


def stretches(places: Sequence[int], most: int = BATCH) -> list[tuple[int, int]]:
    """Where to cut a row of requests, given the places each takes: even stretches of about `most` places."""
    taken = [0, *itertools.accumulate(places)]
    count = -(-taken[-1] // most)
    edges = [bisect.bisect_right(taken, n * taken[-1] // (count or 1)) - 1 for n in range(count + 1)]
    return [(start, end) for start, end in itertools.pairwise(edges) if start < end]


def answer_fitting(asked: Sequence[Ask], sampler: Sampler) -> list[Answer]:
    """The answers to a batch, halved as often as memory asks for it."""
    return fitting(asked, lambda some: answer(some, sampler), "answers are asked for")


def answer(asked: Sequence[Ask], sampler: Sampler, on_token: Callable[[int, int], None] | None = None) -> list[Answer]:
    """Answer a batch for the same weights. `on_token` is told the place of a request and each token of its answer.

    Not where the speaker chooses: what is chosen is known once all are there.
    """
    speaker = asked[0][0]
    if speaker.chooser:
        return _chosen(asked, sampler, speaker.chooser)
    requests = [replace(r, messages=s.prompt(r.messages)) for s, r in asked]
    if speaker.model is not None:
        return speaker.model.generate(requests, sampler, speaker.adapter, on_token)
    return asyncio.run(_remote(speaker.subject.base, requests, sampler))


def nth(request: Request, n: int) -> Request:
    """The request for one more answer to the same messages; the first, 0, is the request itself."""
    return replace(request, seed=derive_seed(request.seed, "nth", n)) if n else request


def _chosen(asked: Sequence[Ask], sampler: Sampler, chooser: Chooser) -> list[Answer]:
    """The answer picked of several to each request.

    The nth to every request are drawn in one batch, so that the best of 2 chooses among the first 2 of the best of 4.
    """
    plainly = [(replace(speaker, chooser=None), request) for speaker, request in asked]
    drawn = [answer([(s, nth(r, n)) for s, r in plainly], sampler) for n in range(chooser.n)]
    picked = chooser.pick([(r.messages, [r.prefill + row[i].text for row in drawn]) for i, (_, r) in enumerate(asked)])
    return [drawn[n][i] for i, n in enumerate(picked)]


async def _remote(name: str, requests: Sequence[Request], sampler: Sampler) -> list[Answer]:
    """Answers of a model behind an API, through Inspect."""
    from charactery.models.api import outputs

    if any(request.prefill for request in requests):
        raise ModelNotFound(f"{name} answers over an API, where an answer cannot be begun for it; leave that empty")
    return [_answer(name, output) for output in await outputs(name, requests, sampler)]


def _answer(name: str, output: "ModelOutput") -> Answer:
    tokens = output.usage.output_tokens if output.usage else 0
    if output.stop_reason == "content_filter":  # what it says then is the filter's, or cut off by it
        return Answer("", tokens, False, f"{name} withholds its answer (content filter): {output.completion.strip()}")
    return Answer(output.completion.strip(), tokens, output.stop_reason == "stop", output.error or "")


def _files(subject: Subject) -> Any:
    """What tells a folder or file from what was there before; the cache's and the hub's do not change."""
    path = Path(subject.base)
    if subject.kind == "folder":
        return stamp(path, *FRAME)
    return path.stat().st_mtime_ns if subject.kind == "gguf" else None


def _converted(file: Path, say: Callable[[str], None]) -> Path:
    """A .gguf file converted once to safetensors in the cache."""
    from charactery.models.weights import cache_folder, convert_gguf

    stat = file.stat()
    folder = cache_folder() / "converted" / digest([str(file.resolve()), stat.st_size, stat.st_mtime_ns])
    if not (folder / "done").exists():
        say(f"converting {file.name} to safetensors (once)")
        folder.mkdir(parents=True, exist_ok=True)
        try:
            convert_gguf(file, folder)
        except (ValueError, OSError, KeyError) as error:
            raise ModelNotFound(f"cannot be read as a GGUF model: {str(error).splitlines()[0]}", file) from error
        (folder / "done").touch()
    return folder
