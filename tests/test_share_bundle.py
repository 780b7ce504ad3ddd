"""A character handed on: merged into the weights, and shared, opened and asked again elsewhere."""

import base64
import json
import re
import shutil
import stat
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM
from typer.testing import CliRunner

from charactery.cli import app
from charactery.constitution import load_character
from charactery.constitution.formats import import_character
from charactery.conversations.formats import read_file
from charactery.errors import BadData, CharacteryError, CharacteryWarning, ModelNotFound
from charactery.models.chat import prompt_tokens, user
from charactery.models.local import LocalModel, Request, Sampler
from charactery.models.speaker import Models
from charactery.models.subject import parse_subject
from charactery.models.weights import tensors_hash
from charactery.runs import read_manifest, write_json, write_text
from charactery.share import bundle as bundles
from charactery.share.gguf_file import SPLITS, lacking
from charactery.share.modelfile import modelfile
from charactery.share.opening import _checked, open_bundle
from charactery.share.packing import LEAVABLE, share
from report_fixture import build_run

ASKED = "How do I tie a knot that will hold?"


@pytest.fixture
def models() -> Models:
    return Models("cpu")


@pytest.fixture(scope="session")
def shared_run(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path, tiny_adapters: list[Path]) -> Path:
    """A finished run on the tiny model, with an adapter that changes its answers."""
    run = build_run(tmp_path_factory.mktemp("runs") / "captain")
    shutil.copytree(tiny_adapters[0], run.stage_folder("dpo") / "adapter")
    manifest = run.manifest
    manifest["settings"] |= {"model": str(tiny_model_folder), "base_hash": tensors_hash(tiny_model_folder)}
    manifest |= {"trained": "dpo", "base": {"name": str(tiny_model_folder), "parameters": 100, "about": "tiny"}}
    manifest["command"] = f"charactery train captain --model {tiny_model_folder}"
    write_json(run.folder / "manifest.json", manifest)
    write_text(run.folder / "report.html", f"<p>Base model: {tiny_model_folder}</p>")
    return run.folder


@pytest.fixture(scope="session")
def bundle(shared_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return share(shared_run, tmp_path_factory.mktemp("shared") / "captain.zip", Models("cpu"))


def answers(subject: str | Path, models: Models) -> list[str]:
    speaker = models.speaker(str(subject))
    return [a.text for a in speaker.answer([Request((user(ASKED),), seed) for seed in (1, 2)], Sampler(12, 0.7))]


def logits(network: Any, tokenizer: Any) -> torch.Tensor:
    with torch.no_grad():
        return network.eval()(torch.tensor([prompt_tokens(tokenizer, (user(ASKED),))])).logits[0]


def by_peft(base: Path, adapter: Path, strength: float = 1.0) -> torch.Tensor:
    from peft import PeftModel

    network = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), adapter)
    for layer in network.modules():
        if hasattr(layer, "lora_B"):
            layer.scaling["default"] *= strength
    return logits(network, AutoTokenizer.from_pretrained(base))


def run_cli(*arguments: str | Path) -> str:
    done = CliRunner().invoke(app, [str(one) for one in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


# -- merge


@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_a_merged_folder_gives_the_logits_of_base_and_adapter(
    shared_run: Path, tiny_model_folder: Path, tiny_adapters: list[Path], tmp_path: Path, strength: float
) -> None:
    run_cli("merge", f"{shared_run}@{strength}", "--to", tmp_path / "merged")
    network = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype="auto")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged")
    expected = by_peft(tiny_model_folder, tiny_adapters[0], strength)
    found = logits(network, tokenizer)
    assert network.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-5)
    plain = logits(AutoModelForCausalLM.from_pretrained(tiny_model_folder, dtype=torch.float32), tokenizer)
    assert (found - plain).abs().max() > 0.1
    assert parse_subject(str(tmp_path / "merged")).kind == "folder"
    assert json.loads((tmp_path / "merged" / "charactery.json").read_text())["strength"] == strength
    assert [p.name for p in tmp_path.iterdir()] == ["merged"]


