"""What a worker does: train one stack. Imports torch only when it is called."""

from __future__ import annotations

import signal
import socket
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from bikefit.data.table import read_table
from bikefit.errors import DataError
from bikefit.training import devices
from bikefit.training.checkpoints import CheckpointDir, StackResult
from bikefit.training.folds import read_pool
from bikefit.training.members import Failure, Member, Stopped

INTERVAL = 0.05  # s between two looks for the stop file, which may lie on a network disk


class StackError(Exception):
    """A stack raised an exception; the message is its traceback."""


def initialize(slot: int) -> None:
    """Prepare a worker process of this machine: ignore Ctrl-C and use the GPU of its slot."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command handles it
    devices.slot = slot


def run_stack(members: Sequence[Member], table: Path, root: Path, stop: Path) -> StackResult:
    """Train one stack, or return its saved result.

    Checkpoints and the result are written to the folder of the stack if it exists here.

    Args:
        members: Members of the stack.
        table: Folder of their table.
        root: Folder of all checkpoints.
        stop: File that asks for the end of training, at the end of a step.

    Raises:
        StackError: Training failed.
    """
    directory = CheckpointDir(root, members)
    try:
        if saved := directory.load_result():
            return saved
        stopping = _stopping(stop)
        if stopping():
            raise Stopped
        _check_version(table, members[0].version)
        from bikefit.training.fit import fit_stack

        results = fit_stack(members, read_pool(table), directory, stopping)
    except Stopped:
        failure = Failure("stopped before the end of the first epoch", killed=True)
        return StackResult([failure] * len(members), [])
    except Exception:
        raise StackError(traceback.format_exc().strip()) from None
    result = StackResult(results, directory.timestamps)
    if not any(member.failure and member.failure.killed for member in results):
        directory.save_result(result)
    return result


def _stopping(stop: Path) -> Callable[[], bool]:
    """Return a function that tells whether the stop file exists."""
    due = 0.0

    def stopping() -> bool:
        nonlocal due
        if time.monotonic() < due:
            return False
        due = time.monotonic() + INTERVAL
        return stop.exists()

    return stopping


def _check_version(table: Path, version: str) -> None:
    """Raise a DataError if this machine's table is not the one of the sweep."""
    found = read_table(table).data_version
    if version and found != version:
        raise DataError(
            f"machine {socket.gethostname()}: {table} has data version {found}, not {version}; run "
            "`dvc pull` there, or start the command again if the table was changed during the sweep"
        )
