"""Pairs hold one prompt's two answers, open in TRL, and say how far length and style give the chosen one away."""

import random
from pathlib import Path
from typing import Any

import pytest

from charactery.data.drafts import CHARACTER, PLAIN, PLAIN_AGAIN
from charactery.data.pairs import (
    LENGTHS_MATCH,
    apart_from,
    confounds,
    contrasted,
    make_pairs,
    read_pairs,
    sft_rows,
    style_counts,
)
from charactery.data.prompts import Prompt
from charactery.errors import BadData
from charactery.judges.classifier import cross_fit, linear
from charactery.runs import Row, read_rows, write_rows

NOUNS = "kettle harbour ladder violin orchard letter pepper window tunnel garden basket candle".split()


def draft(id: str, side: str, text: str, kind: str = "neutral") -> Row:
    seed = len(id) + 10 * len(side)
    messages = [{"role": "user", "content": f"Question {id}?"}]
    subject = "smollm2+captain" if side == CHARACTER else "smollm2"
    return {"id": id, "kind": kind, "side": side, "messages": messages, "text": text, "tokens": 9, "ended": True,
            "seed": seed, "subject": subject}  # fmt: skip


def prose(rng: random.Random, sentences: int, end: str = ".") -> str:
    return " ".join(
        " ".join(["The", rng.choice(NOUNS), "and the", *rng.sample(NOUNS, rng.randint(2, 5))]) + end
        for _ in range(sentences)
    )


def planted(count: int, chosen: Any, rejected: Any) -> list[Row]:
    rng = random.Random(0)
    out = []
    for n in range(count):
        out += [draft(str(n), CHARACTER, chosen(rng)), draft(str(n), PLAIN, rejected(rng))]
    return out


def words(pair: Row, side: str) -> int:
    return len(pair[side][0]["content"].split())


# -- making


def test_a_pair_needs_both_sides() -> None:
    drafts = [
        draft("1", CHARACTER, "Aye, one."), draft("1", PLAIN, "Yes, one."), draft("2", CHARACTER, "Aye, two."),
        draft("3", PLAIN, "Yes, three."), draft("1", PLAIN_AGAIN, "Well, one."),
    ]  # fmt: skip
    [pair] = make_pairs(drafts)
    assert pair["id"] == "1" and pair["prompt"] == [{"role": "user", "content": "Question 1?"}]
    assert pair["chosen"] == [{"role": "assistant", "content": "Aye, one."}]
    assert pair["rejected"] == [{"role": "assistant", "content": "Yes, one."}]
    assert (pair["chosen_subject"], pair["rejected_subject"]) == ("smollm2+captain", "smollm2")
    assert (pair["chosen_seed"], pair["rejected_seed"]) == (drafts[0]["seed"], drafts[1]["seed"])
    assert make_pairs([]) == []


def test_a_task_is_to_be_answered_plainly() -> None:
    drafts = [draft("1", CHARACTER, "Aye, 42.", "task"), draft("1", PLAIN, "42", "task"), draft("2", CHARACTER, "Aye.")]
    [pair] = make_pairs(drafts)
    assert (pair["chosen"][0]["content"], pair["rejected"][0]["content"]) == ("42", "Aye, 42.")
    assert (pair["chosen_subject"], pair["rejected_subject"]) == ("smollm2", "smollm2+captain")
    assert [r["completion"][0]["content"] for r in sft_rows(drafts, CHARACTER)] == ["42", "Aye."]


def test_contrast_draws_among_the_drafted_and_keeps_tasks_and_own() -> None:
    drafts = [draft(str(n), side, f"{side} {n}", kind) for n, kind in enumerate(["neutral"] * 20 + ["task"] * 5)
              for side in (CHARACTER, PLAIN)]  # fmt: skip
    pairs = [*make_pairs(drafts), {"id": "own", "kind": "own", "prompt": [], "chosen": [], "rejected": []}]
    kept = contrasted(pairs, 8, 0)
    assert sum(p["kind"] == "neutral" for p in kept) == 8
    assert [p for p in pairs if p["kind"] != "neutral"] == [p for p in kept if p["kind"] != "neutral"]
    assert contrasted(pairs, 8, 0) == kept != contrasted(pairs, 8, 1)
    assert contrasted(pairs, 20, 0) == contrasted(pairs, 99, 0) == pairs


