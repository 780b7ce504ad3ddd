"""A person's writings: dated texts that stand in for a constitution, and what among them may not be the person's.

What is looked for are marks on the page, so a finding is a suspicion: `check` says what it saw, and a list of ids that
people can edit decides what is left out.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from charactery.data.filters import other_language
from charactery.errors import BadData
from charactery.runs import numbered_rows, read_utf8, write_text

MONTHS = "january february march april may june july august september october november december".split()
_DATE = re.compile(
    rf"\b((?:{'|'.join(m[:3] for m in MONTHS)})[a-z]*)\.?\s+(\d{{1,2}})(?:st|nd|rd|th)?[,.]\s*(\d{{4}})\b"
    r"|\b(\d{4})-(\d{2})-(\d{2})\b",
    re.IGNORECASE,
)
_HEADED = re.compile(
    r"\s*(?:letter |telegram |despatch |reply |report |note )?(?:from|by) (?!the )(.{3,60}?)\s*(?: to |\.|$)",
    re.IGNORECASE,
)
_NAME = r"(?:[A-Z][A-Z'’.]*\s+){1,3}[A-Z][A-Z'’-]{2,}"  # in capitals, as printed signatures are
# A name that a text ends with, the signer's office behind it or not: "JOHN DOE, Secretary of War."
_SIGNED = re.compile(rf"(?:^|(?<=[a-z][,.:])\s+)({_NAME})(?:,\s[^,:;]{{3,40}})?[.,]?\s*\Z", re.MULTILINE)
# "By the President: JOHN DOE" is not who wrote it
_COUNTERSIGNED = re.compile(r"\bBy,? the [A-Z]\w+(?: of [A-Z]\w+)?:\s.*", re.DOTALL)
_BRACKETED = re.compile(r"\[[^\]]*\]")
_OF_ONESELF = re.compile(r"\b(?:I|[Mm]e|[Mm]y)\b")
_WORD = re.compile(r"\w+(?:['’]\w+)?")
CAPTION = 12  # words up to which a text is more likely a heading, a caption or a note than something said
QUOTED = 0.4  # share of words between quotation marks from which a text is mostly somebody else's
SHINGLE, SAME = 5, 0.6  # words in a row; share of the shorter text's that another has, from which they are one text
NOTHING: Mapping[str, str] = {}
HEAD = 400  # characters of a text in which its date, and whose letter it is, stand
# What sort of text it is, by words of its title, and failing that of its opening; the first that fits.
TITLES = {
    "telegram": r"\btelegrams?\b",
    "proclamation": r"\bproclamation\b",
    "order": r"\b(?:general|special|executive|military) orders?\b|^\s*orders?\b",
    "message": r"\bmessage\b",
    "speech": r"\b(?:speech|address|remarks|reply|response|debate|inaugural)\b",
    "letter": r"\bletter\b|^\s*(?-i:TO|To) (?-i:[A-Z])",
}
OPENINGS = {
    "telegram": r"\btelegram to\b",
    "proclamation": r"\ba proclamation\b",
    "message": r"\bto the (?:senate|house of representatives|congress)\b",
    "speech": r"\b(?:(?:fellow[- ]|my )(?:citizens|countrymen)|ladies and gentlemen|mr\. chairman)\b",
    "letter": r"\b(?:my )?dear (?:sir|madam|(?-i:[A-Z]))|^\s*(?-i:TO|To) (?-i:[A-Z])",
}


@dataclass(frozen=True)
class Writing:
    """One text. `date` is ISO, as much of it as is known ("1863", "1863-11-19"); `genre` as given, or guessed."""

    id: str
    text: str
    date: str = ""
    title: str = ""
    genre: str = ""

    @property
    def words(self) -> int:
        """How many."""
        return len(_WORD.findall(self.text))


@dataclass(frozen=True)
class Suspicion:
    """Why a writing may not be the person's own words: its id, what kind of doubt, and what was seen."""

    id: str
    kind: str  # duplicate, caption, quotation, other hand, other language, unread
    why: str


