"""The main command: train."""

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from charactery.cli import app
from charactery.cli.characters import Dials, Given, chosen
from charactery.errors import CharacteryError
from charactery.runs import is_first_process

if TYPE_CHECKING:
    from charactery.pipeline.order import Order


Number = partial(typer.Option, show_default="the recipe's")


HIGHEST_RANK = 256  # above it an adapter of these shapes is hardly smaller than the weights


def _rank(text: str) -> int:
    """An adapter's rank; 0 for `full`."""
    if text == "full":
        return 0
    if not text.isdecimal() or not 1 <= int(text) <= HIGHEST_RANK:
        raise typer.BadParameter(f"give a number from 1 to {HIGHEST_RANK}, or full for all weights and no adapter")
    return int(text)


@app.command()
def train(
    character: Given,
    out: Annotated[Path | None, typer.Option(help="The run's folder.", show_default="runs/CHARACTER")] = None,
    model: Annotated[str, typer.Option(help="The model to train: a name, folder, .gguf or hub id.")] = "smollm2",
    recipe: Annotated[
        str | None,
        typer.Option(
            help="How: a recipe's name (`charactery recipes`), or a .toml file.",
            show_default="distill+dpo, or person for a character with writings",
        ),
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(
            help="Who compares its own answers: likelihood, authorship, or a Subject.", show_default="the recipe's"
        ),
    ] = None,
    teacher: Annotated[
        str | None, typer.Option(help="Who writes the character's answers.", show_default="the model, prompted")
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="Your prompts, used before ours: JSON lines, or one a line.")
    ] = None,
    pairs: Annotated[Path | None, typer.Option(help="Your own pairs: JSON lines of prompt, chosen, rejected.")] = None,
    writings: Annotated[
        Path | None,
        typer.Option(help="A person's texts, to be learnt from.", show_default="the character's"),
    ] = None,
    others: Annotated[
        Path | None,
        typer.Option(help="Others' texts of that time, to tell the person from.", show_default="the character's"),
    ] = None,
    about: Annotated[
        Path | None,
        typer.Option(help="Texts about the person, learnt beside the person's own.", show_default="the character's"),
    ] = None,
    dial: Dials = None,
    profile: Annotated[str | None, typer.Option(help="One of the character's deployments.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Draws prompts, samples and batches.")] = 0,
    sham: Annotated[bool, typer.Option("--sham", help="Train a second adapter on plain answers, to compare.")] = False,
    train_: Annotated[int | None, Number("--train", min=24, help="Training prompts.")] = None,
    held_out: Annotated[int | None, Number(min=8, help="Held-out prompts.")] = None,
    talks: Annotated[int | None, Number(min=2, help="Held-out conversations.")] = None,
    elsewhere: Annotated[int | None, Number(min=0, help="Prompts where it should not show.")] = None,
    tasks: Annotated[int | None, Number(min=0, help="Training prompts that are to be answered plainly.")] = None,
    max_tokens: Annotated[int | None, Number(min=4, help="Longest answer, in GRPO too.")] = None,
    temperature: Annotated[float | None, Number(min=0, help="Temperature of answers in the evals.")] = None,
    draws: Annotated[int | None, Number(min=1, help="Drafts to a prompt, a teacher's too; one is picked.")] = None,
    draft_temperature: Annotated[float | None, Number(min=0, help="Temperature of the answers learnt from.")] = None,
    rank: Annotated[
        int | None,
        Number("--lora-rank", "--rank", parser=_rank, metavar="N|full", help="Rank of the adapter, or all weights."),
    ] = None,
    optimizer: Annotated[str | None, Number(help="Of training: adamw, muon, soap or shampoo.")] = None,
    sft_rate: Annotated[float | None, Number(help="Learning rate of SFT.")] = None,
    sft_epochs: Annotated[float | None, Number(help="Epochs of SFT.")] = None,
    dpo_rate: Annotated[float | None, Number(help="Learning rate of DPO.")] = None,
    dpo_epochs: Annotated[float | None, Number(help="Epochs of DPO.")] = None,
    dpo_beta: Annotated[float | None, Number(help="Beta of DPO.")] = None,
    loss: Annotated[str | None, Number(help="Of pairs: dpo, ipo, kto, or (experimental in TRL) orpo.")] = None,
    nll: Annotated[float | None, Number(min=0, help="Weight of the chosen answers' nats a token beside it.")] = None,
    kl: Annotated[float | None, Number(min=0, help="Weight of the divergence from what DPO began with.")] = None,
    stop_at_loss: Annotated[
        float | None,
        Number(min=0, help="Nats a token, on answers that nothing learns from, at which the first SFT stops."),
    ] = None,
    mask_reasoning: Annotated[
        bool, typer.Option("--mask-reasoning", help="Neither learn nor judge what stands in <think> marks.")
    ] = False,
    grpo_rate: Annotated[float | None, Number(help="Learning rate of GRPO.")] = None,
    grpo_steps: Annotated[int | None, Number(min=1, help="Steps of GRPO.")] = None,
    grpo_beta: Annotated[float | None, Number(help="Weight of the KL in GRPO.")] = None,
    best_of: Annotated[int | None, Number(min=1, help="Of how many answers best-of-n gives the best.")] = None,
    contrast: Annotated[int | None, Number(min=0, help="Pairs of character against plain that DPO gets too.")] = None,
    self_play: Annotated[
        int | None, Number(min=0, help="Pairs of an answer learnt from against its own, at most.")
    ] = None,
    self_play_temperature: Annotated[float | None, Number(min=0, help="Temperature of its own answers.")] = None,
    data_order: Annotated[
        str | None, Number("--order", help="Of training: grouped, shuffled, given, reversed or by:FIELD of the rows.")
    ] = None,
    match_lengths: Annotated[bool, typer.Option("--match-lengths", help="Pairs of like length only.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, mps or cuda.")] = "auto",
    report_to: Annotated[str, typer.Option(help="TRL's loggers: none, tensorboard, wandb, …")] = "none",
    reuse: Annotated[
        list[Path] | None,
        typer.Option(help="A run whose stages and answers are taken where they would be the same; may be repeated."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would take, and stop.")] = False,
) -> None:
    """Train a model into a character and report whether it took.

    Killed at any moment, the same command goes on from there.

    \b
    Examples:
      charactery train captain
      charactery train mine.md --out runs/mine --seed 1 --sham
      charactery train captain --recipe rlaif --out runs/captain-rlaif --reuse runs/captain
      charactery train captain --lora-rank full --optimizer muon --out runs/captain-full
      charactery train lincoln --writings lincoln.jsonl --others presidents/
      charactery train captain --model HuggingFaceTB/SmolLM2-135M-Instruct --out runs/captain-hub
    """
    from charactery.pipeline.distil import train as run_training
    from charactery.pipeline.order import Order
    from charactery.pipeline.recipe import DEFAULT, PERSON, find_recipe, with_options
    from charactery.pipeline.watch import Watch

    who = chosen(character, dial, profile)
    for option, value in (("--tasks", tasks), ("--contrast", contrast), ("--draws", draws)):
        if pairs and value:
            raise CharacteryError(
                f"{option} is of drafts, and with --pairs nothing is learnt from drafts; leave it out"
            )
    both = {"order": data_order, "optimizer": optimizer, "mask_reasoning": mask_reasoning or None}
    chosen_recipe = with_options(find_recipe(recipe or (PERSON if writings or who.writings else DEFAULT)), {
        "sizes": {"train": train_, "held_out": held_out, "held_out_conversations": talks, "elsewhere": elsewhere,
                  "tasks": tasks},
        "sampler": {"max_tokens": max_tokens, "temperature": temperature},
        "lora": {"rank": rank},
        "sft": {"learning_rate": sft_rate, "epochs": sft_epochs, "stop_at_loss": stop_at_loss, **both},
        "dpo": {"learning_rate": dpo_rate, "epochs": dpo_epochs, "beta": dpo_beta, "loss": loss, "nll": nll, "kl": kl,
                **both},
        "grpo": {"learning_rate": grpo_rate, "steps": grpo_steps, "beta": grpo_beta, **both, "order": None},
        "best_of": {"n": best_of},
        "draft_temperature": draft_temperature, "draws": draws, "contrast": contrast, "self_play": self_play,
        "self_play_temperature": self_play_temperature, "match_lengths": match_lengths or None, "judge": judge,
    })  # fmt: skip
    order = Order(
        who, out or Path("runs") / who.id, model, teacher, prompts, pairs, seed, sham, chosen_recipe, device, report_to,
        writings, others, about, tuple(reuse or ()), ("charactery", *sys.argv[1:]),
    )  # fmt: skip
    if not is_first_process():  # of several; it helps in silence
        if not dry_run:
            run_training(order, Watch())
        return
    if dry_run:
        _dry_run(order)
        return
    from charactery.cli.show import progress

    with progress() as bars:
        run = run_training(order, Watch(bars.say, bars.start, bars.advance))
    _summary(run.folder)


def _dry_run(order: "Order") -> None:
    from charactery.pipeline.plan import foresee

    for line in foresee(order).lines():
        typer.echo(line)
    if (order.out / "manifest.json").exists():
        typer.echo(f"  {order.out} is a run already: the same settings go on with it, and others are refused")


def _summary(folder: Path) -> None:
    """The verdicts, and where to look next."""
    import json

    from charactery.runs import read_run

    verdicts = json.loads((read_run(folder).stage_folder("evaluate") / "verdicts.json").read_text())
    for verdict in verdicts:
        mark = {True: "held", False: "missed", None: "not measured"}[verdict["held"]]
        typer.echo(f"{mark:>12}  {verdict['name']}: {verdict['said']}")
    typer.echo(f"\nreport: {folder / 'report.html'}\ntalk:   charactery chat {folder}")
