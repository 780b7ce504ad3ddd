"""What answers: a model, perhaps a character in its prompt, perhaps an adapter at some strength.

Written `MODEL[+CHARACTER][:STAGE[/STEP]][@STRENGTH]`, for example `smollm2+captain`, `runs/captain@0.5`,
`runs/captain:dpo/40`. `pairs:FILE.jsonl` is a preference data set, which answers nothing but which of two answers it
prefers. MODEL may be a server's address, `http://localhost:8000/v1[#NAME or #RUN]`. Of a run that chose
among the plain model's answers, `runs/best:best-of-n/8` is the best of eight.
"""

import difflib
import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from charactery.constitution import BUNDLED, Character, find_character
from charactery.errors import CharacteryError, ModelNotFound, RunConflict
from charactery.models.weights import EMBEDDED
from charactery.runs import read_manifest, read_run, stage_kind

WRITTEN = re.compile(r"(.+)@(-?\d+(?:\.\d+)?)")  # a Subject with a strength
STRONGEST = 10  # times what was trained; far beyond where any adapter still speaks
Kind = Literal["embedded", "folder", "hub", "gguf", "server", "inspect"]
# Inspect's providers; a name that begins with one of these and a slash is not a hub id.
PROVIDERS = frozenset(
    "anthropic azureai bedrock cf cloudflare deepseek fireworks google grok groq llama-cpp-python mistral mockllm "
    "ollama openai openai-api openrouter perplexity sambanova sglang together vllm".split()
)
DEFAULT = "smollm2"
PAIRS = "charactery-pairs"  # the provider of preference data sets
BEST_OF = "best-of-n"  # the kind of a stage that trains nothing, and chooses among answers
MOST_OF = 64  # answers to choose from


@dataclass(frozen=True)
class Subject:
    """What answers. `text` is how it was written; `base` names the weights, `kind` where they come from.

    With `best_of`, each answer is the best of so many by `judge`, who holds them against the run's character.
    """

    text: str
    base: str
    kind: Kind
    character: Character | None = None
    adapter: Path | None = None
    strength: float = 1.0
    run: Path | None = field(default=None, compare=False)
    best_of: int = 0
    judge: str = ""

    @property
    def here(self) -> bool:
        """Whether its weights are on this machine, to be trained."""
        return self.kind not in ("server", "inspect")

    @property
    def at_hand(self) -> bool:
        """Whether to load it asks nobody elsewhere, whoever wrote its name: a file, a run, or the embedded model."""
        return self.kind in ("embedded", "folder", "gguf") or self.run is not None


def parse_subject(text: str) -> Subject:
    """Read a Subject. Raises ModelNotFound or RunConflict, saying what the name could have been."""
    if os.path.exists(text):  # not Path.exists, which raises for a text too long to be a name
        return _model(text, text, None, None, 1.0)
    if text.startswith("pairs:"):
        path = text.removeprefix("pairs:")
        if not os.path.isfile(path):
            raise ModelNotFound(f"{text!r}: after pairs: comes a file of preference pairs, and {path!r} is none here")
        return Subject(text, f"{PAIRS}/{path}", "inspect")
    rest, strength = text, 1.0
    if found := WRITTEN.fullmatch(rest):
        rest, strength = found[1], float(found[2])
        if abs(strength) > STRONGEST:
            raise ModelNotFound(f"{text!r}: a strength goes from -{STRONGEST} to {STRONGEST}")
    name, character, stage = rest, None, None
    run, _, after = rest.partition(":")
    if after and any(os.path.exists(f"{name}/manifest.json") for name in (run, run.partition("+")[0])):
        rest, stage = run, after
        name = rest
    if "+" in rest and not os.path.exists(rest):
        name, _, named = rest.partition("+")
        character = find_character(named)
    return _model(text, name, character, stage, strength)


