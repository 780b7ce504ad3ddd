"""Import and export of other people's formats: nothing is lost, an edit comes out, a damaged file gets a sentence."""

import base64
import copy
import difflib
import io
import json
import struct
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from charactery.cli import main
from charactery.constitution import (
    Character,
    Item,
    Section,
    Trait,
    dump_character,
    find_character,
    load_character,
    parse_character,
    system_prompt,
)
from charactery.constitution.formats import FORMATS, export_character, import_character, png, write_import
from charactery.constitution.formats.plate import plate
from charactery.constitution.formats.slots import clean, read, show
from charactery.errors import BadCharacter, BadData, CharacteryError, CharacteryWarning

DATA = Path("../shared/data")
OCT = sorted((DATA / "open_character_training/constitutions/hand-written").glob("*.txt"))
SPEC = DATA / "openai_model_spec/model_spec.md"

NASTY = [
    "",
    " ",
    "\n\n",
    "plain",
    "  led and trailed  ",
    "two\r\nlines\r\n",
    "trailing space \nand tab\t\n\n\nthree down",
    "## A heading\n\ntext",
    "# One\n### Three\n#### Four",
    "because: of it\nshows:\n- one\nweight: 3",
    "Shows:\nAsk:\nBecuase:",
    "---\nname: other\n---\n",
    "before\n---\nafter",
    "<!-- gone? -->\nstays",
    "text\n  <!-- open",
    "```\nnever closed",
    "~~~~\n## in a fence\n~~~~",
    "~~~text\nlooks wrapped\n~~~",
    "- item\n- [low] item\n  goes on",
    "[low] marked",
    "(in the text)",
    "{{char}} greets {{user}}: *waves* \"hi\"",
    "tab\there, nul \x00, bell \x07, nel \x85, ls \u2028 ps \u2029, vt \x0b, ff \x0c",
    "lone \ud83d surrogate",
    "\ufeffbom, emoji 👩‍🚀, 日本語、漢字",
    "key: value # comment\n'quotes' \"double\" `back` \\slash %percent @at &amp; *star !bang | > pipes",
    "=",
    "null",
    "1.0",
    "x" * 300 + " --- " + "y" * 300,
    "<START>\n{{user}}: hi\n{{char}}: ho\n<START>\n",
    "# " + " " * 3000 + "x",
]  # fmt: skip


def card(version: str = "card-v2", **fields: Any) -> dict[str, Any]:
    """A card with something in every field."""
    data: dict[str, Any] = {
        "name": "Ada",
        "description": "You are {{char}}, a clockmaker.\n\n## Looks\n\nGrey coat.",
        "personality": "patient, exact, fond of rain",
        "scenario": "{{user}} enters the shop.",
        "first_mes": "*looks up* Good evening.",
        "mes_example": "<START>\n{{user}}: Hello\n{{char}}: Mind the pendulum.\n",
        "creator_notes": "Best at low temperature.",
        "system_prompt": "Write {{char}}'s next reply. {{original}}",
        "post_history_instructions": "",
        "alternate_greetings": ["Closed.", " \nWe are open \n", ""],
        "character_book": {
            "name": "Town",
            "description": "Places.",
            "scan_depth": 4,
            "extensions": {"other": [1, None]},
            "entries": [
                {
                    "keys": ["tower", "old clock"], "content": "## The tower\nIt stopped.", "extensions": {"depth": 4},
                    "enabled": True, "insertion_order": 10, "name": "Tower", "priority": 3, "case_sensitive": False,
                },
                {
                    "keys": ["/rain|snow{1,2}/i"], "secondary_keys": ["a, b"], "content": "Wet.", "extensions": {},
                    "enabled": False, "insertion_order": 20, "comment": "Tower", "use_regex": True, "selective": True,
                },
            ],
        },
        "tags": ["clock", "calm"],
        "creator": "somebody",
        "character_version": "1.2",
        "extensions": {"talkativeness": 0.5, "depth_prompt": {"prompt": "x", "depth": 4}, "unknown/app": {"a": [1, 2]}},
        "made_up": {"kept": True},
    }  # fmt: skip
    if version == "card-v3":
        data |= {
            "assets": [{"type": "icon", "uri": "ccdefault:", "name": "main", "ext": "png"}],
            "nickname": "A.",
            "creator_notes_multilingual": {"de": "Kühl halten.", "fr": "Au frais. "},
            "source": ["https://example.org/1"],
            "group_only_greetings": ["All of you?"],
            "creation_date": 1700000000,
            "modification_date": 1700000001,
        }
    spec = {"card-v2": ("chara_card_v2", "2.0"), "card-v3": ("chara_card_v3", "3.0")}[version]
    return {"spec": spec[0], "spec_version": spec[1], "data": data | fields, "top_level": "kept"}


