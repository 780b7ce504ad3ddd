"""Bundles whose hashes agree and whose contents are ill, and writes that are cut off: by a kill, a full disk."""

import json
import os
import resource
import signal
import struct
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save

from charactery.errors import CharacteryError, ModelNotFound
from charactery.models.speaker import Models
from charactery.models.subject import parse_subject
from charactery.share import bundle as bundles
from charactery.share.merge import merge
from charactery.share.opening import open_bundle
from charactery.share.packing import share
from test_share_bundle import answers, bundle, made, models, refused, relisted, shared_run

__all__ = ["bundle", "models", "shared_run"]  # fixtures


def swapped(bundle: Path, folder: Path, file: str, data: bytes) -> Path:
    """The bundle with another file in it, rightly hashed: its maker wrote it so."""
    out = bundles.unpack_all(bundle, made(folder))
    (out / file).write_bytes(data)
    kept = {"bytes": len(data), "sha256": bundles.sha256(out / file)}
    return relisted(out, lambda index: index["files"].update({file: kept}))


@pytest.mark.parametrize(
    ("file", "data", "words"),
    [
        ("adapter_config.json", b"[]", "adapter_config.json that cannot be used"),
        ("adapter_config.json", '{"peft_type": "LORA"}'.encode("utf-16"), "adapter_config.json that cannot be used"),
        ("run.json", "{}".encode("utf-16"), "run.json"), ("run.json", b'{"settings": {', "run.json"),
        ("run.json", b'{"settings": {}, "trained": "dpo", "done": {}}', "run.json"),
        ("adapter_model.safetensors", b"PK\x03\x04", "adapter_model.safetensors that cannot be used"),
        ("adapter_model.safetensors", struct.pack("<Q", 2**62) + b"{}", "adapter_model.safetensors that cannot be"),
        ("character.md", "# Captain\n".encode("utf-16"), "character.md that cannot be used: is not UTF-8"),
        ("character.md", b"a" * 10_000_000, "character.md that cannot be used: is 10 MB"),
        ("character.md", b"", "character.md that cannot be used: is empty"),
    ],
)  # fmt: skip
def test_what_its_maker_spoilt_is_refused_by_its_name(
    bundle: Path, tmp_path: Path, tiny_model_folder: Path, file: str, data: bytes, words: str
) -> None:
    folder = swapped(bundle, tmp_path / "folder", file, data)
    assert words in refused(folder, tmp_path, tiny_model_folder)


@pytest.mark.parametrize("ill", ["settings", "one tensor"])
def test_an_adapter_that_does_not_fit_is_a_sentence_and_leaves_the_model_as_it_was(
    bundle: Path, tmp_path: Path, tiny_model_folder: Path, shared_run: Path, models: Models, ill: str
) -> None:
    trained = next(shared_run.glob("stages/*-dpo")) / "adapter"
    if ill == "settings":
        was = json.loads((trained / "adapter_config.json").read_text())
        name, data = "adapter_config.json", json.dumps(was | {"target_modules": ["none_such"]}).encode()
    else:  # all but the last fit, and are put on before it
        tensors = load_file(trained / "adapter_model.safetensors")
        last = sorted(tensors)[-1]
        name, data = "adapter_model.safetensors", save(tensors | {last: torch.ones(3, 3)})
    run = open_bundle(
        swapped(bundle, tmp_path / "folder", name, data), models, tmp_path / "run", str(tiny_model_folder)
    ).folder
    plain, worn = answers(tiny_model_folder, Models("cpu")), answers(shared_run, Models("cpu"))
    for _ in range(2):  # the first adapter of a model, and one after another
        with pytest.raises(ModelNotFound, match="does not fit"):
            answers(run, models)
        assert answers(tiny_model_folder, models) == plain
        assert answers(shared_run, models) == worn


