"""What all data stages share: the error that a user sees, and how a stage ends."""

import sys
from collections.abc import Callable

from bikefit.errors import BikefitError


class DataError(BikefitError):
    """Something the user can put right; the message says what was expected and what came."""


def run(main: Callable[[], None]) -> None:
    """Run a stage; a fault of data, params or disk becomes a message and exit status 1.

    Any other exception is a mistake of ours and keeps its traceback.
    """
    try:
        main()
    except (BikefitError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