def picture(texts: dict[str, Any], kind: bytes = b"tEXt", late: bool = False) -> bytes:
    """A PNG with cards in it, before or after the image data."""
    out = io.BytesIO()
    Image.new("RGB", (8, 8), (9, 8, 7)).save(out, "PNG")
    parts = png.chunks(out.getvalue())
    at = len(parts) - 1 if late else 1
    for name, value in texts.items():
        body = value if isinstance(value, bytes) else base64.b64encode(json.dumps(value).encode())
        head = name.encode() + b"\0"
        packed = {b"tEXt": head + body, b"zTXt": head + b"\0" + zlib.compress(body)}
        packed[b"iTXt"] = head + b"\1\0\0\0" + zlib.compress(body)
        parts.insert(at, (kind, packed[kind]))
    parts.insert(1, (b"prVt", b"private chunk"))
    return png.join(parts)


def card_in(data: bytes, name: str) -> Any:
    """The card in a PNG's chunk, read by Pillow."""
    image = Image.open(io.BytesIO(data))
    image.load()
    return json.loads(base64.b64decode(image.text[name]))  # type: ignore[attr-defined]


def put(path: Path, value: Any) -> Path:
    """A file with text, bytes, or a value as JSON."""
    if isinstance(value, bytes):
        path.write_bytes(value)
    elif isinstance(value, str):
        path.write_bytes(value.encode())
    else:
        path.write_text(json.dumps(value))
    return path


def reloaded(character: Character, folder: Path) -> Character:
    """The character written as a file and read again, as it is when a person edits it in between."""
    path = folder / "again.md"
    path.write_text(dump_character(character), encoding="utf-8")
    again = load_character(path)
    assert again == character
    return again


def with_definition(character: Character, number: int, words: str) -> Character:
    """The character with one trait's definition changed."""
    old = list(character.traits())[number]
    sections = tuple(
        replace(s, traits=tuple(replace(t, definition=words) if t is old else t for t in s.traits))
        for s in character.sections
    )
    return replace(character, sections=sections)


def section(character: Character, title: str) -> Section:
    return next(s for s in character.sections if s.title == title)


def with_section(character: Character, changed: Section) -> Character:
    """The character with one section replaced, or added."""
    if changed.title not in [s.title for s in character.sections]:
        return replace(character, sections=(*character.sections, changed))
    return replace(character, sections=tuple(changed if s.title == changed.title else s for s in character.sections))


# Character cards


@pytest.mark.parametrize("version", ["card-v2", "card-v3"])
def test_card_survives(tmp_path: Path, version: str) -> None:
    original = card(version)
    character = reloaded(import_character(put(tmp_path / "a.json", original)), tmp_path)
    export_character(character, tmp_path / "b.json")
    assert json.loads((tmp_path / "b.json").read_text()) == original
    assert list(json.loads((tmp_path / "b.json").read_text())["data"]) == list(original["data"])


@pytest.mark.parametrize("text", NASTY)
@pytest.mark.parametrize("field", [
    "name", "description", "personality", "scenario", "first_mes", "mes_example", "creator_notes", "system_prompt",
    "character_version",
])  # fmt: skip
def test_card_field_survives_any_text(tmp_path: Path, field: str, text: str) -> None:
    original = card(**{field: text})
    character = reloaded(import_character(put(tmp_path / "a.json", original)), tmp_path)
    export_character(character, tmp_path / "b.json")
    assert json.loads((tmp_path / "b.json").read_text()) == original


def test_card_lists_survive_any_text(tmp_path: Path) -> None:
    original = card("card-v3", alternate_greetings=NASTY, creator_notes_multilingual={t: t for t in NASTY})
    original["data"]["group_only_greetings"] = []
    original["data"]["character_book"]["entries"] = [
        {"keys": [text, "k"], "content": text, "name": text, "secondary_keys": [text]} for text in NASTY
    ]
    original["data"]["extensions"] = {text: text for text in NASTY}
    character = reloaded(import_character(put(tmp_path / "a.json", original)), tmp_path)
    export_character(character, tmp_path / "b.json")
    assert json.loads((tmp_path / "b.json").read_text()) == original


@pytest.mark.parametrize(
    "fields",
    [
        {"description": None, "tags": None, "first_mes": None, "personality": None},
        {"alternate_greetings": None, "character_book": None, "extensions": None},
        {"alternate_greetings": ["a", 3], "character_book": {"entries": {"0": {"key": ["a"]}}}},
        {"character_book": []},
        {"character_book": {"entries": [{"keys": "a string", "content": "c"}, {"content": "d"}]}},
        {"character_book": {"entries": []}, "alternate_greetings": []},
        {"creator_notes_multilingual": {}, "description": "", "personality": "", "scenario": "", "first_mes": ""},
        {"description": 12},
    ],
)
def test_card_of_odd_shape_survives(tmp_path: Path, fields: dict[str, Any]) -> None:
    original = card("card-v3", **fields)
    character = reloaded(import_character(put(tmp_path / "a.json", original)), tmp_path)
    export_character(character, tmp_path / "b.json")
    assert json.loads((tmp_path / "b.json").read_text()) == original


@pytest.mark.parametrize(
    "original",
    [
        {"name": "Bo", "description": "", "personality": "", "scenario": "", "first_mes": "", "mes_example": ""},
        {"name": "Bo", "description": "A cook.", "unknown": [1]},
        {"spec": "chara_card_v2", "data": {"name": "", "description": ""}},
        {"spec": "chara_card_v2", "data": {}},
    ],
)
def test_bare_and_first_version_cards(tmp_path: Path, original: dict[str, Any]) -> None:
    character = reloaded(import_character(put(tmp_path / "bo.json", original)), tmp_path)
    export_character(character, tmp_path / "b.json")
    assert json.loads((tmp_path / "b.json").read_text()) == original


