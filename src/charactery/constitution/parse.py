"""Read a character file, and write one. Format: docs/character-file.md."""

import difflib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from charactery.constitution.character import Character, Dial, Item, Profile, Section, Trait
from charactery.errors import BadCharacter

MAX_BYTES = 2_000_000  # far above any constitution; a larger file is some other kind of file

ListField = Literal["shows", "never", "asks", "elsewhere"]
LISTS: tuple[str, ...] = get_args(ListField)
FIELDS = ("because", *LISTS, "weight", "dial")
SETTINGS = (
    "name", "version", "summary", "language", "mix", "dials", "profiles", "notes", "writings", "others", "about",
)  # fmt: skip
_FIELD = re.compile(rf"({'|'.join(FIELDS)}):(?:\s+(.*))?$", re.IGNORECASE)
_LOOKS_LIKE_FIELD = re.compile(r"([A-Za-z][a-z]+):\s*$")
_HEADING = re.compile(r"(#{1,3})\s+(.*)$")


def load_character(path: Path | str) -> Character:
    """Read a character file.

    Raises BadCharacter, with the line, for a file that is missing, empty, too large, not text, or not in the
    format.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise BadCharacter("is a folder; give the character's markdown file", path)
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise BadCharacter(
                f"is {size / 1e6:.0f} MB; a character is text of at most {MAX_BYTES / 1e6:.0f} MB. "
                "Is it the right file?",
                path,
            )
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise BadCharacter("no such file. `charactery init NAME` writes one to start from", path) from None
    except UnicodeDecodeError as error:
        raise BadCharacter(f"is not UTF-8 text (byte {error.start}). Save it as UTF-8", path) from None
    return parse_character(text, path)


def parse_character(text: str, path: Path | None = None) -> Character:
    """Read a character from its text; `path` is named in errors. Raises BadCharacter with the line."""
    if not text.strip():
        raise BadCharacter("is empty. `charactery init NAME` writes a character to start from", path)
    lines = text.splitlines()
    settings, key_lines, start = _front_matter(lines, path)
    return _Body(lines, start, path, settings, key_lines).read()


def _front_matter(lines: list[str], path: Path | None) -> tuple[dict[str, Any], dict[str, int], int]:
    """The settings, the line of each key, and the index of the first line after them."""
    if lines[0].strip() != "---":
        raise BadCharacter("must begin with a line `---`, then settings such as `name: …`, then `---`", path, 1)
    end = next((n for n, line in enumerate(lines[1:], 1) if line.strip() == "---"), None)
    if end is None:
        raise BadCharacter("the settings opened here are never closed; add a line `---` below them", path, 1)
    block = "\n".join(lines[1:end])
    try:
        settings = yaml.safe_load(block) or {}
        node = yaml.compose(block, Loader=yaml.SafeLoader)
    except RecursionError:
        raise BadCharacter("the settings are nested too deep", path, 1) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 2 if mark else 1
        problem = getattr(error, "problem", None) or "it is not YAML"
        raise BadCharacter(f"the settings do not parse: {problem}", path, line) from None
    if not isinstance(settings, dict):
        raise BadCharacter("the settings must be lines of the form `key: value`", path, 2)
    assert node is None or isinstance(node, yaml.MappingNode)
    pairs = node.value if node else []
    return settings, {str(key.value): key.start_mark.line + 2 for key, _ in pairs}, end + 1


@dataclass
class _Draft:
    """A trait while its lines are read."""

    title: str
    line: int
    definition: list[str] = field(default_factory=list)
    because: list[str] = field(default_factory=list)
    lists: dict[str, list[Item]] = field(default_factory=dict)
    weight: float = 1.0
    dial: str | None = None
    inverse: bool = False
    lines: dict[str, int] = field(default_factory=dict)


class _Body:
    """One pass over the lines below the settings."""

    def __init__(
        self, lines: list[str], start: int, path: Path | None, settings: dict[str, Any], key_lines: dict[str, int]
    ) -> None:
        self.lines, self.start, self.path = lines, start, path
        self.settings, self.key_lines = settings, key_lines

    def fail(self, message: str, line: int | None = None) -> BadCharacter:
        return BadCharacter(message, self.path, line)

    def read(self) -> Character:
        """The character. Raises BadCharacter with the line of what is wrong."""
        header = self.header()
        title, introduction, introduction_line, sections = self.sections(header["dials"])
        known = {trait.id for section in sections for trait in section.traits}
        for name, profile in header["profiles"].items():
            if missing := [id for id in profile.without if id not in known]:
                raise self.fail(
                    f"profile {name} leaves out {missing[0]!r}, which is no trait here", self.at("profiles")
                )
        return Character(
            **header, title=title, introduction=introduction, introduction_line=introduction_line,
            sections=tuple(sections), path=self.path, lines=self.key_lines,
        )  # fmt: skip

    def at(self, key: str) -> int | None:
        return self.key_lines.get(key)

    def header(self) -> dict[str, Any]:
        """The settings, checked."""
        given = self.settings
        for key in given:
            if key not in SETTINGS and not str(key).startswith("x-"):
                near = difflib.get_close_matches(str(key), SETTINGS, 1)
                hint = f"; did you mean {near[0]}?" if near else f". Known: {', '.join(SETTINGS)}, and x-…"
                raise self.fail(f"unknown setting {key!r}{hint}", self.at(str(key)))
        name = given.get("name")
        if not isinstance(name, str | int | float) or not str(name).strip():
            raise self.fail("the settings need a `name:` for the character", self.at("name") or 1)
        mix = given.get("mix", 0)
        if isinstance(mix, bool) or not isinstance(mix, int | float) or not 0 <= mix <= 1:
            raise self.fail("`mix` is a number from 0 (in words) to 1 (in examples)", self.at("mix"))
        dials = {str(k): self.dial(str(k), v) for k, v in self.mapping("dials", given.get("dials")).items()}
        profiles = {
            str(k): self.profile(str(k), v, dials) for k, v in self.mapping("profiles", given.get("profiles")).items()
        }
        notes = given.get("notes") or []
        if not isinstance(notes, list):
            raise self.fail("`notes` is a list of section headings", self.at("notes"))
        self.notes = {str(n).strip().lower() for n in notes}
        texts = {key: given.get(key) for key in ("writings", "others", "about")}
        return {
            "name": str(name).strip(),
            "version": str(given.get("version", 1)),
            "summary": str(given.get("summary") or "").strip(),
            "language": self.language(given.get("language")),
            "mix": float(mix),
            "dials": dials,
            "profiles": profiles,
            **{key: None if path is None else str(path) for key, path in texts.items()},
            "extra": {k: v for k, v in given.items() if str(k).startswith("x-")},
        }

    def language(self, value: Any) -> str:
        if value is None or value == "":
            return "en"
        if not isinstance(value, str) or not re.fullmatch(r"[a-z]{2}(-[A-Za-z0-9]+)*", value):
            raise self.fail("`language` is a code of two small letters, such as en, de or pt-BR", self.at("language"))
        return value

    def mapping(self, key: str, value: Any) -> dict[Any, Any]:
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise self.fail(f"`{key}` holds names, each with settings below it, indented", self.at(key))
        return value

    def dial(self, name: str, value: Any) -> Dial:
        at = self.at("dials")
        if not isinstance(value, dict) or not value.get("low") or not value.get("high"):
            raise self.fail(f"dial {name} needs `low:` and `high:`, each in words", at)
        if odd := set(value) - {"low", "high", "default"}:
            raise self.fail(f"dial {name} has an unknown setting {sorted(map(str, odd))[0]!r}", at)
        default = value.get("default", 0.5)
        if isinstance(default, bool) or not isinstance(default, int | float) or not 0 <= default <= 1:
            raise self.fail(f"dial {name}: `default` is a number from 0 to 1", at)
        return Dial(str(value["low"]), str(value["high"]), float(default))

    def profile(self, name: str, value: Any, dials: dict[str, Dial]) -> Profile:
        """One profile of the settings, its dials among those there are."""
        at = self.at("profiles")
        value = self.mapping(f"profiles: {name}", value)
        if odd := set(value) - {"dials", "without", "note"}:
            raise self.fail(f"profile {name} has an unknown setting {sorted(map(str, odd))[0]!r}", at)
        turned = self.mapping(f"profiles: {name}: dials", value.get("dials"))
        for dial, position in turned.items():
            if dial not in dials:
                raise self.fail(f"profile {name} turns {dial!r}, which is no dial here", at)
            if isinstance(position, bool) or not isinstance(position, int | float) or not 0 <= position <= 1:
                raise self.fail(f"profile {name}: dial {dial} goes from 0 to 1", at)
        without = value.get("without") or []
        if not isinstance(without, list):
            raise self.fail(f"profile {name}: `without` is a list of trait ids", at)
        return Profile(
            {str(k): float(v) for k, v in turned.items()},
            tuple(map(str, without)),
            str(value.get("note") or "").strip(),
        )

    def sections(self, dials: dict[str, Dial]) -> tuple[str, str, int, list[Section]]:
        """The title, the introduction and its line, and the sections with their traits."""
        title, introduction_line = "", 0
        introduction: list[str] = []
        sections: list[Section] = []
        current: dict[str, Any] | None = None
        draft: _Draft | None = None
        into: str | None = None  # the field that lines are going into; None: definition or section text
        fence: str | None = None
        comment = False
        seen: dict[str, int] = {}

        def close_trait() -> None:
            nonlocal draft
            if draft is not None and current is not None:
                trait = self.trait(draft, current["notes"], dials)
                if not current["notes"]:
                    if not trait.id:
                        raise self.fail(f"trait {trait.title!r} has no letter or digit to be called by", trait.line)
                    if trait.id in seen:
                        raise self.fail(f"trait {trait.title!r} is there already, on line {seen[trait.id]}", trait.line)
                    seen[trait.id] = trait.line
                current["traits"].append(trait)
            draft = None

        def close_section() -> None:
            close_trait()
            if current is not None:
                text = _trim(current.pop("body"))
                sections.append(Section(**{**current, "traits": tuple(current["traits"])}, text=text))

        for number, line in enumerate(self.lines[self.start :], self.start + 1):
            if fence is None:
                if comment or line.lstrip().startswith("<!--"):
                    comment = "-->" not in line
                    continue
                level, words = _heading(line)
                if level == 1 and current is None and not title:
                    title = words
                    continue
                if level == 2:
                    close_section()
                    if not words:
                        raise self.fail("a section heading without text", number)
                    notes = words.lower() in self.notes
                    current = {"title": words, "traits": [], "notes": notes, "line": number, "body": []}
                    into = None
                    continue
                if level == 3:
                    close_trait()
                    if current is None:
                        raise self.fail("a trait (###) needs a section (##) above it", number)
                    if not words:
                        raise self.fail("a trait heading without text", number)
                    draft, into = _Draft(words, number), None
                    continue
            opener = re.match(r"\s*(`{3,}|~{3,})", line)
            if opener:
                if fence is None:
                    fence = opener[1]
                elif line.strip().startswith(fence):
                    fence = None
            if draft is None:
                body = introduction if current is None else current["body"]
                if current is None and line.strip() and not introduction_line:
                    introduction_line = number
                body.append(line)
            elif current is not None and current["notes"]:
                draft.definition.append(line)
            else:
                into = self.trait_line(draft, into, line, number, bool(fence) or bool(opener))
        if fence is not None:
            raise self.fail(f"a fenced block ({fence}) is never closed", len(self.lines))
        close_section()
        says = introduction_line or any(s.traits or s.text.strip() for s in sections)
        if not says and not self.settings.get("writings"):  # then a person's texts say who speaks
            raise self.fail(
                "says nothing below the settings; write an introduction and at least one trait, or name a person's "
                "texts with `writings:`",
                self.start,
            )
        return title, _trim(introduction), introduction_line, sections

    def trait_line(self, draft: _Draft, into: str | None, line: str, number: int, fenced: bool) -> str | None:
        """Put one line into the trait; return the field that the next line goes into."""
        found = None if fenced else _FIELD.match(line)
        if found:
            name, rest = found[1].lower(), (found[2] or "").strip()
            if name in draft.lines:
                raise self.fail(
                    f"{name!r} is there twice in trait {draft.title!r} (first on line {draft.lines[name]})", number
                )
            draft.lines[name] = number
            if name == "weight":
                draft.weight = self.weight(rest, number)
            elif name == "dial":
                if not rest.lstrip("-"):
                    raise self.fail("`dial:` needs the name of a dial from the settings", number)
                draft.dial, draft.inverse = rest.lstrip("-"), rest.startswith("-")
            elif name == "because":
                draft.because.append(rest)
            else:
                draft.lists[name] = [_item(rest, number)] if rest else []
            return name
        if into in LISTS:
            bullet = re.match(r"[-*]\s+(.*)", line)
            items = draft.lists[into]
            if bullet:
                items.append(_item(bullet[1].strip(), number))
            elif line.strip() and items and (line.startswith((" ", "\t")) or fenced):
                text = f"{items[-1].text}\n{line.strip()}"
                items[-1] = Item(text, items[-1].end, items[-1].line)
            elif line.strip():
                near = _LOOKS_LIKE_FIELD.match(line)
                what = f"unknown field {near[1]!r}" if near else "this line is in a list but is not an item"
                raise self.fail(f"{what}; items begin with `- `, fields are {', '.join(FIELDS)}", number)
            return into
        near = None if fenced else _LOOKS_LIKE_FIELD.match(line)
        if near and (close := difflib.get_close_matches(near[1].lower(), FIELDS, 1, 0.75)):
            raise self.fail(f"unknown field {near[1]!r}; did you mean {close[0]}?", number)
        if into in ("weight", "dial"):
            if line.strip():
                raise self.fail(f"text after `{into}:`; put the definition above the first field", number)
            return into
        (draft.because if into == "because" else draft.definition).append(line)
        return into

    def weight(self, text: str, number: int) -> float:
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0 <= value < 1e6:
            raise self.fail(f"`weight` is a number, 0 or more, not {text!r}", number)
        return value

    def trait(self, draft: _Draft, notes: bool, dials: dict[str, Dial]) -> Trait:
        """A trait whose lines are all read. One under `notes` may be without text: it never reaches the model."""
        definition = _trim(draft.definition)
        for name, items in draft.lists.items():
            if empty := [i for i in items if not i.text]:
                raise self.fail(f"an empty item in `{name}` of trait {draft.title!r}", empty[0].line)
        if not notes and not definition and not draft.lists.get("shows"):
            raise self.fail(
                f"trait {draft.title!r} has no text: write what it is, or examples under `shows:`", draft.line
            )
        if draft.dial is not None and draft.dial not in dials:
            known = ", ".join(dials) or "none; declare it under `dials:` in the settings"
            raise self.fail(f"unknown dial {draft.dial!r}; the dials are: {known}", draft.lines["dial"])
        return Trait(
            draft.title, definition, _trim(draft.because),
            **{name: tuple(draft.lists.get(name, ())) for name in LISTS},
            weight=draft.weight, dial=draft.dial, inverse=draft.inverse, line=draft.line, lines=draft.lines,
        )  # fmt: skip


def _item(text: str, line: int) -> Item:
    marked = re.match(r"\[(low|high)\]\s*(.*)", text, re.IGNORECASE)
    return Item(marked[2], marked[1].lower(), line) if marked else Item(text, None, line)


def _trim(lines: list[str]) -> str:
    return "\n".join(line.rstrip() for line in lines).strip()


def dump_character(character: Character) -> str:
    """Write a character as a file that reads back equal (comments and line numbers aside)."""
    front: dict[str, Any] = {"name": character.name, "version": character.version}
    for key in ("summary", "language", "writings", "others", "about"):
        value = getattr(character, key)
        if value and value != "en":
            front[key] = value
    front["mix"] = character.mix
    if character.dials:
        front["dials"] = {k: {"low": d.low, "high": d.high, "default": d.default} for k, d in character.dials.items()}
    if character.profiles:
        front["profiles"] = {
            k: {
                key: value
                for key, value in {"dials": p.dials, "without": list(p.without), "note": p.note}.items()
                if value
            }
            for k, p in character.profiles.items()
        }
    if notes := [s.title for s in character.sections if s.notes]:
        front["notes"] = notes
    front |= character.extra
    settings = _dump_settings(front)
    parts = [f"---\n{settings}---"]
    if character.title:
        parts.append(f"# {character.title}")
    if character.introduction:
        parts.append(character.introduction)
    for section in character.sections:
        parts.append(f"## {section.title}")
        if section.text:
            parts.append(section.text)
        parts += [_dump_trait(trait) for trait in section.traits]
    return "\n\n".join(parts) + "\n"


def _heading(line: str) -> tuple[int, str]:
    """A heading's level and its words; level 0 for other lines."""
    found = _HEADING.match(line)
    return (len(found[1]), found[2].rstrip().rstrip("#").rstrip()) if found else (0, "")


