"""What Inspect finds of Charactery: the provider and the tasks (the package's `inspect_ai` entry point)."""

from functools import partial

from charactery.evals.expression.task import expression
from charactery.evals.scored import cost, multiple_choice
from charactery.judges.best_of import choosing
from charactery.models.inspect_provider import CharacteryAPI, charactery
from charactery.models.speaker import Models

CharacteryAPI.models = partial(Models, choosing=choosing)  # the provider stands below the judges

__all__ = ["charactery", "cost", "expression", "multiple_choice"]
