"""Commands to hear a Subject: ask, chat."""

import json
import math
import re
import sys
from dataclasses import replace
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Annotated

import typer

from charactery.cli import app
from charactery.cli.conversations import Store
from charactery.errors import CharacteryError, ContextTooLong

if TYPE_CHECKING:
    from charactery import conversations
    from charactery.models.speaker import Models
    from charactery.models.subject import Subject
    from charactery.models.voice import SpeakerVoice

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
    from charactery.models.speaker import Models, answer_fitting, places, stretches
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
    asks = [(speaker, Request((user(text),), derive_seed(one, text))) for text, one in rows]
    for start, end in stretches([places(ask, max_tokens) for ask in asks]):
        answers = answer_fitting(asks[start:end], sampler)
        for (text, one), answer in zip(rows[start:end], answers, strict=True):
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
    seed: Annotated[int, typer.Option(min=0, help="The same words and seed give the same answers.")] = 0,
    private: Annotated[bool, typer.Option("--private", help="Keep nothing of this talk.")] = False,
    go_on: Annotated[
        str | None,
        typer.Option(
            "--from", help="Go on from this conversation or turn: the beginning of its id.", show_default="a new one"
        ),
    ] = None,
    store: Store = None,
    device: Annotated[str, typer.Option(help="auto, cpu, mps or cuda.")] = "auto",
) -> None:
    """Talk to a Subject, streaming. /plain, /prompted: hear the others answer the same turn. /help lists the rest.

    What is said is kept in the conversation tree, where `charactery conversations` finds it.

    \b
    Examples:
      charactery chat runs/captain
      charactery chat runs/captain --private
    """
    kept = _opened(store, private, go_on)
    conversation, turn = kept.find(go_on) if go_on else (None, None)
    from charactery.conversations import Session
    from charactery.judges.best_of import choosing
    from charactery.models.local import Sampler
    from charactery.models.speaker import Models
    from charactery.models.subject import parse_subject
    from charactery.models.voice import SpeakerVoice

    who = parse_subject(subject)
    models = Models(device, lambda line: typer.echo(line, err=True), choosing)
    voice = SpeakerVoice(models.speaker(who), Sampler(max_tokens, temperature))
    session = Session(kept, voice, seed, conversation)
    if turn:
        session.go(turn)
    talk = Talk(models, session, voice, None if private else f" --store {store}" if store else "")
    typer.echo(f"{subject}. /help lists commands; Ctrl-D ends.", err=True)
    if go_on:
        typer.echo(talk.stands(), err=True)
    while True:
        try:
            line = input("you> " if sys.stdin.isatty() else "").strip()
        except EOFError:
            line = "/quit"
        if line == "/quit":
            break
        if line:
            try:
                talk.line(line)
            except ContextTooLong as error:  # what was said before stays
                typer.echo(f"{error}. /new starts afresh", err=True)
            except CharacteryError as error:
                typer.echo(str(error), err=True)
    talk.leave()


def _opened(place: str | None, private: bool, go_on: str | None) -> "conversations.Store":
    """The store that a talk is kept in."""
    from charactery.conversations import open_store, private_store

    if private and (place or go_on):
        raise CharacteryError("--private keeps nothing, so it goes with neither --store nor --from")
    if private:
        return private_store()
    try:
        return open_store(place)
    except CharacteryError as error:
        raise CharacteryError(f"{error}. --private talks without keeping it") from error


HELP = """/plain         the plain model answers your last turn (kept beside, and not gone on from)
/prompted      the plain model with the character in its prompt answers it (the same)
/strength 0.5  how strongly the adapter is applied from here on
/again         answer the last turn anew; the old answer stays beside it
/back          take the last turn back; it stays in the tree
/new           a fresh conversation
/quit          end"""


class Talk:
    """One conversation in the terminal."""

    def __init__(
        self, models: "Models", session: "conversations.Session", voice: "SpeakerVoice", place: str | None = None
    ) -> None:
        self.models, self.session, self.voice, self.place = models, session, voice, place

    def line(self, line: str) -> None:
        """Do a command, or answer."""
        command, _, rest = line.partition(" ")
        if command in ("/plain", "/prompted", "/again", "/back") and self.session.asked() is None:
            typer.echo("say something first")
        elif command in ("/plain", "/prompted"):
            if other := self.other(command):
                self.answer(other)
        elif command == "/again":
            self.answer(None)
        elif command == "/back":
            self.session.back()
            typer.echo(f"back {self.stands()}")
        elif command == "/strength":
            self.strength(rest)
        elif command == "/new":
            self.leave()
            self.session = type(self.session)(self.session.store, self.voice, self.session.seed)
        elif command.startswith("/"):
            typer.echo(HELP)
        else:
            if (path := self.session.path()) and path[-1].role == "user":  # unanswered, from an earlier talk
                self.session.back()
            self.session.say(line)
            answered = False
            try:
                answered = self.answer(None)
            finally:
                if not answered:  # so that the next turn does not follow one without an answer
                    self.session.back()

    def leave(self) -> None:
        """Say where the conversation is kept, if anything was said and it is."""
        if self.session.conversation and self.place is not None:
            typer.echo(f"kept: charactery conversations show {self.session.conversation[:8]}{self.place}", err=True)

    def stands(self) -> str:
        """Where the talk is, for people."""
        path = self.session.path()
        return f"after {path[-1].role}: {shorten(path[-1].text, 60)}" if path else "at the beginning"

    def other(self, command: str) -> "SpeakerVoice | None":
        """The same base plainly, or with the character in its prompt."""
        from charactery.models.subject import prompted, untrained

        mine = self.voice.speaker.subject
        other = prompted(mine) if command == "/prompted" else untrained(mine)
        if other is None:
            typer.echo("no character is known here; start with MODEL+CHARACTER or a run")
            return None
        return self.spoken(other)

    def spoken(self, subject: "Subject") -> "SpeakerVoice":
        """A Subject's voice."""
        return type(self.voice)(self.models.speaker(subject), self.voice.how)

    def strength(self, text: str) -> None:
        """Apply the adapter more or less strongly."""
        from charactery.models.subject import STRONGEST

        mine = self.voice.speaker.subject
        if mine.adapter is None:
            typer.echo("there is no adapter here; /strength is for runs")
            return
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not abs(value) <= STRONGEST:  # nor what is no number
            typer.echo(f"give a number up to {STRONGEST}: 0 is the plain model, 1 as trained, above 1 beyond")
            return
        named = re.sub(r"@-?[\d.]+$", "", mine.text)
        self.voice = self.spoken(replace(mine, text=f"{named}@{value:g}", strength=value))
        self.session.voice = self.voice
        typer.echo(f"strength {value:g}")

    def answer(self, other: "SpeakerVoice | None") -> bool:
        """Stream an answer to the terminal; Ctrl-C cuts it short and keeps what was said. Whether there is any."""
        shown = False

        def show(text: str) -> None:
            nonlocal shown
            shown = True
            print(text, end="", flush=True)

        nodes = self.session.again(on_text=show, voice=other)
        if nodes and not shown:
            print(nodes[0].text, end="")
        print()
        return bool(nodes)
