"""The warning that a run's judge is the model in training: by its weights, whatever they are called."""

import shutil
from dataclasses import replace
from pathlib import Path

from charactery.constitution import find_character
from charactery.judges.rating import STUDENT
from charactery.models.speaker import Models
from charactery.models.subject import parse_subject
from charactery.pipeline.manifest import manifest
from charactery.pipeline.order import Order
from charactery.pipeline.recipe import find_recipe
from charactery.runs import Row, differences


def test_a_judge_of_the_same_weights_is_called_the_student(
    tiny_model_folder: Path, mild_model_folder: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_model_folder, copy)
    student, models = parse_subject(str(tiny_model_folder)), Models("cpu")

    def warned(judge: str) -> bool:
        recipe = replace(find_recipe("rlaif"), judge=judge)
        order = Order(find_character("captain"), tmp_path / "run", str(tiny_model_folder), recipe=recipe, device="cpu")
        return STUDENT in manifest(order, models, student)["notes"]

    assert warned(str(tiny_model_folder)) and warned(str(copy))
    assert warned(f"{copy}+captain"), "a character in its prompt leaves it the same model"
    assert not warned(str(mild_model_folder)) and not warned("likelihood")


def test_a_folder_whose_template_was_edited_is_another_model(tiny_model_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model_folder, tmp_path / "model")

    def settings() -> Row:
        order = Order(find_character("captain"), tmp_path / "run", str(folder), device="cpu")
        made: Row = manifest(order, Models("cpu"), parse_subject(str(folder)))["settings"]
        return made

    before = settings()
    assert settings() == before
    (folder / "chat_template.jinja").write_text("{{ messages[-1]['content'] }}")
    [changed] = differences(before, settings())
    assert changed.startswith("tokenizer: ")
