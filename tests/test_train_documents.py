"""Documents are learnt as TRL learns plain text, beside conversations and by themselves."""

from pathlib import Path
from typing import Any

import pytest
import torch

import killed_training as killed
from charactery.models.chat import assistant, user
from charactery.models.local import Adapter, LocalModel
from charactery.runs import Row, read_rows
from charactery.train.documents import as_read
from charactery.train.settings import Sft
from charactery.train.trainers import Work, plan, train_sft

TEXT = "The harbour lies ahead, and the lantern on the quay has burnt since supper."
DOCUMENT: Row = {"id": "d", "prompt": [], "completion": [assistant(TEXT)]}


def prepared(rows: list[Row], folder: Path, out: Path) -> list[Row]:
    """What TRL's own trainer makes of rows."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM
    from trl import SFTConfig, SFTTrainer

    settings = SFTConfig(
        str(out), max_length=None, completion_only_loss=True, use_cpu=True, bf16=False, report_to="none"
    )
    network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = killed.load(folder).tokenizer
    trainer = SFTTrainer(network, settings, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)
    data: Any = trainer.train_dataset
    return [{key: row[key] for key in ("input_ids", "labels")} for row in data]


def test_rows_without_documents_stay_messages(tiny_model: LocalModel) -> None:
    rows = killed.sft_rows()
    assert as_read(rows, tiny_model.tokenizer) == [{k: row[k] for k in ("prompt", "completion")} for row in rows]


def test_tokens_and_labels_are_trls(tiny_model: LocalModel, tiny_model_folder: Path, tmp_path: Path) -> None:
    talk = {
        "prompt": [user("And now?"), assistant("Aye."), user("Why?")], "completion": [assistant("Because.")], "id": "t"
    }  # fmt: skip
    rows = [*killed.sft_rows()[:3], talk]
    mixed = prepared(as_read([*rows, DOCUMENT], tiny_model.tokenizer), tiny_model_folder, tmp_path)
    chats = [{k: row[k] for k in ("prompt", "completion")} for row in rows]
    assert mixed[:4] == prepared(chats, tiny_model_folder, tmp_path)
    assert mixed[4:] == prepared([{"text": TEXT}], tiny_model_folder, tmp_path)
    ids, labels = mixed[4]["input_ids"], mixed[4]["labels"]
    assert ids == labels and tiny_model.tokenizer.decode(ids) == TEXT + tiny_model.tokenizer.eos_token
    assert -100 in mixed[0]["labels"]


def test_the_first_loss_of_documents_is_that_of_their_whole_text(
    tiny_model: LocalModel, tiny_model_folder: Path, tmp_path: Path
) -> None:
    rows = [DOCUMENT | {"id": str(n), "completion": [assistant(f"{TEXT} {word}.")]} for n, word in enumerate("abcd")]
    train_sft(killed.load(tiny_model_folder), rows, killed.LORA, Sft(epochs=1, batch=4), Work(tmp_path, 3))
    ids = [row["input_ids"] for row in as_read(rows, tiny_model.tokenizer)]
    expected = -torch.cat(tiny_model.score([(i[:1], i[1:]) for i in ids])).mean().item()
    assert read_rows(tmp_path / "log.jsonl")[0]["loss"] == pytest.approx(expected, abs=2e-3)


def test_a_document_is_learnt_as_text_and_a_conversation_beside_it_as_one(
    tiny_model: LocalModel, tiny_model_folder: Path, tmp_path: Path
) -> None:
    rows = [DOCUMENT, *killed.sft_rows()[:3]]
    settings = Sft(learning_rate=3e-2, epochs=16, batch=4)
    folder = train_sft(killed.load(tiny_model_folder), rows, killed.LORA, settings, Work(tmp_path, 3))
    for row in as_read(rows, tiny_model.tokenizer):
        ids, mask = row["input_ids"], row["completion_mask"]
        start = max(1, mask.index(1))
        before, after = (
            tiny_model.score([(ids[:start], ids[start:])], adapter)[0].mean() for adapter in (None, Adapter(folder))
        )
        assert after > before + 1


def test_the_plan_reads_a_documents_length_from_its_text(tiny_model: LocalModel) -> None:
    short, long = ({**DOCUMENT, "id": name, "completion": [assistant("a" * n)]} for name, n in (("s", 3), ("l", 900)))
    rows = [short, long, *killed.sft_rows()[:2], {**long, "id": "m"}, {**short, "id": "t"}]
    planned = plan(rows, tiny_model.tokenizer, "completion", Sft(batch=2, epochs=1), 0)
    batches = {frozenset(row["id"] for row in planned[n : n + 2]) for n in (0, 2, 4)}
    assert frozenset({"l", "m"}) in batches and frozenset({"s", "t"}) in batches
