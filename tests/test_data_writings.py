"""A person's writings: what is read, what is suspected, what is left out."""

import gzip
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from charactery.cli import app
from charactery.data.writings import (
    Suspicion,
    Writing,
    date_in,
    exclusions,
    exclusions_beside,
    kept,
    quoted_share,
    read_writings,
    suspicions,
    write_exclusions,
    years_of,
)
from charactery.errors import BadData

LETTER = (
    "Springfield, Sept. 7, 1854.\n\nDear Sir, you know how anxious I am that this measure be rebuked everywhere, and I "
    "hope for something from your position; yet do nothing that your own sense of right would not have you do."
)


def kinds(writings: list[Writing], author: str = "Ann Smith") -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for one in suspicions(writings, author):
        found.setdefault(one.kind, []).append(one.id)
    return found


def test_a_folder_and_its_dates(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "1863-11 speech.txt").write_text("Four score and seven years ago.")
    (tmp_path / "letter.md").write_text(LETTER)
    (tmp_path / "exclude.txt").write_text("letter.md")
    found = read_writings(tmp_path)
    assert [(w.id, w.date) for w in found] == [("letter.md", "1854-09-07"), ("sub/1863-11 speech.txt", "1863-11")]


def test_json_lines_zipped_or_not(tmp_path: Path) -> None:
    rows = [{"text": LETTER, "head": "TO PALMER", "year": 1855}, {"text": "No date here.", "year": 1860, "id": "x"}]
    text = "\n".join(map(json.dumps, rows))
    (tmp_path / "a.jsonl").write_text(text)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    found = read_writings(tmp_path / "a.jsonl")
    assert [(w.id, w.date, w.title) for w in found] == [("1", "1854-09-07", "TO PALMER"), ("x", "1860", "")]
    assert read_writings(tmp_path / "b.jsonl.gz") == found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"text": "a"}\n{"text": 3}', ':2: needs "text"'), ('{"text": "a"\n', ":1: is not JSON"),
        ('{"text": "a", "id": 2}\n{"text": "b"}', ":2: has the id '2' of an earlier line"), ("", "holds no writings"),
    ],
)  # fmt: skip
def test_bad_lines_are_said_with_their_number(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(text)
    with pytest.raises(BadData) as caught:
        read_writings(tmp_path / "a.jsonl")
    assert said in str(caught.value)
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(BadData, match="neither a folder"):
        read_writings(tmp_path / "a.csv")
    with pytest.raises(BadData, match="no such file or folder"):
        read_writings(tmp_path / "nowhere")
    (tmp_path / "torn.jsonl.gz").write_bytes(gzip.compress(LETTER.encode())[:-9])
    with pytest.raises(BadData, match=r"torn.jsonl.gz: cannot be read \(.+\)"):
        read_writings(tmp_path / "torn.jsonl.gz")


@pytest.mark.parametrize(
    ("text", "date"),
    [
        ("MARCH 9, 1832.", "1832-03-09"), ("on Sept. 7, 1854", "1854-09-07"), ("August 5,1863.", "1863-08-05"),
        ("dated 1863-11-19", "1863-11-19"), ("in March 1832", ""), ("Mary 9, 1832", ""),
        ("x" * 500 + "March 9, 1832", ""),
    ],
)  # fmt: skip
def test_dates(text: str, date: str) -> None:
    assert date_in(text) == date


def test_quotations_are_counted_by_paragraph() -> None:
    assert quoted_share('He said "go home now" to me.') == pytest.approx(3 / 7)
    assert quoted_share('"One two three four.\n\n"Five six seven eight."') == 1.0
    assert quoted_share('A stray mark" and then many words.\n\nAnd "two words" more.') == pytest.approx(2 / 11)
    assert quoted_share("Nothing at all.") == 0.0


def test_what_may_not_be_the_persons_own() -> None:
    long = " ".join(f"word{n} is then" for n in range(40))
    found = kinds([
        Writing("letter", LETTER),
        Writing("again", "A note before it. " + LETTER),
        Writing("caption", "By the President: the Secretary."),
        Writing("quoting", f'She wrote to me: "{long}" and so on.'),
        Writing("other", f"{long.replace('word', 'mine')}.\n\nYours,\n\nJOHN Q. DOE."),
        Writing("own", f"What {long.replace('word', 'term')}.\n\nYours,\n\nANN B. SMITH."),
        Writing("headed", long.replace("word", "item"), title="FROM GENERAL DOE TO COLONEL ROE."),
        Writing("to", long.replace("word", "part"), title="TO GENERAL DOE."),
        Writing("french", "Il est dans la maison et que les enfants sont pour la vie en un mot de la ville."),
    ])  # fmt: skip
    assert found == {
        "duplicate": ["letter"], "caption": ["caption"], "quotation": ["quoting"], "other hand": ["other", "headed"],
        "other language": ["french"],
    }  # fmt: skip


def test_a_list_leaves_out_and_may_be_edited(tmp_path: Path) -> None:
    path = exclusions_beside(tmp_path)
    write_exclusions(
        path, [Suspicion("a #1", "caption", "3 words"), Suspicion("b", "duplicate", "90% of it is in 'c'")]
    )
    assert exclusions(path) == {"a #1", "b"}
    path.write_text(path.read_text().replace("b\t", "c   # mine\nb\t"))
    assert exclusions(path) == {"a #1", "b", "c"}
    writings = [Writing("a #1", "x"), Writing("b", "y"), Writing("d", "z")]
    with pytest.raises(BadData, match=r"exclude.txt: leaves out 'c', and no writing has that id"):
        kept(writings, path)
    path.write_text("b\n")
    assert [w.id for w in kept(writings, path)] == ["a #1", "d"]
    assert kept(writings, tmp_path / "none.txt") == writings
    assert exclusions_beside(tmp_path / "papers.jsonl.gz") == tmp_path / "papers.exclude.txt"


def test_the_command(tmp_path: Path) -> None:
    (tmp_path / "1854.txt").write_text(LETTER)
    (tmp_path / "note.txt").write_text("Send a copy to Colonel Birney.")
    said = CliRunner().invoke(app, ["writings", "check", str(tmp_path), "--author", "A. Lincoln", "--write"])
    assert said.exit_code == 0 and "2 writings" in said.stdout and "1  caption" in said.stdout
    assert "note.txt" in (tmp_path / "exclude.txt").read_text()
    again = json.loads(CliRunner().invoke(app, ["writings", "check", str(tmp_path), "--json"]).stdout)
    assert again["left_out"] == 1 and again["suspicions"] == {"caption": 1}


@pytest.mark.parametrize(
    ("author", "signed", "doubted"),
    [
        ("Oliver Wendell Holmes Jr.", "OLIVER W. HOLMES", False),
        ("Martin Luther King, Jr.", "MARTIN LUTHER KING", False),
        ("Oliver Wendell Holmes Jr.", "WILLIAM H. SEWARD", True), ("Abraham Lincoln", "A. LINCOLN", False),
    ],
)  # fmt: skip
def test_a_persons_own_name_is_no_other_hand(author: str, signed: str, doubted: bool) -> None:
    letter = Writing("letter", f"Dear Sir: yours of the 4th is received, and I thank you for it.\n\n{signed}", "1860")
    assert [d.kind for d in suspicions([letter], author)] == (["other hand"] if doubted else [])


ORDER = "It is directed that the army shall move today, and that nobody be left behind in the camp."


@pytest.mark.parametrize(
    ("text", "doubt"),
    [
        (f"{ORDER}\n\nJOHN Q. DOE, Secretary of War.", "is signed 'JOHN Q. DOE'"),
        (f"{ORDER}\n\nBy order of the Secretary: J. Q. DOE, Assistant\nAdjutant-General", "is signed 'J. Q. DOE'"),
        (f"{ORDER}\n\nYour obedient servant, JAS. DOE.", "is signed 'JAS. DOE'"),
        (f"{ORDER}\n\nBy the President: JOHN Q. DOE, Secretary of State.", ""),  # countersigned
        (f"{ORDER}\n\nBy, the President JOHN Q. DOE,\nSecretary of State.", ""),
        (f"{ORDER}\n\nJOHN Q. DOE, ANN SMITH.", ""),
        (f"{ORDER}\n\nANN SMITH, President.", ""),
        (f"JOHN Q. DOE, Boston:\n\n{ORDER}", ""),  # to whom it goes
        (f"Mrs. A. Smith said she would not rise. {ORDER}", "has 'Mrs. A. Smith said', and nowhere I"),
        (f"Mrs. Smith said she would not rise. She is wrong, and I say so. {ORDER}", ""),  # of another, or of oneself
        (f"Mrs. Brown said she would not rise. {ORDER}", ""),
    ],
)  # fmt: skip
def test_another_hand_by_who_signs_and_who_is_told_of(text: str, doubt: str) -> None:
    found = suspicions([Writing("a", text)], "Ann Smith")
    assert [d.why for d in found if d.kind == "other hand"] == ([doubt] if doubt else [])


def test_an_editors_note_stands_in_brackets() -> None:
    written = [
        Writing("note", f"[{ORDER} Ed.]"),
        Writing("own", f"[To a friend.] {LETTER} [Of 1854.]"),
        Writing("begun", "[Cipher.] What news is there of the bridge, and when will you be able to cross it?"),
    ]
    assert kinds(written) == {"caption": ["note"]}


def test_lincolns_papers(tmp_path: Path) -> None:
    papers = Path(__file__).parents[2] / "shared" / "data" / "lincoln" / "items.jsonl.gz"
    if not papers.exists():
        pytest.skip("needs Lincoln's papers")
    found = read_writings(papers)
    doubts = suspicions(found, "Abraham Lincoln")
    titles = {w.id: w.title for w in found}
    assert len(found) == 1558 and sum(w.words for w in found) > 450_000
    other = [titles[d.id] for d in doubts if d.kind == "other hand"]
    assert "TELEGRAM FROM GOVERNOR SEYMOUR." in other and "FROM GENERAL HALLECK TO GENERAL U. S. GRANT." in other
    assert not any("COOPER INSTITUTE" in titles[d.id] for d in doubts if d.kind == "quotation")


def test_the_years_of_writings_do_not_hang_on_one_date_misread() -> None:
    dated = [Writing(str(n), "x", str(1801 + n % 60)) for n in range(300)]
    assert years_of([*dated, Writing("a", "x", "1558"), Writing("b", "x", "3864"), Writing("c", "x")]) == (1801, 1860)
    assert years_of(dated[:3]) == (1801, 1803) and years_of([Writing("c", "x")]) is None