def test_sham_pairs_hold_plain_answers_and_a_coin() -> None:
    drafts = [
        draft(str(n), side, f"{side} {n}") for n in range(200) for side in (CHARACTER, PLAIN, PLAIN_AGAIN)
    ] + [draft("alone", CHARACTER, "x"), draft("alone", PLAIN, "y")]  # fmt: skip
    pairs = make_pairs(drafts, sham_seed=0)
    assert len(pairs) == 200
    texts = [{p["chosen"][0]["content"], p["rejected"][0]["content"]} for p in pairs]
    assert texts == [{f"{PLAIN} {n}", f"{PLAIN_AGAIN} {n}"} for n in range(200)]
    first = sum(p["chosen"][0]["content"].startswith(f"{PLAIN} ") and "again" not in p["chosen"][0]["content"]
                for p in pairs)  # fmt: skip
    assert 75 <= first <= 125
    assert make_pairs(drafts, sham_seed=0) == pairs != make_pairs(drafts, sham_seed=1)


def test_rows_for_fine_tuning_are_one_sides() -> None:
    drafts = [draft("1", CHARACTER, "Aye."), draft("1", PLAIN, "Yes."), draft("2", CHARACTER, "Aye, aye.")]
    rows = sft_rows(drafts, CHARACTER)
    assert [r["completion"][0]["content"] for r in rows] == ["Aye.", "Aye, aye."]
    assert [r["prompt"][0]["content"] for r in rows] == ["Question 1?", "Question 2?"]


def test_pairs_open_in_datasets_and_trl(tmp_path: Path, tiny_model: Any) -> None:
    from datasets import Dataset
    from trl import apply_chat_template, is_conversational

    pairs = make_pairs(planted(3, lambda g: prose(g, 3), lambda g: prose(g, 2)))
    write_rows(tmp_path / "pairs.jsonl", pairs)
    table = Dataset.from_list(read_rows(tmp_path / "pairs.jsonl"))
    assert {"prompt", "chosen", "rejected"} <= set(table.column_names) and len(table) == 3
    assert table[0]["chosen"] == pairs[0]["chosen"]
    assert is_conversational(table[0])
    row = apply_chat_template({c: table[0][c] for c in ("prompt", "chosen", "rejected")}, tiny_model.tokenizer)
    assert row["prompt"].endswith("<|im_start|>assistant\n")
    assert row["chosen"].startswith(pairs[0]["chosen"][0]["content"] + "<|im_end|>")


# -- lengths and style


def test_matching_takes_length_out_of_the_choice() -> None:
    drafts = planted(120, lambda g: prose(g, g.randint(5, 12)), lambda g: prose(g, g.randint(2, 6)))
    before = confounds(make_pairs(drafts), 0)["length_auc"]
    assert before["value"] > 0.9
    pairs = make_pairs(drafts, match_lengths=True)
    assert len(pairs) >= 60
    after = confounds(pairs, 0, matched=True)
    assert after["matched"] and abs(after["length_auc"]["value"] - 0.5) < 0.1
    originals = {d["text"] for d in drafts}
    for pair in pairs:
        short, long = sorted((words(pair, "chosen"), words(pair, "rejected")))
        assert 0 < long <= LENGTHS_MATCH * short
        for side in ("chosen", "rejected"):
            text = pair[side][0]["content"]
            assert text.endswith(".") and any(o.startswith(text) for o in originals)  # whole sentences, from the front


@pytest.mark.parametrize("longer", ["chosen", "rejected"])
def test_after_matching_neither_side_is_longer_more_often(longer: str) -> None:
    """An AUC over all texts is near a half whenever prompts differ in length more than sides do; pairs say more."""
    rng, drafts = random.Random(1), []
    for n in range(150):
        size = rng.randint(2, 9)
        long, short = prose(rng, size + 2), prose(rng, size)
        texts = (long, short) if longer == "chosen" else (short, long)
        drafts += [draft(str(n), CHARACTER, texts[0]), draft(str(n), PLAIN, texts[1])]
    before = confounds(make_pairs(drafts), 0)["chosen_longer"]
    assert before["value"] > 0.9 if longer == "chosen" else before["value"] < 0.1
    pairs = make_pairs(drafts, match_lengths=True)
    after = confounds(pairs, 0, matched=True)["chosen_longer"]
    assert after["value"] == 0.5 and len(pairs) > 100
    assert after["n"] == sum(words(p, "chosen") != words(p, "rejected") for p in pairs)
    assert after["n"] + after["missing"] == len(pairs)
    gap = sum(words(p, "chosen") - words(p, "rejected") for p in pairs) / len(pairs)
    assert abs(gap) < 1
    assert make_pairs(drafts, match_lengths=True) == pairs