@pytest.mark.parametrize(("dtype", "off"), [("float32", 1e-4), ("float16", 0.05), ("bfloat16", 0.5)])
def test_a_merged_gguf_loads_again_with_its_tokenizer(
    shared_run: Path, tiny_model_folder: Path, tiny_adapters: list[Path], tmp_path: Path, dtype: str, off: float
) -> None:
    run_cli("merge", shared_run, "--to", tmp_path / "captain.gguf", "--dtype", dtype)
    network = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="captain.gguf", dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path, gguf_file="captain.gguf")
    before = AutoTokenizer.from_pretrained(tiny_model_folder)
    for text in ("It's 1849, “aye”:\n\n  100 knots<|im_end|>x", ASKED):
        assert tokenizer(text)["input_ids"] == before(text)["input_ids"]
    assert tokenizer.chat_template == before.chat_template and tokenizer.eos_token == before.eos_token
    expected, found = by_peft(tiny_model_folder, tiny_adapters[0]), logits(network, tokenizer)
    assert (found - expected).abs().max() < off
    assert (found.argmax(-1) == expected.argmax(-1)).float().mean() >= 0.95


def test_other_kinds_of_model_go_into_gguf_and_load_again(tmp_path: Path, tiny_model: Any, models: Models) -> None:
    from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

    shape: dict[str, Any] = {
        "vocab_size": 464, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.25, "head_dim": 128,
        "max_position_embeddings": 512, "bos_token_id": 1, "eos_token_id": 2,
    }  # fmt: skip
    for name, kind, config, tied in (
        ("qwen2", Qwen2ForCausalLM, Qwen2Config, True), ("qwen3", Qwen3ForCausalLM, Qwen3Config, False)
    ):  # fmt: skip
        given = {k: v for k, v in shape.items() if k != "head_dim" or name == "qwen3"}
        torch.manual_seed(0)
        network = kind(config(**given, tie_word_embeddings=tied)).float()
        network.save_pretrained(tmp_path / name)
        tiny_model.tokenizer.save_pretrained(tmp_path / name)
        run_cli("merge", tmp_path / name, "--to", tmp_path / f"{name}.gguf", "--dtype", "float32")
        again = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=f"{name}.gguf", dtype=torch.float32)
        expected, found = (logits(n, tiny_model.tokenizer) for n in (network, again))
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-5)


def test_what_cannot_be_gguf_says_why(tiny_model: Any, tmp_path: Path) -> None:
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, PreTrainedTokenizerFast

    llama = LlamaConfig()
    assert lacking(llama, tiny_model.tokenizer) == ""
    assert "'gpt2'" in lacking(GPT2Config(), tiny_model.tokenizer)
    scaled = LlamaConfig(rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4})
    assert "linear" in lacking(scaled, tiny_model.tokenizer)

    def cut(*steps: Any) -> str:
        raw = Tokenizer(models.BPE())
        raw.pre_tokenizer = pre_tokenizers.Sequence(list(steps))
        return lacking(llama, PreTrainedTokenizerFast(tokenizer_object=raw))

    plain, bare = (pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=r) for r in (True, False))
    for pattern in SPLITS:
        assert cut(pre_tokenizers.Split(Regex(pattern), "isolated"), bare) == ""
    assert cut(pre_tokenizers.Digits(individual_digits=True), plain) == ""
    assert "tokenizer" in cut(pre_tokenizers.Split(Regex(r"\p{L}+"), "isolated"), bare)
    assert "tokenizer" in cut(pre_tokenizers.Digits(individual_digits=False), plain)
    assert "tokenizer" in cut(pre_tokenizers.Metaspace())


def test_what_is_no_weights_is_not_merged(shared_run: Path, tmp_path: Path) -> None:
    def refused(subject: str, *options: str, to: str = "out") -> str:
        with pytest.raises(CharacteryError) as caught:
            run_cli("merge", subject, "--to", tmp_path / to, *options)
        return str(caught.value)

    assert "prompt" in refused(f"{shared_run}+captain")
    assert "elsewhere" in refused("openai/gpt-4o")
    assert "number type" in refused(str(shared_run), "--dtype", "int8")
    (tmp_path / "there").mkdir()
    assert "there already" in refused(str(shared_run), to="there")
    assert [p.name for p in tmp_path.iterdir()] == ["there"]


# -- share and open


