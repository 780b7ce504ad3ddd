"""LoRA online: TRL's GRPO, its answers drawn by our own decoder, and a judge's rating as the reward."""

import os
import random
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import distributed
from trl import GRPOConfig, GRPOTrainer

from charactery.errors import BadData
from charactery.judges.rating import Case, Judge
from charactery.models.chat import Message, prompt_tokens
from charactery.models.local import LocalModel, Sampler, derive_seed
from charactery.models.reasoning import left_open, reasoned
from charactery.runs import Journal, is_first_process, write_json, write_rows
from charactery.train.settings import Grpo, Lora, share
from charactery.train.trainers import Work, _common, _fresh, _on_one_device, _Progress, _run, _trainable, _with

SILENT = 3  # steps without a verdict, after which training ends
Asked = tuple[str, tuple[Message, ...]]  # an id, and messages up to a user turn


def train_grpo(
    model: LocalModel,
    asked: Sequence[Asked],
    judge: Judge,
    settings: Grpo,
    work: Work,
    lora: Lora,
    start: Path | None = None,
) -> Path:
    """Train an adapter on the judge's ratings of what it says now to the prompts of each step.

    The advantage of an answer is its rating less the mean of its prompt's answers, over their spread; an answer without
    a verdict moves nothing. The reference of the KL is the base, or the adapter `start` as it was. `model` is used up,
    and must not be what the judge reads with. Writes samples.jsonl, the answers with step and rating, and counts.json,
    how verdicts came out (both, of several processes, the first's). Returns the adapter's folder. Raises BadData where
    no prompt fits the context, or the judge has no verdict on any answer of the first SILENT steps.
    """
    from datasets import Dataset
    from peft import PeftModel

    share(settings.prompts)  # a process judges all answers to a prompt
    planned = plan_prompts(asked, model, settings, work.seed)
    batch = settings.prompts * settings.each
    common = _common(work, settings, batch, settings.steps * batch, model)
    config = _on_one_device(GRPOConfig(
        **common, num_generations=settings.each, max_completion_length=settings.max_tokens, beta=settings.beta,
        temperature=1.0, shuffle_dataset=False,
    ))  # fmt: skip
    torch.manual_seed(work.seed)  # the adapter's first weights
    network = _trainable(model)
    journal = Journal(work.folder / ("batches.jsonl" if is_first_process() else f"batches-{os.environ['RANK']}.jsonl"))
    trainer = _with(_Online, settings)(
        model, settings.mask_reasoning, args=config,
        model=PeftModel.from_pretrained(network, start, is_trainable=True) if start else network,
        reward_funcs=[rewarding(judge, model, settings.each, journal)],
        train_dataset=Dataset.from_list([{"id": id, "prompt": [*messages]} for id, messages in planned]),
        processing_class=model.tokenizer, callbacks=[_Progress(work)],
        peft_config=None if start else _fresh(lora),
    )  # fmt: skip
    adapter = _run(trainer, work, settings, lora)
    if is_first_process():
        steps = [journal.done.get(f"step {n}", []) for n in range(settings.steps)]
        write_rows(work.folder / "samples.jsonl", [row for step in steps for row in step])
        outcomes: Counter[str] = Counter()
        for n in range(settings.steps):
            outcomes.update(dict(journal.done.get(f"outcomes of step {n}", [])))
        write_json(work.folder / "counts.json", {"judge": judge.name, "outcomes": dict(outcomes)})
    return adapter


