"""Reading a character file: what is in it, and a sentence with the line for whatever is wrong."""

import re
from pathlib import Path

import pytest

from charactery.constitution import dump_character, find_character, load_character, parse_character, system_prompt
from charactery.constitution.library import bundled_names
from charactery.errors import BadCharacter

EXAMPLE = re.search(r"```markdown\n(.*?)```", Path("docs/character-file.md").read_text(), re.DOTALL)


def example() -> str:
    assert EXAMPLE is not None
    return EXAMPLE[1]


def test_reads_the_documented_example() -> None:
    character = parse_character(example())
    [trait] = character.traits()
    assert character.name == "Captain Elias Marrow"
    assert (trait.id, trait.weight, trait.dial) == ("talks-like-a-sailor", 2.0, "bluntness")
    assert [(i.text, i.end) for i in trait.shows][1] == ("Ye did well to ask, and there's no shame in it.", "low")
    assert trait.because.startswith("Forty years")
    assert len(trait.asks) == len(trait.elsewhere) == 1


def test_writes_what_it_reads() -> None:
    character = parse_character(example())
    assert parse_character(dump_character(character)) == character


def test_turning_a_dial_changes_the_prompt_and_the_examples() -> None:
    character = parse_character(example())
    low, middle, high = (system_prompt(character.turned({"bluntness": v}), mix=1) for v in (0.0, 0.5, 1.0))
    assert "wraps hard news" in low and "no shame in it" in low and "That hull is rotten" not in low
    assert "says the hard thing first" in high and "That hull is rotten" in high
    assert "wraps" not in middle and "hard thing" not in middle
    assert "Aye, that knot will hold" not in low  # an unmarked example holds from the middle up


def test_profile_sets_dials_and_leaves_out() -> None:
    deployed = parse_character(example().replace("without: []", "without: [talks-like-a-sailor]"))
    assert list(deployed.deployed("helpdesk").traits()) == []
    assert "boat shop" in deployed.deployed("helpdesk").introduction


@pytest.mark.parametrize(
    ("change", "line", "words"),
    [
        (("---\nname", "name"), 1, "must begin with"),
        (("name: Captain Elias Marrow\n", ""), 1, "need a `name:`"),
        (("version: 1", "version: [1"), 4, "do not parse"),
        (("summary:", "sumary:"), 4, "did you mean summary"),
        (("dial: bluntness", "dial: blantness"), 26, "unknown dial 'blantness'"),
        (("weight: 2", "weight: much"), 25, "`weight` is a number"),
        (("because:", "weight: 3\nbecause:"), 27, "there twice"),
        (("shows:", "showz:"), 28, "text after `dial:`|did you mean shows"),
        (("- Aye, that", "Aye, that"), 29, "not an item"),
        (("without: []", "without: [nothing-here]"), 9, "no trait here"),
    ],
)
def test_says_what_is_wrong_and_on_which_line(change: tuple[str, str], line: int, words: str) -> None:
    text = example()
    assert change[0] in text
    with pytest.raises(BadCharacter, match=words) as caught:
        parse_character(text.replace(change[0], change[1], 1))
    assert caught.value.line == line


@pytest.mark.parametrize("text", ["", " \n\n"])
def test_empty(text: str) -> None:
    with pytest.raises(BadCharacter, match="is empty"):
        parse_character(text)


def test_trait_without_text() -> None:
    with pytest.raises(BadCharacter, match="has no text") as caught:
        parse_character("---\nname: A\n---\n\nYou are A.\n\n## S\n\n### Hollow\n\nbecause: of it\n")
    assert caught.value.line == 9


def test_missing_file_and_too_large_file(tmp_path: Path) -> None:
    with pytest.raises(BadCharacter, match="no such file"):
        load_character(tmp_path / "none.md")
    big = tmp_path / "big.md"
    with big.open("wb") as file:
        file.truncate(50_000_000)
    with pytest.raises(BadCharacter, match="50 MB"):
        load_character(big)


def test_not_text(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_bytes(b"---\nname: \xff\xfe\n---\n")
    with pytest.raises(BadCharacter, match="UTF-8"):
        load_character(tmp_path / "a.md")


@pytest.mark.parametrize("name", bundled_names())
def test_a_deployed_character_is_a_file_that_reads(name: str) -> None:
    """As a run keeps it: its profiles may name traits that one of them left out."""
    character = find_character(name)
    for profile in character.profiles:
        deployed = character.deployed(profile).settled()
        again = parse_character(dump_character(deployed))
        assert [t.id for t in again.traits()] == [t.id for t in deployed.traits()] and again.profiles == {}
        assert system_prompt(again) == system_prompt(character.deployed(profile))


def test_headings_in_other_scripts_are_called_by_their_letters() -> None:
    text = "---\nname: Капитан\n---\n\nТы капитан.\n\n## Речь\n\n### Говорит прямо\n\nТы прямой.\n\n### 海の話\n\nДа.\n"
    character = parse_character(text)
    assert [t.id for t in character.traits()] == ["говорит-прямо", "海の話"] and character.id == "капитан"
    with pytest.raises(BadCharacter, match="no letter or digit"):
        parse_character(text.replace("海の話", "!!!"))