def test_card_reads_well(tmp_path: Path) -> None:
    original = card("card-v3")
    text = dump_character(import_character(put(tmp_path / "a.json", original)))
    for words in (
        "## Personality", "### Patient", "### Fond of rain", "## Scenario", "## First message\n\n*looks up* Good",
        "## Alternate greetings", "### Greeting 2\n\nWe are open", "## Lorebook", "### Tower\n\nKeys: tower, old clock",
        "It stopped.", "Secondary keys: a, b", "## Example messages", "## System prompt", "Kühl halten.",
    ):  # fmt: skip
        assert words in text


def test_what_of_a_card_reaches_the_model(tmp_path: Path) -> None:
    prompt = system_prompt(import_character(put(tmp_path / "a.json", card("card-v3"))))
    assert all(words in prompt for words in ("clockmaker", "Grey coat", "patient", "enters the shop"))
    unsaid = ("Good evening", "Closed.", "It stopped", "pendulum", "{{original}}", "temperature", "Kühl", "All of you")
    assert not any(words in prompt for words in unsaid)


@pytest.mark.parametrize("version", ["card-v2", "card-v3"])
def test_card_with_one_trait_edited(tmp_path: Path, version: str) -> None:
    original = card(version)
    character = reloaded(import_character(put(tmp_path / "a.json", original)), tmp_path)
    edited = reloaded(with_definition(character, 1, "exact to the second"), tmp_path)
    export_character(edited, tmp_path / "b.json")
    original["data"]["personality"] = "patient, exact to the second, fond of rain"
    assert json.loads((tmp_path / "b.json").read_text()) == original


def test_every_edit_in_a_card_comes_out(tmp_path: Path) -> None:
    original = card("card-v3")
    data = original["data"]
    character = import_character(put(tmp_path / "a.json", original))
    character = replace(character, name="Ida", introduction="You are Ida.", version="2")
    for title, field in (("Scenario", "scenario"), ("First message", "first_mes"), ("System prompt", "system_prompt")):
        character = with_section(character, replace(section(character, title), text=f"New {title}."))
        data[field] = f"New {title}."
    greetings = section(character, "Alternate greetings")
    greetings = replace(greetings, traits=(*greetings.traits[1:], Trait("Late", "Go home.")))
    character = with_section(character, greetings)
    character = with_section(character, replace(section(character, "Creator's notes"), text=""))
    book = section(character, "Lorebook")
    tower, rain = book.traits
    rain = replace(rain, title="Rain", definition="Keys: rain, snow\n\nVery wet.")
    new = Trait("Mayor", "Keys: mayor\n\nNobody likes him.")
    character = with_section(character, replace(book, text="Old places.", traits=(new, tower, rain)))
    export_character(reloaded(character, tmp_path), tmp_path / "b.json")
    data |= {"name": "Ida", "description": "You are Ida.", "character_version": "2", "creator_notes": ""}
    data["alternate_greetings"] = [" \nWe are open \n", "", "Go home."]
    old_tower, old_rain = data["character_book"]["entries"]
    old_rain = {k: v for k, v in old_rain.items() if k != "secondary_keys"} | {
        "comment": "Rain", "keys": ["rain", "snow"], "secondary_keys": [], "content": "Very wet."
    }  # fmt: skip
    mayor = {"keys": ["mayor"], "content": "Nobody likes him.", "extensions": {}, "enabled": True, "use_regex": False}
    data["character_book"]["entries"] = [mayor | {"insertion_order": 1, "name": "Mayor"}, old_tower, old_rain]
    data["character_book"]["description"] = "Old places."
    assert json.loads((tmp_path / "b.json").read_text()) == original


@pytest.mark.parametrize(
    ("old", "number", "new"),
    [
        ("Kind and brave.", 0, "Kind."),
        ("- kind\r\n- brave  \n", 1, "bold"),
        ("kind; brave; shy.", 0, "stern"),
        ("First line.\n\nbecause: second line\nThird line.", 1, "because: of a change"),
        ('[Mind("kind" + "brave")\nBody("tall")]', 0, "Kind."),
        ("優しい、強い", 0, "怖い"),
    ],
)
def test_personality_keeps_what_is_not_edited(tmp_path: Path, old: str, number: int, new: str) -> None:
    character = import_character(put(tmp_path / "a.json", card(personality=old)))
    before = list(character.traits())[number].definition
    edited = reloaded(with_definition(character, number, show(new, "trait")), tmp_path)
    export_character(edited, tmp_path / "b.json")
    found = json.loads((tmp_path / "b.json").read_text())["data"]["personality"]
    assert found == (old.replace(read(before), new) if read(before) in old else new)
    assert clean(found) != clean(old)


