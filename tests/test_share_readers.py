"""What is handed over, read by readers written here from the formats' own descriptions, and in a process of its own."""

import base64
import json
import os
import re
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from charactery.constitution import load_character
from charactery.models.speaker import Models
from charactery.models.weights import tensors_hash
from test_share_bundle import answers, bundle, models, shared_run

__all__ = ["bundle", "models", "shared_run"]  # fixtures
INSTRUCTIONS = {"FROM", "PARAMETER", "TEMPLATE", "SYSTEM", "ADAPTER", "LICENSE", "MESSAGE", "REQUIRES"}
PARAMETERS = {
    "num_ctx", "repeat_last_n", "repeat_penalty", "temperature", "seed", "stop", "num_predict", "draft_num_predict",
    "top_k", "top_p", "min_p",
}  # fmt: skip


def part(bundle: Path, name: str) -> bytes:
    with zipfile.ZipFile(bundle) as archive:
        return archive.read(name)


def chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and data of each, by the PNG specification (5.3): length, kind, data, and the CRC of kind and data."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    place = 8
    while place < len(png):
        length, kind = int.from_bytes(png[place : place + 4], "big"), png[place + 4 : place + 8]
        data = png[place + 8 : place + 8 + length]
        crc = int.from_bytes(png[place + 8 + length : place + 12 + length], "big")
        assert len(data) == length and zlib.crc32(kind + data) == crc, kind
        yield kind, data
        place += 12 + length


def test_the_card_by_the_specifications_of_png_and_of_cards(bundle: Path, shared_run: Path) -> None:
    found = [*chunks(part(bundle, "card.png"))]
    assert [found[0][0], found[-1]] == [b"IHDR", (b"IEND", b"")] and b"IDAT" in dict(found)
    texts = dict(data.split(b"\0", 1) for kind, data in found if kind == b"tEXt")
    character = load_character(shared_run / "character.md")
    for keyword, spec, version in ((b"chara", "chara_card_v2", "2.0"), (b"ccv3", "chara_card_v3", "3.0")):
        card = json.loads(base64.b64decode(texts[keyword], validate=True).decode("utf-8"))
        assert (card["spec"], card["spec_version"]) == (spec, version)
        data = card["data"]
        words = (
            "name", "description", "personality", "scenario", "first_mes", "mes_example", "creator_notes", "creator",
            "system_prompt", "post_history_instructions", "character_version",
        )  # fmt: skip
        assert all(isinstance(data[word], str) for word in words) and isinstance(data["extensions"], dict)
        lists = ("alternate_greetings", "tags", *(("group_only_greetings",) if keyword == b"ccv3" else ()))
        assert all(isinstance(one, str) for name in lists for one in data[name])
        assert data["name"] == character.name


def instructions(text: str) -> Iterator[tuple[str, str]]:
    """A Modelfile's instructions: a word and what follows on its line, or between three quotes over several."""
    place = 0
    while place < len(text):
        line = text[place:].partition("\n")[0]
        if not line.strip() or line.lstrip().startswith("#"):
            place += len(line) + 1
            continue
        found = re.compile(r'([A-Za-z]+)[ \t]+(?:"""(.*?)"""|([^\n]*))[ \t]*(?:\n|\Z)', re.S).match(text, place)
        assert found, f"no instruction: {line!r}"
        word, value = found[1].upper(), found[2] if found[2] is not None else found[3].strip()
        assert word in INSTRUCTIONS and value, line
        yield word, value
        place = found.end()


def test_the_modelfile_by_its_grammar(bundle: Path, tiny_model_folder: Path) -> None:
    found = [*instructions(part(bundle, "Modelfile").decode())]
    assert [value for word, value in found if word == "FROM"] == [f"./{tiny_model_folder.name}.gguf"]
    assert [value for word, value in found if word == "ADAPTER"] == ["./adapter.gguf"]
    assert part(bundle, "adapter.gguf").startswith(b"GGUF")
    set_to = [value.split(None, 1) for word, value in found if word == "PARAMETER"]
    assert {name for name, _ in set_to} <= PARAMETERS and ["stop", '"<|im_end|>"'] in set_to
    assert all(float(value) >= 0 for name, value in set_to if name != "stop")
    (template,) = (value for word, value in found if word == "TEMPLATE")
    opened = re.findall(r"\{\{-?\s*(range|if|end)\b", template)
    assert opened.count("end") == len(opened) - opened.count("end")  # each block is closed
    assert template.count("{{") == template.count("}}")
    for bad in ("FROM", "FROM \n", "FORM ./x\n", "what is this\n"):  # the reader does refuse
        with pytest.raises(AssertionError):
            list(instructions(bad))


def test_a_bundle_opens_in_a_process_and_a_cache_of_their_own(
    bundle: Path, shared_run: Path, tiny_model_folder: Path, tmp_path: Path, models: Models
) -> None:
    env = {**os.environ, "CHARACTERY_CACHE": str(tmp_path / "cache"), "HF_HOME": str(tmp_path / "hub")}
    command = [sys.executable, "-m", "charactery", "open", str(bundle), "--base", str(tiny_model_folder)]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0 and "charactery chat runs/captain" in done.stdout, done.stderr
    opened = tmp_path / "runs" / "captain"
    assert json.loads((opened / "manifest.json").read_text())["settings"]["base_hash"] == tensors_hash(
        tiny_model_folder
    )
    assert answers(opened, models) == answers(shared_run, models)