class _Settings(yaml.SafeDumper):
    """YAML that survives being cut into lines: text with any kind of line end in it is written with escapes."""


def _dump_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    quoted = len(text.splitlines()) > 1 or text.splitlines() not in ([], [text])
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if quoted else None)


_Settings.add_representer(str, _dump_text)


def _dump_settings(front: dict[str, Any]) -> str:
    """The settings as YAML, none of its lines a bare `---`, which would end them early."""
    for width in (100, 10**9):
        text = yaml.dump(front, Dumper=_Settings, sort_keys=False, allow_unicode=True, width=width)
        if not any(line.strip() == "---" for line in text.splitlines()):
            break
    return text


def _dump_trait(trait: Trait) -> str:
    out = [f"### {trait.title}", ""]
    if trait.definition:
        out += [trait.definition, ""]
    if trait.weight != 1:
        out.append(f"weight: {trait.weight:g}")
    if trait.dial:
        out.append(f"dial: {'-' if trait.inverse else ''}{trait.dial}")
    if trait.because:
        out.append(f"because: {trait.because}")
    for name in LISTS:
        if items := getattr(trait, name):
            out.append(f"{name}:")
            for item in items:
                mark = f"[{item.end}] " if item.end else ""
                out.append("- " + mark + item.text.replace("\n", "\n  "))
    return "\n".join(out).rstrip()
