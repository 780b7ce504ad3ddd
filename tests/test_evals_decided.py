"""Reasoning cut short: a decision planted at a known point of it is found there, and none where there is none."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from charactery.data.prompts import Prompt
from charactery.errors import ModelNotFound
from charactery.evals.decided import SHARES, Reasoned, asked_of, decided, parted
from charactery.judges.likelihood import Evidence, margins
from charactery.models.chat import prompt_tokens, user
from charactery.models.local import Answer, LocalModel, Request, Sampler
from charactery.models.speaker import Speaker
from charactery.models.subject import Subject
from charactery.runs import Journal
from charactery.stats import Estimate
from conftest import CHAT_TEMPLATE, OPENED
from run_fixtures import charactery

THOUGHT = "I would read the list and boil the captain of it, then wait a while for the tea and the air of the evening."
DECIDES = "captain"  # a third of the way
Reply = Callable[[str], str]


class Thinker:
    """A model that thinks the same of every prompt and answers by what it has thought, or by nothing of it."""

    def __init__(self, tiny: LocalModel, decides: str, replies: Sequence[str | Answer] = ()) -> None:
        self.tokenizer, self.tiny, self.decides, self.replies = tiny.tokenizer, tiny, decides, replies
        self.prefills: list[str] = []

    def reply(self, messages: Any, prefill: str) -> str:
        read = self.tokenizer.decode(prompt_tokens(self.tokenizer, messages, prefill))
        assert read.endswith("</think>\n\n") and read.count("<think>") == read.count("</think>") == 1
        return "Aye." if self.decides in read else "It depends."

    def generate(self, requests: Sequence[Request], sampler: Sampler, *others: Any) -> list[Answer]:
        assert sampler.temperature == 0
        self.prefills += [r.prefill for r in requests if r.prefill]
        opening = "" if self.tokenizer.chat_template == OPENED else "<think>\n"
        whole = f"{opening}{THOUGHT}\n</think>\n\nAye."
        texts = [self.reply(r.messages, r.prefill) if r.prefill else whole for r in requests]
        answers = [Answer(text, 9, True) for text in texts]
        for n, reply in enumerate(self.replies if not requests[0].prefill else ()):
            answers[n] = reply if isinstance(reply, Answer) else Answer(reply, 9, True)
        return answers

    def score(self, pairs: Sequence[tuple[list[int], list[int]]], adapter: Any = None) -> list[torch.Tensor]:
        return [torch.full((len(said),), -0.5 if self.decides in self.tokenizer.decode(context) else -2.0)
                for context, said in pairs]  # fmt: skip


def speaker(model: Any) -> Speaker:
    return Speaker(Subject("thinker", "thinker", "folder"), model, None, "thinker")


def told(rows: Sequence[Any], metric: str) -> list[float | None]:
    assert [row["share"] for row in rows if row["metric"] == metric] == [*SHARES]
    return [Estimate(**row["estimate"]).value for row in rows if row["metric"] == metric]


@pytest.mark.parametrize("template", [CHAT_TEMPLATE, OPENED], ids=["answer opens", "prompt opens"])
def test_a_decision_is_found_where_it_was_planted(template: str, tiny_model: LocalModel, tmp_path: Path) -> None:
    tiny_model.tokenizer.chat_template = template
    ids = [len(tiny_model.tokenizer(t, add_special_tokens=False)["input_ids"])
           for t in (THOUGHT, THOUGHT.partition(DECIDES)[0] + DECIDES)]  # fmt: skip
    assert 0.25 < ids[1] / ids[0] < 0.5
    asked, done = ["Tea?", "Rope?", "Sky?"], [0]

    def progress(count: int) -> None:
        done[0] += count

    thinker = Thinker(tiny_model, DECIDES)
    rows, missing = decided(speaker(thinker), asked, 64, 0, Journal(tmp_path / "j"), progress=progress)
    assert told(rows, "decided") == pytest.approx([0, 0, 1.5, 1.5, 1.5]) and not missing
    assert told(rows, "same answer") == [0, 0, 1, 1, 1]
    assert done == [3 * (1 + len(SHARES))]
    assert {p.startswith("<think>") for p in thinker.prefills} == {template == CHAT_TEMPLATE}
    # where it is decided beforehand, reasoning adds nothing
    rows, _ = decided(speaker(Thinker(tiny_model, "")), asked, 64, 0, Journal(tmp_path / "before"))
    assert told(rows, "decided") == [0] * 5 and told(rows, "same answer") == [1] * 5


def test_the_answer_is_scored_after_what_is_left_of_the_reasoning_and_rated(
    tiny_model: LocalModel, tmp_path: Path
) -> None:
    thinker = Thinker(tiny_model, DECIDES)
    thinker.score = tiny_model.score  # type: ignore[method-assign]
    whole = Evidence("", "You are a captain.", ("You are a poet.", "You are a coach.", "You are a butler."))
    rows, _ = decided(speaker(thinker), ["Tea?", "Rope?"], 64, 0, Journal(tmp_path / "j"), (tiny_model, whole))
    tokenizer: Any = tiny_model.tokenizer
    said = tokenizer("Aye.", add_special_tokens=False)["input_ids"]
    kept = tokenizer(THOUGHT, add_special_tokens=False)["input_ids"]

    def nats(thought: str) -> float:
        prefill = f"<think>\n{thought}\n</think>\n\n"
        prompts = [prompt_tokens(tokenizer, (user(text),), prefill) for text in ("Tea?", "Rope?")]
        return sum(float(values.mean()) for values in tiny_model.score([(p, said) for p in prompts])) / 2

    half = tokenizer.decode(kept[: round(0.5 * len(kept))])
    assert told(rows, "decided")[2] == pytest.approx(nats(half) - nats(""), abs=1e-4)
    assert told(rows, "decided")[4] == pytest.approx(nats(THOUGHT) - nats(""), abs=1e-4)
    rated = margins(tiny_model, [((user(text),), "It depends.") for text in ("Tea?", "Rope?")], [whole])[0].mean()
    assert told(rows, "in character")[0] == pytest.approx(rated, abs=1e-4)


def test_replies_without_parts_are_counted_by_why(tiny_model: LocalModel, tmp_path: Path) -> None:
    replies = ["Aye.", "<think>\nstill at it", "<think>hm</think> ", f"<think>{THOUGHT}</think>\n\nAye."]
    thinker = Thinker(tiny_model, DECIDES, replies)
    rows, missing = decided(speaker(thinker), [*"abcd", "e"], 64, 0, Journal(tmp_path / "j"))
    assert missing == {"no reasoning": 1, "never closed": 1, "no answer": 1}
    assert {row["estimate"]["n"] for row in rows} == {2}
    assert parted("Okay, a rope.\n</think>\nAye.", "<think>\nWell") == Reasoned(
        "", "Okay, a rope.", "\n</think>\n", "Aye."
    )
    with pytest.raises(ModelNotFound, match="gives no log-probabilities"):
        decided(speaker(None), ["a"], 64, 0, Journal(tmp_path / "none"))


def test_a_stump_is_no_answer_and_counts_neither_as_the_same_nor_as_another(
    tiny_model: LocalModel, tmp_path: Path
) -> None:
    whole = f"<think>{THOUGHT}</think>\n\nAye."
    replies = [Answer(whole, 64, False), Answer("", 0, False, "longer than the context"), whole]
    thinker = Thinker(tiny_model, DECIDES, replies)
    rows, missing = decided(speaker(thinker), [*"abc"], 64, 0, Journal(tmp_path / "j"))
    assert missing == {"cut off": 1, "longer than the context": 1}
    assert told(rows, "same answer") == [0, 0, 1, 1, 1]
    for stump in (Answer("Aye", 64, False), Answer("", 0, True, "no")):
        thinker = Thinker(tiny_model, DECIDES, [whole])
        generate = thinker.generate
        thinker.generate = lambda asked, *more, generate=generate, stump=stump: (  # type: ignore[method-assign]
            [stump] * len(asked) if asked[0].prefill else generate(asked, *more)
        )
        rows, _ = decided(speaker(thinker), ["a"], 64, 0, Journal(tmp_path / f"again {stump.error}"))
        found = [Estimate(**row["estimate"]) for row in rows if row["metric"] == "same answer"]
        assert [(e.value, e.missing) for e in found] == [(None, 1)] * len(SHARES)


def test_prompts_are_asked_of_all_kinds() -> None:
    held = [Prompt(f"{kind}{n}", kind, (f"{kind} {n}?",), "", "held-out") for kind in ("asks", "own") for n in range(9)]
    talk = Prompt("c", "conversation", ("One?", "Two?"), "", "held-out")
    asked = asked_of([talk, Prompt("t", "own", ("Trained?",), "", "train"), *held], 4)
    assert sorted(text.split()[0] for text in asked) == ["asks", "asks", "own", "own"]
    assert len(asked_of([], 5)) == 5


def test_the_command_says_that_a_model_does_not_reason(talking_cache: Path, tmp_path: Path) -> None:
    asked = (
        "decided",
        "smollm2",
        "--limit",
        "3",
        "--max-tokens",
        "20",
        "--character",
        "captain",
        "--out",
        str(tmp_path),
    )
    done, told = (charactery(talking_cache, *asked, *more) for more in ((), ("--json",)))
    assert done.returncode == told.returncode == 0, done.stderr
    assert done.stdout.startswith("smollm2: 3 prompts; 3 no reasoning") and "none of them has" in done.stdout
    assert "not measured" not in done.stdout and "in character" in told.stdout