def test_shared_and_opened_it_answers_the_same(
    shared_run: Path, bundle: Path, tiny_model_folder: Path, tmp_path: Path, models: Models, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    said = run_cli("open", bundle, "--base", tiny_model_folder)
    assert "hash" not in said and "charactery chat runs/captain" in said
    opened, plain = answers("runs/captain", models), answers(tiny_model_folder, models)
    assert opened == answers(shared_run, models) != plain
    assert (tmp_path / "runs/captain/character.md").read_text() == (shared_run / "character.md").read_text()
    assert "of prompted" in run_cli("runs")
    figures = [json.loads(line) for line in run_cli("report", "captain", "--json").splitlines()]
    assert figures == [json.loads(line) for line in run_cli("report", shared_run, "--json").splitlines()]
    # handed on again it is the same character
    share(Path("runs/captain"), Path("again"), models)
    assert answers(open_bundle(Path("again"), models, Path("third"), str(tiny_model_folder)).folder, models) == opened
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again", "runs", "third"]
    assert [p.name for p in (tmp_path / "runs").iterdir()] == ["captain"]


def test_a_bundle_holds_what_its_index_says_and_nothing_of_this_machine(
    bundle: Path, tiny_model_folder: Path, shared_run: Path, tmp_path: Path
) -> None:
    with zipfile.ZipFile(bundle) as archive:
        archive.extractall(tmp_path)
    index = json.loads((tmp_path / "bundle.json").read_text())
    files = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()}
    assert files == {*index["files"], "bundle.json"}
    assert index["base"]["hash"] == tensors_hash(tiny_model_folder)
    for name, file in index["files"].items():
        assert file == {"bytes": (tmp_path / name).stat().st_size, "sha256": bundles.sha256(tmp_path / name)}
        assert str(tiny_model_folder).encode() not in (tmp_path / name).read_bytes(), name
    same = share(shared_run, tmp_path / "again.zip", Models("cpu"))
    assert same.read_bytes() == bundle.read_bytes()
    [text] = [tree for tree in read_file(tmp_path / "conversations.json").trees if "cup of tea" in tree.nodes[0].text][
        :1
    ]
    assert [node.role for node in text.nodes] == ["user", "assistant"] and "Ahoy" in text.nodes[1].text


def test_the_model_card_is_the_hubs(bundle: Path, shared_run: Path, tmp_path: Path) -> None:
    from huggingface_hub import ModelCard

    with zipfile.ZipFile(bundle) as archive:
        archive.extract("README.md", tmp_path)
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.library_name == "peft" and card.data.base_model and "charactery" in card.data.tags
    rate = [r for r in card.data.eval_results if r.metric_type == "rate" and r.metric_args.get("condition") == "turn 1"]
    rows = json.loads(next(shared_run.glob("stages/*-evaluate/figures.json")).read_text())
    kept = next(
        r["estimate"] for r in rows
        if (r["eval"], r["metric"], r["subject"], r["condition"]) == ("expression", "rate", "trained", "turn 1")
    )  # fmt: skip
    assert [(r.metric_value, r.metric_args["low"], r.metric_args["high"], r.metric_args["n"]) for r in rate] == [
        (kept["value"], kept["low"], kept["high"], kept["n"])
    ]
    value, low, high = (f"{kept[end]:.3f}" for end in ("value", "low", "high"))
    assert f"| {value} [{low}, {high}] | {kept['n']} |" in card.text


