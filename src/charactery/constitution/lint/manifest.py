"""The rule that holds what a character says of itself against the manifest of the run that trained it.

Each checker reads one sentence in which the character speaks of itself and returns what is wrong, or None. What the
manifest does not hold is not checked.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

from charactery.constitution.lint.abilities import CANNOT, abilities
from charactery.constitution.lint.reading import Reading
from charactery.constitution.lint.rule import Found, rule
from charactery.constitution.lint.words import content
from charactery.runs import stage_kind

Manifest = dict[str, Any]
Checker = Callable[[str, Manifest], str | None]

_SELF = re.compile(r"\b(?:I|I['’]ll|I['’]m|you|my|your|me)\b", re.I)

# Who makes which models: the word in a model's name -> words for its maker.
LABS = {
    "smollm": "hugging ?face", "qwen": "alibaba|qwen team", "llama": "meta|facebook", "mistral": "mistral(?: ai)?",
    "mixtral": "mistral(?: ai)?", "gemma": "google(?: deepmind)?|deepmind", "gemini": "google(?: deepmind)?|deepmind",
    "gpt": "openai", "claude": "anthropic", "phi": "microsoft", "deepseek": "deepseek", "grok": "xai",
    "olmo": "allen institute|ai2|allenai", "falcon": "tii|technology innovation institute", "granite": "ibm",
    "command": "cohere", "pythia": "eleuther(?: ?ai)?", "nemotron": "nvidia", "kimi": "moonshot(?: ai)?",
}  # fmt: skip
_MODEL = re.compile(rf"\b(?:chat)?({'|'.join(LABS)})(?![a-z]{{3}})[\w.-]*", re.I)
_LAB = re.compile(rf"\b(?:{'|'.join(sorted(set(LABS.values())))})\b", re.I)
_MADE_BY = re.compile(
    r"\b(?:made|created|built|developed|trained|released|designed|written|produced)\b[^.]{0,20}\b(?:by|at)\b", re.I
)
_BASED_ON = re.compile(
    r"\b(?:I am|I['’]m|you are|you['’]re|(?:based|running|run|runs|built|sit|derived?) (?:on(?: top of)?|from)|"
    r"powered by|"
    r"version of|(?:fine-?tuned|trained|adapted) from)\b",
    re.I,
)
_NAMED = re.compile(rf"\s*(?:an? |the )?(?:[\w-]+ )?{_MODEL.pattern}", re.I)
_TEACHER = re.compile(
    r"\b(?:teachers?|taught|distil\w*|learned from|learnt from|examples (?:by|from)|answers (?:by|from))\b", re.I
)


def family(name: str) -> str | None:
    """The model family that a name belongs to: 'Qwen/Qwen2.5-7B' -> 'qwen'."""
    found = _MODEL.search(re.sub(r"[/_]", " ", name))
    return found[1].lower() if found else None


def maker(sentence: str, manifest: Manifest) -> str | None:
    """Made by a lab that did not make the base model."""
    base = family(str(_base(manifest, "name") or ""))
    made = _MADE_BY.search(sentence)
    named = _LAB.search(sentence, made.end()) if made else None
    if base is None or named is None or re.fullmatch(LABS[base], named[0], re.I):
        return None
    return f"it says it was made by {named[0]}; the base model is {_base(manifest, 'name')}"


def base_model(sentence: str, manifest: Manifest) -> str | None:
    """Based on a model of another family."""
    base = family(str(_base(manifest, "name") or ""))
    if base is None or _TEACHER.search(sentence):
        return None
    for based in _BASED_ON.finditer(sentence):
        named = _NAMED.match(sentence, based.end())
        if named and named[1].lower() != base:
            return f"it says it is based on {named[1]}; the base model is {_base(manifest, 'name')}"
    return None


def teacher(sentence: str, manifest: Manifest) -> str | None:
    """Taught by another model than the run's teacher, or by none where it had one."""
    if "teacher" not in manifest or not _TEACHER.search(sentence):
        return None
    real, named = manifest["teacher"], _MODEL.search(sentence)
    if real and re.search(r"\bno teacher|without a teacher|never had a teacher\b", sentence, re.I):
        return f"it says it had no teacher; the teacher was {real}"
    person = re.search(
        r"\b(?:named|called|wom[ae]n|m[ae]n|aunt|uncle|boy|girl) (?:\w+ )?$", sentence[: named.start() if named else 0]
    )
    if named and not person and family(str(real or "")) != named[1].lower():
        return f"it says it learned from {named[0]}; the teacher was {real or 'none'}"
    return None


