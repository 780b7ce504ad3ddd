"""Answers are read for what they say, and what is no answer is told apart by why."""

import math

import pytest

from charactery.evals.asks import Ask, ask_from_row, by_logs, by_samples, by_text, is_refusal, parse_choice
from charactery.models.chat import user

LETTERS, YES_NO, SCALE = ("(A)", "(B)"), ("Yes", "No"), ("1", "2", "3", "4", "5")


@pytest.mark.parametrize(
    ("text", "options", "choice"),
    [
        ("(A)", LETTERS, 0), ("B", LETTERS, 1), (" (B) because I like it", LETTERS, 1), ("A.", LETTERS, 0),
        ("**B**", LETTERS, 1), ("B: it should stay open", LETTERS, 1), ("The answer is (A).", LETTERS, 0),
        ("My choice: B", LETTERS, 1), ("I would go for (A), on the whole.", LETTERS, 0), ("A\nB", LETTERS, 0),
        ("Yes", YES_NO, 0), ("no.", YES_NO, 1), ("No, I would not say that.", YES_NO, 1), ("YES!", YES_NO, 0),
        ("4", SCALE, 3), ("5 - very accurate", SCALE, 4), ("My answer is 2.", SCALE, 1), ("(3)", SCALE, 2),
    ],
)  # fmt: skip
def test_a_choice_is_found(text: str, options: tuple[str, ...], choice: int) -> None:
    assert parse_choice(text, options) == (choice, "answered")


@pytest.mark.parametrize(
    ("text", "options", "outcome"),
    [
        ("A good question, which nobody can answer.", LETTERS, "unparsable"), ("", LETTERS, "empty"),
        ("  \n", YES_NO, "empty"), ("Both (A) and (B) have their points.", LETTERS, "unparsable"),
        ("As an AI, I don't have personal opinions.", LETTERS, "refused"), ("I can’t answer that.", YES_NO, "refused"),
        ("Nobody knows.", YES_NO, "unparsable"), ("Because of the sea.", LETTERS, "unparsable"),
        ("10 out of 10", SCALE, "unparsable"), ("3.5", SCALE, "unparsable"), ("Certainly not", LETTERS, "unparsable"),
    ],
)  # fmt: skip
def test_what_is_no_choice_is_none(text: str, options: tuple[str, ...], outcome: str) -> None:
    assert parse_choice(text, options) == (None, outcome)


def test_log_probabilities_become_shares() -> None:
    read = by_logs([-3.0, -1.0], "prompt_logprobs")
    assert read.choice == 1 and sum(read.shares) == pytest.approx(1)
    assert read.log_odds(1) == pytest.approx(2.0) and read.log_odds(0) == pytest.approx(-2.0)
    assert read.expected((0.0, 10.0)) == pytest.approx(10 / (1 + math.exp(-2)))
    assert math.isfinite(by_logs([-1e4, 0.0], "").log_odds(0))


def test_samples_are_counted_and_the_first_leads_a_tie() -> None:
    read = by_samples(["B", "A", "what?", "B.", "A"], LETTERS, "samples")
    assert (read.outcome, read.choice, read.shares, read.lost) == ("answered", 1, (0.5, 0.5), 1)
    assert read.log_odds(0) == pytest.approx(0.0)
    assert by_samples(["A"] * 5, LETTERS, "").log_odds(0) == pytest.approx(math.log(5.5 / 0.5))
    none = by_samples(["hm", "", "hm"], LETTERS, "samples")
    assert (none.outcome, none.choice, none.shares) == ("unparsable", None, ())


def test_text_is_text_or_empty() -> None:
    assert by_text(["First.", " Second. "]).text == "Second." and by_text(["First.", " "]).outcome == "empty"
    assert is_refusal("I'm sorry, but no.") and not is_refusal("Boil the water and wait four minutes.")


def test_an_ask_goes_through_metadata() -> None:
    ask = Ask("a", (user("Tea?"), user("Sure?")), YES_NO, 3)
    assert ask_from_row(ask.row()) == ask