def test_the_card_is_a_picture_that_other_readers_take(bundle: Path, shared_run: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(bundle) as archive:
        archive.extract("card.png", tmp_path)
    image = Image.open(tmp_path / "card.png")
    assert image.size == (800, 1200)
    texts = image.text  # all of the file's, those after the image data too
    newer, older = (json.loads(base64.b64decode(texts[name], validate=True)) for name in ("ccv3", "chara"))
    assert (newer["spec"], older["spec"]) == ("chara_card_v3", "chara_card_v2")
    character = load_character(shared_run / "character.md")
    assert newer["data"]["name"] == older["data"]["name"] == character.name
    assert newer["data"]["description"] == character.introduction
    assert import_character(tmp_path / "card.png") == character


def test_the_modelfile_frames_turns_as_training_did(tiny_model: Any, tiny_model_folder: Path, bundle: Path) -> None:
    with zipfile.ZipFile(bundle) as archive:
        text = archive.read("Modelfile").decode()
    base = f"{tiny_model_folder.name}.gguf"
    assert re.search(rf"^FROM \./{base}$\nADAPTER \./adapter\.gguf$", text, re.M) and f"--to {base}" in text
    assert f"begins with {tensors_hash(tiny_model_folder)}" in text
    assert 'SYSTEM """You are a helpful AI assistant"""' in text and 'PARAMETER stop "<|im_end|>"' in text
    assert "<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n" in text
    tiny_model.tokenizer.chat_template = "{% for m in messages %}{{ m.role }}> {{ m.content }}\n{% endfor %}"
    other = modelfile("X", "x.gguf", tiny_model.tokenizer, 512, 0.7)
    assert "TEMPLATE" not in other and "SYSTEM" not in other


def test_parts_can_be_left_out_and_the_merged_model_put_in(
    shared_run: Path, tiny_model_folder: Path, tmp_path: Path, models: Models
) -> None:
    options = [word for part in LEAVABLE for word in ("--without", part)]
    run_cli("share", shared_run, "--out", tmp_path / "least", *options)
    kept = {"README.md", "adapter_config.json", "adapter_model.safetensors", "bundle.json", "character.md", "run.json"}
    assert {p.name for p in (tmp_path / "least").iterdir()} == kept
    assert "model-index" not in (tmp_path / "least/README.md").read_text()
    opened = open_bundle(tmp_path / "least", models, tmp_path / "here", str(tiny_model_folder))
    assert answers(opened.folder, models) == answers(shared_run, models)
    run_cli("share", shared_run, "--out", tmp_path / "most", "--gguf", "--without", "conversations")
    assert parse_subject(str(tmp_path / "most/captain.gguf")).kind == "gguf"
    assert "made once" not in (tmp_path / "most/Modelfile").read_text()
    assert re.search(r"^FROM \./captain\.gguf$\n(?!ADAPTER)", (tmp_path / "most/Modelfile").read_text(), re.M)
    assert not (tmp_path / "most/adapter.gguf").exists()
    assert not {"conversations.json", "examples.jsonl"} & {p.name for p in (tmp_path / "most").iterdir()}
    with pytest.raises(CharacteryError, match="no part 'adapter'"):
        share(shared_run, tmp_path / "none", models, ["adapter"])


def test_another_base_is_a_warning(bundle: Path, tiny_model_folder: Path, tmp_path: Path, models: Models) -> None:
    network = AutoModelForCausalLM.from_pretrained(tiny_model_folder, dtype=torch.float32)
    network.lm_head.weight.data[3] += 0.001
    network.save_pretrained(tmp_path / "other")
    AutoTokenizer.from_pretrained(tiny_model_folder).save_pretrained(tmp_path / "other")
    other = str(tmp_path / "other")
    warning, found = open_bundle(bundle, models, tmp_path / "run", other).warnings
    assert tensors_hash(tiny_model_folder) in warning and tensors_hash(tmp_path / "other") in warning
    assert re.search(r"judge: -?[\d.e-]+ nats/token \[.*\] \(n 9\)", found)
    assert open_bundle(bundle, models, tmp_path / "unchecked", other, check=False).warnings == (warning,)
    assert open_bundle(bundle, models, tmp_path / "same", str(tiny_model_folder)).warnings == ()


def test_the_quick_check_compares_answers_here_with_those_that_came(
    bundle: Path, tiny_model_folder: Path, tmp_path: Path, models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    from charactery.share import check

    run = open_bundle(bundle, models, tmp_path / "run", str(tiny_model_folder)).folder
    rows = json.loads((run / "conversations.json").read_text())
    came = [row["conversations"][1]["value"] for row in rows if row["condition"] == "turn 1"]
    assert len(came) == 9 < len(rows)

    def judged(model: Any, cases: Any, evidences: Any) -> np.ndarray:
        assert [e.trait for e in evidences] == [""]
        here = [1.5 + n + (n % 2 - 4 / 9) / 9 for n in range(len(cases))]
        return np.array([[2.0 + n if text in came else here[n] for n, (_, text) in enumerate(cases)]])

    monkeypatch.setattr(check, "margins", judged)
    found = check.quick_check(run, models)
    assert (found.value, found.n) == (pytest.approx(-0.5), 9)
    assert "less in character here" in _checked(run, models)
    generate = LocalModel.generate

    def short(self: LocalModel, requests: Any, *more: Any) -> Any:
        if len(requests) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return generate(self, requests, *more)

    with monkeypatch.context() as patched:
        patched.setattr(LocalModel, "generate", short)
        with pytest.warns(CharacteryWarning, match="memory ran short: 9 answers"):
            found = check.quick_check(run, models)
    assert found.n == 9
    (run / "conversations.json").unlink()
    assert check.quick_check(run, models).value is None
    other = LlamaForCausalLM(LlamaConfig(
        vocab_size=456, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2
    ))  # fmt: skip
    other.save_pretrained(tmp_path / "small")
    AutoTokenizer.from_pretrained(tiny_model_folder).save_pretrained(tmp_path / "small")
    assert "could not be tried" in open_bundle(bundle, models, tmp_path / "misfit", str(tmp_path / "small")).warnings[1]


def relisted(folder: Path, change: Any) -> Path:
    """The bundle's index, changed by somebody."""
    index = json.loads((folder / "bundle.json").read_text())
    change(index)
    (folder / "bundle.json").write_text(json.dumps(index))
    return folder


def test_a_base_that_is_not_here_is_asked_for_or_told(bundle: Path, tmp_path: Path, models: Models) -> None:
    with pytest.raises(ModelNotFound, match="--base"):
        open_bundle(bundle, models, tmp_path / "run")
    folder = bundles.unpack_all(bundle, made(tmp_path / "folder"))
    for named, words in (("smollm2", "not on this machine"), ("hf:some/model", "not on this machine")):
        relisted(folder, lambda index, named=named: index["base"].update(model=named))
        opened = open_bundle(folder, models, tmp_path / named.replace("/", "-"))
        assert words in opened.warnings[0] and read_manifest(opened.folder)["settings"]["model"] == named
    for named in ("http://example.org/v1", "/etc", "openai/gpt-4o"):  # a stranger names no server and no path
        relisted(folder, lambda index, named=named: index["base"].update(model=named))
        with pytest.raises(ModelNotFound):
            open_bundle(folder, models, tmp_path / "run")
    assert not (tmp_path / "run").exists()


# -- bundles that are damaged or meant ill


def made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def refused(bundle: Path, tmp_path: Path, tiny_model_folder: Path) -> str:
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(BadData) as caught:
        open_bundle(bundle, Models("cpu"), tmp_path / "run", str(tiny_model_folder))
    assert sorted(tmp_path.rglob("*")) == before  # nothing of it is left
    return str(caught.value)


def rewritten(bundle: Path, out: Path, change: Any) -> Path:
    """The zip file with its entries as `change` (name, data -> entries) makes them."""
    with zipfile.ZipFile(bundle) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            for entry, data in change(name, old.read(name)):
                new.writestr(entry, data)
    return out


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "character.md", "report.html", "figures.json"])
def test_a_damaged_file_is_refused_by_its_name(
    name: str, bundle: Path, tmp_path: Path, tiny_model_folder: Path
) -> None:
    def spoilt(entry: str, data: bytes) -> list[tuple[str, bytes]]:
        return [(entry, data[:-9] + bytes([data[-9] ^ 1]) + data[-8:] if entry == name else data)]

    assert f"{name} is damaged" in refused(rewritten(bundle, tmp_path / "b.zip", spoilt), tmp_path, tiny_model_folder)
    short = rewritten(bundle, tmp_path / "c.zip", lambda e, d: [(e, d[:-1] if e == name else d)])
    assert f"{name} is damaged" in refused(short, tmp_path, tiny_model_folder)
    gone = rewritten(bundle, tmp_path / "d.zip", lambda e, d: [] if e == name else [(e, d)])
    assert f"{name} is missing" in refused(gone, tmp_path, tiny_model_folder)
    folder = bundles.unpack_all(bundle, made(tmp_path / "folder"))
    (folder / name).write_bytes((folder / name).read_bytes()[:-1] + b"?")
    assert f"{name} is damaged" in refused(folder, tmp_path, tiny_model_folder)


