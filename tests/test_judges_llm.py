"""The LLM judge: both orders, by probabilities or by what it says, and nothing lost."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from inspect_ai.model import GenerateConfig, Logprob, Logprobs, ModelOutput, TopLogprob, get_model
from tenacity import wait_none

from charactery.constitution import Character, Section, Trait, find_character
from charactery.errors import ModelNotFound
from charactery.judges import llm
from charactery.judges.llm import Comparison, LlmJudge, Verdict, counts, said
from charactery.models import api
from charactery.models.chat import BASE_TEMPLATE, assistant, prompt_tokens, system, user
from charactery.models.local import Answer, LocalModel, Request, Sampler
from charactery.models.speaker import Models, Speaker
from charactery.models.subject import Subject
from charactery.runs import Journal, digest
from comparing import Reader, shown

CAPTAIN = find_character("captain")
ASKED = (user("How do I sleep better?"),)
COMPARED = [
    Comparison(ASKED, "Aye, turn in with the watch.", "Keep regular hours."),
    Comparison(ASKED, "Keep regular hours.", "Aye, douse the lamp."),
    Comparison(ASKED, "Keep hours.", "Drink less coffee."),
]


def judge(model: Any) -> LlmJudge:
    return LlmJudge(Speaker(Subject("judge", "judge", "folder"), model, None, "judge"), CAPTAIN)


def test_it_reads_the_letters_of_a_real_model_in_both_orders(
    tiny_model: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = Character("Ann", "You are Ann.", (Section("Voice", traits=(Trait("Terse", "Says little."),)),))
    held = LlmJudge(Speaker(Subject("tiny", "tiny", "folder"), tiny_model, None, "tiny"), short)
    question = held.question(COMPARED[0])
    assert shown(question[1]["content"]) == (COMPARED[0].first, COMPARED[0].second)
    assert "Rubric" in question[0]["content"] and "Ann" in question[1]["content"]
    prompt = prompt_tokens(tiny_model.tokenizer, question)
    letters = [tiny_model.tokenizer(x, add_special_tokens=False)["input_ids"] for x in "ABC"]
    expected = [float(s.sum().exp()) for s in tiny_model.score([(prompt, x) for x in letters])]
    monkeypatch.setattr(llm, "MASS", 0.0)
    [read] = held._letters([question])
    assert read
    if expected[2] >= max(expected[:2]):
        assert read == ("tie", None)
    else:
        assert read[1] == pytest.approx(expected[0] / sum(expected[:2]), rel=1e-3)
    monkeypatch.setattr(llm, "MASS", sum(expected) * 1.01)
    assert held._letters([question]) == [None]


def test_the_mean_verdict_does_not_change_with_the_order(tiny_model: LocalModel, tmp_path: Path) -> None:
    held = judge(Reader(tiny_model, lean=0.7))
    verdicts = held.compare(COMPARED, Journal(tmp_path / "a"))
    assert [v.outcome for v in verdicts] == ["first", "second", "order"]
    swapped = held.compare([Comparison(c.messages, c.second, c.first) for c in COMPARED], Journal(tmp_path / "b"))
    for one, other in zip(verdicts, swapped, strict=True):
        assert (one.probability is None) == (other.probability is None)
        if one.probability is not None and other.probability is not None:
            assert one.probability == pytest.approx(1 - other.probability)
    assert verdicts[0].probability != pytest.approx(torch.tensor(2.7).sigmoid().item(), abs=0.01)  # not one order's


def test_a_lean_beyond_what_it_sees_is_a_disagreement_and_no_verdict(tiny_model: LocalModel, tmp_path: Path) -> None:
    verdicts = judge(Reader(tiny_model, lean=5.0)).compare(COMPARED, Journal(tmp_path / "j"))
    assert [v.outcome for v in verdicts] == ["order"] * 3
    assert all(v.probability is None and v.orders == ("first", "second") for v in verdicts)
    assert counts(verdicts) == {"first": 0, "second": 0, "tie": 0, "refusal": 0, "unparsed": 0, "order": 3}


def test_without_a_lean_what_is_alike_is_a_tie(tiny_model: LocalModel, tmp_path: Path) -> None:
    verdicts = judge(Reader(tiny_model)).compare(COMPARED, Journal(tmp_path / "j"))
    assert verdicts[2].outcome == "tie" and verdicts[2].probability is None


def spoken(text: Callable[[str, int], str], tiny: LocalModel, tmp_path: Path) -> tuple[list[Any], Reader]:
    """Verdicts of a model that gives no letter a chance at once, and says this."""
    reader = Reader(tiny, mass=0.01, reply=text)
    return judge(reader).compare(COMPARED, Journal(tmp_path / "j")), reader


def test_where_letters_are_unlikely_it_is_asked_to_speak(tiny_model: LocalModel, tmp_path: Path) -> None:
    def says(question: str, n: int) -> str:
        first, second = shown(question)
        return "A." if "Aye" in first else "The answer is B" if "Aye" in second else "C"

    verdicts, reader = spoken(says, tiny_model, tmp_path)
    assert [v.outcome for v in verdicts] == ["first", "second", "tie"]
    assert [v.probability for v in verdicts] == [1.0, 0.0, None]
    assert len(reader.asked) == 6


def test_what_cannot_be_read_is_asked_again_and_then_kept_as_unread(tiny_model: LocalModel, tmp_path: Path) -> None:
    verdicts, reader = spoken(lambda question, n: "Well, both have charm.", tiny_model, tmp_path)
    assert [v.outcome for v in verdicts] == ["unparsed"] * 3 and len(reader.asked) == 3 * 6
    again, reader = spoken(lambda q, n: "Hm." if n <= 6 else "B", tiny_model, tmp_path / "again")
    assert counts(again)["order"] == 3 and len(reader.asked) == 2 * 6
    refused, _ = spoken(lambda q, n: "I cannot choose between people.", tiny_model, tmp_path / "refused")
    assert counts(refused) == {"first": 0, "second": 0, "tie": 0, "refusal": 3, "unparsed": 0, "order": 0}


# -- a model behind an API

Outputs = Callable[[str, GenerateConfig], ModelOutput]


@pytest.fixture
def behind(monkeypatch: pytest.MonkeyPatch) -> Callable[[Outputs], tuple[LlmJudge, list[GenerateConfig]]]:
    """A judge that Inspect's mock answers for, by question and config, and the configs it was asked with."""

    async def count(self: object, text: str) -> int:  # Inspect's own count would fetch a vocabulary
        return len(text.split())

    monkeypatch.setattr("inspect_ai.model._model.ModelAPI.count_text_tokens", count)

    def made(answer: Outputs) -> tuple[LlmJudge, list[GenerateConfig]]:
        asked: list[GenerateConfig] = []

        def outputs(input: Any, tools: Any, choice: Any, config: GenerateConfig) -> ModelOutput:
            asked.append(config)
            return answer(input[-1].text, config)

        mock = get_model("mockllm/judge", custom_outputs=outputs, memoize=False)
        monkeypatch.setattr("charactery.models.api.get_model", lambda name: mock)
        monkeypatch.setattr("charactery.models.api._gives", {})
        monkeypatch.setattr("charactery.models.api._answered", set())
        return LlmJudge(Models("cpu").speaker("mockllm/judge"), CAPTAIN), asked

    return made


