"""What can go wrong in a user's hands. One class, so that the command line can tell it from a defect.

Every message says what is wrong, where, and what to do. The command line prints it without a traceback and
exits with 2.
"""

from pathlib import Path


class CharacteryError(Exception):
    """Something the user can mend. `where` is a file, or a file and a line."""

    def __init__(self, message: str, path: Path | str | None = None, line: int | None = None) -> None:
        self.message, self.path, self.line = message, path, line
        super().__init__(message)

    def __str__(self) -> str:
        if self.path is None:
            return self.message
        where = f"{self.path}:{self.line}" if self.line is not None else str(self.path)
        return f"{where}: {self.message}"


class BadCharacter(CharacteryError):
    """A character file that cannot be read as one."""


class BadData(CharacteryError):
    """A prompts, pairs, card or other data file that cannot be used."""


class ModelNotFound(CharacteryError):
    """A name that is no model here, or a model whose weights cannot be had."""


class RunConflict(CharacteryError):
    """A run folder that exists with other settings, or is in use, or is damaged."""


class ContextTooLong(CharacteryError):
    """A request longer than the model's context, where it was the only one."""


class Stop(Exception):
    """No fault: raised by what is told of an answer piece by piece, to cut it short. What was said of it is kept."""


class CharacteryWarning(UserWarning):
    """Something worth knowing that stops nothing."""