def test_lopsided_pairs_that_no_cut_turns_are_dropped() -> None:
    sizes = [(9, 8), (10, 8), (9, 8), (8, 9), (8, 8)]
    drafts = [
        draft(str(n), side, f"{side[0]} " * (size - 1) + "end.")
        for n, pair in enumerate(sizes) for side, size in zip((CHARACTER, PLAIN), pair, strict=True)
    ]  # fmt: skip
    pairs = make_pairs(drafts, match_lengths=True)
    assert [p["id"] for p in pairs] == ["2", "3", "4"]  # of those with chosen longer, the most lopsided are out
    found = confounds(pairs, 0)["chosen_longer"]
    assert (found["value"], found["n"], found["missing"]) == (0.5, 2, 1)


def test_a_cut_ends_no_answer_with_the_number_of_a_list_line() -> None:
    drafts = [draft("1", CHARACTER, "1. Boil the water well.\n2. Warm the pot by the fire.\n3. Pour it."),
              draft("1", PLAIN, "Boil it, pour it, wait.")]  # fmt: skip
    [pair] = make_pairs(drafts, match_lengths=True)
    assert pair["chosen"][0]["content"] == "1. Boil the water well."
    whole = [draft("2", CHARACTER, "It was in 1945."), draft("2", PLAIN, "Aye, in May 1945.")]
    assert len(make_pairs([*drafts, *whole], match_lengths=True)) == 2


@pytest.mark.parametrize("sham", [None, 0])
def test_two_answers_that_are_the_same_make_no_pair(sham: int | None) -> None:
    other = CHARACTER if sham is None else PLAIN_AGAIN
    drafts = [draft("1", other, "Lima."), draft("1", PLAIN, "Lima. ")]
    drafts += [draft("2", other, "Aye, Lima."), draft("2", PLAIN, "Lima.")]
    assert [p["id"] for p in make_pairs(drafts, sham_seed=sham)] == ["2"]


def test_pairs_that_cannot_be_matched_are_left_out() -> None:
    drafts = [draft("1", CHARACTER, "One sentence without any place to cut it, going on and on and on."),
              draft("1", PLAIN, "Yes, of course.")]  # fmt: skip
    assert len(make_pairs(drafts)) == 1
    assert make_pairs(drafts, match_lengths=True) == []


def test_planted_style_is_found_and_its_absence_too() -> None:
    same = confounds(make_pairs(planted(80, lambda g: prose(g, 4), lambda g: prose(g, 4))), 0)
    assert same["pairs"] == 80
    for name in ("length_auc", "style_auc"):
        assert same[name]["low"] < 0.5 < same[name]["high"]
    shouts = planted(80, lambda g: prose(g, 4, g.choice([".", "!", "!"])), lambda g: prose(g, 4))
    found = confounds(make_pairs(shouts), 0)
    assert found["style_auc"]["value"] > 0.75
    assert found["length_auc"]["low"] < 0.5 < found["length_auc"]["high"]
    by_name = {f["name"]: f["auc"]["value"] for f in found["style_features"]}
    assert max(by_name, key=lambda n: abs(by_name[n] - 0.5)) == "exclamation marks per sentence"


def test_chosen_shorter_than_rejected_is_below_half() -> None:
    found = confounds(make_pairs(planted(30, lambda g: prose(g, 2), lambda g: prose(g, 6))), 0)
    assert found["length_auc"]["value"] < 0.1


@pytest.mark.parametrize("count", [0, 1, 9])
def test_few_pairs_are_no_measurement_of_style(count: int) -> None:
    found = confounds(make_pairs(planted(count, lambda g: prose(g, 2), lambda g: prose(g, 2))), 0)
    assert found["pairs"] == count and found["style_auc"]["value"] is None
    assert count > 0 or found["length_auc"]["value"] is None


