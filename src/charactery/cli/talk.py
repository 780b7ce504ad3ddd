"""Commands to hear a Subject: ask, chat."""

import json
import math
import sys
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Annotated

import typer

from charactery.cli import app
from charactery.errors import CharacteryError, ContextTooLong

if TYPE_CHECKING:
    from charactery.models.chat import Message
    from charactery.models.speaker import Models, Speaker

Who = Annotated[
    str,
    typer.Argument(
        help="MODEL[+CHARACTER][:STAGE[/STEP]][@STRENGTH], such as smollm2+captain or runs/captain@0.5.",
        show_default=False,
    ),
]


@app.command()
def ask(
    subject: Who,
    prompt: Annotated[list[str] | None, typer.Argument(help="What to ask.", show_default=False)] = None,
    prompts: Annotated[Path | None, typer.Option(help="Ask these: JSON lines, or one prompt a line.")] = None,
    n: Annotated[int, typer.Option("-n", min=1, help="Answers to each prompt.")] = 1,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer.")] = 96,
    temperature: Annotated[float, typer.Option(min=0, help="0 takes the likeliest token.")] = 0.7,
    seed: Annotated[
        int,
        typer.Option(
            min=0,
            help="Of the first answer to a prompt; the next has one more. The same command gives the same answers.",
        ),
    ] = 0,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line: prompt, answer, seed, subject.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, mps or cuda.")] = "auto",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would take, and stop.")] = False,
) -> None:
    """Ask a model, a prompted character or a trained one.

    \b
    Examples:
      charactery ask smollm2+captain "How do I cook rice?"
      charactery ask runs/captain --prompts questions.txt -n 4 --json
    """
    from charactery.data.prompts import Prompt, read_prompts
    from charactery.judges.best_of import choosing
    from charactery.models.chat import user
    from charactery.models.local import Request, Sampler, derive_seed
    from charactery.models.speaker import BATCH, Models, answer_fitting
    from charactery.models.subject import parse_subject

    asked = [Prompt("", "own", (text,)) for text in prompt or []]
    if prompts:
        asked += read_prompts(prompts)
    if not asked:
        raise CharacteryError("nothing to ask: give a prompt, or --prompts FILE")
    if talks := [p for p in asked if len(p.turns) > 1]:
        raise CharacteryError(
            f"`ask` puts single prompts and {len(talks)} have several turns; `chat` holds conversations"
        )
    who = parse_subject(subject)
    if dry_run:
        from charactery.pipeline.plan import foresee_answers

        typer.echo(foresee_answers(who, len(asked) * n * max(1, who.best_of), max_tokens))
        return
    speaker = Models(device, lambda line: typer.echo(line, err=True), choosing).speaker(who)
    rows = [(p.turns[0], seed + k) for p in asked for k in range(n)]
    sampler, failed = Sampler(max_tokens, temperature), 0
    for start in range(0, len(rows), BATCH):
        batch = rows[start : start + BATCH]
        asks = [(speaker, Request((user(text),), derive_seed(one, text))) for text, one in batch]
        answers, _ = answer_fitting(asks, sampler)
        for (text, one), answer in zip(batch, answers, strict=True):
            failed += bool(answer.error)
            if as_json:
                row = {"prompt": text, "answer": answer.text, "seed": one, "subject": subject, "ended": answer.ended}
                typer.echo(json.dumps(row | ({"error": answer.error} if answer.error else {}), ensure_ascii=False))
            elif answer.error and len(rows) > 1:
                typer.echo(f"> {shorten(text, 60)}\n{answer.error}\n", err=True)
            else:
                typer.echo(f"> {text}\n{answer.text}\n" if len(rows) > 1 else answer.text)
    if failed:
        many = f"{failed} of {len(rows)} prompts have no answer, as said above; the others have theirs"
        raise ContextTooLong(many if len(rows) > 1 else answer.error)


