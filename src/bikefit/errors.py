"""Base classes of errors that a user can correct, and masking of passwords."""

import io
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path


class BikefitError(Exception):
    """An error that a user can correct: the message says what is wrong, allowed and to be done.

    Commands print it without a traceback. Every other exception except an :class:`OSError` is a
    bug and is printed with its traceback.
    """


class DataError(BikefitError):
    """A parameter, a file or a row of the data is wrong."""


def run_command(command: Callable[[], int | None]) -> int:
    """Call a command and return its exit status; print an error that a user can correct.

    Characters that the encoding of the output lacks are printed as ``?``.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        _check_arguments(sys.argv[1:])
        _check_environment()
        _compare_checkouts()
        status = command() or 0
        sys.stdout.flush()  # otherwise a full disk raises an error after the end
        return status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of the output has ended, such as `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (BikefitError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _compare_checkouts() -> None:
    """Warn if the current folder is another checkout than the one whose code runs."""
    here, installed = Path("src/bikefit/errors.py"), Path(__file__)
    if here.exists() and not here.samefile(installed):
        print(
            f"warning: the code of {installed.parents[2]} runs, not that of this folder: run "
            "`pip install -e .` here, or activate the environment of this folder",
            file=sys.stderr,
        )


def _check_arguments(arguments: Sequence[str]) -> None:
    for argument in arguments:
        if "\r" in argument:
            raise BikefitError(
                f"argument {argument!r} ends with a carriage return: save the script with the line "
                "ends of Unix (sed -i 's/\\r$//' SCRIPT)"
            )
        if any("\ud800" <= character <= "\udfff" for character in argument):
            raise BikefitError(
                f"argument {argument!r} is not text in the encoding {sys.getfilesystemencoding()}: "
                "set PYTHONUTF8=1, or write it in this encoding"
            )


def _check_environment() -> None:
    """Raise an error for variables of which packages expect numbers and do not check them."""
    for name in NUMBERS:
        value = os.environ.get(name, "1")
        if not re.fullmatch(r"\d+(\.\d+)?", value):
            raise BikefitError(f"environment variable {name}={value}: must be a number; unset it")


NUMBERS = (
    "BIKEFIT_CHECKPOINT",
    "LOKY_MAX_CPU_COUNT",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES",
    "MLFLOW_HTTP_REQUEST_TIMEOUT",
)
SECRET_KEYS = "password|passwd|pwd|token|secret|key|signature|sig"
SECRETS = {
    # user and password before the host; a password may have slashes
    r"(?<=://)(?:[^/\s]+|[^/\s:]*:(?!\d+/)\S+)(?=@)": "…",
    rf"(?i)(?<=[?&;])(\w*(?:{SECRET_KEYS}))=[^&;\s'\"]+": r"\1=…",
}


def hide_secrets(text: str) -> str:
    """Return a text in which the passwords of addresses are masked."""
    for pattern, mask in SECRETS.items():
        text = re.sub(pattern, mask, text)
    return text