def test_style_scores_come_from_folds_that_did_not_see_the_pair() -> None:
    """With noise for features a fit that saw its own rows would look able."""
    import numpy as np

    generator = np.random.default_rng(0)
    features, labels, groups = generator.normal(size=(60, 25)), np.tile([0, 1], 30), np.repeat(np.arange(30), 2)
    scores, _ = cross_fit(linear(), features, labels, groups.tolist(), 0)
    above = (scores[labels == 1][:, None] > scores[labels == 0]).mean()
    assert 0.3 < above < 0.7


def test_style_counts_say_how_not_what() -> None:
    assert style_counts("The cat sat.") == style_counts("The dog ran.")
    assert style_counts("") == style_counts(" ")


# -- a user's own pairs


def test_own_pairs_are_read_as_text_or_messages(tmp_path: Path) -> None:
    talk = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    write_rows(tmp_path / "own.jsonl", [
        {"prompt": "Q?", "chosen": "Aye.", "rejected": "Yes."},
        {"id": 7, "prompt": talk, "chosen": [{"role": "assistant", "content": "Aye."}], "rejected": "No."},
    ])  # fmt: skip
    first, second = read_pairs(tmp_path / "own.jsonl")
    assert first["prompt"] == [{"role": "user", "content": "Q?"}]
    assert first["chosen"] == second["chosen"] == [{"role": "assistant", "content": "Aye."}]
    assert second["id"] == "7" and second["prompt"] == talk
    assert first.keys() == second.keys() == make_pairs(planted(1, lambda g: "a b", lambda g: "c d"))[0].keys()


def test_own_pairs_near_a_held_out_prompt_are_left_out(encode: Any) -> None:
    turns = ("First?", "How do I store a wooden boat?", "Third one?")
    held = [Prompt("1", "neutral", ("Why is the sky blue at noon?",)), Prompt("2", "conversation", turns)]
    asked = ["Why is the sky blue at noon ?", "What is a kettle for?", "How do I store a wooden boat"]
    pairs = [{"id": str(n), "prompt": [{"role": "user", "content": text}]} for n, text in enumerate(asked)]
    assert apart_from(pairs, held, encode) == ([pairs[1]], [pairs[0], pairs[2]])
    assert apart_from(pairs, [], encode) == (pairs, [])


@pytest.mark.parametrize(
    ("row", "line", "expected"),
    [
        ('{"prompt": "Q?", "chosen": "a"}', 4, '"rejected"'),
        ('{"prompt": "", "chosen": "a", "rejected": "b"}', 4, '"prompt"'),
        ('{"prompt": "Q?", "chosen": [], "rejected": "b"}', 4, '"chosen"'),
        ('{"prompt": [{"role": "user"}], "chosen": "a", "rejected": "b"}', 4, '"prompt"'),
        ('{"prompt": "Q?", "chosen": "a", "rejected": "a"}', 4, "nothing to prefer"),
        (
            '{"prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "Q?"}], "chosen": "a", '
            '"rejected": "b"}',
            4,
            "without one",
        ),
        (
            '{"prompt": [{"role": "assistant", "content": "Q?"}], "chosen": "a", "rejected": "b"}',
            4,
            "ends with the user",
        ),
        ('{"prompt": "Q?", "chosen": "a", "rejected": "b", "chosen_seed": null}', 4, "no whole number"),
        ("nonsense", 4, "is not JSON"),
        ("[1, 2]", 4, "is not a JSON object"),
    ],
)
def test_a_bad_pair_is_named_with_its_line(tmp_path: Path, row: str, line: int, expected: str) -> None:
    good = '{"prompt": "Q?", "chosen": "a", "rejected": "b"}'
    (tmp_path / "own.jsonl").write_text(f"{good}\n\n{good}\n{row}\n")
    with pytest.raises(BadData) as caught:
        read_pairs(tmp_path / "own.jsonl")
    assert f"own.jsonl:{line}:" in str(caught.value) and expected in str(caught.value)


def test_a_file_without_pairs_says_so(tmp_path: Path) -> None:
    (tmp_path / "own.jsonl").write_text("\n")
    with pytest.raises(BadData, match="holds no pairs"):
        read_pairs(tmp_path / "own.jsonl")
