"""Inspect's `eval`, from here."""

from typing import Any

from inspect_ai.log import EvalLog


def inspect_eval(tasks: Any, **settings: Any) -> list[EvalLog]:
    """The logs of tasks.

    Raises KeyboardInterrupt where Ctrl-C stopped them: Inspect takes it for itself and returns what it has, or nothing.
    """
    from inspect_ai import eval as run

    logs = run(tasks, **settings)
    if not logs or any(log.status == "cancelled" for log in logs):
        raise KeyboardInterrupt
    return logs