def says(text: str) -> ModelOutput:
    return ModelOutput.from_content("mockllm/judge", text)


def likely(text: str, *tokens: dict[str, float]) -> ModelOutput:
    """A reply with the probabilities of what could have stood at each of its places."""
    output = says(text)
    output.choices[0].logprobs = Logprobs(content=[
        Logprob(token=next(iter(of)), logprob=0.0,
                top_logprobs=[TopLogprob(token=t, logprob=math.log(p)) for t, p in of.items()])
        for of in tokens
    ])  # fmt: skip
    return output


def letters_of(question: str) -> dict[str, float]:
    first, second = ("Aye" in text for text in shown(question))
    if not first and not second:
        return {"C": 0.5, "A": 0.2, " B": 0.1}
    return {"A": 0.6, " A": 0.1, "B": 0.2, "Hm": 0.1} if first else {"B": 0.8, "A": 0.1, " A": 0.05, "\nB": 0.01}


def test_over_an_api_the_verdict_is_read_from_the_first_words_probabilities(behind: Any, tmp_path: Path) -> None:
    # the letter it says is not the one it finds likeliest, so what is read is told apart
    held, asked = behind(lambda question, config: likely("C", {"\n": 1.0}, letters_of(question), {"A": 0.1, "B": 0.9}))
    verdicts = held.compare(COMPARED, Journal(tmp_path / "j"))
    assert [v.outcome for v in verdicts] == ["first", "second", "tie"]
    first, second = 0.7 / 0.9, 0.15 / 0.96  # the first answer shown first, and shown second
    assert verdicts[0].probability == pytest.approx((first + 1 - second) / 2)
    assert verdicts[1].probability == pytest.approx((second + 1 - first) / 2)
    assert len(asked) == 6 and all(c.logprobs and c.top_logprobs and c.temperature == 0 for c in asked)
    again, unasked = behind(lambda *_: says("C"))
    assert again.compare(COMPARED, Journal(tmp_path / "j")) == verdicts and not unasked