def read_writings(path: Path, unread: dict[str, str] | None = None) -> list[Writing]:
    """A folder of .txt and .md files, or JSON lines (.jsonl, .jsonl.gz) with `text`, and `date` or `year`, `title`,
    `genre` and `id` where known. A date that is not given is looked for in the name and the first lines; a genre is
    the subfolder's name, or is guessed from the title and the first lines.

    Raises BadData with file and line. A file that cannot be read, and that `exclude.txt` leaves out, is an empty text;
    so is any other where `unread` is given, which then has why, by id.
    """
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.suffix in (".txt", ".md") and p.name != "exclude.txt")
        listed = exclusions(list_) if (list_ := exclusions_beside(path)).exists() else set()
        found = [_from_file(file, file.relative_to(path).as_posix(), listed, unread) for file in files]
    elif path.name.endswith((".jsonl", ".jsonl.gz")):
        found = _from_lines(path)
    elif not path.exists():
        raise BadData("no such file or folder", path)
    else:
        raise BadData("is neither a folder of .txt and .md files nor a .jsonl file", path)
    if not found:
        raise BadData("holds no writings", path)
    return found


def _from_file(file: Path, name: str, listed: Collection[str], unread: dict[str, str] | None) -> Writing:
    try:
        text = read_utf8(file)
    except BadData as error:
        if unread is None and name not in listed:
            leave = f"write {name!r} in exclude.txt, which lies in the folder of the writings"
            raise BadData(f"{error.message}; save it as UTF-8, or to leave it out, {leave}", file) from None
        if unread is not None:
            unread[name] = error.message
        text = ""
    given = re.search(r"(?<!\d)(1[0-9]\d\d|20\d\d)(?:-(\d\d)(?:-(\d\d))?)?(?!\d)", name)
    date = "-".join(part for part in given.groups() if part) if given else date_in(text)
    folder, _, _ = name.rpartition("/")
    return Writing(name, text.strip(), date, file.stem, folder.partition("/")[0] or genre_of(file.stem, text))


def _from_lines(path: Path) -> list[Writing]:
    found: dict[str, Writing] = {}
    for number, row in numbered_rows(path):
        if not isinstance(row.get("text"), str):
            raise BadData('needs "text", the words of one writing', path, number)
        id = str(row.get("id") or number)
        if id in found:
            raise BadData(f"has the id {id!r} of an earlier line", path, number)
        date = str(row.get("date") or "") or date_in(row["text"]) or str(row.get("year") or "")
        title = str(row.get("title") or row.get("head") or "")
        genre = str(row.get("genre") or "") or genre_of(title, row["text"])
        found[id] = Writing(id, row["text"].strip(), date, title, genre)
    return [*found.values()]


def date_in(text: str) -> str:
    """The first date in a text's first lines as ISO, "" where there is none."""
    for found in _DATE.finditer(text[:HEAD]):
        if found[4]:
            return f"{found[4]}-{found[5]}-{found[6]}"
        month = next((n for n, name in enumerate(MONTHS, 1) if name.startswith(found[1].lower())), None)
        if month:
            return f"{found[3]}-{month:02d}-{int(found[2]):02d}"
    return ""


def genre_of(title: str, text: str) -> str:
    """What sort of text it looks like, "" where neither its title nor its opening says."""
    for part, patterns in ((title, TITLES), (text[:HEAD], OPENINGS)):
        for genre, pattern in patterns.items():
            if re.search(pattern, part, re.IGNORECASE):
                return genre
    return ""


def years_of(writings: Sequence[Writing]) -> tuple[int, int] | None:
    """First and last year of the dated texts, one in a hundred at either end left out: a date may be misread."""
    years = sorted(int(w.date[:4]) for w in writings if w.date[:4].isdigit())
    few = len(years) // 100
    return (years[few], years[-1 - few]) if years else None


def suspicions(
    writings: Sequence[Writing], author: str = "", language: str = "en", unread: Mapping[str, str] = NOTHING
) -> list[Suspicion]:
    """What may not be the person's own words, a writing at most once for each kind of doubt, and what is `unread`."""
    found = [*_duplicates(writings), *(Suspicion(id, "unread", why) for id, why in unread.items())]
    for one in writings:
        if one.id in unread:
            continue
        if one.words < CAPTION:
            found.append(Suspicion(one.id, "caption", f"{one.words} words"))
            continue
        if _BRACKETED.fullmatch(one.text):
            found.append(Suspicion(one.id, "caption", "all of it stands in square brackets"))
            continue
        if (share := quoted_share(one.text)) >= QUOTED:
            found.append(Suspicion(one.id, "quotation", f"{share:.0%} of its words are between quotation marks"))
        if why := _other_hand(one, author):
            found.append(Suspicion(one.id, "other hand", why))
        if other_language(one.text, language):
            found.append(Suspicion(one.id, "other language", f"does not look like {language!r}"))
    return found