def test_trait_added_and_trait_removed_in_a_card(tmp_path: Path) -> None:
    character = import_character(put(tmp_path / "a.json", card()))
    traits = section(character, "Personality").traits
    changed = Section("Personality", traits=(traits[0], traits[2], Trait("Dry", "dry")))
    export_character(with_section(character, changed), tmp_path / "b.json")
    found = json.loads((tmp_path / "b.json").read_text())["data"]
    assert found["personality"] == "patient, fond of rain, dry"
    assert "charactery" not in found["extensions"]


def test_copies_above_data_follow_the_edit(tmp_path: Path) -> None:
    original = card()
    original |= {"name": "Ada", "scenario": original["data"]["scenario"], "first_mes": "another"}
    character = import_character(put(tmp_path / "a.json", original))
    edited = with_section(character, replace(section(character, "Scenario"), text="Night."))
    export_character(edited, tmp_path / "b.json")
    original["scenario"] = original["data"]["scenario"] = "Night."
    assert json.loads((tmp_path / "b.json").read_text()) == original


def test_what_is_added_to_a_card_comes_back(tmp_path: Path) -> None:
    character = import_character(put(tmp_path / "a.json", card()))
    trait = section(character, "Personality").traits[0]
    trait = replace(trait, because="Springs take time.", asks=(Item("How are you?"),), shows=(Item("Wait."),))
    added = with_section(character, Section("Personality", traits=(trait,)))
    export_character(added, tmp_path / "b.json")
    assert import_character(tmp_path / "b.json") == added


# PNG


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("kind", [b"tEXt", b"zTXt", b"iTXt"])
@pytest.mark.parametrize("version", ["card-v2", "card-v3"])
def test_png_card(tmp_path: Path, version: str, kind: bytes, late: bool) -> None:
    name = {"card-v2": "chara", "card-v3": "ccv3"}[version]
    data = picture({name: card(version)}, kind, late)
    character = import_character(put(tmp_path / "ada.png", data))
    export_character(character, tmp_path / "same.png")
    assert (tmp_path / "same.png").read_bytes() == data
    export_character(with_definition(character, 0, "hasty"), tmp_path / "new.png")
    new = (tmp_path / "new.png").read_bytes()
    expected = card(version, personality="hasty, exact, fond of rain")
    assert card_in(new, name) == expected
    assert [c for c in png.chunks(new) if not png.keyword(c)] == [c for c in png.chunks(data) if not png.keyword(c)]


def test_png_picture_is_kept_beside_the_file(tmp_path: Path) -> None:
    data = picture({"chara": card()}, late=True)
    (tmp_path / "from").mkdir()
    source = put(tmp_path / "from" / "ada.png", data)
    written = write_import(source, tmp_path / "mine" / "clock.md")
    assert (tmp_path / "mine" / "clock.png").read_bytes() == data
    source.unlink()
    export_character(with_definition(written, 0, "hasty"), tmp_path / "new.png")
    assert Image.open(tmp_path / "new.png").getpixel((0, 0)) == (9, 8, 7)
    assert card_in((tmp_path / "new.png").read_bytes(), "chara")["data"]["personality"].startswith("hasty, exact")
    (tmp_path / "mine" / "clock.png").unlink()
    with pytest.raises(BadCharacter, match="not beside it"):
        export_character(written, tmp_path / "newer.png")
    export_character(written, tmp_path / "newer.json")
    assert json.loads((tmp_path / "newer.json").read_text()) == card()


def test_import_beside_the_picture_and_no_overwriting(tmp_path: Path) -> None:
    source = put(tmp_path / "ada.png", picture({"chara": card()}))
    write_import(source, tmp_path / "ada.md")
    assert source.is_file()
    for target in ("ada.md", "other.md"):
        put(tmp_path / "other.png", b"mine")
        with pytest.raises(BadData, match="there already"):
            write_import(source, tmp_path / target)
    assert not (tmp_path / "other.md").exists() and (tmp_path / "other.png").read_bytes() == b"mine"
    with pytest.raises(BadData, match="there already"):
        export_character(load_character(tmp_path / "ada.md"), source)
    export_character(load_character(tmp_path / "ada.md"), source, overwrite=True)


def test_png_with_both_versions(tmp_path: Path) -> None:
    v2, v3 = card(creator_notes="This is a version 3 card."), card("card-v3")
    character = import_character(put(tmp_path / "a.png", picture({"chara": v2, "ccv3": v3})))
    export_character(with_definition(character, 0, "hasty"), tmp_path / "b.png")
    for name, old in (("chara", v2), ("ccv3", v3)):
        expected = copy.deepcopy(old)
        expected["data"]["personality"] = "hasty, exact, fond of rain"
        assert card_in((tmp_path / "b.png").read_bytes(), name) == expected


def test_plate_for_a_card_without_picture(tmp_path: Path) -> None:
    character = import_character(put(tmp_path / "a.json", card("card-v3")))
    export_character(character, tmp_path / "b.png")
    assert Image.open(tmp_path / "b.png").size == (800, 1200)
    assert card_in((tmp_path / "b.png").read_bytes(), "ccv3") == card("card-v3")
    for name in ("", "A" * 500, "日本 語", "one two three four five six seven eight nine ten eleven"):
        assert Image.open(io.BytesIO(plate(Character(name)))).size == (800, 1200)