@pytest.mark.parametrize("refuses", [False, True], ids=["gives none", "refuses to"])
def test_over_an_api_without_probabilities_the_verdict_is_read_from_the_reply(
    refuses: bool, behind: Any, tmp_path: Path
) -> None:
    def answers(question: str, config: GenerateConfig) -> ModelOutput:
        if refuses and config.logprobs:
            raise ValueError("this model has no logprobs")
        return says("A" if "Aye" in shown(question)[0] else "B")

    held, asked = behind(answers)
    verdicts = held.compare(COMPARED[:2], Journal(tmp_path / "j"))
    assert [(v.outcome, v.probability) for v in verdicts] == [("first", 1.0), ("second", 0.0)]
    assert [bool(c.logprobs) for c in asked] == ([True] + [False] * 4 if refuses else [True] * 4)
    held.compare(COMPARED[2:], Journal(tmp_path / "j"))
    assert [bool(c.logprobs) for c in asked[-2:]] == [not refuses] * 2 and len(asked) >= 6


class Status(Exception):
    """As a service's package raises it."""

    def __init__(self, status_code: int) -> None:
        super().__init__(f"status {status_code}")
        self.status_code = status_code


@pytest.mark.parametrize("status", [400, 404, 422, 501])
def test_what_a_service_refuses_it_is_asked_without(status: int, behind: Any, tmp_path: Path) -> None:
    def answers(question: str, config: GenerateConfig) -> ModelOutput:
        if config.logprobs:
            raise Status(status)
        return says("A" if "Aye" in shown(question)[0] else "B")

    held, asked = behind(answers)
    assert [v.outcome for v in held.compare(COMPARED[:2], Journal(tmp_path / "j"))] == ["first", "second"]
    assert len(asked) == 5


@pytest.mark.parametrize("status", [401, 403, 413])
def test_what_else_is_wrong_is_not_asked_again(status: int, behind: Any, tmp_path: Path) -> None:
    def answers(question: str, config: GenerateConfig) -> ModelOutput:
        raise Status(status)

    held, asked = behind(answers)
    with pytest.raises(ModelNotFound, match=f"status {status}"):
        held.compare(COMPARED[:2], Journal(tmp_path / "j"))
    assert len(asked) == (4 if status == 413 else 1) and all(c.logprobs for c in asked)