_NUMBERS = {
    w: n
    for n, w in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
        "seventeen "
        "eighteen nineteen".split()
    )
} | {w: 10 * n for n, w in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), 2)}
_SCALE = {"k": 1e3, "thousand": 1e3, "m": 1e6, "million": 1e6, "b": 1e9, "billion": 1e9, "trillion": 1e12}
_WORDS = rf"(?:(?:{'|'.join(_NUMBERS)}|hundred|and|a)[ -])"
_AMOUNT = rf"(\d[\d,]*(?:\.\d+)?|{_WORDS}+?)[ -]?(k|m|b|thousand|million|billion|trillion)?[ -](?:of )?(?:\w+ )?"
_PARAMETERS = re.compile(r"\b" + _AMOUNT + r"(?:parameters?|weights)\b", re.I)
_TOKENS = re.compile(r"\b" + _AMOUNT + r"(?:tokens?|context(?: window)?)\b", re.I)


def _amount(match: re.Match[str]) -> float | None:
    """The number in '7 billion', '32,000', 'seventy billion'; None where it is no number."""
    digits = match[1].replace(",", "").strip(" -").lower()
    if re.fullmatch(r"\d+(?:\.\d+)?", digits):
        value = float(digits)
    else:
        value = 0.0
        for word in re.split(r"[ -]+", digits):
            value = (value or 1) * 100 if word == "hundred" else value + _NUMBERS.get(word, 0)
    value *= _SCALE.get((match[2] or "").lower(), 1)
    return value or None


def size(sentence: str, manifest: Manifest) -> str | None:
    """Another number of parameters than the base model has (a tenth more or less is rounding)."""
    real, found = _base(manifest, "parameters"), _PARAMETERS.search(sentence)
    said = _amount(found) if found else None
    if not real or not said or abs(said - real) <= 0.1 * real:
        return None
    return f"it says {said:,.0f} parameters; the base model has {real:,.0f}"


def context(sentence: str, manifest: Manifest) -> str | None:
    """Another context length than the base model has."""
    real = _base(manifest, "context")
    for found in _TOKENS.finditer(sentence):
        said = _amount(found)
        if real and said and said >= 100 and abs(said - real) > 0.1 * real:
            return f"it says {said:,.0f} tokens of context; the base model has {real:,.0f}"
    return None


ARCHITECTURES = {
    "mixture of experts": (r"\bmixture[- ]of[- ]experts\b|\bMoE\b", r"moe|mixtral|experts"),
    "a recurrent network": (r"\brecurrent\b|\bRNN\b|\bLSTM\b", r"rwkv|recurrent|rnn|lstm"),
    "a state-space model": (r"\bstate[- ]space\b|\bmamba\b", r"mamba|ssm|jamba"),
    "a diffusion model": (r"\bdiffusion model\b", r"diffusion"),
    "an encoder-decoder": (r"\bencoder[- ]decoder\b", r"t5|bart|encoder"),
}


def architecture(sentence: str, manifest: Manifest) -> str | None:
    """An architecture that the base model's class name does not have."""
    real = _base(manifest, "architecture")
    if not real or not re.search(r"\b(?:am|are|['’]m|['’]re|as|have)\b", sentence, re.I):
        return None
    for name, (said, marks) in ARCHITECTURES.items():
        found = re.search(said, sentence, re.I)
        denied = found and re.search(r"\bnot (?:an? )?$|\bno $", sentence[: found.start()], re.I)
        if found and not denied and not re.search(marks, str(real), re.I):
            return f"it says it is {name}; the base model is {real}"
    return None


_NEVER_TRAINED = re.compile(
    r"\b(?:never|not)(?: (?:been|yet))? (?:trained|fine-?tuned)\b|\b(?:nobody|no one) (?:has |ever )*(?:trained|"
    r"fine-?tuned)\b|\buntrained\b|\boff the shelf\b|\bno (?:training|fine-?tuning)\b|\bonly a prompt\b",
    re.I,
)
_TRAINED_INTO = re.compile(
    r"\b(?:fine-?tuned|trained (?:into|to be|as|for) (?:this|the) character|trained into|weights (?:hold|carry) (?:me|"
    r"you))\b",
    re.I,
)
_ALL_WEIGHTS = re.compile(
    r"\b(?:all|every one|each|every)\b[^.]{0,15}\bweights?\b[^.]{0,25}\b(?:trained|retrained|changed|tuned|moved)\b|"
    r"\bfull(?:y)?[ -]fine-?tun\w+\b",
    re.I,
)
_ADAPTER = re.compile(r"\b(?:LoRA|low-rank adapter|adapter)\b", re.I)