@app.command()
def chat(
    subject: Who,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer.")] = 192,
    temperature: Annotated[float, typer.Option(min=0, help="0 takes the likeliest token.")] = 0.7,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, mps or cuda.")] = "auto",
) -> None:
    """Talk to a Subject, streaming. /plain, /prompted: hear the others answer the same turn. /help lists the rest.

    Example: charactery chat runs/captain
    """
    from charactery.judges.best_of import choosing
    from charactery.models.speaker import Models
    from charactery.models.subject import parse_subject

    models = Models(device, lambda line: typer.echo(line, err=True), choosing)
    talk = Talk(models, models.speaker(parse_subject(subject)), max_tokens, temperature, seed)
    typer.echo(f"{subject}. /help lists commands; Ctrl-D ends.", err=True)
    while True:
        try:
            line = input("you> " if sys.stdin.isatty() else "").strip()
        except EOFError:
            return
        if line == "/quit":
            return
        if line:
            try:
                talk.line(line)
            except CharacteryError as error:  # the context is full, say: what was said before stays
                typer.echo(f"{error}. /new starts afresh", err=True)


HELP = """/plain         the plain model answers your last turn (its answer is not kept)
/prompted      the plain model with the character in its prompt answers it (not kept)
/strength 0.5  how strongly the adapter is applied from here on
/again         answer the last turn anew
/new           a fresh conversation
/quit          end"""


class Talk:
    """One conversation in the terminal."""

    def __init__(self, models: "Models", speaker: "Speaker", max_tokens: int, temperature: float, seed: int) -> None:
        self.models, self.speaker = models, speaker
        self.max_tokens, self.temperature, self.seed = max_tokens, temperature, seed
        self.messages: list[Message] = []
        self.drawn = 0

    def line(self, line: str) -> None:
        """Do a command, or answer."""
        from charactery.models.chat import assistant, user

        command, _, rest = line.partition(" ")
        if command in ("/plain", "/prompted", "/again"):
            if not self.messages:
                typer.echo("say something first")
                return
            spoken = self.speaker if command == "/again" else self.other(command)
            text = self.answer(spoken, self.messages[:-1]) if spoken else ""
            if command == "/again":
                self.messages[-1] = assistant(text)
        elif command == "/strength":
            self.strength(rest)
        elif command == "/new":
            self.messages = []
        elif command.startswith("/"):
            typer.echo(HELP)
        else:
            asked = [*self.messages, user(line)]
            self.messages = [*asked, assistant(self.answer(self.speaker, asked))]

    def other(self, command: str) -> "Speaker | None":
        """The same base plainly, or with the character in its prompt."""
        from dataclasses import replace

        from charactery.models.subject import run_character

        mine = self.speaker.subject
        character = mine.character or run_character(mine)
        if command == "/prompted" and character is None:
            typer.echo("no character is known here; start with MODEL+CHARACTER or a run")
            return None
        wanted = character if command == "/prompted" else None
        return self.models.speaker(
            replace(mine, adapter=None, run=None, strength=1.0, character=wanted, best_of=0, judge="")
        )

    def strength(self, text: str) -> None:
        """Apply the adapter more or less strongly."""
        from dataclasses import replace

        from charactery.models.subject import STRONGEST

        if self.speaker.adapter is None:
            typer.echo("there is no adapter here; /strength is for runs")
            return
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not abs(value) <= STRONGEST:  # nor what is no number
            typer.echo(f"give a number up to {STRONGEST}: 0 is the plain model, 1 as trained, above 1 beyond")
            return
        self.speaker = self.models.speaker(replace(self.speaker.subject, strength=value))
        typer.echo(f"strength {value:g}")

    def answer(self, speaker: "Speaker", messages: "list[Message]") -> str:
        """Stream an answer to the terminal; Ctrl-C cuts it short and keeps what was said."""
        from charactery.models.local import Request, Sampler, derive_seed

        self.drawn += 1
        request = Request(tuple(messages), derive_seed(self.seed, "chat", self.drawn))
        said: list[int] = []
        shown = ""
        tokenizer = speaker.model.tokenizer if speaker.model else None

        def stream(token: int) -> None:
            nonlocal shown
            said.append(token)
            if tokenizer is None:
                return
            text = tokenizer.decode(said, skip_special_tokens=True).lstrip()
            if not text.endswith("\ufffd"):  # half of a character
                print(text[len(shown) :], end="", flush=True)
                shown = text

        try:
            answer = speaker.answer([request], Sampler(self.max_tokens, self.temperature), stream)[0]
        except KeyboardInterrupt:
            print()
            return shown
        if answer.error:
            raise ContextTooLong(answer.error)
        if not shown:
            print(answer.text, end="")
        print()
        return answer.text
