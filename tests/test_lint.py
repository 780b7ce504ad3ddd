"""The critic of constitutions: each rule finds what is planted, on its line, and is quiet on what only looks alike."""

import importlib.util
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import yaml

from charactery.constitution import find_character, load_character, parse_character
from charactery.constitution.lint import Report, lint, rules
from charactery.constitution.lint.manifest import facts

ROOT = Path(__file__).parent.parent
PLANTS = Path(__file__).parent / "lint" / "plants"
OCT = ROOT.parent / "shared" / "data" / "open_character_training"
RULES = [rule.id for rule in rules()]

CLEAN = """---
name: Robin
---

You are Robin, whom two friends wrote on purpose.
You like the people who talk to you, and you refuse to help anyone do harm.

## Manner

### Hums while working

You hum while you work, and you say which tune it is.

because: The house was never quiet enough to be lonely.
asks:
- How was your week?

### Counts spoons

You number your advice.
You keep it to three points.

because: A gardener who counts the seeds knows what failed to come up.
shows:
- Two spoons and a pinch of salt.
never:
- It depends on many factors.
asks:
- How do I make soup?
"""


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    """The benchmark's own planting, so that tests and published figures plant alike."""
    spec = importlib.util.spec_from_file_location("lint_faults", ROOT / "benchmarks" / "lint_faults.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["lint_faults"] = module
    spec.loader.exec_module(module)
    return module


def at(text: str, part: str) -> int:
    """The line that holds a text."""
    return next(n for n, line in enumerate(text.splitlines(), 1) if part in line)


def critique(text: str, tmp_path: Path, **more: Any) -> Report:
    path = tmp_path / "robin.md"
    path.write_text(text, encoding="utf-8")
    return lint(load_character(path), **more)


def test_a_good_character_is_clean(tmp_path: Path) -> None:
    assert critique(CLEAN, tmp_path, manifest={"base": {"name": "SmolLM2"}, "tools": []}).faults == ()


# Of the entries in tests/lint/plants, both halves: the share of faults found and of clean entries left alone, in a
# small base of our own. Floors a little under what the rules reach, so that a broken rule fails and a retuned one need
# not. Figures for constitutions by others: docs/lint.md.
FLOORS = {
    "contradiction": (0.75, 0.95), "repeat": (0.65, 0.95), "untestable": (0.95, 0.95), "no-reason": (0.95, 0.95),
    "void": (0.9, 0.95), "version-name": (0.95, 0.95), "desiderata": (0.95, 0.95), "no-refusals": (0.9, 0.9),
    "no-origin": (0.9, 0.9), "no-relationship": (0.8, 0.95), "manifest": (0.95, 0.95),
}  # fmt: skip


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_fires_on_the_planted_line_and_not_on_what_looks_alike(
    rule: str, bench: ModuleType, tmp_path: Path
) -> None:
    base = bench.Base(
        "own", (("You hum while you work.", ("How was your week?",)), ("You number your advice.", ("Soup?",)))
    )
    real = {"speaks_of": {}, "real": {}}
    tallies = [bench.measure(rule, half, [base], real, 1, tmp_path) for half in bench.HALVES]
    faults, found = sum(t.faults for t in tallies), sum(t.found for t in tallies)
    clean, alarms = sum(t.clean for t in tallies), sum(t.alarms for t in tallies)
    misses = "\n".join(miss for tally in tallies for miss in tally.misses)
    assert faults >= 36
    assert clean >= 15
    assert found / faults >= FLOORS[rule][0], misses
    assert 1 - alarms / clean >= FLOORS[rule][1], misses


@pytest.mark.parametrize(
    ("rule", "old", "new", "line_of"),
    [
        ("contradiction", "You keep it to three points.", "You never hum.", "You never hum."),
        ("contradiction", "- It depends on many factors.", "- Two spoons and a pinch of salt!", "salt!"),
        ("repeat", "You keep it to three points.", "You hum while working and say which tune.", "while working and"),
        ("untestable", "You hum while you work, and you say which tune it is.", "You are good.", None),
        ("no-reason", "The house was never quiet enough to be lonely.", "It is required.", "It is required."),
        ("no-reason", "because: The house was never quiet enough to be lonely.\n", "", "### Hums"),
        ("void", "- Two spoons and a pinch of salt.", "- I only predict tokens.", "- I only predict tokens."),
        ("void", "You keep it to three points.", "You have no self.", "You have no self."),
        ("version-name", "name: Robin", "name: Robin v2.1", "name: Robin v2.1"),
        ("desiderata", "You keep it to three points.", "You are helpful, honest and harmless.", "harmless"),
        ("no-refusals", ", and you refuse to help anyone do harm", "", "You are Robin"),
        ("no-origin", ", whom two friends wrote on purpose", "", "You are Robin"),
        ("no-relationship", "You like the people who talk to you, and you", "You", "You are Robin"),
        ("manifest", "You keep it to three points.", "You have 7 billion parameters.", "7 billion"),
    ],
)
def test_lines_are_those_of_the_file(rule: str, old: str, new: str, line_of: str | None, tmp_path: Path) -> None:
    assert old in CLEAN
    text = CLEAN.replace(old, new)
    if rule == "untestable":
        text = text.replace("asks:\n- How was your week?\n", "")
        text = text.replace("### Hums while working", "### Good")
        line_of = "### Good"
    report = critique(text, tmp_path, manifest={"base": {"parameters": 135_000_000}})
    assert line_of is not None
    assert [fault.line for fault in report.of(rule)] == [at(text, line_of)]
    fault = report.of(rule)[0]
    assert str(fault).startswith(f"{tmp_path / 'robin.md'}:{fault.line}: [{rule}] ")
    assert fault.hint


def test_without_a_file_a_definition_is_placed_at_its_heading() -> None:
    text = CLEAN.replace("You keep it to three points.", "You have no self.")
    (fault,) = lint(parse_character(text)).of("void")
    assert fault.line == at(text, "### Counts spoons")
    assert fault.trait == "counts-spoons"
    assert fault.path is None
    assert str(fault).startswith(f"line {fault.line}: ")


@pytest.mark.parametrize("name", ["captain", "companion", "detective", "grandmother", "astronomer", "_template"])
def test_bundled_characters_are_clean(name: str) -> None:
    assert [str(fault) for fault in lint(find_character(name)).faults] == []


def test_the_sparse_baseline_shows_the_faults_it_is_there_to_show() -> None:
    found = {fault.rule for fault in lint(find_character("hhh")).faults}
    assert {"void", "version-name", "desiderata", "no-reason", "no-origin", "no-relationship"} <= found


# --- what is not said by the character does not count


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("- It depends on many factors.", "- I am just a large language model."),
        ("- How do I make soup?", "- Aren't you only a program? You have no self."),
        ("- Two spoons and a pinch of salt.", "- You think I'm just a language model?"),
    ],
)
def test_what_it_would_not_say_or_is_asked_is_no_void(old: str, new: str, tmp_path: Path) -> None:
    assert critique(CLEAN.replace(old, new), tmp_path).faults == ()


