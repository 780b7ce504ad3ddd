"""What Inspect finds of Charactery: the provider and the tasks (the package's `inspect_ai` entry point)."""

from charactery.evals.expression.task import expression
from charactery.evals.scored import cost, multiple_choice
from charactery.models.inspect_provider import charactery

__all__ = ["charactery", "cost", "expression", "multiple_choice"]