def bomb(kind: bytes) -> bytes:
    """A PNG whose text chunk unpacks to 200 MB."""
    stream = zlib.compressobj(9)
    body = b"".join([*(stream.compress(bytes(1_000_000)) for _ in range(200)), stream.flush()])
    head = {b"zTXt": b"chara\0\0", b"iTXt": b"chara\0\1\0\0\0"}[kind]
    parts = png.chunks(picture({}))
    return png.join([*parts[:-1], (kind, head + body), parts[-1]])


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt"])
def test_png_bomb(tmp_path: Path, kind: bytes) -> None:
    with pytest.raises(BadData, match="more than 20 MB"):
        import_character(put(tmp_path / "a.png", bomb(kind)))


@pytest.mark.parametrize("command", ["import", "train"])
def test_what_is_no_character_is_a_sentence_and_exit_2(
    tmp_path: Path, command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    huge = put(tmp_path / "huge.md", b"")
    with huge.open("r+b") as file:
        file.truncate(50_000_000)
    cut, burst = put(tmp_path / "cut.png", picture({"chara": card()})[:-40]), put(tmp_path / "b.png", bomb(b"zTXt"))
    cases = {huge: "50 MB", cut: "cut", burst: "more than 20 MB"} if command == "import" else {huge: "50 MB"}
    for path, words in cases.items():
        monkeypatch.setattr("sys.argv", ["charactery", command, str(path), "--out", str(tmp_path / "out.md")])
        with pytest.raises(SystemExit) as stopped:
            main()
        said = capsys.readouterr().err
        assert stopped.value.code == 2 and words in said and str(path) in said, (path.name, said)
        assert not (tmp_path / "out.md").exists()


def test_png_cut_short_at_every_place(tmp_path: Path) -> None:
    data = picture({"chara": card()}, late=True)
    for end in [8, 9, 15, 16, 33, len(data) // 2, len(data) - 13, len(data) - 12, len(data) - 1]:
        with pytest.raises(BadData, match="cut short"):
            import_character(put(tmp_path / "a.png", data[:end]))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (picture({}), "without a card"),
        (picture({"chara": b"!!! not base64"}), "damaged"),
        (picture({"chara": base64.b64encode(b"\xff\xfe\xfd")}), "damaged"),
        (picture({"chara": base64.b64encode(b'{"name": ')}), "not whole JSON"),
        (picture({"chara": [1]}), "no character card"),
        (picture({"chara": {"data": {"name": 5}}}), "should hold"),
        (picture({"chara": card()})[:-1] + b"x", "checksum"),
        (picture({"chara": card()}).replace(b"private chunk", b"PRIVATE CHUNK"), "checksum"),
        (png.SIGNATURE + struct.pack(">I", 2**31) + b"IDAT", "cut short"),
    ],
)
def test_png_damaged(tmp_path: Path, data: bytes, words: str) -> None:
    with pytest.raises(BadData, match=words):
        import_character(put(tmp_path / "a.png", data))


# Open Character Training

OCT_LIST: list[dict[str, Any]] = [
    {"trait": "I use irony — gently.", "questions": ["Why?", " spaced ", "", "two\nlines", "[low] mark"]},
    {"trait": "", "questions": []},
    {"trait": "I use irony — gently.", "questions": ["Why?"], "clarification": "No malice.", "n": 1},
    {"trait": "because: of rain\n## and snow", "questions": ["a", "b"], "additional_questions": ["c", "", "d"]},
    {"trait": "No questions at all"},
]


@pytest.mark.parametrize("path", OCT, ids=lambda path: path.stem)
def test_oct_files_byte_for_byte_and_with_one_trait_edited(tmp_path: Path, path: Path) -> None:
    character = reloaded(import_character(path), tmp_path)
    export_character(character, tmp_path / "same.txt")
    assert (tmp_path / "same.txt").read_bytes() == path.read_bytes()
    number = len(list(character.traits())) - 1
    export_character(reloaded(with_definition(character, number, "I sing."), tmp_path), tmp_path / "new.txt")
    expected = json.loads(path.read_text())
    expected[number]["trait"] = "I sing."
    assert json.loads((tmp_path / "new.txt").read_text()) == expected


@pytest.mark.parametrize("lines", [False, True])
def test_oct_list_survives_and_is_edited(tmp_path: Path, lines: bool) -> None:
    text = "\n".join(map(json.dumps, OCT_LIST)) + "\n" if lines else json.dumps(OCT_LIST, indent=4)
    suffix = "jsonl" if lines else "json"
    character = reloaded(import_character(put(tmp_path / f"irony.{suffix}", text)), tmp_path)
    assert character.name == "Irony"
    export_character(character, tmp_path / f"same.{suffix}")
    assert (tmp_path / f"same.{suffix}").read_text() == text
    first = section(character, "Traits").traits[0]
    asks = (*first.asks[:2], Item("changed"), first.asks[3])
    edited = replace(first, definition="I say it straight.", asks=asks)
    traits = (edited, *section(character, "Traits").traits[1:])
    export_character(with_section(character, Section("Traits", traits=traits)), tmp_path / "new.json")
    expected = copy.deepcopy(OCT_LIST)
    expected[0] = {"trait": "I say it straight.", "questions": ["Why?", " spaced ", "", "changed", "[low] mark"]}
    assert json.loads((tmp_path / "new.json").read_text()) == expected


