"""An Ollama Modelfile: which weights, how turns are framed, where an answer ends.

Format: docs.ollama.com/modelfile. Without a TEMPLATE, Ollama goes by the chat template in the weights' own file, where
it knows that one.
"""

from collections.abc import Sequence
from typing import Any

from charactery.models.chat import BASE_TEMPLATE, plain_system, prompt_text

CHATML = "<|im_start|>{role}\n{content}<|im_end|>\n"
GO_CHATML = "{{- range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n"
GO_BASE = (
    '{{- range .Messages }}{{ if eq .Role "system" }}{{ .Content }}\n\n'
    '{{ else if eq .Role "user" }}User: {{ .Content }}\n\n'
    "{{ else }}Assistant: {{ .Content }}END\n\n{{ end }}{{ end }}Assistant:"
)


def modelfile(
    name: str, weights: str, tokenizer: Any, context: int, temperature: float, how: str = "", adapter: str = "",
    notes: Sequence[str] = (),
) -> str:  # fmt: skip
    """The file's text. `weights` is what lies beside it; `how` is the command that makes it, where it does not yet.

    With `adapter`, a GGUF file beside it, `weights` are its base; `notes` are said first.
    """
    lines = [f"# {name}, for Ollama: ollama create NAME -f Modelfile", *(f"# {note}" for note in notes)]
    if how:
        lines.append(f"# {weights} is made once, beside this file, by: {how}")
    lines.append(f"FROM ./{weights}")
    if adapter:
        lines.append(f"ADAPTER ./{adapter}")
    template, system = _frame(tokenizer)
    if template:
        lines.append(f'TEMPLATE """{template}"""')
    if system:  # what the model's template says by itself where nobody gives a system message, as in training
        lines.append(f'SYSTEM """{system}"""')
    if tokenizer.eos_token:
        lines.append(f'PARAMETER stop "{tokenizer.eos_token}"')
    lines += [f"PARAMETER temperature {temperature:g}", f"PARAMETER num_ctx {min(context, 8192)}"]
    return "\n".join(lines) + "\n"


def _frame(tokenizer: Any) -> tuple[str, str]:
    """The template in Ollama's language and the system message of its own, for a frame that is known; else "", ""."""
    if str(tokenizer.chat_template).endswith(BASE_TEMPLATE):
        return GO_BASE.replace("END", tokenizer.eos_token or ""), ""
    turns = [("system", "\x01"), ("user", "\x02"), ("assistant", "\x03"), ("user", "\x04")]
    expected = "".join(CHATML.format(role=role, content=text) for role, text in turns) + "<|im_start|>assistant\n"
    try:
        if prompt_text(tokenizer, [{"role": role, "content": text} for role, text in turns]) != expected:
            return "", ""
    except Exception:  # a template may refuse any order of turns, with an error of its own making
        return "", ""
    before, (opening, closing) = plain_system(tokenizer), CHATML.format(role="system", content="\x01").split("\x01")
    own = before.startswith(opening) and closing in before
    return GO_CHATML, before.removeprefix(opening).partition(closing)[0] if own else ""