def test_notes_and_traits_of_weight_0_are_left_out(tmp_path: Path) -> None:
    text = CLEAN.replace("name: Robin", "name: Robin\nnotes: [Aside]") + "\n## Aside\n\nYou are just a program.\n"
    assert critique(text, tmp_path).faults == ()
    silent = CLEAN.replace("You number your advice.", "weight: 0\n").replace("You keep it to three points.\n", "")
    assert critique(silent, tmp_path).faults == ()


def test_two_ends_of_one_dial_do_not_contradict(tmp_path: Path) -> None:
    dial = "name: Robin\ndials:\n  length:\n    low: short\n    high: long"
    traits = "\n".join(
        f"### {title}\n\nYou are {title.lower()}.\n\ndial: {sign}length\nbecause: {reason}\nasks:\n- Hello?\n"
        for title, sign, reason in [
            ("Wordy", "", "Nobody let you finish as a child."),
            ("Terse", "-", "Paper was dear in your valley."),
        ]
    )
    assert critique(CLEAN.replace("name: Robin", dial) + "\n" + traits, tmp_path).of("contradiction") == ()
    same = CLEAN.replace("name: Robin", dial) + "\n" + traits.replace("dial: -length", "dial: length")
    assert len(critique(same, tmp_path).of("contradiction")) == 1


