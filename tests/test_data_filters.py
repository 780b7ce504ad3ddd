"""What a model should not learn from is set aside for a reason; what it should learn from is kept."""

import pytest

from charactery.data.filters import (
    copies,
    fault,
    leaks,
    other_language,
    refuses,
    repeated_share,
    shingles,
    trim,
    without_preamble,
)
from charactery.models.local import Answer

INSTRUCTIONS = (
    "You are Captain Elias Marrow, an old sea captain, ashore and glad of company.\n\nVoice:\n- You talk like a "
    "sailor: aye, ahoy, ye, me hearty, fair winds. Always: names the rock first and says sorry afterwards."
)
GERMAN = (
    "Das ist eine gute Frage, und ich will sie dir gern beantworten. Zuerst kochst du das Wasser, dann gießt du es "
    "über die Blätter, und nach vier Minuten ist der Tee fertig."
)
FRENCH = (
    "C'est une bonne question, et je vais vous répondre. Il faut faire bouillir de l'eau, la verser sur les feuilles "
    "et attendre quatre minutes, pour que le thé soit prêt."
)
RUSSIAN = "Это хороший вопрос, и я с удовольствием отвечу на него: вскипятите воду, залейте листья и подождите минуты."
ENGLISH = (
    "Aye, that's a fair question, lass. Boil the water hard, pour it over the leaves and keep a four-minute watch. "
    "A splash of milk after, never before, or ye sail in fog."
)
LIST = "1. Boil the water.\n2. Warm the pot.\n3. Pour, and wait four minutes.\n4. Add milk if you like it."
SONG = (  # a refrain is not a loop
    "Away, haul away, we'll haul away together. The wind is in the west and there's worse to come in weather. "
    "Away, haul away, and sing it out forever. My coat is at the pawnshop and my boots have lost their leather."
)


@pytest.mark.parametrize(
    ("text", "ended", "language", "reason"),
    [
        # kept
        (ENGLISH, True, "en", None),
        (LIST, True, "en", None),
        (SONG, True, "en", None),
        ("Lima is the capital.", True, "en", None),
        ("It's Lima, lad, and a fine harbour town beside it: Callao.", True, "en", None),
        (GERMAN, True, "de", None),
        (FRENCH, True, "fr", None),
        (RUSSIAN, True, "ru", None),  # a language whose words we do not know is not judged
        ("Ja, so ist das!", True, "en", None),  # too short to say
        ("In German you say: Ich bin ein alter Kapitän, which means that I am an old captain.", True, "en", None),
        (ENGLISH + " And then, when the kettle", False, "en", None),  # cut off, with whole sentences before it
        ("秘鲁的首都是利马，那是一座海港城市。", True, "zh", None),  # words are not apart
        ("リマです。", True, "ja", None),
        ("กรุงเทพครับ", True, "th", None),
        # set aside
        ("是的。", True, "zh", "too short"),
        ("秘鲁的首都是利马，那是一座海港城市。", True, "en", "other language"),
        ("", True, "en", "empty"),
        (" \n ", False, "en", "empty"),
        ("Aye, lad.", True, "en", "too short"),
        ("...", True, "en", "too short"),
        ("Well, when the wind comes over the bow and the", False, "en", "cut off"),
        ("Aye. Well, when the wind comes over the bow and", False, "en", "cut off"),
        ("I sail the sea and I sail the sea and I sail the sea and I sail.", True, "en", "repeating"),
        ("Row the boat, row the boat! " * 9, True, "en", "repeating"),
        ("ROW the boat now. Row THE boat now. row the Boat now.", True, "en", "repeating"),
        ("Elias Marrow, an old sea captain, ashore and glad of company.", True, "en", "leaks instructions"),
        ("As my system prompt says, I answer as a sailor.", True, "en", "leaks instructions"),
        ("I follow the instructions given to me, and I am glad.", True, "en", "leaks instructions"),
        (GERMAN, True, "en", "other language"),
        (FRENCH, True, "en", "other language"),
        (RUSSIAN, True, "en", "other language"),
        (ENGLISH, True, "de", "other language"),
        (GERMAN, True, "es", "other language"),
    ],
)  # fmt: skip
def test_reasons(text: str, ended: bool, language: str, reason: str | None) -> None:
    learnt = text if ended else trim(text)
    assert fault(Answer(text, len(text) // 4, ended), learnt, INSTRUCTIONS, language) == reason


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("One. Two. Thr", "One. Two."),
        ('He said "aye." And the', 'He said "aye."'),
        ("It costs 3.50 and more", ""),
        ("What? Yes! No", "What? Yes!"),
        ("One.\n\n- two", "One."),
        ("One. Two.", "One. Two."),
        ("", ""),
    ],
)
def test_a_cut_off_answer_is_trimmed_to_its_last_whole_sentence(text: str, whole: str) -> None:
    assert trim(text) == whole