def test_oct_survives_any_text(tmp_path: Path) -> None:
    original = [{"trait": text, "questions": [text, *NASTY], "x": text} for text in NASTY]
    character = reloaded(import_character(put(tmp_path / "a.json", original)), tmp_path)
    export_character(character, tmp_path / "b.json")
    assert json.loads((tmp_path / "b.json").read_text()) == original


def test_oct_questions_of_both_kinds(tmp_path: Path) -> None:
    entry = {"trait": "T", "questions": ["q1", "q2"], "additional_questions": ["a1", "a2"]}
    character = import_character(put(tmp_path / "a.jsonl", json.dumps(entry)))
    trait = section(character, "Traits").traits[0]
    cases = {
        ("q1", "Q2", "a1", "a2"): (["q1", "Q2"], ["a1", "a2"]),
        ("q1", "a1", "a2"): (["q1"], ["a1", "a2"]),
        ("q1", "q2", "a1", "a2", "a3"): (["q1", "q2"], ["a1", "a2", "a3"]),
    }
    for number, (asks, (questions, more)) in enumerate(cases.items()):
        changed = replace(trait, asks=tuple(map(Item, asks)))
        out = export_character(
            with_section(character, Section("Traits", traits=(changed,))), tmp_path / f"{number}.jsonl"
        )
        assert json.loads(out.read_text()) == {"trait": "T", "questions": questions, "additional_questions": more}


def test_oct_traits_moved_added_and_removed(tmp_path: Path) -> None:
    original = [{"trait": f"Trait {n}", "questions": [], "n": n} for n in range(4)]
    character = import_character(put(tmp_path / "a.json", original))
    a, b, c, _ = section(character, "Traits").traits
    changed = Section("Traits", traits=(c, a, Trait("New", "New one", asks=(Item("Q"),)), b))
    export_character(with_section(character, changed), tmp_path / "b.json")
    new = {"trait": "New one", "questions": ["Q"]}
    assert json.loads((tmp_path / "b.json").read_text()) == [original[2], original[0], new, original[1]]


# Markdown constitutions

MARKDOWN = """# The Charter {#charter}

You are helpful.\x20\x20
Truly.

## Honesty {#honesty authority=user}

Say what is so.

!!! meta "Commentary"
    Because trust.

**Example**: a case

~~~xml
<user>
# not a heading
</user>
<assistant> <!-- GOOD -->
Yes.
</assistant>
~~~

### Small lies ##

because: even these count
weight: 3

###### Deep

<!-- a remark
## not a heading
-->

## Empty

## Safety

### Empty too
### Harm
Do none.
## Last
\ttext without an end"""


def test_markdown_byte_for_byte(tmp_path: Path) -> None:
    for number, text in enumerate(
        [MARKDOWN, MARKDOWN.replace("\n", "\r\n"), "\ufeff" + MARKDOWN, *map(as_document, NASTY)]
    ):
        source = put(tmp_path / f"{number}.md", text.encode("utf-8", "replace"))
        character = reloaded(import_character(source), tmp_path)
        out = export_character(character, tmp_path / f"{number}-out.md")
        assert out.read_bytes() == source.read_bytes()


def as_document(text: str) -> str:
    return f"# A\n{text}\n## B\n{text}\n\n\n### C {{#c}}\n\n{text}\n"


def test_markdown_headings_are_sections_and_traits(tmp_path: Path) -> None:
    character = import_character(put(tmp_path / "a.md", MARKDOWN))
    assert (character.name, character.title) == ("The Charter", "The Charter")
    assert [(s.title, [t.title for t in s.traits]) for s in character.sections] == [
        ("Honesty", []),
        ("Honesty › Small lies", ["Deep"]),
        ("Principles", ["Empty"]),
        ("Safety", ["Empty too", "Harm"]),
        ("Principles (continued)", ["Last"]),
    ]
    text = dump_character(character)
    assert "!!! meta" in text and "# not a heading" in text and "a remark" in text


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_markdown_with_one_trait_edited(tmp_path: Path, newline: str) -> None:
    source = put(tmp_path / "a.md", MARKDOWN.replace("\n", newline))
    character = reloaded(import_character(source), tmp_path)
    harm = [t.title for t in character.traits()].index("Harm")
    out = export_character(reloaded(with_definition(character, harm, "Do little."), tmp_path), tmp_path / "b.md")
    assert out.read_bytes() == source.read_bytes().replace(b"Do none.", b"Do little.")


