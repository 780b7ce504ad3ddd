"""What a page says of a fault. One that nobody foresaw has a reference, beside which the log has the rest."""

import logging
import secrets

from charactery.errors import CharacteryError

LOG = logging.getLogger(__name__)


def sentence(what: str, error: Exception) -> str:
    """What went wrong, for a page; a fault that nobody foresaw is `what`, and its traceback goes to the log."""
    if isinstance(error, CharacteryError):
        return str(error)
    reference = logged(what, error, traced=True)
    return f"{what} ({type(error).__name__}: {error}); the studio's terminal has more beside {reference}"


def logged(what: str, error: Exception, traced: bool) -> str:
    """The reference under which it stands in the log; `traced`, with its traceback."""
    reference = secrets.token_hex(4)
    LOG.error("%s: %s (%s: %s)", reference, what, type(error).__name__, error, exc_info=error if traced else None)
    return reference
