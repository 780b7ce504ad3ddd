"""What a user writes to name what answers: every form, and what the errors of a slip of the pen say."""

import json
from pathlib import Path
from typing import Any

import pytest

from charactery.constitution import find_character
from charactery.errors import BadCharacter, CharacteryError, ModelNotFound, RunConflict
from charactery.models.subject import (
    at_strength,
    expand_subjects,
    has_adapter,
    parse_subject,
    prompted,
    run_character,
    untrained,
)


def make_run(folder: Path, adapters: tuple[str, ...] = ("02-dpo/adapter",), **manifest: Any) -> Path:
    """A run's folder as training leaves it, with empty adapters."""
    kept = {
        "settings": {"model": "smollm2"}, "stages": ["sft", "dpo"], "trained": "dpo", "command": "charactery train x",
    }  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps(kept | manifest))
    for adapter in adapters:
        (folder / "stages" / adapter).mkdir(parents=True)
        (folder / "stages" / adapter / "adapter_model.safetensors").touch()
    return folder


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "base", "kind", "character"),
    [
        ("smollm2", "smollm2", "embedded", None),
        ("smollm2+captain", "smollm2", "embedded", "captain"),
        ("Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6B", "hub", None),
        ("Qwen/Qwen3-0.6B+grandmother", "Qwen/Qwen3-0.6B", "hub", "grandmother"),
        ("hf:gpt2", "gpt2", "hub", None),
        ("hf:openai/gpt-oss-20b", "openai/gpt-oss-20b", "hub", None),
        ("openai/gpt-4o", "openai/gpt-4o", "inspect", None),
        ("vllm/Qwen/Qwen3-0.6B", "vllm/Qwen/Qwen3-0.6B", "inspect", None),
        ("ollama/llama3:8b", "ollama/llama3:8b", "inspect", None),
        ("anthropic/claude+captain", "anthropic/claude", "inspect", "captain"),
    ],
)
def test_models_by_name(text: str, base: str, kind: str, character: str | None) -> None:
    subject = parse_subject(text)
    assert (subject.text, subject.base, subject.kind, subject.adapter, subject.strength) == (text, base, kind, None, 1)
    assert subject.character == (find_character(character) if character else None)


@pytest.mark.parametrize("name", ["hf:google/gemma-3-1b-it", "hf:gpt2", "Qwen/Qwen3-0.6B", "openai/gpt-4o", "smollm2"])
def test_a_subject_made_of_another_is_written_as_it_is_read(name: str) -> None:
    subject = parse_subject(f"{name}+captain")
    for made in (untrained(subject), prompted(subject)):
        assert made is not None and parse_subject(made.text) == made
        assert (made.base, made.kind) == (subject.base, subject.kind)


def test_models_by_path(here: Path) -> None:
    (here / "mine").mkdir()
    (here / "mine" / "config.json").write_text("{}")
    (here / "weights.gguf").touch()
    assert parse_subject("mine").kind == "folder"
    assert parse_subject("weights.gguf").kind == "gguf"
    assert parse_subject("./mine+captain").character == find_character("captain")
    (here / "me.md").write_text((Path(find_character("captain").path or "")).read_text())
    assert parse_subject(f"{here}/mine+{here}/me.md").kind == "folder"


@pytest.mark.parametrize(
    ("text", "adapter", "strength", "character"),
    [
        ("runs/captain", "02-dpo/adapter", 1.0, None),
        ("runs/captain@0.5", "02-dpo/adapter", 0.5, None),
        ("runs/captain@-1", "02-dpo/adapter", -1.0, None),
        ("runs/captain@0", "02-dpo/adapter", 0.0, None),
        ("runs/captain:sft", "01-sft/adapter", 1.0, None),
        ("runs/captain:dpo/40", "02-dpo/checkpoint-40", 1.0, None),
        ("runs/captain:dpo/40@1.5", "02-dpo/checkpoint-40", 1.5, None),
        ("runs/captain+grandmother", "02-dpo/adapter", 1.0, "grandmother"),
        ("runs/captain+grandmother:sft@0.5", "01-sft/adapter", 0.5, "grandmother"),
    ],
)
def test_runs(here: Path, text: str, adapter: str, strength: float, character: str | None) -> None:
    make_run(here / "runs/captain", ("01-sft/adapter", "02-dpo/adapter", "02-dpo/checkpoint-40"))
    subject = parse_subject(text)
    assert (subject.base, subject.kind, subject.strength) == ("smollm2", "embedded", strength)
    assert subject.adapter == Path("runs/captain/stages") / adapter
    assert subject.run == Path("runs/captain")
    assert subject.character == (find_character(character) if character else None)


def test_a_strength_is_put_where_none_is_written(here: Path) -> None:
    make_run(here / "runs/captain")
    make_run(here / "runs/odd@2")
    for text, strength, named in (
        ("runs/captain", 0.5, "runs/captain@0.5"), ("runs/captain", 1, "runs/captain"),
        ("runs/captain", 0, "runs/captain@0"),
        ("runs/captain@1.5", 0.5, "runs/captain@1.5"), ("runs/odd@2", 0.5, "runs/odd@2@0.5"), ("nobody", 1, "nobody"),
        ("http://localhost:8000/v1#runs/captain", 2, "http://localhost:8000/v1#runs/captain@2"),
        ("runs/captain:dpo+hhh", 1, "runs/captain:dpo+hhh"), ("runs/captain+hhh", 0.05, "runs/captain+hhh@0.05"),
    ):  # fmt: skip
        assert at_strength(text, strength) == named
    assert parse_subject(at_strength("runs/captain+hhh", 0.7)).strength == 0.7
    with pytest.raises(ModelNotFound, match="needs a run"):
        at_strength("smollm2+captain", 0.5)


