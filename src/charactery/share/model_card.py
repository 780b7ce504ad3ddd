"""A bundle's README.md: the model card in the hub's conventions, with the run's figures and their intervals."""

from collections.abc import Sequence

from huggingface_hub import EvalResult, ModelCardData

from charactery.constitution import Character
from charactery.report.figures import Figure
from charactery.report.numbers import interval
from charactery.report.source import Source
from charactery.report.verdict import headline
from charactery.report.words import condition_title, definition, eval_title
from charactery.runs import Row

TASK = "text-generation"
SHOWN = {  # by eval; what more there is, the report has
    "expression": (
        "rate", "ratio to prompted", "difference from plain", "difference from sham",
        "difference from another character", "likelihood",
    ),
    "elsewhere": ("rate", "difference from plain"),
    "cost": ("bits per byte ratio", "repetition ratio", "length ratio"),
    "multiple choice": ("accuracy", "difference from plain", "difference from sham"),
}  # fmt: skip
WHERE = ("", "turn 1", "elsewhere", "prose", "chat frame")
ABOUT = {
    "report.html": "the run's report: every figure, how it was made, answers side by side",
    "character.md": "the constitution",
    "card.png": "a character card (version 3, and 2 for older programs), for programs that take those",
    "adapter.gguf": "the adapter in float16 for llama.cpp and what is built on it; it goes on a GGUF file of the base",
    "Modelfile": "for Ollama; it says how that file of the base is made",
    "conversations.json": "what it said, picked at random; `charactery conversations import` takes it",
    "bundle.json": "the SHA-256 of every file, and the base's",
}


def shown(figures: Sequence[Figure]) -> list[Figure]:
    """The figures of a card: the main ones of the trained model, over the whole character, where measured."""
    return [
        f
        for f in figures
        if f.subject == "trained" and not f.trait and f.estimate.value is not None
        if f.metric in SHOWN.get(f.eval, ()) and f.condition in WHERE
    ]


def card_data(name: str, base: str, figures: Sequence[Figure], language: str, about: str) -> ModelCardData:
    """The card's front matter. `base` is a hub id, or a name where the base is on no hub."""
    results = [
        EvalResult(
            task_type=TASK, dataset_type=f"charactery/{f.eval.replace(' ', '-')}",
            dataset_name=f"Charactery: {_short(f)}",
            metric_type=f.metric.replace(" ", "_"),
            metric_name=f"{f.metric}, {condition_title(f.condition).lower()}".rstrip(", "),
            metric_value=f.estimate.value,
            metric_args={
                key: value for key, value in f.estimate.as_dict().items()
                if key in ("low", "high", "n", "missing", "method") and value not in (None, "")
            } | ({"condition": f.condition} if f.condition else {}),
        )
        for f in shown(figures)
    ]  # fmt: skip
    return ModelCardData(
        base_model=base, library_name="peft", pipeline_tag=TASK, model_name=name, language=language,
        eval_results=results or None, tags=["charactery", "character", "lora", f"base_model:adapter:{base}"],
        license="apache-2.0" if "Apache-2.0" in about else None,
    )  # fmt: skip


def model_card(character: Character, index: Row, source: Source | None, files: Sequence[str]) -> str:
    """README.md. `index` is the bundle's; `source` the run's figures where they are shared; `files` what is there."""
    name, base = character.name, index["base"]
    figures = list(source.figures) if source else []
    data = card_data(name, base["hub"] or base["model"], figures, character.language, base["about"])
    parts = [f"---\n{data.to_yaml()}\n---", f"# {name}", character.summary]
    if source:
        took, said = headline(source)
        parts.append(f"**{took}** {said}")
    parts += ["## Use", _use(index), "## The base", _base(base)]
    if rows := shown(figures):
        head = "| Eval | Figure | Condition | Value [95%] | n |\n|---|---|---|---|---|"
        body = [
            f"| {_short(f)} | {f.metric} | {condition_title(f.condition) if f.condition else ''} | "
            f"{interval(f.estimate)} | {f.estimate.n} |"
            for f in rows
        ]
        told = dict.fromkeys(f"{f.metric} ({_short(f)}): {words}" for f in rows if (words := _means(f)))
        parts += ["## Figures", "\n".join([head, *body]), "\n".join(f"- {line}" for line in told)]
    else:
        parts.append("No figures come with this character, so nothing here says whether it took.")
    listed = [f"- `{file}`: {ABOUT[file]}" for file in ABOUT if file in files or file == "bundle.json"]
    parts += ["## Files", "\n".join(listed)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _means(figure: Figure) -> str:
    return definition(figure.eval, figure.metric)


def _short(figure: Figure) -> str:
    return eval_title(figure.eval).partition(":")[0].lower()


def _use(index: Row) -> str:
    base = index["base"]
    own = base["hub"] is None
    code = [
        "```sh", "pip install charactery",
        f"charactery open {index['name']}.zip" + (" --base FOLDER" if own else ""),
        f'charactery ask runs/{index["name"]} "How do I make a good cup of tea?"', "```",
    ]  # fmt: skip
    plain = (
        "Nothing about the character goes into the prompt; it is in the adapter. `@0.5` after the run's name wears it"
    )
    with_peft = [
        "```python", "from peft import PeftModel", "from transformers import AutoModelForCausalLM", "",
        f'model = AutoModelForCausalLM.from_pretrained("{base["hub"] or "FOLDER"}")',
        'model = PeftModel.from_pretrained(model, "FOLDER_OF_THIS_CARD")', "```",
    ]  # fmt: skip
    return "\n".join(code) + f"\n\n{plain} half as strongly.\n\nWith PEFT alone:\n\n" + "\n".join(with_peft)


def _base(base: Row) -> str:
    said = f"Trained on `{base['model']}`"
    said += f", {base['parameters']:,} weights" if base.get("parameters") else ""
    said += f"; the SHA-256 of its tensors begins with `{base['hash']}`. "
    if base["about"] and base["about"] != base["model"]:
        said += f"{base['about']}. "
    return (
        said + "The figures hold on that base. On another one, a quantised one too, the character may answer otherwise."
    )
