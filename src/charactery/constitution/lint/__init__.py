"""The critic of constitutions: `lint(character)` names faults with their lines. One rule is one function."""

from charactery.constitution.lint.critic import Report, lint, rules
from charactery.constitution.lint.rule import Fault, Rule

__all__ = ["Fault", "Report", "Rule", "lint", "rules"]
