"""A model on a server: a stand-in that answers with vLLM's JSON, by the tiny model, against that model here."""

import _thread
import asyncio
import json
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import safetensors.torch
import torch
from inspect_ai.model import (
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageUser,
    GenerateConfig,
    ModelOutput,
)
from safetensors.torch import load_file

from charactery.errors import CharacteryWarning, ModelNotFound
from charactery.models import server
from charactery.models.chat import prompt_tokens, system, user
from charactery.models.inspect_provider import subject_model
from charactery.models.local import Adapter, LocalModel, Request, Sampler
from charactery.models.server import ServerModel
from charactery.models.speaker import Models, answer, answer_all
from charactery.models.subject import parse_subject
from charactery.runs import Journal

GREEDY = Sampler(16, 0)
ASKED = [
    Request((user("Why is the sky blue?"),), 1),
    Request((system("Be brief."), user("Tea?")), 2),
    Request((user("Tell me of the sea."),), 3),
]


class Stand(ThreadingHTTPServer):
    """As much of vLLM's server as is asked of it; `seen` holds the requests."""

    daemon_threads = True

    def __init__(self, model: LocalModel, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.model, self.folder, self.lock = model, folder, threading.Lock()
        self.loras: dict[str, Path] = {}
        self.seen: list[tuple[str, Any]] = []
        self.busy, self.loads, self.key = 0, True, ""
        self.status, self.drops, self.hangs, self.bad = 503, 0, 0, ""  # of the next requests; what is refused
        self.name, self.room = "org/tiny", 1024

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Stand

    def log_message(self, *words: Any) -> None: ...

    def reply(self, status: int, body: Any) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        name = self.server.name
        base = {"id": name, "root": str(self.server.folder), "parent": None, "max_model_len": self.server.room}
        loras = [{"id": n, "root": str(p), "parent": name} for n, p in self.server.loras.items()]
        self.reply(200, {"object": "list", "data": [base, *loras]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.seen.append((self.path, body))
            if self.server.key and self.headers["Authorization"] != f"Bearer {self.server.key}":
                return self.reply(401, {"error": "Unauthorized"})
            if self.server.busy:
                self.server.busy -= 1
                return self.reply(self.server.status, {"error": "overloaded"})
            if self.server.drops:
                self.server.drops -= 1
                return self.connection.shutdown(socket.SHUT_RDWR)
            if self.server.hangs:
                self.server.hangs -= 1
                time.sleep(0.6)
                return None
            if self.server.bad and self.server.bad in self.server.model.tokenizer.decode(body.get("prompt", [])):
                return self.reply(400, {"error": {"message": "I do not like\nthis prompt", "type": "BadRequestError"}})
            if self.path == "/v1/load_lora_adapter":
                if not self.server.loads:
                    return self.reply(404, {"detail": "Not Found"})
                if body["lora_name"] in self.server.loras:
                    return self.reply(400, {"error": {"message": "has already been loaded"}})
                self.server.loras[body["lora_name"]] = Path(body["lora_path"])
                return self.reply(200, "Success")
            if body["model"] != self.server.name and body["model"] not in self.server.loras:
                return self.reply(404, {"error": {"message": f"The model `{body['model']}` does not exist."}})
            return self.reply(200, self.completion(body))

    def completion(self, body: Any) -> Any:
        model, prompt = self.server.model, body["prompt"]
        adapter = Adapter(self.server.loras[body["model"]]) if body["model"] in self.server.loras else None
        if "prompt_logprobs" in body:
            [values] = model.score([(prompt[:1], prompt[1:])], adapter)
            told = [None] + [
                {str(t): {"logprob": v, "rank": 9}, "-1": {"logprob": -0.1, "rank": 1}}
                for t, v in zip(prompt[1:], values.tolist(), strict=True)
            ]
            return {"choices": [{"text": "x", "finish_reason": "length", "prompt_logprobs": told}], "usage": {}}
        assert body["top_k"] == -1 and body["top_p"] == 1.0 and body["stop_token_ids"] == model.ends
        out: list[int] = []
        with torch.inference_mode(), model.adapted(adapter) as network:
            for _ in range(body["max_tokens"]):
                out.append(int(network(torch.tensor([prompt + out])).logits[0, -1].argmax()))
                if out[-1] in model.ends:
                    break
        ended = out[-1] in model.ends
        text = model.tokenizer.decode(out[:-1] if ended else out, skip_special_tokens=True)
        choice = {"text": text, "finish_reason": "stop" if ended else "length"}
        return {"choices": [choice], "usage": {"completion_tokens": len(out)}}


@pytest.fixture
def stand(tiny_model_folder: Path) -> Iterator[Stand]:
    at = Stand(LocalModel.load(tiny_model_folder, "tiny", "cpu", torch.float32), tiny_model_folder)
    threading.Thread(target=at.serve_forever, daemon=True).start()
    yield at
    at.shutdown()


@pytest.fixture
def here(tiny_model_folder: Path) -> LocalModel:
    return LocalModel.load(tiny_model_folder, "tiny", "cpu", torch.float32)


def pairs(model: LocalModel) -> list[tuple[list[int], list[int]]]:
    context = prompt_tokens(model.tokenizer, [user("Why is the sky blue?")])
    return [(context, [40, 41, 42]), (context, [50]), (context[:3], [60, 61])]


@pytest.mark.parametrize("strength", [None, 0.0, 1.0, 0.5])
def test_answers_and_scores_are_those_of_the_model_here(
    stand: Stand, here: LocalModel, tiny_adapters: list[Path], strength: float | None
) -> None:
    adapter = None if strength is None else Adapter(tiny_adapters[0], strength)
    there = ServerModel(stand.url)
    assert there.generate(ASKED, GREEDY, adapter) == here.generate(ASKED, GREEDY, adapter)
    for one, two in zip(there.score(pairs(here), adapter), here.score(pairs(here), adapter), strict=True):
        torch.testing.assert_close(one, two, atol=1e-4, rtol=0)
    assert len(stand.loras) == (1 if strength else 0)
    if strength:  # or this shows nothing
        plain = here.score(pairs(here))
        assert not torch.allclose(plain[0], there.score(pairs(here), adapter)[0], atol=1e-3)


def test_an_adapter_trained_again_into_its_folder_is_another(
    stand: Stand, tiny_adapters: list[Path], tmp_path: Path
) -> None:
    there, folder = ServerModel(stand.url), shutil.copytree(tiny_adapters[0], tmp_path / "adapter")
    first, again = (there.generate(ASKED, GREEDY, Adapter(folder)) for _ in range(2))
    assert first == again and len(stand.loras) == 1
    shutil.copy(tiny_adapters[1] / "adapter_model.safetensors", folder)
    there.generate(ASKED, GREEDY, Adapter(folder))
    assert len(stand.loras) == 2 and stand.seen[-1][1]["model"] == [*stand.loras][1]
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(ModelNotFound, match="is the training finished"):
        there.generate(ASKED, GREEDY, Adapter(folder))


def test_each_request_has_its_seed_and_its_temperature(stand: Stand) -> None:
    ServerModel(stand.url).generate(ASKED, Sampler(4, 0.7))
    asked = [body for path, body in stand.seen if path == "/v1/completions"]
    assert sorted(body["seed"] for body in asked) == [1, 2, 3]
    assert {body["temperature"] for body in asked} == {0.7}


def test_what_does_not_fit_is_that_rows_alone(stand: Stand) -> None:
    there = ServerModel(stand.url)
    first, none = there.generate([ASKED[0], Request((user("tea " * 1200),), 1)], GREEDY)
    assert first.text and not first.error and "do not fit" in none.error
    with pytest.warns(
        CharacteryWarning, match="1 of 2 texts are not scored: .* 1024 tokens long .* context holds 1023"
    ):
        scores = there.score([([1], [5, 6]), ([1] * 1000, [5] * 24)])
    assert [bool(v.isnan().any()) for v in scores] == [False, True]


def test_a_busy_server_is_asked_again(stand: Stand, here: LocalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(server, "time", SimpleNamespace(sleep=waits.append))
    there = ServerModel(stand.url)
    stand.busy = 2
    assert there.generate(ASKED[:1], GREEDY) == here.generate(ASKED[:1], GREEDY)
    assert waits == [0.5, 1.0]
    stand.busy = 100
    with pytest.raises(ModelNotFound, match=r"answers 503: .*overloaded"):
        there.generate(ASKED[:1], GREEDY)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds waited before a request is sent again."""
    waited: list[float] = []
    monkeypatch.setattr(server, "time", SimpleNamespace(sleep=waited.append))
    return waited


@pytest.mark.parametrize("status", [429, 502, 504])
def test_a_gateway_in_trouble_is_asked_again(stand: Stand, waits: list[float], status: int) -> None:
    there = ServerModel(stand.url)
    stand.busy, stand.status = 3, status
    assert there.generate(ASKED[:1], GREEDY)[0].text
    assert waits == [0.5, 1.0, 2.0]


@pytest.mark.parametrize("what", ["drops", "hangs"])
def test_a_request_whose_reply_does_not_come_is_sent_again(
    stand: Stand, here: LocalModel, monkeypatch: pytest.MonkeyPatch, waits: list[float], what: str
) -> None:
    monkeypatch.setattr(server, "LONG", 0.5)
    there, few = ServerModel(stand.url), Sampler(2, 0)  # soon done: only what hangs takes as long
    setattr(stand, what, 2)
    assert there.generate(ASKED[:1], few) == here.generate(ASKED[:1], few)
    assert waits == [0.5, 1.0] and len(stand.seen) == 3
    waits.clear()
    setattr(stand, what, 3)
    with pytest.raises(ModelNotFound, match=r"no server answers at .* \((RemoteProtocolError|ReadTimeout|ReadError)\)"):
        there.generate(ASKED[:1], few)
    assert waits == [0.5, 1.0]


def test_what_the_server_refuses_is_that_rows_alone(stand: Stand, here: LocalModel, waits: list[float]) -> None:
    there = ServerModel(stand.url)
    expected = here.generate(ASKED, GREEDY)
    stand.bad = "brief"
    told = there.generate(ASKED, GREEDY)
    assert [told[0], told[2]] == [expected[0], expected[2]]
    assert told[1].text == "" and "answers 400: " in told[1].error and "this prompt" in told[1].error
    assert there.generate(ASKED[1:2], GREEDY) == [told[1]] and waits == []
    ids = [prompt_tokens(here.tokenizer, r.messages) for r in ASKED]
    with pytest.warns(CharacteryWarning, match="1 of 3 texts are not scored: .* answers 400"):
        scores = there.score([(i, [40, 41]) for i in ids])
    assert [s.isnan().tolist() for s in scores] == [[False] * 2, [True] * 2, [False] * 2]
    stand.bad = "assistant"  # in every prompt
    for ask in (lambda: there.generate(ASKED, GREEDY), lambda: there.score([(i, [40]) for i in ids])):
        with pytest.raises(ModelNotFound, match="answers 400"):
            ask()


def test_what_a_server_refuses_says_why(stand: Stand, tmp_path: Path) -> None:
    model = subject_model(Models().speaker(stand.url), journal=Journal(tmp_path / "j"))
    stand.bad = "brief"
    asked = [ChatMessageSystem(content="Be brief."), ChatMessageUser(content="Tea?")]

    async def both() -> list[ModelOutput]:
        reply, scored = ChatMessageAssistant(content="Aye."), GenerateConfig(prompt_logprobs=1)
        greedy = GenerateConfig(max_tokens=8, temperature=0)
        return list(await asyncio.gather(
            *(model.api.generate(some, [], "none", greedy) for some in (asked, asked[1:])),  # type: ignore[arg-type]
            *(model.api.generate([*some, reply], [], "none", scored) for some in (asked, asked[1:])),  # type: ignore[arg-type]
        ))  # fmt: skip

    with pytest.warns(CharacteryWarning, match="not scored"):
        outputs = asyncio.run(both())
    for output in (*outputs[::2], *asyncio.run(both())[::2]):  # the second time from the journal
        assert output.stop_reason == "unknown" and "answers 400: " in str(output.error)
    assert outputs[1].completion and outputs[3].choices[0].prompt_logprobs


def test_a_journal_is_not_continued_against_another_model(stand: Stand, tmp_path: Path) -> None:
    path = tmp_path / "j"

    def asked() -> int:
        stand.seen.clear()
        speaker = Models().speaker(stand.url)
        answer_all([(speaker, request) for request in ASKED], Sampler(2, 0), Journal(path))
        return len(stand.seen)

    assert [asked(), asked()] == [3, 0]  # started again as it was
    stand.room = 512
    assert [asked(), asked()] == [3, 0]
    stand.name = "org/other"
    assert [asked(), asked()] == [3, 0]
    shutil.copytree(stand.folder, tmp_path / "elsewhere")
    stand.folder = tmp_path / "elsewhere"
    assert [asked(), asked()] == [3, 0]
    stand.loras["a"] = tmp_path / "b"
    names = [Models().base_hash(parse_subject(f"{stand.url}#{name}")) for name in ("a", "org/other")]
    stand.loras["a"] = tmp_path / "c"
    assert len({*names, Models().base_hash(parse_subject(f"{stand.url}#a"))}) == 3


def test_a_scaled_adapter_is_whole_or_not_there(
    tiny_adapters: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHARACTERY_CACHE", str(tmp_path))
    save, made = safetensors.torch.save_file, []

    def torn(tensors: Any, path: Path) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(safetensors.torch, "save_file", torn)
    with pytest.raises(KeyboardInterrupt):
        server._scaled(tiny_adapters[0], 0.5, "a")
    assert [*(tmp_path / "scaled").iterdir()] == []
    (tmp_path / "scaled" / "a").mkdir()  # as a kill once left it
    (tmp_path / "scaled" / "a" / "adapter_model.safetensors").write_bytes(b"half")
    sooner = tmp_path / "sooner"

    def watched(tensors: Any, path: Path) -> None:
        assert path.parent.parent != tmp_path / "scaled"
        save(tensors, path)
        made.append(path)
        if sooner.exists():
            sooner.rename(tmp_path / "scaled" / "a")

    monkeypatch.setattr(safetensors.torch, "save_file", watched)
    for _ in range(2):
        out = server._scaled(tiny_adapters[0], 0.5, "a")
    assert len(made) == 1 and [*(tmp_path / "scaled").iterdir()] == [out]
    trained, scaled = (load_file(f / "adapter_model.safetensors") for f in (tiny_adapters[0], out))
    assert all(torch.equal(scaled[k], v * 0.5 if ".lora_B." in k else v) for k, v in trained.items())
    assert (out / "adapter_config.json").read_bytes() == (tiny_adapters[0] / "adapter_config.json").read_bytes()
    # two commands at once: the one that is later takes what is there
    out.rename(sooner)
    before = (sooner / "done").stat().st_ino
    assert server._scaled(tiny_adapters[0], 0.5, "a") == out and (out / "done").stat().st_ino == before
    assert len(made) == 2 and [*(tmp_path / "scaled").iterdir()] == [out]


@pytest.mark.parametrize("wakes", [True, False])
def test_an_interrupt_waits_for_no_request_that_runs(
    wakes: bool, interrupt: Callable[[], None], interrupted: type[BaseException]
) -> None:
    if not wakes:  # as where it comes between the last look for one and the wait
        interrupt = partial(_thread.interrupt_main, signal.SIGINT)
    end, begun, ended, daemons = threading.Event(), [], [], []

    def one(row: int) -> int:
        begun.append(row)
        daemons.append(threading.current_thread().daemon)  # else the program would wait for them at its end
        if row == 2:
            time.sleep(0 if wakes else 0.3)
            interrupt()
        end.wait(10)
        ended.append(row)
        return row

    with pytest.raises(interrupted):
        server._each(one, range(200))
    assert ended == [] and 3 <= len(begun) <= server.IN_FLIGHT and all(daemons)
    end.set()


def test_a_key_is_sent(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    stand.key = "secret"
    with pytest.raises(ModelNotFound, match="answers 401"):
        ServerModel(stand.url).generate(ASKED[:1], GREEDY)
    monkeypatch.setenv(server.KEY, "secret")
    assert ServerModel(stand.url).generate(ASKED[:1], GREEDY)[0].text


def test_what_is_not_there_says_so(stand: Stand, tiny_adapters: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"no server answers at http://127.0.0.1:9/v1 .*vllm serve"):
        ServerModel("http://127.0.0.1:9/v1")
    with pytest.raises(ModelNotFound, match="serves no 'sea'; it serves org/tiny"):
        ServerModel(f"{stand.url}#sea")
    stand.loads = False
    with pytest.raises(ModelNotFound, match="--enable-lora"):
        ServerModel(stand.url).generate(ASKED, GREEDY, Adapter(tiny_adapters[0]))
    stand.folder = tmp_path  # no tokenizer there
    with pytest.raises(ModelNotFound, match="tokenizer cannot be loaded"):
        ServerModel(stand.url)


def test_an_adapter_that_is_there_already_is_used(stand: Stand, here: LocalModel, tiny_adapters: list[Path]) -> None:
    adapter = Adapter(tiny_adapters[0])
    expected = here.generate(ASKED, GREEDY, adapter)
    for _ in range(2):  # another command, the same server
        assert ServerModel(stand.url).generate(ASKED, GREEDY, adapter) == expected
    [name] = stand.loras
    assert ServerModel(f"{stand.url}#{name}").generate(ASKED, GREEDY) == expected


def test_a_subject_on_a_server(stand: Stand, here: LocalModel) -> None:
    subject = parse_subject(f"{stand.url}#org/tiny+captain")
    assert (subject.base, subject.kind, subject.here) == (f"{stand.url}#org/tiny", "server", False)
    assert subject.character is not None and subject.character.name == "Captain Elias Marrow"
    speaker = Models().speaker(subject)
    [told] = answer([(speaker, ASKED[0])], GREEDY)
    assert told == here.generate([Request(speaker.prompt(ASKED[0].messages), 1)], GREEDY)[0]
    with pytest.raises(ModelNotFound, match="a strength needs a run after the #"):
        parse_subject(f"{stand.url}#org/tiny@0.5")
    with pytest.raises(ModelNotFound, match="needs a model on this machine"):
        Models().base(subject)