def test_a_question_that_is_refused_costs_its_own_verdict_and_is_not_asked_again(behind: Any, tmp_path: Path) -> None:
    def answers(question: str, config: GenerateConfig) -> ModelOutput:
        if "Drink less coffee." in question:
            raise Status(400)
        return says("A" if "Aye" in shown(question)[0] else "B")

    held, asked = behind(answers)
    verdicts = held.compare(COMPARED, Journal(tmp_path / "j"))
    assert [v.outcome for v in verdicts] == ["first", "second", "refusal"] and verdicts[2].probability is None
    assert sum("Drink" in str(c) for c in asked) == 0 and len(asked) <= 8
    (tmp_path / "j").write_text(
        (tmp_path / "j").read_text().splitlines(keepends=True)[0]
    )  # stopped after the first pass
    again, asked = behind(answers)
    assert again.compare(COMPARED, Journal(tmp_path / "j")) == verdicts and not asked


def test_a_service_that_breaks_at_log_probabilities_is_asked_without_until_it_has_given_some(
    behind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("charactery.models.api.RETRIES", 1)
    breaks = [True]

    def answers(question: str, config: GenerateConfig) -> ModelOutput:
        if config.logprobs and breaks[0]:
            raise Status(500)
        return likely("A", letters_of(question)) if config.logprobs else says("A")

    def made() -> tuple[LlmJudge, list[GenerateConfig]]:
        held, asked = behind(answers)
        service = api.get_model("mockllm/judge").api
        monkeypatch.setattr(service, "should_retry", lambda error: getattr(error, "status_code", 0) == 500)
        monkeypatch.setattr(service, "retry_wait", wait_none)
        return held, asked

    held, asked = made()
    held.compare(COMPARED[:1], Journal(tmp_path / "broken"))
    assert [bool(c.logprobs) for c in asked] == [True, True, False, False]
    breaks[0] = False
    held, asked = made()
    held.compare(COMPARED[:1], Journal(tmp_path / "j"))
    breaks[0] = True
    with pytest.raises(ModelNotFound, match="in 2 tries: status 500"):
        held.compare(COMPARED[1:2], Journal(tmp_path / "j"))
    assert all(c.logprobs for c in asked)


def test_verdicts_of_replies_alone_are_not_those_of_probabilities(behind: Any, tmp_path: Path) -> None:
    held, asked = behind(lambda question, config: likely("C", letters_of(question)))
    journal = Journal(tmp_path / "j")
    before = digest(["llm judge", held.speaker.identity, held.instructions, 0, [asdict(c) for c in COMPARED[:1]]])
    journal.add(before, [asdict(Verdict("second", 0.0, ("second", "second")))])
    assert [v.outcome for v in held.compare(COMPARED[:1], journal)] == ["first"] and asked


def test_a_judge_that_reasons_first_has_room_for_it(tiny_model: LocalModel, tmp_path: Path) -> None:
    room = list[int]()

    class Thinker(Reader):
        def generate(self, requests: Sequence[Request], sampler: Sampler, *others: Any) -> list[Answer]:
            room.append(sampler.max_tokens)
            thought = "<think>\nOne of them sails. "
            told = thought + ("</think>A" if sampler.max_tokens > 1000 else "")
            return [Answer(told, 1, True) for _ in requests]

    verdicts = judge(Thinker(tiny_model, mass=0.01)).compare(COMPARED[:1], Journal(tmp_path / "j"))
    assert verdicts[0].orders == ("first", "second") and room == [llm.REPLY.max_tokens, llm.THINKING.max_tokens]
    short = Thinker(tiny_model, mass=0.01)
    short.context = 1500 + max(
        len(tiny_model.tokenizer(judge(short).question(c)[0]["content"])["input_ids"]) for c in COMPARED
    )
    judge(short).compare(COMPARED[:1], Journal(tmp_path / "short"))
    assert all(llm.AGAIN.max_tokens <= most < 1500 for most in room[3:]), "what the context leaves to the question"


def test_over_an_api_there_is_room_to_reason_where_no_letter_is_said(behind: Any, tmp_path: Path) -> None:
    def answers(question: str, config: GenerateConfig) -> ModelOutput:
        if (config.max_tokens or 0) < 1000:
            return ModelOutput.from_content("mockllm/judge", "", "max_tokens")
        return says("A" if "Aye" in shown(question)[0] else "B")

    held, asked = behind(answers)
    assert [v.outcome for v in held.compare(COMPARED[:2], Journal(tmp_path / "j"))] == ["first", "second"]
    assert len(asked) == 8 and (asked[0].max_tokens or 0) >= 16


def test_what_a_service_withholds_is_a_refusal(behind: Any, tmp_path: Path) -> None:
    held, asked = behind(lambda *_: ModelOutput.from_content("mockllm/judge", "A is not allowed", "content_filter"))
    assert [v.outcome for v in held.compare(COMPARED[:1], Journal(tmp_path / "j"))] == ["refusal"] and len(asked) == 2


def test_over_an_api_a_reply_without_a_letter_is_asked_for_again(behind: Any, tmp_path: Path) -> None:
    def answers(question: str, config: GenerateConfig) -> ModelOutput:
        if config.logprobs:
            return likely("Let me see.", {"Let": 0.97, "A": 0.02})  # too little on letters to go by
        return says("A" if "Aye" in shown(question)[0] else "B")

    held, asked = behind(answers)
    verdicts = held.compare(COMPARED[:2], Journal(tmp_path / "j"))
    assert [(v.outcome, v.probability) for v in verdicts] == [("first", 1.0), ("second", 0.0)]
    assert [bool(c.logprobs) for c in asked] == [True] * 4 + [False] * 4
    mute, asked = behind(lambda *_: says("Let me see."))
    assert counts(mute.compare(COMPARED[:1], Journal(tmp_path / "mute")))["unparsed"] == 1
    assert len(asked) == 2 * llm.TRIES


def test_finished_comparisons_are_not_asked_again(tiny_model: LocalModel, tmp_path: Path) -> None:
    path = tmp_path / "j"
    first = judge(Reader(tiny_model)).compare(COMPARED, Journal(path))
    broken = judge(SimpleNamespace(tokenizer=None))  # would fail at its first question
    assert broken.compare(COMPARED, Journal(path)) == first
    assert all(json.loads(line)["key"] for line in path.read_text().splitlines())


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        ("A", "first"), ("b", "second"), ("(B)", "second"), ("**C**", "tie"), ("Answer: A", "first"),
        ("Answer B.", "second"), ("A\nbecause it sails", "first"), ("The answer is B.", "second"),
        ("I would pick A.", "first"), ("A good answer names the sea.", "unparsed"), ("Certainly!", "unparsed"),
        ("", "unparsed"), ("I'm sorry, I can't help with that.", "refusal"),
        ("I prefer A. But it is B.", "unparsed"), ("Be that as it may", "unparsed"),
        ("A, B, or C", "unparsed"), ("A or B", "unparsed"), ("A, because B is stiff", "first"), ("A/B", "unparsed"),
        ("B. A is generic", "second"), ("A: B breaks a trait", "first"), ("B\n\nA is plain", "second"),
        ("C. A and B are alike", "tie"), ("A. A is warmer", "first"),
        ("<think>\nThe first one is A, and it says", "unparsed"), ("<think>It is A.</think>B", "second"),
        ("It is A. Or not?</think>\nB", "second"),
        ("Answer A is more in character.", "first"), ("I think A is better.", "first"), ("Option B.", "second"),
        ("More in character: A", "first"), ("A – it sails", "first"), ("The voice is right.\n\\boxed{B}", "second"),
        ("Answer B is clearly the better one", "second"), ("Neither A nor B is better.", "unparsed"),
        ("A is better written, but B is more in character.", "unparsed"), ("I don't think A is better.", "unparsed"),
        ("Is A or B is more in character?", "unparsed"), ("Answer A is less in character.", "unparsed"),
        ("More in character: A\nLess in character: B", "first"), ("Less in character: B", "unparsed"),
        ("The answer that breaks character: A", "unparsed"), ("More in character: Answer B.", "second"),
        ("Answer A is better written, but B fits the captain.", "unparsed"),
        ("A is closer to a plain assistant, while B speaks like a sailor.", "unparsed"),
        ("A is hardly better than B, which is all sea talk.", "unparsed"),
        ("It is hard to say that A is better.", "unparsed"), ("I would not pick A.", "unparsed"),
        ("Answer A - plain advice. Answer B - sea talk. So B.", "unparsed"),
        ("Response A: plain.\nResponse B: sea.\n\nVerdict: B", "second"), ("Option A, Option B, or C?", "unparsed"),
        ("Option A: plain.\nOption B: sea talk. I choose B.", "second"), ("The better one is Answer B.", "second"),
        ("Answer A - uses", "unparsed"), ("Answer A: it sails", "first"),
        ("Both break character. I pick B.", "unparsed"), ("A: plain\nB: sea", "unparsed"),
    ],
)  # fmt: skip
def test_replies_are_read_with_care(reply: str, outcome: str) -> None:
    assert said(reply)[0] == outcome