def test_what_has_an_adapter(here: Path) -> None:
    make_run(here / "runs/captain", ("01-sft/adapter", "02-dpo/adapter"))
    make_run(here / "runs/unfinished", ())
    (here / "runs/salt+pepper").mkdir()
    for text in ("runs/captain", "runs/captain@0.5", "runs/captain:sft", "http://localhost:8000/v1#runs/captain"):
        assert has_adapter(text)
    for text in (
        "runs/unfinished",
        "runs/salt+pepper",
        "runs/nobody",
        "smollm2",
        "smollm2+captain",
        "runs/captain:ppo",
        "\0",
    ):
        assert not has_adapter(text)


def test_a_path_wins_over_a_hub_id_and_over_the_marks_in_its_name(here: Path) -> None:
    for name in ("Qwen/Qwen3-0.6B", "smollm2", "odd@0.5", "a+b", "openai/gpt-4o"):
        (here / name).mkdir(parents=True)
        (here / name / "config.json").write_text("{}")
        subject = parse_subject(name)
        assert (subject.kind, subject.base, subject.strength, subject.character) == ("folder", name, 1.0, None)
    make_run(here / "runs/salt+pepper", ("01-sft/adapter", "02-dpo/adapter"))
    for text in ("runs/salt+pepper", "runs/salt+pepper@0.5", "runs/salt+pepper:sft", "runs/salt+pepper:sft@0.5"):
        assert parse_subject(text).run == Path("runs/salt+pepper")


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("smolm2", ModelNotFound, ["'smolm2'", "Did you mean smollm2?", "charactery models"]),
        ("zzz", ModelNotFound, ["no model 'zzz'", "org/name"]),
        ("runs/nobody", ModelNotFound, ["no model 'runs/nobody'"]),
        ("smollm2@0.5", ModelNotFound, ["needs a run", "smollm2"]),
        ("openai/gpt-4o@0.5", ModelNotFound, ["needs a run"]),
        ("smollm2+captian", BadCharacter, ["Did you mean captain?"]),
        ("plain-folder", ModelNotFound, ["plain-folder", "manifest.json", "config.json", ".gguf"]),
        ("runs/captain:ppo", RunConflict, ["'ppo'", "sft, dpo"]),
        ("runs/captain:sft", ModelNotFound, ["no finished adapter", "charactery train x"]),
        ("runs/captain:dpo/41", ModelNotFound, ["dpo/41", "checkpoints there: 40"]),
        ("runs/damaged", RunConflict, ["damaged manifest.json"]),
    ],
)
def test_wrong_names_say_what_they_could_have_been(
    here: Path, text: str, error: type[CharacteryError], words: list[str]
) -> None:
    (here / "plain-folder").mkdir()
    make_run(here / "runs/captain", ("02-dpo/adapter", "02-dpo/checkpoint-40"))
    make_run(here / "runs/damaged")
    (here / "runs/damaged/manifest.json").write_text('{"settings": {')
    with pytest.raises(error) as caught:
        parse_subject(text)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("model", ["runs/first", "runs/first@0.5", "runs/first:dpo", "runs/second"])
def test_a_run_over_a_run_asks_for_a_merge(here: Path, model: str) -> None:
    make_run(here / "runs/first")
    make_run(here / "runs/second", settings={"model": model})
    with pytest.raises(ModelNotFound, match=r"itself a run.*merge it first") as caught:
        parse_subject("runs/second")
    assert str(caught.value).startswith("runs/second: ") and repr(model) in str(caught.value)


@pytest.mark.parametrize("lost", ["trained", "command", "model"])
def test_a_manifest_that_lacks_something_is_a_conflict(here: Path, lost: str) -> None:
    path = make_run(here / "runs/captain") / "manifest.json"
    kept = json.loads(path.read_text())
    (kept["settings"] if lost == "model" else kept).pop(lost)
    path.write_text(json.dumps(kept))
    for text in ("runs/captain", "runs/captain:sft"):
        with pytest.raises(RunConflict, match="lacks"):
            parse_subject(text)


def test_the_character_a_run_was_trained_on(here: Path) -> None:
    run = make_run(here / "runs/captain")
    with pytest.raises(CharacteryError, match=r"character\.md"):
        run_character(parse_subject("runs/captain"))
    captain = find_character("captain")
    assert captain.path is not None
    (run / "character.md").write_text(captain.path.read_text())
    assert run_character(parse_subject("runs/captain@0.5")) == captain
    assert run_character(parse_subject("smollm2+captain")) is None


def test_a_row_of_subjects_is_named_by_commas_and_checkpoints(here: Path) -> None:
    make_run(here / "runs/captain", ("02-dpo/adapter", "02-dpo/checkpoint-9", "02-dpo/checkpoint-40"))
    row = expand_subjects("smollm2, runs/captain:dpo/*,runs/captain:dpo/40,runs/captain")
    assert row == ["smollm2", "runs/captain:dpo/9", "runs/captain:dpo/40", "runs/captain"]
    for text in ("runs/none:dpo/*", "smollm2/*", " , "):
        with pytest.raises(ModelNotFound):
            expand_subjects(text)
