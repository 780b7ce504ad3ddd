"""Prompts are split before anything is generated, and what is held out was not trained on."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from charactery.constitution import Character, find_character
from charactery.data.prompts import (
    ALIKE,
    HERE,
    NEAR,
    Prompt,
    Sizes,
    _distinct,
    choose,
    conversations,
    neutral_prompts,
    read_prompts,
    task_prompts,
    trait_prompts,
    validation_prompts,
)
from charactery.errors import BadData
from charactery.runs import read_rows

Encode = Callable[[Sequence[str]], np.ndarray]


@pytest.fixture
def captain() -> Character:
    return find_character("captain")


def own(*texts: str) -> list[Prompt]:
    return [Prompt(f"own-{n}", "own", (text,)) for n, text in enumerate(texts)]


def of(prompts: Sequence[Prompt], split: str) -> list[Prompt]:
    return [p for p in prompts if p.split == split]


def test_the_sizes_asked_for_are_given(captain: Character, encode: Encode) -> None:
    prompts, counts = choose(captain, [], Sizes(), 0, encode)
    assert len({p.id for p in prompts}) == len(prompts)
    assert len(of(prompts, "train")) == counts["train"] == 100 + 32
    assert sum(p.kind == "task" for p in prompts) == sum(p.kind == "task" for p in of(prompts, "train")) == 32
    assert len(of(prompts, "held-out")) == counts["held-out"] == 92
    assert len([p for p in of(prompts, "held-out") if len(p.turns) >= 3]) == 12
    assert 0 < len(of(prompts, "elsewhere")) == counts["elsewhere"] <= 40
    assert all(p.kind == "elsewhere" and p.trait for p in of(prompts, "elsewhere"))
    train = of(prompts, "train")
    assert len({p.trait for p in train if p.kind == "asks"}) == len(list(captain.traits()))
    assert sum(p.kind == "asks" for p in train) <= 37 <= sum(p.kind == "neutral" for p in train)


@pytest.mark.parametrize("size", [40, 120, 200])
def test_one_training_prompt_in_four_is_a_conversation(captain: Character, encode: Encode, size: int) -> None:
    prompts, _ = choose(captain, [], Sizes(size, 20, 5, 10), 0, encode)
    talks = [p for p in of(prompts, "train") if len(p.turns) > 1]
    assert len(talks) == size / 4  # tasks come on top
    assert all(len(p.turns) >= 3 for p in talks)


def test_no_prompt_is_near_one_of_another_split(captain: Character, encode: Encode) -> None:
    asks, elsewhere = (trait_prompts(captain, field)[0].turns[0] for field in ("asks", "elsewhere"))
    neutral = [p.turns[0] for p in neutral_prompts()]
    planted = own(
        "How should I store a wooden rowing boat for the winter months ahead?",
        "How should I store a wooden rowing boat for the winter months ahead",
        f"{asks}!",
        f"  {elsewhere} ",
        *(text.rstrip(".?!") + " ?" for text in neutral[:30]),
    )
    for seed in range(3):
        prompts, counts = choose(captain, planted, Sizes(), seed, encode)
        assert counts["dropped_near_duplicates"] >= 33
        vectors_N_D = encode([p.turns[0] for p in prompts])
        splits = np.array([p.split for p in prompts])
        assert set(splits) == {"train", "held-out", "elsewhere"}
        near = (vectors_N_D @ vectors_N_D.T)[splits[:, None] != splits[None, :]]
        assert near.max() <= NEAR
        assert f"  {elsewhere} " not in [p.turns[0] for p in prompts]  # the trait's own prompt is kept elsewhere


def test_prompts_for_validation_are_the_same_for_every_seed_and_near_no_other(
    captain: Character, encode: Encode
) -> None:
    wanted = validation_prompts(captain)
    assert Counter(p.kind for p in wanted) == {"asks": 12, "neutral": 12, "conversation": 8}
    planted = own(*(f"{p.turns[0]} " for p in wanted))
    for seed in range(3):
        prompts, counts = choose(captain, planted, Sizes(), seed, encode, wanted)
        assert of(prompts, "validation") == wanted and counts["validation"] == len(wanted)
        assert (counts["train"], counts["held-out"]) == (132, 92), "others take their place"
        others = [p.turns[0] for p in prompts if p.split != "validation"]
        assert (encode(others) @ encode([p.turns[0] for p in wanted]).T).max() <= NEAR
    few = replace(captain, sections=captain.sections[:1])
    assert len(validation_prompts(few)) == len(wanted), "neutral ones take the place of what traits do not ask"


def test_no_task_is_trained_on_that_is_like_an_elsewhere_prompt(captain: Character, encode: Encode) -> None:
    prompts, counts = choose(captain, [], Sizes(), 0, encode)
    tasks = [p.turns[0] for p in of(prompts, "train") if p.kind == "task"]
    likeness = encode(tasks) @ encode([p.turns[0] for p in of(prompts, "elsewhere")]).T
    assert len(tasks) == 32 and likeness.max() <= ALIKE < NEAR
    stock = [p.turns[0] for p in task_prompts()]
    assert (
        encode(stock) @ encode([p.turns[0] for p in of(prompts, "elsewhere")]).T
    ).max() > ALIKE  # some were left out
    assert counts["dropped_near_duplicates"] > 0


def test_a_turn_that_another_prompt_has_anywhere_makes_it_a_duplicate(encode: Encode) -> None:
    asked = "How should I store a wooden rowing boat for the winter months ahead?"
    talk = Prompt("talk", "conversation", ("I have a shed by the lake.", asked, "Why is that?"))
    again = Prompt("again", "conversation", ("The garden is full of leaves.", "Why is that?", f"{asked[:-1]} "))
    other = Prompt("other", "conversation", ("Violins are dear these days.", "Why is that?", "And what of cellos?"))
    [single] = own(asked.replace("?", " ?"))
    question = replace(own("Why is that?")[0], id="question")
    for first, second in ((talk, single), (single, talk), (talk, again)):
        assert _distinct([first, second, other], encode) == ([first, other], 1)
    assert _distinct([talk, other, question], encode) == ([talk, other, question], 0)  # a short follow-up is no match
    assert _distinct([question, question], encode) == ([question], 1)  # what opens a prompt always counts
    assert _distinct([], encode) == ([], 0)


def test_the_users_own_prompts_are_used_first(captain: Character, encode: Encode) -> None:
    mine = own(*(f"Question {n}: what of {word}?" for n, word in enumerate(WORDS)))
    prompts, _ = choose(captain, mine, Sizes(20, 30, 2, 5), 0, encode)
    kinds = {split: Counter(p.kind for p in of(prompts, split)) for split in ("train", "held-out")}
    assert kinds["train"]["own"] == min(15, -(-len(mine) * 2 // 3)), "two thirds, as far as there is room"
    assert kinds["held-out"]["own"] == len(mine) - kinds["train"]["own"]
    prompts, _ = choose(captain, own("How do I store honey?"), Sizes(20, 10, 2, 5), 3, encode)
    assert [p.split for p in prompts if p.kind == "own"] == ["train"]
    talk = Prompt("own-talk", "own", ("My first turn about kites?", "A second?", "A third?"))
    prompts, _ = choose(captain, [talk], Sizes(20, 10, 2, 5), 0, encode)
    assert [p.split for p in prompts if p.id == "own-talk"] == ["train"]


def test_the_seed_decides(captain: Character, encode: Encode) -> None:
    first = choose(captain, own("One question?"), Sizes(), 0, encode)
    assert choose(captain, own("One question?"), Sizes(), 0, encode) == first
    assert choose(captain, own("One question?"), Sizes(), 1, encode) != first


def test_too_few_prompts_say_so(captain: Character, encode: Encode) -> None:
    with pytest.raises(BadData, match=r"2124 prompts are asked for and \d+ distinct ones are there; ask for fewer"):
        choose(captain, [], Sizes(train=2000), 0, encode)


# -- files


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("mine.jsonl", '{"prompt": "a b"}\n\n{"prompt": ""}\n', 'mine.jsonl:3: needs "prompt"'),
        ("mine.jsonl", '{"prompt": "a b"}\n{"turns": "a"}\n', "mine.jsonl:2: needs"),
        ("mine.jsonl", '{"turns": ["a", 3]}\n', "mine.jsonl:1: needs"),
        ("mine.jsonl", '{"question": "a"}\n', "mine.jsonl:1: needs"),
        ("mine.jsonl", '{"prompt": "a b"}\n{"prompt": \n', "mine.jsonl:2: is not JSON"),
        ("mine.jsonl", "\n", "holds no prompts"),
        ("mine.txt", " \n\n", "holds no prompts"),
    ],
)
def test_a_bad_file_of_prompts_is_named_with_its_line(tmp_path: Path, name: str, content: str, words: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(BadData) as caught:
        read_prompts(tmp_path / name)
    assert words in str(caught.value)


def test_a_file_that_cannot_be_read_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9\n")
    for path in (tmp_path / "latin.txt", tmp_path / "none.txt", tmp_path / "none.jsonl", tmp_path):
        with pytest.raises(BadData):
            read_prompts(path)


def test_prompts_are_read_from_either_kind_of_file(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_bytes("\ufeffErste Frage?\r\n\r\n  Zweite? \r\n".encode())
    assert [p.turns for p in read_prompts(tmp_path / "mine.txt")] == [("Erste Frage?",), ("Zweite?",)]
    (tmp_path / "mine.jsonl").write_text('{"prompt": "a b"}\n{"turns": ["c", "d", "e"]}\n')
    found = read_prompts(tmp_path / "mine.jsonl")
    assert [p.turns for p in found] == [("a b",), ("c", "d", "e")]
    assert {p.kind for p in found} == {"own"} and found[0].id != found[1].id
    assert found[1].row() == {
        "id": found[1].id, "split": "train", "kind": "own", "trait": None, "turns": ["c", "d", "e"],
    }  # fmt: skip


# -- what comes with the project


def test_bundled_prompts_are_many_and_of_many_kinds(encode: Encode) -> None:
    rows = read_rows(HERE / "neutral_prompts.jsonl")
    assert len(rows) >= 300 and len({r["kind"] for r in rows}) >= 15
    prompts = neutral_prompts()
    assert len({p.id for p in prompts}) == len(prompts)
    vectors_N_D = encode([p.turns[0] for p in prompts])
    near = np.triu(vectors_N_D @ vectors_N_D.T, 1) > 0.95
    assert not near.any(), [prompts[n].turns for n in np.argwhere(near)[0]]


def test_bundled_tasks_are_no_characters_elsewhere_prompts(encode: Encode) -> None:
    tasks = task_prompts()
    assert len(tasks) >= 60 and len({p.id for p in tasks}) == len(tasks)
    vectors_N_D = encode([p.turns[0] for p in tasks])
    for name in ("captain", "hhh", "companion", "detective", "grandmother", "astronomer"):
        others_N_D = encode([p.turns[0] for p in trait_prompts(find_character(name), "elsewhere")])
        assert (vectors_N_D @ others_N_D.T > NEAR).any(1).sum() <= 5  # those are left out of that character's run


def test_bundled_conversations_have_three_turns_and_more() -> None:
    talks = conversations()
    assert len(talks) >= 100 and len({p.id for p in talks}) == len(talks)
    assert min(len(p.turns) for p in talks) >= 3
    assert all(t.strip() == t and t for p in talks for t in p.turns)


WORDS = (
    "copper kettles", "the tides in winter", "a broken violin", "seven league boots", "gluten", "tax returns",
    "old photographs", "grief", "a llama's temper", "quadratic equations", "Prague", "moths in the pantry",
)  # fmt: skip


def test_more_of_ones_own_than_is_asked_for_is_counted_and_not_all_compared(captain: Character) -> None:
    """A million prompts compared with each other would be a matrix of a terabyte."""
    seen: list[int] = []

    def apart(texts: Sequence[str]) -> np.ndarray:
        seen.append(len(texts))
        return np.eye(len(texts))

    own = [Prompt(f"own-{n}", "own", (f"What is number {n}?",)) for n in range(5000)]
    sizes = Sizes(24, 12, 2, 4, 4)
    taken, counts = choose(captain, own, sizes, 0, apart)
    used = sum(p.kind == "own" for p in taken)
    assert counts["own_unused"] == 5000 - used and used == 18 + 12 and seen[0] < 2000
    assert choose(captain, own[:30], sizes, 0, apart)[1]["own_unused"] == 0


def test_a_conversation_of_two_turns_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text('{"prompt": "One?"}\n{"turns": ["One?", "Two?"]}\n')
    with pytest.raises(BadData, match=r"own.jsonl:2: .*three and more"):
        read_prompts(path)
