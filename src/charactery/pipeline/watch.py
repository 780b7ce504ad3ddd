"""Whom a long computation tells how far it is."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Watch:
    """Whom to tell: a line for people, and progress of a named stage in units done of units there are."""

    say: Callable[[str], None] = lambda line: None
    start: Callable[[str, int], None] = lambda name, units: None
    advance: Callable[[int], None] = lambda units: None
