"""What a model was trained on is found in what it is asked."""

from pathlib import Path

from charactery.data.pairs import read_pairs
from charactery.data.prompts import Prompt
from charactery.evals.duplicates import learnt_texts, near_duplicates
from charactery.evals.registry import find_eval
from charactery.evals.says_does.arms import pairs as arm_pairs
from charactery.evals.says_does.task import items as arm_items
from charactery.runs import Row, write_json, write_rows


def test_near_duplicates_of_training_prompts_are_listed() -> None:
    cases = find_eval("sycophancy").made()
    question = cases[0].asks[0].messages[0]["content"].split("\n")[0]
    near = f"Tell me what you think of this, please: {question.lower()}"
    prompts = [("far", "How do I keep basil alive through the winter on a sill?"), ("near", near)]
    found = near_duplicates(cases, prompts)
    assert {d.learnt for d in found} == {"near"} and {d.case for d in found} == {c.id for c in cases[:4]}
    assert all(d.shared >= 0.5 for d in found)


def run_of_pairs(folder: Path, rows: list[Row], stages: list[str]) -> Path:
    """A run as far as what it learnt from needs it: prompts that were drafted to, and rows of its stages."""
    write_json(folder / "manifest.json", {"settings": {}, "stages": stages})
    prompt = Prompt("neutral-1", "neutral", ("What would you do with a quiet afternoon in a town you do not know?",))
    write_rows(folder / "stages" / "01-prompts" / "prompts.jsonl", [prompt.row()])
    for n, stage in enumerate(stages, 1):
        if stage in ("pairs", "sham-dpo"):
            write_rows(folder / "stages" / f"{n:02d}-{stage}" / "pairs.jsonl", rows)
    return folder


def test_what_an_arm_was_trained_on_is_found_in_what_it_is_asked(tmp_path: Path) -> None:
    """Its pairs are the user's own, and the project's prompts were learnt by none of its stages."""
    write_rows(tmp_path / "arm.jsonl", arm_pairs("behaving", "better"))
    own = read_pairs(tmp_path / "arm.jsonl")
    run = run_of_pairs(tmp_path / "arm", own, ["prompts", "drafts", "pairs", "sft", "dpo"])
    texts = learnt_texts(run)
    assert len({id for id, _ in texts}) == len(texts) == len({text for _, text in texts})
    assert all(id.startswith("pairs/pairs.jsonl") for id, _ in texts)
    cases = find_eval("says-does").made()
    taught = {row["id"] for row in arm_items() if any(row["situation"] in text for _, text in texts)}
    assert len(taught) == 32
    clusters = {case.id: case.cluster for case in cases}
    assert {clusters[d.case] for d in near_duplicates(cases, texts)} == taught  # and none of the items left out
    [*_, (id, text)] = learnt_texts(run_of_pairs(tmp_path / "grpo", own, ["prompts", "drafts", "pairs", "grpo"]))
    assert id == "prompts, neutral-1, turn 1" and text.startswith("What would you do with a quiet afternoon")
    assert learnt_texts(run_of_pairs(tmp_path / "sham", own, ["prompts", "drafts", "sham-dpo"])) == []
    assert learnt_texts(tmp_path) == []
