"""How the small commands beside evals (`python -m charactery.evals.…`) are run."""

import sys
import warnings
from collections.abc import Callable, Sequence

from charactery.errors import CharacteryError, CharacteryWarning


def as_command(main: Callable[[Sequence[str]], None]) -> None:
    """Call with the arguments that were given; each warning is shown; an error of ours is a line and exit code 2."""
    warnings.simplefilter("always", CharacteryWarning)
    try:
        main(sys.argv[1:])
    except CharacteryError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