def test_markdown_edits_of_all_kinds(tmp_path: Path) -> None:
    source = put(tmp_path / "a.md", MARKDOWN)
    text = dump_character(import_character(source))
    for old, new in (
        ("You are helpful.\nTruly.", "You are helpful.\nMostly."),
        ("### Harm\n\nDo none.", "### Harm\n\nDo none.\n\n### Added\n\nA rule."),
        ("### Empty\n\nEmpty.\n", ""),
        ("# The Charter", "# Our Charter"),
        ("## Honesty\n\nSay what is so.", "## Candour\n\nSay what you think."),
    ):
        assert text.count(old) == 1 or old.startswith("# ")
        text = text.replace("\n" + old, "\n" + new) if old.startswith("# ") else text.replace(old, new)
    out = export_character(parse_character(text), tmp_path / "b.md")
    expected = MARKDOWN
    for old, new in (
        ("\nTruly.", "\nMostly."),
        ("### Harm\nDo none.\n", "### Harm\nDo none.\n### Added\n\nA rule.\n\n"),
        ("## Empty\n\n", ""),
        ("# The Charter", "# Our Charter"),
        ("## Honesty {", "## Candour {"),
        ("Say what is so.", "Say what you think."),
    ):
        expected = expected.replace(old, new)
    assert out.read_text() == expected


@pytest.mark.skipif(not SPEC.is_file(), reason="needs the Model Spec in ../shared/data")
def test_model_spec(tmp_path: Path) -> None:
    character = reloaded(import_character(SPEC), tmp_path)
    assert export_character(character, tmp_path / "same.md").read_bytes() == SPEC.read_bytes()
    traits = list(character.traits())
    assert len(traits) == 65 and len(character.sections) == 18
    number = [t.title for t in traits].index("Be warm")
    words = traits[number].definition.replace("The assistant", "The helper", 1)
    assert words != traits[number].definition
    out = export_character(reloaded(with_definition(character, number, words), tmp_path), tmp_path / "new.md")
    before, after = SPEC.read_text().splitlines(), out.read_text().splitlines()
    changed = [line for line in difflib.ndiff(before, after) if line[0] in "+-"] if len(before) != len(after) else [
        (a, b) for a, b in zip(before, after, strict=True) if a != b
    ]  # fmt: skip
    assert len(changed) == 1 and "The helper" in changed[0][1]


def test_markdown_with_other_front_matter_or_without_headings(tmp_path: Path) -> None:
    for text in ("---\ntitle: A constitution\n---\n\n## Be kind\n\nAlways.\n", "Only prose here.\n", "[a](b) link\n"):
        source = put(tmp_path / "a.md", text)
        character = reloaded(import_character(source), tmp_path)
        out = export_character(character, tmp_path / "b.md", overwrite=True)
        assert out.read_bytes() == source.read_bytes()


# Native characters in other formats


@pytest.mark.parametrize("name", ["captain", "hhh"])
@pytest.mark.parametrize(
    ("out", "format"),
    [
        ("a.json", "card-v2"), ("a.json", "card-v3"), ("a.png", None), ("a.png", "card-v3"), ("a.md", None),
        ("a.txt", "open-character-training"), ("a.jsonl", None),
    ],
)  # fmt: skip
def test_native_character_there_and_back(tmp_path: Path, name: str, out: str, format: str | None) -> None:
    character = find_character(name)
    path = export_character(character, tmp_path / out, format)
    assert import_character(path) == character
    written = write_import(path, tmp_path / "back.md")
    assert export_character(written, tmp_path / f"again{path.suffix}", format).read_bytes() == path.read_bytes()


def test_native_card_tells_other_programs_who_it_is(tmp_path: Path) -> None:
    captain = find_character("captain")
    found = json.loads(export_character(captain, tmp_path / "a.json").read_text())
    assert found["spec"] == "chara_card_v2"
    assert "Talks like a sailor: " in found["data"]["personality"]
    assert found["data"]["description"] == captain.introduction
    assert "{{char}}: " in found["data"]["mes_example"]


def test_card_of_a_native_character_changed_by_another_program(tmp_path: Path) -> None:
    captain = find_character("captain")
    path = export_character(captain, tmp_path / "a.json")
    found = json.loads(path.read_text())
    found["data"]["extensions"]["fav"] = True
    found["data"]["tags"] = found["data"]["tags"] or []
    found["create_date"] = "today"
    character = import_character(put(tmp_path / "b.json", found))
    assert list(character.traits()) == list(captain.traits()) and character.dials == captain.dials
    export_character(character, tmp_path / "c.json")
    again = json.loads((tmp_path / "c.json").read_text())
    assert again["data"]["extensions"]["fav"] is True and again["create_date"] == "today"
    found["data"]["first_mes"] = "Ahoy there!"
    with pytest.warns(CharacteryWarning, match="edited since"):
        character = import_character(put(tmp_path / "d.json", found))
    assert section(character, "First message").text == "Ahoy there!"


def test_damaged_copy_of_a_native_character_is_left_aside(tmp_path: Path) -> None:
    original = card()
    for native in ("---\nname: [", "not a character", 5, "---\nname: A\nx-card: 3\n---\n\nHi\n", None):
        original["data"]["extensions"]["charactery"] = native
        with pytest.warns(CharacteryWarning):
            assert import_character(put(tmp_path / "a.json", original)).name == "Ada"