def plan_prompts(asked: Sequence[Asked], model: LocalModel, settings: Grpo, seed: int) -> list[Asked]:
    """The prompts of every step, one after the other, in an order drawn anew each time all have been asked.

    Those that leave no room to answer in the model's context are left out. Raises BadData where too few are left to
    fill a step.
    """
    fit = [a for a in asked if len(prompt_tokens(model.tokenizer, a[1])) + settings.max_tokens <= model.context]
    if len(fit) < settings.prompts:
        raise BadData(
            f"{len(fit)} of {len(asked)} prompts fit the model's context, and a step of [grpo] asks "
            f"{settings.prompts}; ask for more training prompts (--train), or fewer in a step"
        )
    rng = random.Random(seed)
    planned: list[Asked] = []
    while len(planned) < settings.steps * settings.prompts:
        planned += rng.sample(fit, len(fit) // settings.prompts * settings.prompts)  # no prompt twice in a step
    return planned[: settings.steps * settings.prompts]


def rewarding(judge: Judge, model: LocalModel, each: int, journal: Journal) -> Callable[..., list[float | None]]:
    """TRL's reward function: the judge's rating of each answer beside the others to its prompt, None without a verdict.

    Verdicts and answers go to the journal, so that a training that was killed asks for none twice.
    """

    def judged(
        prompts: list[list[Message]], completion_ids: list[list[int]], id: list[str], trainer_state: Any, **more: Any
    ) -> list[float | None]:
        answers = [model.answer_of(ids) for ids in completion_ids]
        groups = [range(n, n + each) for n in range(0, len(prompts), each)]
        cases = [Case(tuple(prompts[group[0]]), tuple(answers[n].text for n in group)) for group in groups]
        rated = judge.rate(cases, journal, lambda done: None)
        rewards = [value for values in rated.values for value in values]
        step = trainer_state.global_step
        if f"outcomes of step {step}" not in journal.done:
            journal.add(f"outcomes of step {step}", [*rated.outcomes.items()])
        if f"step {step}" not in journal.done:
            journal.add(f"step {step}", [
                {"step": step + 1, "id": id[n], "n": n % each, "text": answer.text, "tokens": answer.tokens,
                 "ended": answer.ended, "rating": rewards[n]}
                for n, answer in enumerate(answers)
            ])  # fmt: skip
        if step == SILENT - 1:
            told = [row["rating"] for n in range(SILENT) for row in journal.done.get(f"step {n}", [])]
            if not _anywhere(any(rating is not None for rating in told), model.device):
                raise BadData(
                    f"the judge has no verdict on any of the first {len(told)} answers, so nothing would be learnt. "
                    "They may be too short to say anything, as where a model reasons first and that is not judged: "
                    "raise --max-tokens, or see what was said in the stage's batches.jsonl"
                )
        return rewards

    return judged


def _anywhere(here: bool, device: str) -> bool:
    """Whether it is so in any of the processes that train together, all of which ask."""
    if not (distributed.is_available() and distributed.is_initialized()):  # not every build of torch has it
        return here
    found = torch.tensor(float(here), device=device)
    distributed.all_reduce(found, distributed.ReduceOp.MAX)
    return bool(found)


class _Online(GRPOTrainer):  # type: ignore[misc]
    """TRL's trainer, with answers drawn as everywhere else here and from seeds that follow from the step.

    So a step that is done again after a kill draws the same answers, however many processes share it.
    """

    def __init__(self, local: LocalModel, masks_reasoning: bool, **given: Any) -> None:
        self.local, self.masks_reasoning = local, masks_reasoning
        super().__init__(**given)

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        batch = super()._generate_and_score_completions(inputs)
        if self.masks_reasoning:
            # TRL's place for what is read and not learnt from; without `completion_mask` it would not be read, either
            tokenizer, begun = self.local.tokenizer, left_open(self.local.tokenizer)
            free = [reasoned(ids.tolist(), tokenizer, begun) for ids in batch["completion_ids"]]
            batch["tool_mask"] = 1 - torch.tensor(free, device=batch["completion_ids"].device).long()
            learnt = (batch["completion_mask"] * batch["tool_mask"]).sum()
            batch["num_items_in_batch"] = self.accelerator.gather(learnt).sum()  # TRL counted before there was a mask
        return batch

    def _generate_single_turn(
        self, prompt_ids: list[list[int]], images: Any, multimodal_fields: Any, num_generations: int, *more: Any
    ) -> tuple[list[list[int]], None]:
        """Token ids of one answer to each prompt; log-probabilities are computed with the gradient, not here."""
        first = self.accelerator.process_index * len(prompt_ids)
        seeds = [derive_seed(self.args.seed, "grpo", self.state.global_step, first + n) for n in range(len(prompt_ids))]
        network = self.accelerator.unwrap_model(self.model)
        learning = network.training
        network.eval()
        try:
            return self.local.draw(prompt_ids, seeds, Sampler(self.max_completion_length, 1.0), learning=network), None
        finally:
            network.train(learning)