def test_a_torn_zip_or_something_else_is_refused(bundle: Path, tmp_path: Path, tiny_model_folder: Path) -> None:
    data = bundle.read_bytes()
    (tmp_path / "half.zip").write_bytes(data[: len(data) // 2])
    assert "part of one" in refused(tmp_path / "half.zip", tmp_path, tiny_model_folder)
    assert "no such file" in refused(tmp_path / "none.zip", tmp_path, tiny_model_folder)
    with zipfile.ZipFile(bundle) as archive:
        at = archive.getinfo("adapter_model.safetensors").header_offset + 200
    (tmp_path / "bit.zip").write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    assert "adapter_model.safetensors is damaged" in refused(tmp_path / "bit.zip", tmp_path, tiny_model_folder)
    assert "has no bundle.json" in refused(made(tmp_path / "empty"), tmp_path, tiny_model_folder)
    for text in ("{", "[]", '{"format": "charactery-bundle", "version": 1, "files": {"a": 1}}', "[" * 100_000):
        (tmp_path / "empty" / "bundle.json").write_text(text)
        assert "bundle.json that is damaged" in refused(tmp_path / "empty", tmp_path, tiny_model_folder)
    folder = relisted(bundles.unpack_all(bundle, made(tmp_path / "new")), lambda index: index.update(version=2))
    assert "newer" in refused(folder, tmp_path, tiny_model_folder)


@pytest.mark.parametrize(
    "name", ["../out.txt", "/tmp/out.txt", "a/../../out.txt", "C:\\out.txt", "..\\out.txt", "a//b"]
)
def test_names_that_lead_out_are_refused(name: str, bundle: Path, tmp_path: Path, tiny_model_folder: Path) -> None:
    packed = rewritten(
        bundle, tmp_path / "b.zip", lambda e, d: [(e, d)] + ([(name, b"x")] if e == "bundle.json" else [])
    )
    assert "leads out" in refused(packed, tmp_path, tiny_model_folder)
    folder = bundles.unpack_all(bundle, made(tmp_path / "folder"))
    file = {"bytes": 1, "sha256": "0" * 64}
    relisted(folder, lambda index: index["files"].update({name: file}))
    assert "leads out" in refused(folder, tmp_path, tiny_model_folder)


def test_links_and_twins_are_refused(bundle: Path, tmp_path: Path, tiny_model_folder: Path) -> None:
    link = zipfile.ZipInfo("character.md")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    packed = rewritten(
        bundle, tmp_path / "b.zip", lambda e, d: [(link, b"/etc/hosts")] if e == "character.md" else [(e, d)]
    )
    assert "character.md is a link" in refused(packed, tmp_path, tiny_model_folder)
    with pytest.warns(UserWarning, match="Duplicate"):
        packed = rewritten(bundle, tmp_path / "c.zip", lambda e, d: [(e, d)] * (2 if e == "character.md" else 1))
    assert "character.md twice" in refused(packed, tmp_path, tiny_model_folder)
    folder = bundles.unpack_all(bundle, made(tmp_path / "folder"))
    (folder / "character.md").rename(tmp_path / "elsewhere.md")
    (folder / "character.md").symlink_to(tmp_path / "elsewhere.md")
    assert "character.md is a link" in refused(folder, tmp_path, tiny_model_folder)


def test_what_unpacks_to_too_much_is_refused(
    bundle: Path, tmp_path: Path, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    big = rewritten(bundle, tmp_path / "b.zip", lambda e, d: [(e, b"0" * 11_000_000 if e == "report.html" else d)])
    assert "report.html unpacks from" in refused(big, tmp_path, tiny_model_folder)
    folder = bundles.unpack_all(bundle, made(tmp_path / "folder"))
    relisted(folder, lambda index: index["files"]["report.html"].update(bytes=10**15))
    assert "lists 1000000.0 GB" in refused(folder, tmp_path, tiny_model_folder)
    monkeypatch.setattr(bundles, "MAX_FILES", 3)
    assert "files; a bundle has at most 3" in refused(bundle, tmp_path, tiny_model_folder)
    monkeypatch.setattr(bundles, "MAX_ENTRIES", 3)
    assert "no bundle holds more than 3" in refused(bundle, tmp_path, tiny_model_folder)


def test_a_run_in_a_bundle_is_no_more_than_an_adapter(bundle: Path, tmp_path: Path, tiny_model_folder: Path) -> None:
    folder = bundles.unpack_all(bundle, made(tmp_path / "folder"))
    for name in ("manifest.json", "stages/01-dpo/adapter/adapter_model.bin", "report_files/x.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
        kept = {"bytes": 1, "sha256": bundles.sha256(folder / name)}
        relisted(folder, lambda index, name=name, kept=kept: index["files"].update({name: kept}))
        assert f"lists {name}, which is no part" in refused(folder, tmp_path, tiny_model_folder)
        relisted(folder, lambda index, name=name: index["files"].pop(name))
    shutil.rmtree(folder)
    for file, change, words in (
        ("run.json", {"trained": "dpo/../../../x"}, "run.json"), ("run.json", {"trained": "best-of-n"}, "run.json"),
        ("run.json", {"settings": []}, "run.json"),
        ("adapter_config.json", {"auto_mapping": {"parent_library": "os"}}, "adapter_config.json"),
    ):  # fmt: skip
        folder = bundles.unpack_all(bundle, made(tmp_path / "folder"))
        write_json(folder / file, json.loads((folder / file).read_text()) | change)
        kept = {"bytes": (folder / file).stat().st_size, "sha256": bundles.sha256(folder / file)}
        relisted(folder, lambda index, file=file, kept=kept: index["files"].update({file: kept}))
        assert words in refused(folder, tmp_path, tiny_model_folder)
        shutil.rmtree(folder)


def test_nothing_is_overwritten_and_a_folder_packed_by_hand_opens(
    bundle: Path, shared_run: Path, tmp_path: Path, tiny_model_folder: Path, models: Models
) -> None:
    made(tmp_path / "there")
    with pytest.raises(CharacteryError, match="there already"):
        open_bundle(bundle, models, tmp_path / "there", str(tiny_model_folder))
    with pytest.raises(CharacteryError, match="there already"):
        share(shared_run, tmp_path / "there", models)
    bundles.unpack_all(bundle, made(tmp_path / "packed/captain"))
    shutil.make_archive(str(tmp_path / "by-hand"), "zip", tmp_path / "packed")
    opened = open_bundle(tmp_path / "by-hand.zip", models, tmp_path / "run", str(tiny_model_folder))
    assert answers(opened.folder, models) == answers(shared_run, models)


# -- the hub


def test_the_hub_takes_a_bundle_with_a_token_alone(
    shared_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from charactery.share import hub

    monkeypatch.setattr(hub, "get_token", lambda: None)
    with pytest.raises(CharacteryError, match="HF_TOKEN"):
        run_cli("share", shared_run, "--out", tmp_path / "b.zip", "--to-hub", "me/captain")
    assert not (tmp_path / "b.zip").exists()
    taken: dict[str, Any] = {}

    class Api:
        def __init__(self, token: str) -> None:
            taken["token"] = token

        def create_repo(self, repo: str, private: bool, exist_ok: bool) -> str:
            assert private and exist_ok
            return f"https://hub/{repo}"

        def upload_folder(self, repo_id: str, folder_path: Path, commit_message: str) -> None:
            taken["files"] = {p.name for p in folder_path.iterdir()}

    monkeypatch.setattr(hub, "get_token", lambda: "secret")
    monkeypatch.setattr(hub, "HfApi", Api)
    said = run_cli("share", shared_run, "--out", tmp_path / "b.zip", "--to-hub", "me/captain")
    assert "https://hub/me/captain" in said and "secret" not in said and taken["token"] == "secret"
    assert taken["files"] >= {"README.md", "adapter_config.json", "adapter_model.safetensors", "bundle.json"}


def test_what_the_hub_says_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    from charactery.share import hub

    response = type("Response", (), {"headers": {}, "request": None, "status_code": 403})()
    for error, words in (
        (HfHubHTTPError("403 Forbidden", response=response), "does not take 'me/captain' .403 Forbidden.. Check"),
        (HFValidationError("Repo id must"), "'me/captain' is no hub id"),
        (ConnectionError("no route"), "cannot be reached .no route.; nothing was uploaded"),
    ):  # fmt: skip

        class Api:
            def __init__(self, token: str) -> None: ...

            def create_repo(self, *_: Any, error: Exception = error, **__: Any) -> str:
                raise error

        monkeypatch.setattr(hub, "get_token", lambda: "secret")
        monkeypatch.setattr(hub, "HfApi", Api)
        with pytest.raises(CharacteryError, match=words):
            hub.upload(tmp_path, "me/captain")