def test_a_thought_that_the_prompt_began_is_no_verdict() -> None:
    assert said("The answer is A, since", begun="<think>\n")[0] == "unparsed"
    assert said("The answer is A.</think>B", begun="<think>\n")[0] == "second"


def test_what_a_character_was_told_is_not_its_own_words(tiny_model: LocalModel) -> None:
    told = (system("You are the help desk."), user("Hm?"), assistant("Aye."), user("Sleep?"))
    talk = judge(Reader(tiny_model)).question(Comparison(told, "a", "b"))[1]["content"]
    name = CAPTAIN.name
    assert f"What {name} was told beforehand: You are the help desk." in talk and f"{name}: You are" not in talk
    assert f"Someone: Hm?\n\n{name}: Aye.\n\nSomeone: Sleep?" in talk


@pytest.mark.parametrize("change", ["the judge's character", "the rubric", "the answers", "the weights"])
def test_verdicts_of_another_reading_are_asked_for_anew(change: str, tiny_model: LocalModel, tmp_path: Path) -> None:
    def held(character: Character | None = None, rubric: Character = CAPTAIN, weights: str = "judge") -> LlmJudge:
        subject = Subject("judge", "judge", "folder", character=character)
        return LlmJudge(Speaker(subject, Reader(tiny_model), None, weights), rubric)  # type: ignore[arg-type]

    other = find_character("companion")
    asked, answers = {
        "the judge's character": (held(other), COMPARED), "the rubric": (held(rubric=other), COMPARED),
        "the answers": (held(), COMPARED[1:]), "the weights": (held(weights="others"), COMPARED),
    }[change]  # fmt: skip
    journal = Journal(tmp_path / "j")
    held().compare(COMPARED, journal)
    before = len(journal.done)
    held().compare(COMPARED, journal)
    assert len(journal.done) == before
    asked.compare(answers, journal)
    assert len(journal.done) > before


def test_letters_are_read_as_a_frame_is_followed(tiny_model: LocalModel) -> None:
    tokenizer, seen = tiny_model.tokenizer, list[str]()

    class Noted(Reader):
        def score(self, pairs: Sequence[tuple[list[int], list[int]]], adapter: Any = None) -> list[torch.Tensor]:
            seen.extend(self.tokenizer.decode([prompt[-1], *letter]) for prompt, letter in pairs)
            return super().score(pairs, adapter)

    judge(Noted(tiny_model))._letters([(user("Which?"),)])
    tokenizer.chat_template = BASE_TEMPLATE
    judge(Noted(tiny_model))._letters([(user("Which?"),)])
    assert [text[-2:] for text in seen[3:]] == [" A", " B", " C"] and not any(" " in text for text in seen[:3])