def test_from_one_format_to_another_and_back(tmp_path: Path) -> None:
    character = import_character(put(tmp_path / "irony.json", OCT_LIST))
    for out in ("b.json", "b.md", "b.png"):
        path = export_character(character, tmp_path / out, None if out != "b.json" else "card")
        back = import_character(path)
        assert back == character
        export_character(back, tmp_path / f"{out}.jsonl")
        rows = (tmp_path / f"{out}.jsonl").read_text().splitlines()
        assert [json.loads(row) for row in rows] == OCT_LIST


@pytest.mark.parametrize(("old", "new"), [("card-v2", "card-v3"), ("card-v3", "card-v2")])
def test_card_of_another_version(tmp_path: Path, old: str, new: str) -> None:
    character = import_character(put(tmp_path / "a.json", card(old)))
    found = json.loads(export_character(character, tmp_path / "b.json", new).read_text())
    expected = card(new)
    assert (found["spec"], found["spec_version"]) == (expected["spec"], expected["spec_version"])
    data = card(old)["data"] | ({"group_only_greetings": []} if new == "card-v3" else {})
    assert found["data"] == data
    assert found["top_level"] == "kept"


# Files that are no characters


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.json", b"", "is empty"),
        ("a.md", b" \n\t\n", "is empty"),
        ("a.json", b'{"name": "A", "description"', "not whole JSON"),
        ("a.json", b'{"a": 1}', "neither a character card"),
        ("a.json", b"[]", "no traits"),
        ("a.json", b"[1, 2]", "entry 1 has no `trait`"),
        ("a.json", b'[{"trait": 3}]', "entry 1 has no `trait`"),
        ("a.json", b'[{"trait": "a", "questions": "b"}]', "list of texts"),
        ("a.jsonl", b'{"trait": "a"}\n{"trait": }\n{"x": 1}\n', "not whole JSON"),
        ("a.jsonl", b'{"trait": "a"}\n{"x": 1}\n', "entry 2 has no `trait`"),
        ("a.json", b"[" * 100_000, "nested more than"),
        ("a.json", b'{"data":' * 70 + b"{}" + b"}" * 70, "nested more than"),
        ("a.json", b'{"name": "A", "description": "b", "n": ' + b"9" * 5000 + b"}", "number"),
        ("a.json", b'{"name": "A", "description": "b", "n": NaN}', "number"),
        ("a.md", b"caf\xe9", "not UTF-8"),
        ("a.charx", b"PK\x03\x04rest", "zip file"),
        ("a.jpg", b"\xff\xd8\xff\xe0", "JPEG"),
        ("a.pdf", b"%PDF-1.7", "PDF"),
    ],
)
def test_bad_files(tmp_path: Path, name: str, data: bytes, words: str) -> None:
    path = put(tmp_path / name, data)
    with pytest.raises(BadData, match=words) as caught:
        import_character(path)
    assert str(path) in str(caught.value)


def test_faulty_native_file_is_told_as_one(tmp_path: Path) -> None:
    with pytest.raises(BadCharacter, match="did you mean summary"):
        import_character(put(tmp_path / "a.md", "---\nname: A\nsumary: b\n---\n\nHi.\n"))
    with pytest.raises(BadCharacter, match="do not parse"):
        import_character(put(tmp_path / "a.md", "---\nname: [A\n---\n\nHi.\n"))


def test_missing_folder_huge(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="no such file"):
        import_character(tmp_path / "none.json")
    with pytest.raises(BadData, match="a folder"):
        import_character(tmp_path)
    with (tmp_path / "big.json").open("wb") as file:
        file.truncate(300_000_000)
    with pytest.raises(BadData, match="300 MB"):
        import_character(tmp_path / "big.json")
    big = card(assets=[{"type": "icon", "uri": "data:image/png;base64," + "A" * 3_000_000}])
    with pytest.raises(BadData, match="at most 2 MB"):
        import_character(put(tmp_path / "assets.json", big))


def test_export_that_cannot_be(tmp_path: Path) -> None:
    captain = find_character("captain")
    with pytest.raises(BadData, match="no format goes with"):
        export_character(captain, tmp_path / "a.docx")
    with pytest.raises(BadData, match="the formats are"):
        export_character(captain, tmp_path / "a.json", "tavern")
    with pytest.raises(BadCharacter, match="no traits"):
        export_character(Character("A", "Hi."), tmp_path / "a.jsonl")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("damage", ["x-card: 5", "x-card: {}", "x-card: {card: {data: []}}", "x-spec: {opening: 3}"])
def test_export_of_a_damaged_setting(tmp_path: Path, damage: str) -> None:
    messages: list[str] = []
    path = put(tmp_path / "a.md", f"---\nname: A\n{damage}\n---\n\nYou are A.\n")
    for out, format in (("b.json", "card"), ("b.md", "markdown"), ("b.png", "card"), ("b.txt", "markdown")):
        try:
            export_character(load_character(path), tmp_path / out, format, overwrite=True)
        except CharacteryError as error:
            messages.append(str(error))
    assert all("x-" in message or "card" in message for message in messages)


def test_every_format_is_documented() -> None:
    text = Path("docs/formats.md").read_text()
    assert all(f"`{name}`" in text for name in FORMATS)