def _model(text: str, name: str, character: Character | None, stage: str | None, strength: float) -> Subject:
    path = Path(name)
    if name.startswith(("http://", "https://")):
        return _on_server(text, name, character, strength)
    if os.path.exists(name):
        if (path / "manifest.json").exists():
            return _trained(text, path, character, stage, strength)
        if path.suffix == ".gguf":
            return Subject(text, name, "gguf", character)
        if (path / "config.json").exists():
            return Subject(text, name, "folder", character)
        raise ModelNotFound("is neither a run (manifest.json) nor a model folder (config.json) nor a .gguf file", path)
    if strength != 1.0 or stage:
        raise ModelNotFound(f"{text!r}: a stage or strength needs a run, and {name!r} is no run here")
    if name in EMBEDDED and name != "minilm":
        return Subject(text, name, "embedded", character)
    if name.startswith("hf:"):
        return Subject(text, name[3:], "hub", character)
    if name.split("/")[0] in PROVIDERS and "/" in name:
        return Subject(text, name, "inspect", character)
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name) and not name.startswith(("runs/", "./", "../")):
        return Subject(text, name, "hub", character)
    near = difflib.get_close_matches(name, [DEFAULT], 1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise ModelNotFound(
        f"no model {name!r}: it is no folder, run or .gguf file here, not {DEFAULT}, no hub id (org/name), no "
        f"server (http://…) and no Inspect name (openai/…).{hint} `charactery models` lists what is here"
    )


def _on_server(text: str, name: str, character: Character | None, strength: float) -> Subject:
    """`URL`, `URL#NAME` for a model or adapter it serves, or `URL#RUN[:STAGE]` for a run's adapter here."""
    url, _, served = name.partition("#")
    run, _, stage = served.partition(":")
    if served and os.path.exists(f"{run}/manifest.json"):
        adapter = _trained(text, Path(run), character, stage or None, strength).adapter
        if adapter is None:
            raise ModelNotFound(f"{text!r}: {run} has no adapter that a server could apply")
        return Subject(text, url, "server", character, adapter, strength, Path(run))
    if strength != 1.0:
        raise ModelNotFound(f"{text!r}: a strength needs a run after the #, and {served!r} is no run here")
    return Subject(text, name, "server", character)


def _trained(text: str, path: Path, character: Character | None, stage: str | None, strength: float) -> Subject:
    manifest = read_manifest(path)
    try:
        model, trained, command = manifest["settings"]["model"], manifest["trained"], manifest["command"]
    except (KeyError, TypeError):
        raise RunConflict(
            "has a manifest.json that lacks the settings' model, `trained` or `command`: it is damaged, or no run of "
            "`charactery train`. Restore it, or train again into another folder",
            path,
        ) from None
    base = None if (Path(model) / "manifest.json").exists() else parse_subject(model)
    if base is None or base.run is not None:
        raise ModelNotFound(
            f"was trained on {model!r}, which is itself a run, and only one adapter can be worn at a time; merge it "
            "first (PEFT's merge_and_unload, saved as a model folder), and train on that",
            path,
        )
    name, _, step = (stage or trained).partition("/")
    run = read_run(path)
    folder = run.stage_folder(name)
    if stage_kind(name) == BEST_OF:
        if strength != 1.0:
            raise ModelNotFound(f"{text!r}: there is no adapter to apply more or less strongly; nothing was trained")
        recipe = manifest["settings"]["recipe"]
        n = int(step) if re.fullmatch(r"\d{1,4}", step) else 0 if step else recipe["best_of"]["n"]
        if not 1 <= n <= MOST_OF:
            raise ModelNotFound(f"{text!r}: after {BEST_OF}/ comes how many to choose from, 1 to {MOST_OF}")
        return replace(base, text=text, character=character, run=path, best_of=n, judge=recipe["judge"])
    adapter, whole = (folder / (f"checkpoint-{step}" if step else kept) for kept in ("adapter", "model"))
    if (whole / "config.json").exists():
        if strength != 1.0:
            raise ModelNotFound(f"{text!r}: the run trained all weights, and only an adapter has a strength")
        return Subject(text, str(whole), "folder", character, run=path)
    if not (adapter / "adapter_model.safetensors").exists():
        kept = sorted(p.name.removeprefix("checkpoint-") for p in folder.glob("checkpoint-*"))
        what = f"checkpoints there: {', '.join(kept)}" if kept else f"`{command}` goes on with the training"
        raise ModelNotFound(f"has no finished adapter for {stage or name!r}; {what}", path)
    return Subject(text, base.base, base.kind, character, adapter, strength, path)


def at_strength(text: str, strength: float) -> str:
    """A Subject at a strength: `runs/captain` at 0.5 is `runs/captain@0.5`. A strength that is written in it stays.

    Raises as `parse_subject` where it has no adapter and the strength is not 1.
    """
    if strength == 1 or (WRITTEN.fullmatch(text) and not os.path.exists(text)):
        return text
    named = f"{text}@{round(strength, 3):g}"
    parse_subject(named)
    return named


def without_strength(text: str) -> tuple[str, float]:
    """A Subject and the strength that is written after it, 1 where none is: `at_strength` the other way."""
    found = None if os.path.exists(text) else WRITTEN.fullmatch(text)
    return (found[1], float(found[2])) if found else (text, 1.0)


def has_adapter(text: str) -> bool:
    """Whether a Subject is a run whose adapter is there to be applied more or less strongly."""
    name = text.partition("#")[2] or text
    if not any(os.path.exists(f"{run}/manifest.json") for run in (name, re.split("[:+@]", name)[0])):
        return False  # most are none: their characters need not be read
    try:
        return parse_subject(text).adapter is not None
    except CharacteryError:
        return False


def prompted(subject: Subject) -> Subject | None:
    """The model that a subject is, or that its run was made from, with its character in the prompt; None for none."""
    character = subject.character or run_character(subject)
    if character is None:
        return None
    path, plain = character.path, untrained(subject)
    named = character.name if path is None else path.stem if path.parent == BUNDLED else str(path)
    return replace(plain, text=f"{plain.text}+{named}", character=character)


def expand_subjects(text: str) -> list[str]:
    """The Subjects that a comma-separated text names, in order; `RUN:STAGE/*` is every checkpoint of a stage.

    Of a run that chose among answers, it is the best of 1, 2, 4, 8 and 16. Raises ModelNotFound where there are none.
    """
    out: list[str] = []
    for name in filter(None, map(str.strip, text.split(","))):
        if not name.endswith("/*"):
            out.append(name)
            continue
        run, _, stage = name[:-2].rpartition(":")
        if not os.path.exists(f"{run}/manifest.json"):
            raise ModelNotFound(f"{name!r}: before :STAGE/* comes a run, and {run!r} is none here")
        if stage_kind(stage) == BEST_OF:
            out += [f"{run}:{stage}/{n}" for n in (1, 2, 4, 8, 16)]
            continue
        folder = read_run(Path(run)).stage_folder(stage)
        steps = sorted(
            int(n) for p in folder.glob("checkpoint-*") if (n := p.name.removeprefix("checkpoint-")).isdigit()
        )
        if not steps:
            raise ModelNotFound(f"{name!r}: stage {stage!r} has no checkpoints", Path(run))
        out += [f"{run}:{stage}/{step}" for step in steps]
    if not out:
        raise ModelNotFound("no Subject was named; write smollm2,runs/captain:sft,runs/captain:dpo/* say")
    return list(dict.fromkeys(out))


def run_character(subject: Subject) -> Character | None:
    """The character a run was trained on, if the subject is a run."""
    if subject.run is None:
        return None
    path = subject.run / "character.md"
    if not path.exists():
        raise CharacteryError("has no character.md", subject.run)
    return find_character(str(path))


def untrained(subject: Subject) -> Subject:
    """The model that a subject is, or that its run was made from, without adapter and character."""
    model = read_manifest(subject.run)["settings"]["model"] if subject.run and subject.here else None
    plain = parse_subject(model) if model else subject
    text = f"hf:{plain.base}" if plain.kind == "hub" else plain.base  # a hub id may read as a name of Inspect's
    return replace(plain, text=text, character=None, adapter=None, run=None, strength=1.0, best_of=0, judge="")
