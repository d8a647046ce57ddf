"""Base classes of errors that a user can correct, and masking of passwords."""

import re
import sys
from collections.abc import Callable


class BikefitError(Exception):
    """An error that a user can correct: the message says what is wrong, allowed and to be done.

    Commands print it without a traceback. Every other exception except an :class:`OSError` is a
    bug and is printed with its traceback.
    """


class DataError(BikefitError):
    """A parameter, a file or a row of the data is wrong."""


def run_command(command: Callable[[], int | None]) -> int:
    """Call a command and return its exit status; print an error that a user can correct."""
    try:
        return command() or 0
    except (BikefitError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


SECRET_KEYS = "password|passwd|pwd|token|secret|key|signature|sig"
SECRETS = {
    r"(?<=://)[^/\s]+(?=@)": "…",  # user and password before the host
    rf"(?i)(?<=[?&;])(\w*(?:{SECRET_KEYS}))=[^&;\s'\"]+": r"\1=…",
}


def hide_secrets(text: str) -> str:
    """Return a text in which the passwords of addresses are masked."""
    for pattern, mask in SECRETS.items():
        text = re.sub(pattern, mask, text)
    return text
