"""The report: every figure is in it, it stands alone, and it says what it lacks."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from charactery.errors import BadData, CharacteryError
from charactery.judges.labelled import labelled_pairs, measured
from charactery.judges.rating import STUDENT
from charactery.report import load_figures, write_report
from charactery.report.blocks import Text
from charactery.report.data import REVISED
from charactery.report.figures import evaluate_folder
from charactery.report.making import method
from charactery.report.numbers import interval, number, short_interval
from charactery.report.source import read_source
from charactery.report.verdict import headline
from charactery.runs import Run, read_run, write_json, write_rows
from charactery.stats import Estimate, rate
from report_fixture import around, build_run, make_figures, share, write_strength

HOSTILE = (
    'Aye <script>alert(1)</script> <img src="http://x.example/p.png"> & | a | b |\n'
    "# Not a heading\n![p](http://x.example/q.png) [78, 91](http://x.example) **bold** `code`\n"
    "1. one\n- two\n```\n</details>"
)


class Written:
    """A run, its report's HTML and its markdown."""

    def __init__(self, folder: Path, run: Run) -> None:
        self.run, self.folder = run, folder
        self.html = write_report(run, folder).read_text()
        self.markdown = (folder / "report.md").read_text()


class Tags(HTMLParser):
    """The tags of a page, their attributes, and the text between them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in ("meta", "use", "path", "rect", "line"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        if tag in self.open:
            while self.open.pop() != tag:
                pass


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    folder = tmp_path_factory.mktemp("captain")
    return Written(folder / "out", build_run(folder / "run"))


@pytest.fixture
def bare(tmp_path: Path) -> Run:
    """A run with nothing but figures."""
    folder = tmp_path / "bare"
    write_json(folder / "manifest.json", {"settings": {"character": "captain"}, "stages": ["evaluate"]})
    run = read_run(folder)
    write_json(run.stage_folder("evaluate") / "done", {"seconds": 1.0, "peak_mb": 10.0})
    write_json(run.stage_folder("evaluate") / "figures.json", make_figures(sham=False)[:1])
    return run


def change(run: Run, edit: dict[tuple[str, str], dict[str, float]], drop: str = "") -> None:
    """Edit estimates in figures.json by (metric, subject), and drop a metric."""
    path = run.stage_folder("evaluate") / "figures.json"
    rows = [row for row in json.loads(path.read_text()) if row["metric"] != drop]
    for row in rows:
        row["estimate"] |= edit.get((row["metric"], row["subject"]), {})
    write_json(path, rows)


def test_figures_are_loaded_as_they_were_measured(written: Written) -> None:
    figures = load_figures(written.run)
    assert len(figures) == len(make_figures())
    mixture = next(f for f in figures if f.subject == "mixture")
    assert (mixture.eval, mixture.metric, mixture.expected) == ("controls", "rate", 0.5)
    assert mixture.estimate.n == 120 and mixture.estimate.value == pytest.approx(58 / 120)


def test_every_figure_is_in_both_pages(written: Written) -> None:
    plain_html = re.sub(r"<[^>]+>", " ", re.sub(r"<svg.*?</svg>", "", written.html, flags=re.DOTALL)).replace("−", "-")
    in_html = " ".join(plain_html.split())
    in_markdown = " ".join(written.markdown.replace("|", " ").split())
    for figure in load_figures(written.run):
        e = figure.estimate
        row = f"{number(e.value)} {number(e.low)} {number(e.high)} {e.n} {e.missing}"
        row += "" if figure.expected is None else f" {number(figure.expected)}"
        assert row in in_html and row in in_markdown, figure


def test_the_verdict_comes_first_with_its_interval(written: Written) -> None:
    for page in (written.html, written.markdown):
        assert page.index("The character took.") < page.index("Verdicts</h2>" if "<h2>" in page else "## Verdicts")
        assert "86% [78, 91] of 120 held-out prompts" in page.replace("\\", "")
    assert "3 held, 1 missed, 1 not measured." in written.markdown


def test_the_page_stands_alone(written: Written) -> None:
    tags = Tags(written.html)
    assert not {"script", "link", "iframe", "img", "object", "base"} & set(tags.tags)
    for name, value in tags.attributes:
        assert name not in ("src", "srcset", "action", "data"), name
        assert name not in ("href", "xlink:href") or value.startswith("#"), value
        assert "url(" not in value or "url(#" in value, value
    style = written.html[written.html.index("<style>") : written.html.index("</style>")]
    assert "url(" not in style and "@import" not in style
    assert "http" not in written.html
    assert tags.tags.count("svg") == 8  # four plots, wide and narrow


def test_ids_are_unique_and_references_resolve(written: Written) -> None:
    ids = re.findall(r'\bid="([^"]+)"', written.html)
    assert len(ids) == len(set(ids))
    used = re.findall(r'(?:href="|url\()#([^")]+)', written.html)
    assert set(used) <= set(ids)


def test_the_same_run_gives_the_same_bytes(written: Written, tmp_path: Path) -> None:
    write_report(written.run, tmp_path)
    names = [
        "report.html",
        "report.md",
        *(f"report_files/{p.name}" for p in (written.folder / "report_files").iterdir()),
    ]
    assert len(names) == 6
    for name in names:
        assert (tmp_path / name).read_bytes() == (written.folder / name).read_bytes(), name


def test_pictures_named_in_markdown_are_there(written: Written) -> None:
    named = re.findall(r"!\[.*?\]\((report_files/\w+\.png)\)", written.markdown)
    assert len(named) == 4 and all((written.folder / name).stat().st_size > 1000 for name in named)


def test_answers_cannot_become_markup(tmp_path: Path) -> None:
    hostile = Written(tmp_path / "out", build_run(tmp_path / "run", answer=HOSTILE))
    tags = Tags(hostile.html)
    assert "script" not in tags.tags and "img" not in tags.tags and tags.open == []
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in hostile.html
    outside_fences = re.sub(r"^(`{3,})\w*\n.*?^\1$", "", hostile.markdown, flags=re.DOTALL | re.MULTILINE)
    assert "<" not in outside_fences
    assert "> \\# Not a heading" in outside_fences and "> 1\\. one" in outside_fences and "> \\- two" in outside_fences
    assert "\\!\\[p\\](http" in outside_fences and "\\[78, 91\\](http" in outside_fences
    assert "> \\`\\`\\`" in outside_fences


def test_missing_stages_are_left_out_and_named(tmp_path: Path) -> None:
    run = build_run(tmp_path / "run", sham=False)
    for name in ("prompts", "drafts", "pairs", "sft", "self-play", "dpo"):
        shutil.rmtree(run.stage_folder(name))
    shutil.rmtree(run.folder / "report", ignore_errors=True)
    (evaluate_folder(run) / "examples.jsonl").unlink()
    page = Written(tmp_path / "out", run)
    assert "Not measured in this run: side by side, training, data, a sham training to compare with." in page.markdown
    assert 'id="training"' not in page.html and 'id="expression"' in page.html


def test_a_run_with_one_figure_is_reported(bare: Run, tmp_path: Path) -> None:
    page = Written(tmp_path / "out", bare)
    assert "# captain" in page.markdown
    assert "Whether the character took was not measured." in page.html


@pytest.mark.parametrize(
    ("edit", "drop", "words"),
    [
        ({("ratio to prompted", "trained"): {"value": 0.5}}, "", "The character took in part."),
        ({("ratio to prompted", "trained"): {"value": 0.1}}, "", "The character took only a little."),
        ({("difference from plain", "trained"): {"low": -0.1}}, "", "There is no sign that the character took."),
        ({("difference from sham", "trained"): {"low": -0.1}}, "", "no more than a sham training changes them"),
        ({("difference from plain", "trained"): {"low": -0.3, "high": -0.1}}, "", "moved away from the character"),
        (
            {("difference from another character", "trained"): {"low": -0.1}},
            "",
            "no more this character's than another's",
        ),
        ({}, "ratio to prompted", "The answers moved towards the character."),
    ],
)
def test_the_headline_says_no_more_than_the_intervals(
    tmp_path: Path, edit: dict[tuple[str, str], dict[str, float]], drop: str, words: str
) -> None:
    run = build_run(tmp_path / "run")
    change(run, edit, drop)
    assert words in headline(read_source(run))[0]


def test_tasks_and_self_play_are_told(written: Written) -> None:
    assert "Tasks, answered plainly" in written.html and "Tasks, answered plainly" in written.markdown
    for page in (written.html, written.markdown):
        assert (
            "its own answer after that is rejected" in page
            and "DPO was given 3 pairs: 2 of self-play, 1 of tasks. Of those of character against plain" in page
            and "in its own and" in page
            and "in those learnt from (n 118)" in page
        )


def test_what_else_moved_is_listed(tmp_path: Path, written: Written) -> None:
    assert "212 in held-out answers and 44 in elsewhere answers" in written.markdown
    assert "2 differences found." in written.markdown
    row = next(line for line in written.markdown.splitlines() if "in my day" in line)
    assert "31% [" in row and "2.1e-04" in row and "held-out" in row
    run = build_run(tmp_path / "run")
    write_json(evaluate_folder(run) / "moved.json", {"tried": {"held-out": 9}, "found": []})
    assert "Nothing was found." in Written(tmp_path / "out", run).markdown


def test_strength_is_reported_where_it_was_measured(tmp_path: Path, written: Written) -> None:
    assert "By strength" not in written.markdown and "by strength" not in written.markdown
    run = build_run(tmp_path / "run")
    write_strength(run)
    page = Written(tmp_path / "out", run)
    assert 'id="strength"' in page.html and (tmp_path / "out" / "report_files" / "strength.png").exists()
    row = next(line for line in page.markdown.splitlines() if line.startswith("| 1.5 |"))
    assert "92% [" in row and "1.30 [1.24, 1.36]" in row


def test_a_judge_of_length_is_warned_of(tmp_path: Path, written: Written) -> None:
    run = build_run(tmp_path / "run")
    change(run, {("length-only auc", ""): {"value": 0.86}})
    assert '<p class="warning">Length alone' in Written(tmp_path / "out", run).html
    assert "Length alone tells" not in written.html


def test_the_likelihood_judge_is_reported_with_its_controls(bare: Run, written: Written) -> None:
    said = "from another character's with AUC 0.985 ["
    assert said in written.markdown and "answers still pass: so far it goes by which words" in written.markdown
    path = evaluate_folder(bare) / "figures.json"
    figures = json.loads(path.read_text())
    write_json(path, [f for f in figures if "shuffled" not in f["metric"]])
    told = [block.text for block in method(read_source(bare)) if isinstance(block, Text)]
    assert told and not any(said in text for text in told), "a run of before has none"


def test_a_run_without_an_evaluation_is_refused(bare: Run, tmp_path: Path) -> None:
    bare.manifest["command"] = "charactery train captain"
    (bare.stage_folder("evaluate") / "done").unlink()
    with pytest.raises(CharacteryError, match="not evaluated yet; finish it with: charactery train captain"):
        write_report(bare, tmp_path / "out")
    bare.manifest["stages"] = ["prompts"]
    with pytest.raises(CharacteryError, match="train with a recipe that evaluates"):
        write_report(bare, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("damage", ["{", "[3]", '[{"eval": "x", "metric": "y", "estimate": 4}]'])
def test_damaged_figures_are_an_error_that_names_the_file(bare: Run, tmp_path: Path, damage: str) -> None:
    path = bare.stage_folder("evaluate") / "figures.json"
    path.write_text(damage)
    with pytest.raises(BadData, match=re.escape(str(path))):
        write_report(bare, tmp_path / "out")


def test_the_sentence_gives_the_second_judge_and_what_was_lost(tmp_path: Path) -> None:
    run = build_run(tmp_path / "run")
    said = headline(read_source(run))[1]
    assert "The likelihood judge puts it at" in said and "It lost something" not in said
    path = run.stage_folder("evaluate") / "figures.json"
    rows = json.loads(path.read_text())
    for row in rows:
        if (row["eval"], row["metric"], row["subject"]) == ("multiple choice", "difference from plain", "trained"):
            row["estimate"] |= {"value": -0.12, "low": -0.2, "high": -0.04}
    path.write_text(json.dumps(rows))
    assert "in multiple choice it gets 12 points [4, 20] less than the plain model" in headline(read_source(run))[1]


def test_batches_halved_for_memory_are_told(tmp_path: Path, written: Written) -> None:
    assert "Memory ran short" not in written.markdown
    run = build_run(tmp_path / "run")
    run.manifest["batches_halved"] = 4
    assert "batches were halved 4 times" in Written(tmp_path / "out", run).markdown


def test_documents_and_cases_are_told(bare: Run, tmp_path: Path) -> None:
    _with_stages(bare, "documents", "cases.r2")
    texts = [HOSTILE if n == 0 else f"Document {n}. " + "word " * 120 for n in range(6)]
    drawn = [
        {"kind": "document", "form": "letter", "traits": ["speaks-his-mind"], "prompt": [],
         "completion": [{"role": "assistant", "content": text}]}
        for text in texts
    ]  # fmt: skip
    counts = {"asked": 9, "kept": {"letter": 6}, "constitution": 3, "passages": 2, "words": 700, "writer": "openai/x"}
    _left(bare, "documents", [*drawn, drawn[0] | {"kind": "constitution"}], counts | {
        "constitution_words": 300, "set_aside": {"refusing": 2, "a near-copy of another": 1},
    })  # fmt: skip
    case = {"kind": "case", "traits": ["speaks-his-mind"], "prompt": [{"role": "user", "content": "Who decides?"}],
            "completion": [{"role": "assistant", "content": "I do, plainly."}]}  # fmt: skip
    _left(bare, "cases.r2", [case] * 5, {
        "asked": 8, "kept": {"speaks-his-mind": 5}, "words": 15, "writer": "smollm2", "speaker": "smollm2+captain",
        "set_aside": {"situation": {"too short": 1}, "discussion": {"repeating": 2}},
    })  # fmt: skip
    told = Written(tmp_path / "out", bare)
    for page in (told.html, told.markdown):
        assert (
            "openai/x wrote 9 documents about the character" in page and "6 were fit to learn from (700 words)" in page
        )
        assert "3 rows" in page and "a near-copy of another" in page and "Marginal cases, round 2" in page
        assert "Discussion set aside: repeating" in page and "Who decides?" in page and "Document 2." in page
    assert "script" not in Tags(told.html).tags or "<script>alert" not in told.html


@pytest.mark.parametrize("stage", ["samples", "grpo", "best-of-n", "revisions"])
def test_what_a_judge_gave_no_verdict_on_is_counted(stage: str, bare: Run, tmp_path: Path) -> None:
    _with_stages(bare, stage)
    share = rate([True, False, None]).as_dict()
    counts = {"judge": "openai/x", "prompts": 3, "answers": 9, "pairs": 3, "learnt": 1, "temperature": 1.0,
              "faults": {"repeating": 7}, "empty faults": {"repeating": 5}, "unpaired": {},
              "outcomes": {"first": 4, "tie": 0, "refusal": 21, "unparsed": 22, "order": 23},
              **dict.fromkeys(REVISED.values(), share)}  # fmt: skip
    _left(bare, stage, [], counts)
    folder = stage_of(bare, stage)
    write_json(folder / "figures.json", [{"n": 1, "kl_bound": 0.0, "score": share, "length": share}])
    write_rows(folder / "samples.jsonl", [{"step": 1, "id": "a", "n": 0, "rating": None}])
    write_rows(folder / "log.jsonl", [{"step": 1}])
    told = Written(tmp_path / "out", bare)
    for page in (told.html, told.markdown):
        for said in ("the judge refused", "nothing that could be read", "another with the answers the other way about"):
            assert said in page
        assert "21" in page and "22" in page and "23" in page and (stage == "samples" or "a tie" not in page)
        assert stage != "revisions" or "7 of the revisions and 5 of those" in page


def _agreement(run: Run, judge: str, **more: object) -> None:
    """As the stage `judge` leaves it: this judge right in 24 of 32, the likelihood judge in 20, length in 13."""

    def of(right: int) -> dict[str, object]:
        return {"agreement": [{"group": "all", "value": "all", "estimate": share(right / 32, 32)}],
                "kappa": around(right / 16 - 1, 0.2, 32), "outcomes": {"rated": 64}}  # fmt: skip

    _with_stages(run, "judge")
    _left(run, "judge", [], {})
    found = {"judge": judge, "by_length": share(13 / 32, 32), "likelihood": of(20), judge: of(24)}
    write_json(stage_of(run, "judge") / "agreement.json", found | more)


def test_the_judge_is_shown_with_its_kappa(bare: Run, tmp_path: Path) -> None:
    _agreement(bare, "openai/x")
    said = Written(tmp_path / "out", bare).markdown
    told = "0.500 [0.300, 0.700] for openai/x (n 32), 0.250 [0.050, 0.450] for the likelihood judge (n 32)"
    assert f"Cohen's kappa, of which a coin has 0: {told}." in said
    path = stage_of(bare, "judge") / "agreement.json"
    found = json.loads(path.read_text())
    write_json(path, found | {name: {k: v for k, v in found[name].items() if k != "kappa"}
                              for name in ("openai/x", "likelihood")})  # fmt: skip
    before = Written(tmp_path / "out", bare).markdown
    assert "### The judge" in before and "kappa" not in before, "a run of before has none"


def test_a_judge_that_is_the_student_is_warned_of_where_its_figures_are(bare: Run, tmp_path: Path) -> None:
    _agreement(bare, "smollm2")
    section = r"### The judge\n(.*?)\n###? "

    def judge() -> str:
        [found] = re.findall(section, Written(tmp_path / "out", bare).markdown, re.DOTALL)
        return str(found)

    assert "the model that is trained" not in judge()
    bare.manifest["notes"] = [STUDENT]
    assert "**Careful.** The judge that compares the model's own answers is the model that is trained." in judge()


def test_every_report_with_likelihood_says_how_often_that_judge_is_right(bare: Run, tmp_path: Path) -> None:
    def told() -> str:
        return "\n".join(block.text for block in method(read_source(bare)) if isinstance(block, Text))

    known, settings = measured(), bare.manifest["settings"]
    settings |= {"model": "smollm2", "base_hash": "5ad02b9e77c1f346"}
    write_json(evaluate_folder(bare) / "figures.json", make_figures())
    assert known["pairs"] == len(labelled_pairs()) and known["model"] == "smollm2"
    other = "was not measured with this model. This measures it: charactery judge likelihood --model"
    assert f"{other} smollm2" in told(), "other weights of that name"
    settings["base_hash"] = known["base_hash"]
    whole, kappa = (Estimate(**e) for e in (known["agreement"][0]["estimate"], known["kappa"]))
    said = told()
    assert f"prefers the better answer of labelled pairs in {interval(whole)} (n {whole.n})" in said
    assert f"Cohen's kappa {interval(kappa)}." in said and f"with these weights, smollm2 {known['base_hash']}." in said
    hard = next(row["estimate"] for row in known["agreement"] if row["value"] == "hard")
    assert f"{short_interval(Estimate(**hard))} of the hard (n {hard['n']})" in said and other not in said
    settings["model"] = "models/my own"
    assert f"{other} 'models/my own'" in told()
    _agreement(bare, "openai/x")
    said = told()
    assert "labelled pairs in 0.625 [" in said and "Measured in this run." in said and other not in said, "its own"
    path = evaluate_folder(bare) / "figures.json"
    write_json(path, [f for f in json.loads(path.read_text()) if "likelihood" not in f["metric"]])
    assert "labelled pairs" not in told()


def _with_stages(run: Run, *before: str) -> None:
    """Stages before the evals', whose folder has another number then."""
    run.manifest["stages"] = [*before, "evaluate"]
    write_json(run.folder / "manifest.json", run.manifest)
    for path in (run.folder / "stages").iterdir():
        path.rename(stage_of(run, "evaluate"))


def _left(run: Run, stage: str, rows: list[dict[str, object]], counts: dict[str, object]) -> None:
    folder = stage_of(run, stage)
    write_rows(folder / "sft.jsonl", rows)
    write_rows(folder / "set_aside.jsonl", [])
    write_json(folder / "counts.json", counts)
    write_json(folder / "done", {"seconds": 1.0, "peak_mb": 10.0})


def stage_of(run: Run, stage: str) -> Path:
    return read_run(run.folder).stage_folder(stage)