def quoted_share(text: str) -> float:
    """Share of words between quotation marks, counted by paragraph.

    In a long quotation each paragraph opens with a mark, and only the last one closes it. Elsewhere a mark without its
    other half counts for nothing.
    """
    inside = 0
    for paragraph in re.split(r"\n\s*\n", text):
        pieces = re.split(r"[\"“”]", paragraph.strip())
        if len(pieces) % 2 == 0 and pieces[0]:
            pieces.pop()
        inside += sum(len(_WORD.findall(piece)) for piece in pieces[1::2])
    return inside / max(1, len(_WORD.findall(text)))


def surname(author: str) -> str:
    """The last word of a name that is not "Jr." or a number."""
    words = [w.strip(".,") for w in author.split()]
    return next((w for w in reversed(words) if not re.fullmatch(r"[JS]r|[IVX]+", w)), words[-1])


def _other_hand(one: Writing, author: str) -> str:
    """A heading that says who wrote, a name that signs, or a report of what the author said, without the word I."""
    if not author.split():
        return ""
    last = surname(author)
    for line in f"{one.title}\n{one.text[:HEAD]}".splitlines():
        said = _HEADED.match(line)
        if said and line.strip().isupper() and last.lower() not in said[1].lower():
            return f"is headed {' '.join(line.split())!r}"
    lines = [line.strip() for line in one.text.splitlines()[-4:] if line.strip()]
    names = [name for line in lines if re.fullmatch(_NAME, name := line.strip(" .,"))]
    end = _COUNTERSIGNED.sub("", "\n".join(lines[-3:]))
    if (signed := _SIGNED.search(end)) and last.lower() not in end.lower():
        names.append(" ".join(signed[1].split()))
    if other := next((name for name in names if last.lower() not in name.lower()), ""):
        return f"is signed {other!r}"
    titled = rf"\b(?:Mr\.|Mrs\.|Miss|Dr\.|President|Senator) (?:[A-Z]\. )*{re.escape(last)} (?:said|\w+ed)\b"
    if (told := re.search(titled, one.text)) and not _OF_ONESELF.search(one.text):
        return f"has {told[0]!r}, and nowhere I"
    return ""


def _duplicates(writings: Sequence[Writing]) -> Iterable[Suspicion]:
    """Texts most of whose words in a row an earlier, or a longer, one has too."""
    grams = {w.id: shingles(w.text) for w in writings}
    holders: dict[tuple[str, ...], list[str]] = defaultdict(list)
    order = sorted(writings, key=lambda w: -len(grams[w.id]))
    for one in order:
        mine = grams[one.id]
        if not mine:
            continue
        shared = Counter(other for gram in mine for other in holders[gram])
        if shared:
            other, count = shared.most_common(1)[0]
            if count / len(mine) >= SAME:
                yield Suspicion(one.id, "duplicate", f"{count / len(mine):.0%} of it is in {other!r}")
                continue
        for gram in mine:
            holders[gram].append(one.id)


def shingles(text: str, long: int = SHINGLE) -> set[tuple[str, ...]]:
    """Every five words in a row, or so many, in small letters."""
    words = [w.lower() for w in _WORD.findall(text)]
    return {tuple(words[n : n + long]) for n in range(len(words) - long + 1)}


def exclusions(path: Path) -> set[str]:
    """The ids that a list leaves out: one a line, what follows a tab or a `#` between spaces is a remark."""
    return {
        id for line in read_utf8(path).splitlines() if (id := re.split(r"\t|\s#\s", line, maxsplit=1)[0].strip())
        and not id.startswith("#")
    }  # fmt: skip


def exclusions_beside(path: Path) -> Path:
    """Where the list for these writings lies: `exclude.txt` in the folder, or beside the file."""
    return path / "exclude.txt" if path.is_dir() else path.with_name(f"{path.name.partition('.')[0]}.exclude.txt")


def write_exclusions(path: Path, found: Sequence[Suspicion]) -> None:
    """A list of the suspects with what was seen, for people to edit."""
    lines = [
        "# Writings that are left out: an id a line. Delete a line to keep that text; add a line to leave one out."
    ]
    lines += [f"{one.id}\t# {one.kind}: {one.why}" for one in found]
    write_text(path, "\n".join(lines) + "\n")


def kept(writings: Sequence[Writing], list_: Path) -> list[Writing]:
    """Those that a list does not leave out, all where there is none. Raises BadData for an id that no writing has."""
    left_out = exclusions(list_) if list_.exists() else set()
    if unknown := left_out - {w.id for w in writings}:
        raise BadData(f"leaves out {sorted(unknown)[0]!r}, and no writing has that id", list_)
    return [w for w in writings if w.id not in left_out]