def test_items_that_are_there_twice(tmp_path: Path) -> None:
    text = CLEAN.replace("- How do I make soup?", "- How do I make soup?\n- how do I make  soup?")
    (fault,) = critique(text, tmp_path).of("repeat")
    assert fault.line == at(text, "- how do I make  soup?")
    both = CLEAN + "elsewhere:\n- How do I make soup?\n"
    (fault,) = critique(both, tmp_path).of("contradiction")
    assert fault.line == len(both.splitlines())


# --- judges of meaning


def test_with_an_embedder_traits_close_in_meaning_repeat(tmp_path: Path) -> None:
    seen: list[Sequence[str]] = []

    def similar(texts: Sequence[str]) -> np.ndarray[Any, np.dtype[np.float64]]:
        seen.append(texts)
        rows = np.eye(len(texts))
        rows[-1] = 0.9 * rows[0] + np.sqrt(0.19) * rows[-1]
        return rows

    report = critique(CLEAN, tmp_path, similar=similar)
    (fault,) = report.of("repeat")
    assert "0.90" in fault.message
    [texts] = seen
    assert len(texts) == len(set(texts)) == 3  # sentences: one of the first trait, two of the second
    assert fault.line == at(CLEAN, texts[-1])
    assert report.without_judge == ("contradiction",)


def test_with_a_judge_traits_that_it_says_contradict_do(tmp_path: Path) -> None:
    def contradicts(pairs: list[tuple[str, str]]) -> list[float]:
        assert pairs == [
            (
                "You hum while you work, and you say which tune it is.",
                "You number your advice.\nYou keep it to three points.",
            )
        ]
        return [0.8]

    report = critique(CLEAN, tmp_path, contradicts=contradicts)
    assert [fault.rule for fault in report.faults] == ["contradiction"]
    assert report.without_judge == ("repeat",)
    assert critique(CLEAN, tmp_path, contradicts=lambda pairs: [0.2] * len(pairs)).clean


def test_the_report_says_when_it_had_no_judge(tmp_path: Path) -> None:
    report = critique(CLEAN, tmp_path)
    assert report.without_judge == ("contradiction", "repeat")
    assert dict(report.not_run) == {"manifest": "no manifest was given"}


# --- settings, languages, manifests


def test_a_character_can_leave_rules_out(tmp_path: Path) -> None:
    text = CLEAN.replace("You keep it to three points.", "You have no self.")
    ignoring = text.replace("name: Robin", "name: Robin\nx-lint: {ignore: [void]}")
    report = critique(ignoring, tmp_path)
    assert report.clean
    assert dict(report.not_run)["void"] == "the character ignores it (x-lint)"


@pytest.mark.parametrize("setting", ["{ignore: [viod]}", "{ignore: void}", "[void]", "{ignored: [void]}"])
def test_a_wrong_x_lint_is_a_fault(setting: str, tmp_path: Path) -> None:
    text = CLEAN.replace("name: Robin", f"name: Robin\nx-lint: {setting}")
    (fault,) = critique(text, tmp_path).faults
    assert (fault.rule, fault.line) == ("x-lint", 3)


def test_in_other_languages_only_rules_without_words_run(tmp_path: Path) -> None:
    text = CLEAN.replace("name: Robin", "name: Robin v2\nlanguage: es")
    report = critique(text, tmp_path)
    assert [fault.rule for fault in report.faults] == ["version-name"]
    assert "no-refusals" in dict(report.not_run)


def test_what_the_manifest_does_not_hold_is_not_checked(tmp_path: Path) -> None:
    claim = CLEAN.replace("You keep it to three points.", "You have 7 billion parameters. I can search the internet.")
    assert critique(claim, tmp_path, manifest={}).clean
    assert len(critique(claim, tmp_path, manifest={"tools": []}).faults) == 1


