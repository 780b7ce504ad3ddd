"""The warning that a run's judge is the model in training: by its weights, whatever they are called."""

import shutil
from dataclasses import replace
from pathlib import Path

from charactery.constitution import find_character
from charactery.models.speaker import Models
from charactery.models.subject import parse_subject
from charactery.pipeline.manifest import STUDENT, manifest
from charactery.pipeline.order import Order
from charactery.pipeline.recipe import find_recipe


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