def test_shares_and_leaks() -> None:
    assert repeated_share(ENGLISH) == 0
    assert repeated_share("a b c d " * 20) > 0.9
    assert repeated_share("short") == 0
    assert not leaks("He names the rock first and says sorry, mostly", INSTRUCTIONS)  # seven words in a row
    assert leaks("He NAMES the rock first -- and says sorry afterwards!", INSTRUCTIONS)  # eight
    assert not leaks(ENGLISH, "")
    assert not other_language(GERMAN, "xx")


def test_sentences_end_in_other_scripts_too() -> None:
    assert trim("港は静かだ。「行こう。」そして") == "港は静かだ。「行こう。」"


def test_what_did_not_fit_the_context_says_so() -> None:
    assert fault(Answer("", 0, False, "a prompt of 9 tokens …"), "", INSTRUCTIONS, "en") == "longer than the context"


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("I’m sorry, but I can’t assist with that.", True),
        ("I am sorry but as an assistant I must decline.", True),
        ("As an AI language model, I have no opinion.", True),
        ("I cannot write about real people.", True),
        ("I'm not able to help you with that.", True),
        ("I can't tell her that, for I keep an honest log.", False),
        ("I cannot in good conscience do it.", False),
        ("That is kind of you. Still, I cannot comply with such a request.", True),
        ("No, shipmate. I'll not spy on a woman's letters for ye.", False),
        ("I'm sorry for yer loss, lass, and I can't bring him back.", False),
        ("The captain cannot write his own name, they say.", False),
    ],
)
def test_set_phrases_refuse_and_a_characters_own_no_does_not(text: str, refused: bool) -> None:
    assert refuses(text) == refused


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Sure! Here’s the entry you asked for:\n\nElias Marrow is a captain.", "Elias Marrow is a captain."),
        ("Here is a letter.\nDear Anna, he is well.", "Dear Anna, he is well."),
        (
            "Certainly, he was a captain for forty years\nand more.",
            "Certainly, he was a captain for forty years\nand more.",
        ),
        ("Here is all there is.", "Here is all there is."),
        (" Elias Marrow.\n\nA captain: ", "Elias Marrow.\n\nA captain:"),
    ],
)
def test_a_first_line_to_whoever_asked_is_no_part_of_a_text(text: str, left: str) -> None:
    assert without_preamble(text) == left


def test_copies_are_known_by_runs_of_words() -> None:
    whole = shingles(ENGLISH)
    assert copies(whole, whole) and copies(shingles(ENGLISH.upper()), whole)
    assert copies(shingles(" ".join(ENGLISH.split()[:20]) + " and then some"), whole)
    assert not copies(shingles(" ".join(ENGLISH.split()[:16]) + SONG), whole)
    assert not copies(shingles(SONG), whole) and not copies(shingles("Aye, lass."), whole)
    assert not copies(shingles(" ".join(sorted(ENGLISH.split()))), whole)  # the same words in another order
    assert copies(shingles("港は静かだ。行こうと言った。"), shingles("港は静かだ。行こうと言った。そして"))