def test_an_entry_that_lies_about_its_size_is_read_no_further(
    bundle: Path, tmp_path: Path, tiny_model_folder: Path
) -> None:
    """9 MB of nothing in the place of a small report, whose small size stands in every header."""
    with zipfile.ZipFile(bundle) as archive:
        small = archive.getinfo("report.html").file_size
    with zipfile.ZipFile(bundle) as old, zipfile.ZipFile(tmp_path / "b.zip", "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, b"0" * 9_000_000 if name == "report.html" else old.read(name))
    packed = (tmp_path / "b.zip").read_bytes().replace(struct.pack("<I", 9_000_000), struct.pack("<I", small))
    (tmp_path / "b.zip").write_bytes(packed)
    assert "report.html is damaged" in refused(tmp_path / "b.zip", tmp_path, tiny_model_folder)


# -- cut off


SLOW = """
import sys, time
from pathlib import Path
from charactery.models.speaker import Models
from charactery.share import {module}
from charactery.share.opening import open_bundle
from charactery.share.packing import share

was = {module}.{name}
def slow(*arguments):
    made = was(*arguments)
    print("under way", flush=True)
    time.sleep(60)
    return made
{module}.{name} = slow
{call}
"""


@pytest.mark.parametrize(
    ("module", "name", "call"),
    [
        ("packing", "write_index", "share(Path(sys.argv[1]), Path(sys.argv[4]), Models('cpu'))"),
        ("opening", "_arrange", "open_bundle(Path(sys.argv[2]), Models('cpu'), Path(sys.argv[4]), sys.argv[3])"),
    ],
)  # fmt: skip
def test_killed_in_mid_write_there_is_nothing_and_the_next_try_succeeds(
    shared_run: Path, bundle: Path, tiny_model_folder: Path, tmp_path: Path, models: Models,
    module: str, name: str, call: str,
) -> None:  # fmt: skip
    out = tmp_path / ("captain.zip" if module == "packing" else "run")
    command = [sys.executable, "-c", SLOW.format(module=module, name=name, call=call)]
    writer = subprocess.Popen(
        [*command, str(shared_run), str(bundle), str(tiny_model_folder), str(out)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None and writer.stdout.readline() == "under way\n"
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    assert not out.exists() and len(list(tmp_path.glob(".*.part"))) == 1
    if module == "packing":
        assert share(shared_run, out, models).read_bytes() == bundle.read_bytes()
    else:
        opened = open_bundle(bundle, models, out, str(tiny_model_folder)).folder
        assert answers(opened, models) == answers(shared_run, models)


@contextmanager
def full() -> Iterator[None]:
    """A disk that takes 30,000 bytes a file: what is beyond, the system itself refuses."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("deed", ["share", "share as a zip", "open", "merge", "merge to GGUF"])
def test_a_disk_that_takes_no_more_is_a_sentence_and_nothing_is_left(
    shared_run: Path, bundle: Path, tiny_model_folder: Path, tmp_path: Path, models: Models, deed: str
) -> None:
    out = tmp_path / {"merge to GGUF": "out.gguf", "share as a zip": "out.zip"}.get(deed, "out")
    doing: dict[str, Callable[[], object]] = {
        "share": lambda: share(shared_run, out, models),
        "open": lambda: open_bundle(bundle, models, out, str(tiny_model_folder)),
        "merge": lambda: merge(parse_subject(str(shared_run)), out, models),
    }
    with pytest.raises(CharacteryError, match="could not be written"), full():
        doing[deed.split()[0]]()
    assert os.listdir(tmp_path) == []


def test_of_two_that_open_the_same_one_has_it(
    bundle: Path, tmp_path: Path, tiny_model_folder: Path, shared_run: Path
) -> None:
    came: list[Any] = []

    def take() -> None:
        try:
            came.append(open_bundle(bundle, Models("cpu"), tmp_path / "run", str(tiny_model_folder)))
        except CharacteryError as error:
            came.append(error)

    takers = [threading.Thread(target=take) for _ in range(4)]
    for taker in takers:
        taker.start()
    for taker in takers:
        taker.join()
    assert sum(not isinstance(one, CharacteryError) for one in came) == 1, came
    assert os.listdir(tmp_path) == ["run"]
    assert answers(tmp_path / "run", Models("cpu")) == answers(shared_run, Models("cpu"))