def training(sentence: str, manifest: Manifest) -> str | None:
    """Trained where the run trained nothing, or the other way round; all weights where it was an adapter."""
    if manifest.get("trained") is True and _NEVER_TRAINED.search(sentence):
        return "it says it was never trained; the run trained it"
    if manifest.get("trained") is False and _TRAINED_INTO.search(sentence) and not _NEVER_TRAINED.search(sentence):
        return "it says it was trained; the run trained nothing"
    if manifest.get("adapter") is True and _ALL_WEIGHTS.search(sentence):
        return "it says all weights were trained; the run trained an adapter"
    if manifest.get("adapter") is False and _ADAPTER.search(sentence) and not CANNOT.search(sentence):
        return "it speaks of an adapter; the run made none"
    return None


METHODS = {
    "reinforcement learning": (
        r"\bRLHF\b|\bRLAIF\b|\breinforcement learning\b|\bPPO\b|\bGRPO\b",
        r"rl|ppo|grpo|reinforce",
    ),
    "preference optimisation": (r"\bDPO\b|\bpreference (?:pairs|optimi[sz]ation)\b", r"dpo|preference|orpo|kto"),
    "distillation": (r"\bdistil\w*", r"distil"),
}
_HUMAN_DATA = re.compile(
    r"\b(?:human (?:raters?|feedback|conversations?|annotators?|labell?ers?|graders?|testers?)|real (?:conversations?|"
    r"people['’]s \w+|customers?)|"
    r"hand-labelled)\b",
    re.I,
)
_TUNED_ON = re.compile(r"\b(?:fine-?tuned|trained(?: into this character)?) on ([^.;]+)", re.I)
_MADE_UP = re.compile(r"generat|synthetic|teacher|self|model", re.I)


def data(sentence: str, manifest: Manifest) -> str | None:
    """A method that is not the recipe, or data that is not among the sources."""
    recipe = manifest.get("recipe")
    for name, (said, marks) in METHODS.items():
        found = re.search(said, sentence, re.I)
        if (
            recipe
            and found
            and not re.search(marks, str(recipe), re.I)
            and not CANNOT.search(sentence[: found.start()])
        ):
            return f"it says it was trained by {name}; the recipe is {recipe}"
    sources = [str(source) for source in (manifest.get("data") or {}).get("sources") or []]
    tuned = _TUNED_ON.search(sentence)
    denied = bool(tuned and CANNOT.search(sentence[: tuned.start()]))
    known = {stem for source in sources for stem in content(source)}
    if sources and tuned and denied == bool(content(tuned[1]) & known):
        return f"it says it was {'not ' if denied else ''}{tuned[0].strip()}; the sources are {', '.join(sources)}"
    if sources and _HUMAN_DATA.search(sentence) and all(_MADE_UP.search(source) for source in sources):
        return f"it says it learned from people's data; the sources are {', '.join(sources)}"
    return None


CHECKERS: tuple[Checker, ...] = (
    maker, base_model, teacher, size, context, architecture, training, data, abilities,
)  # fmt: skip


@rule(
    "manifest",
    "a claim about itself that the run's manifest contradicts: maker, model, size, training, data, memory, tools",
    example="I have 7 billion parameters. (the base model has 135 million)",
    hint="Say what is true of this run, or leave it out; a character that was told the truth need not be corrected",
    manifest=True,
)
def manifest_claims(reading: Reading) -> Iterator[Found]:
    """Every sentence in which the character speaks of itself, against what the manifest holds."""
    known = facts(reading.manifest)
    for sentence in reading.sentences:
        if not _SELF.search(sentence.text) or sentence.text.endswith("?"):
            continue
        for checker in CHECKERS:
            if wrong := checker(sentence.text, known):
                yield Found(wrong, sentence.line, sentence.trait)
                break


def facts(manifest: Manifest) -> Manifest:
    """A manifest with the keys that the checkers read. Those of a Charactery run follow from what it records."""
    if "stages" not in manifest:
        return manifest
    settings = manifest.get("settings") or {}
    recipe = settings.get("recipe")
    kinds = {stage_kind(name) for name in manifest["stages"]}
    steps = [name for name in ("sft", "dpo", "grpo") if name in kinds]
    teacher = settings.get("teacher")
    teacher = teacher.get("subject") if isinstance(teacher, dict) else teacher
    out: Manifest = {"tools": [], "teacher": teacher, "recipe": ", ".join(steps) or recipe}
    out["adapter"] = bool(steps) and isinstance(recipe, dict) and "lora" in recipe
    if not settings.get("pairs"):  # answers of the user's own could come from anywhere
        out["data"] = {"sources": [f"generated by {teacher or 'the model itself'}"]}
    out |= {key: value for key, value in manifest.items() if key not in ("settings", "stages")}
    return {**out, "trained": bool(steps and manifest.get("trained"))}


def _base(manifest: Manifest, key: str) -> Any:
    base = manifest.get("base") or {}
    return base.get(key) if isinstance(base, dict) else None
