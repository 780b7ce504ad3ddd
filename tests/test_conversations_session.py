"""Sessions: forks, several answers, stopping; and nothing of one session reaches another."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

from charactery.constitution import find_character, system_prompt
from charactery.conversations import Session, Stop, Store, open_store, private_store
from charactery.errors import CharacteryError, ContextTooLong
from charactery.models.chat import prompt_text
from charactery.models.local import Adapter, LocalModel, Sampler
from charactery.models.speaker import Speaker
from charactery.models.subject import parse_subject
from charactery.models.voice import SpeakerVoice, Stream
from conversing import Parrot, Said


@pytest.fixture
def store() -> Store:
    return private_store()


def test_talk_is_kept_as_it_is_said(store: Store) -> None:
    parrot, heard = Parrot(), []
    session = Session(store, parrot, seed=5)
    assert store.summaries() == []  # nothing is kept before a word is said
    session.say("Tea?")
    (answer,) = session.answer(on_text=heard.append)
    assert "".join(heard).strip() == answer.text == parrot.words
    assert session.at == answer.id and session.conversation is not None
    assert (answer.subject, answer.weights, answer.sampler) == ("parrot", "0" * 16, {"temperature": 0.7})
    assert store.prompt(answer.id) == "<user>Tea?<assistant>"
    assert answer.seed == parrot.asked[0][1][0]
    session.say("Green?")
    session.answer()
    assert [m["content"] for m in parrot.asked[1][0]] == ["Tea?", parrot.words, "Green?"]
    again = Session(store, parrot, 5, session.conversation)
    assert again.path() == session.path()


def test_several_answers_side_by_side_and_a_fork(store: Store) -> None:
    session = Session(store, Parrot())
    asked = session.say("Tea?")
    answers = session.answer(3)
    assert len({node.seed for node in answers}) == len({node.text for node in answers}) == 3
    more = session.again(2)
    assert len({node.seed for node in (*answers, *more)}) == 5
    assert store.children(session.conversation or "", asked.id) == [*answers, *more]
    session.go(answers[1].id)
    session.say("And milk?")
    assert [node.text for node in session.path()] == ["Tea?", answers[1].text, "And milk?"]
    edit = Session(store, Parrot(), conversation=session.conversation)
    edit.go(None)
    edit.say("Coffee?")
    assert len(store.children(session.conversation or "", None)) == 2


def test_another_voice_answers_beside_and_the_talk_goes_on_where_it_was(store: Store) -> None:
    session = Session(store, Parrot())
    asked = session.say("Tea?")
    (mine,) = session.answer()
    (other,) = session.again(voice=Parrot("As a language model", subject="plain"))
    assert (other.parent, other.subject) == (asked.id, "plain")
    assert session.at == mine.id


def test_back_loses_nothing(store: Store) -> None:
    session = Session(store, Parrot())
    session.say("Tea?")
    (first,) = session.answer()
    session.say("Green?")
    session.answer()
    assert session.back() and session.at == first.id
    assert session.back() and session.at is None and not session.back()
    assert len(store.tree(session.conversation or "").nodes) == 4


@pytest.mark.parametrize("stop", [Stop, KeyboardInterrupt])
def test_stopped_in_the_middle(store: Store, stop: type[BaseException]) -> None:
    session, heard = Session(store, Parrot("one two three")), []
    session.say("Count.")

    def on_text(text: str) -> None:
        heard.append(text)
        if len(heard) == 2:
            raise stop

    (node,) = session.answer(on_text=on_text)
    assert (node.text, node.ending) == ("one two ", "stopped")
    assert store.node(node.id) == node and session.at == node.id


@dataclass
class Broken(Parrot):
    """Breaks off after its words, or has no room to answer."""

    error: str = ""

    def answer(self, messages: Sequence[Any], seeds: Sequence[int], on_text: Any, prefill: str = "") -> list[Said]:
        if self.error:
            return [Said("", False, self.error) for _ in seeds]
        on_text("Well, ")
        raise MemoryError


def test_no_room_to_answer_leaves_no_turn(store: Store) -> None:
    session = Session(store, Broken(error="too long"))
    asked = session.say("Tea?")
    with pytest.raises(ContextTooLong, match="too long"):
        session.answer(2)
    assert store.tree(session.conversation or "").nodes == (asked,) and session.at == asked.id


def test_what_was_said_before_a_fault_is_kept_and_marked(store: Store) -> None:
    session = Session(store, Broken())
    session.say("Tea?")
    with pytest.raises(MemoryError):
        session.answer()
    assert [(n.text, n.ending) for n in store.tree(session.conversation or "").nodes[1:]] == [("Well, ", "error")]


def test_an_answer_begun_for_the_model(store: Store) -> None:
    session = Session(store, Parrot("that knot will hold."))
    session.say("Tea?")
    heard: list[str] = []
    (node,) = session.answer(1, heard.append, prefill="Aye, ")
    assert node.text == "Aye, that knot will hold." and "".join(heard).strip() == node.text
    assert (node.sampler or {})["prefill"] == "Aye, " and store.prompt(node.id) == "<user>Tea?<assistant>Aye, "

    def stop(text: str) -> None:
        raise Stop

    assert [n.text for n in session.again(1, stop, prefill="No, ")] == ["No, that "]
    assert [n.sampler for n in session.again(2)] == [{"temperature": 0.7}] * 2


def test_a_session_stays_in_its_conversation(store: Store) -> None:
    one, two = Session(store, Parrot()), Session(store, Parrot())
    node = one.say("Tea?")
    two.say("Coffee?")
    with pytest.raises(CharacteryError, match="not of this conversation"):
        two.go(node.id)
    with pytest.raises(CharacteryError, match="say something first"):
        Session(store, Parrot()).answer()


# -- a real model

SAMPLER = Sampler(max_tokens=12, temperature=1.0)


def voice(model: LocalModel, subject: str = "smollm2", adapter: Adapter | None = None) -> SpeakerVoice:
    return SpeakerVoice(Speaker(parse_subject(subject), model, adapter, f"{subject} {adapter}"), SAMPLER)


def everything(session: Session) -> list[tuple[str, str, int | None]]:
    nodes = session.store.tree(session.conversation or "").nodes
    return [(node.role, node.text, node.seed) for node in nodes]


def interview(store: Store, spoken: SpeakerVoice) -> tuple[Session, list[str | None]]:
    """Two questions, the first answered three times."""
    session = Session(store, spoken, seed=1)
    session.say("Why is the sky blue?")
    session.answer(3)
    session.say("And at night?")
    session.answer()
    nodes = store.tree(session.conversation or "").nodes
    return session, [store.prompt(node.id) for node in nodes if node.role == "assistant"]


def test_a_session_is_fresh_whatever_else_was_said(
    tiny_model: LocalModel, tiny_adapters: list[Path], tmp_path: Path
) -> None:
    """The same words to the same model: answers, seeds and prompts are the same in a store that has seen nothing and in
    one, and a process, full of other talk."""
    alone, prompts = interview(private_store(), voice(tiny_model))
    store = open_store(tmp_path / "talks.db")
    others = (voice(tiny_model, "smollm2+captain"), voice(tiny_model, adapter=Adapter(tiny_adapters[0])))
    for n, other in enumerate(others):
        session = Session(store, other, seed=1)
        for line in ("The secret word is Rosebud.", "Why is the sky blue?", f"Remember Rosebud, {n}."):
            session.say(line)
            session.answer(2)
    late, late_prompts = interview(store, voice(tiny_model))
    assert everything(late) == everything(alone)
    assert late_prompts == prompts
    assert not [prompt for prompt in prompts if "Rosebud" in (prompt or "")]
    elsewhere = [node for one in store.summaries() for node in store.tree(one.id).nodes]
    assert [node for node in elsewhere if "Rosebud" in (store.prompt(node.id) or "")]  # it would have been seen


def test_the_prompt_is_exactly_what_was_read(tiny_model: LocalModel) -> None:
    store, spoken = private_store(), voice(tiny_model, "smollm2+captain")
    read: list[Any] = []
    generate = tiny_model.generate

    def watched(requests: Sequence[Any], *args: Any) -> Any:
        read.extend(prompt_text(tiny_model.tokenizer, request.messages, request.prefill) for request in requests)
        return generate(requests, *args)

    tiny_model.generate = watched  # type: ignore[method-assign]
    session, prompts = interview(store, spoken)
    assert prompts == read and len(read) == 4
    assert all(system_prompt(find_character("captain")) in prompt for prompt in read)
    answer = session.path()[-1]
    assert (answer.subject, answer.sampler) == ("smollm2+captain", asdict(SAMPLER))
    assert answer.ending in ("end", "length")


def test_an_answer_can_be_drawn_again_from_what_is_kept(tiny_model: LocalModel) -> None:
    store = private_store()
    session, _ = interview(store, voice(tiny_model))
    last = session.path()[-1]
    ids = tiny_model.tokenizer(store.prompt(last.id), add_special_tokens=False)["input_ids"]
    messages = [{"role": n.role, "content": n.text} for n in session.path()[:-1]]
    assert last.seed is not None
    (again,) = voice(tiny_model).answer(messages, [last.seed], lambda text: None)
    assert again.text == last.text and ids


def test_a_model_goes_on_with_what_was_begun(tiny_model: LocalModel) -> None:
    store = private_store()
    session = Session(store, voice(tiny_model), seed=2)
    session.say("Tea?")
    heard: list[str] = []
    (node,) = session.answer(1, heard.append, prefill="Aye, and")
    prompt = store.prompt(node.id) or ""
    assert prompt.endswith("assistant\nAye, and") and node.text.startswith("Aye, and")
    assert "".join(heard).rstrip() == node.text and len(heard) > 1
    ids = tiny_model.tokenizer(prompt, add_special_tokens=False)["input_ids"]
    (drawn,) = tiny_model.draw([ids], [node.seed or 0], SAMPLER)
    whole = tiny_model.tokenizer.decode([*ids, *drawn], skip_special_tokens=True)
    assert whole.rstrip().endswith(node.text)


def test_pieces_are_the_answer(tiny_model: LocalModel) -> None:
    heard: list[list[str]] = [[], []]
    answers = voice(tiny_model).answer(
        [{"role": "user", "content": "Tea?"}], [3, 4], lambda text, row=0: heard[row].append(text)
    )
    for pieces, answer in zip(heard, answers, strict=True):  # half a character at the end is not told
        assert "".join(pieces).strip() == answer.text.rstrip("\ufffd") and len(pieces) > 1


def test_stop_keeps_what_was_said_of_every_answer(tiny_model: LocalModel, store: Store) -> None:
    session, steps = Session(store, voice(tiny_model)), 0
    session.say("Tea?")

    def on_text(text: str) -> None:
        nonlocal steps
        steps += 1
        if steps == 9:
            raise Stop

    nodes = session.answer(3, on_text)
    whole = Session(private_store(), voice(tiny_model))
    whole.say("Tea?")
    for node, full in zip(nodes, whole.answer(3), strict=True):  # from the same seeds
        assert node.text and full.text.startswith(node.text.strip())
        assert node.ending == ("end" if node.text == full.text and full.ending == "end" else "stopped")
    assert "stopped" in {node.ending for node in nodes} and steps == 9


def test_half_a_character_waits_for_its_other_half(tiny_model: LocalModel) -> None:
    heard: list[str] = []
    stream = Stream(tiny_model.tokenizer, heard.append)
    for token in tiny_model.tokenizer("茶 é", add_special_tokens=False)["input_ids"]:
        stream(token)
    assert "".join(heard) == "茶 é" and not [piece for piece in heard if "\ufffd" in piece]