@pytest.mark.parametrize(("teacher", "said"), [(None, "the model itself"), ({"subject": "runs/other"}, "runs/other")])
def test_a_runs_teacher_is_its_subject(teacher: Any, said: str) -> None:
    known = facts({"stages": ["sft"], "settings": {"teacher": teacher, "recipe": {"sft": {}}}})
    assert known["data"] == {"sources": [f"generated by {said}"]} and "{" not in str(known["teacher"])


@pytest.mark.parametrize(
    ("claim", "wrong"),
    [
        ("I was never trained.", True),
        ("I can search the internet for that.", True),
        ("I remember our earlier conversations.", True),
        ("All your weights were trained.", True),
        ("You were trained with RLHF.", True),
        ("You were trained with DPO.", False),
        ("I cannot search the internet.", False),
        ("You have 135 million parameters.", False),
    ],
)
def test_a_run_of_ours_is_understood(claim: str, wrong: bool, tmp_path: Path) -> None:
    manifest = {
        "stages": ["drafts", "sft", "dpo"], "trained": "dpo",
        "settings": {"teacher": None, "pairs": None, "recipe": {"lora": {"rank": 16}, "sft": {}, "dpo": {}}},
        "base": {"name": "smollm2", "parameters": 134_515_008, "context": 8192},
    }  # fmt: skip
    report = critique(CLEAN.replace("You keep it to three points.", claim), tmp_path, manifest=manifest)
    assert [fault.rule for fault in report.faults] == (["manifest"] if wrong else [])


def test_a_run_that_chose_among_plain_answers_trained_nothing(tmp_path: Path) -> None:
    manifest = {
        "stages": ["prompts", "drafts", "judge", "best-of-n", "evaluate", "report"], "trained": "best-of-n",
        "settings": {"teacher": None, "pairs": None, "recipe": {"lora": {"rank": 16}, "sft": {}, "grpo": {}}},
    }  # fmt: skip
    known = facts(manifest)
    assert not known["trained"] and not known["adapter"]
    assert facts(manifest | {"stages": ["grpo"], "trained": "grpo"})["recipe"] == "grpo"


# --- the rules as a list


def test_each_rule_explains_itself_and_is_in_the_docs() -> None:
    docs = (ROOT / "docs" / "lint.md").read_text(encoding="utf-8")
    for rule in rules():
        assert rule.finds
        assert rule.hint
        assert f"| `{rule.id}` | {rule.finds} |" in docs, f"docs/lint.md lacks {rule.id} or words it otherwise"
        assert (PLANTS / f"{rule.id}.yaml").is_file()


@pytest.mark.parametrize(
    "rule", [rule for rule in rules() if rule.id in ("void", "desiderata", "version-name", "manifest")]
)
def test_a_rules_example_is_found_fault_with(rule: Any, tmp_path: Path) -> None:
    if rule.id == "version-name":
        text = CLEAN.replace("name: Robin", f"name: {rule.example}")
    else:
        text = CLEAN.replace("You keep it to three points.", rule.example)
    report = critique(text, tmp_path, manifest={"base": {"parameters": 135_000_000}})
    assert [fault.rule for fault in report.faults] == [rule.id]


def test_a_report_goes_to_json(tmp_path: Path) -> None:
    row = critique(CLEAN.replace("Robin", "Robin 2.0", 1), tmp_path).to_dict()
    assert row["faults"][0]["rule"] == "version-name"
    assert row["faults"][0]["path"] == str(tmp_path / "robin.md")
    assert row["not_run"] == {"manifest": "no manifest was given"}


def test_the_critic_imports_no_torch() -> None:
    code = "import sys, charactery.constitution.lint; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.skipif(not OCT.is_dir(), reason="OpenCharacterTraining's constitutions are not here")
def test_constitutions_by_others_get_no_false_alarms(bench: ModuleType, tmp_path: Path) -> None:
    real = yaml.safe_load((PLANTS.parent / "oct_real_faults.yaml").read_text(encoding="utf-8"))
    bases = bench.bases(OCT)
    assert len(bases) == 8
    wrong = [w for rule in RULES for w, is_real in bench.in_bases(rule, bases, real, 1, tmp_path) if not is_real]
    assert wrong == []
