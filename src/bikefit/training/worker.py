"""What a worker does: train one stack. Imports torch only when it is called."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path

from bikefit.data.table import read_table
from bikefit.errors import DataError
from bikefit.training import devices
from bikefit.training.checkpoints import CheckpointDir
from bikefit.training.folds import read_pool
from bikefit.training.members import STOPPED, Member, MemberResult, Stopped


class StackError(Exception):
    """A stack raised an exception; the message is its traceback."""


def initialize(slot: int) -> None:
    """Prepare a worker process: it uses the GPU of its slot and ends with the command."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command handles it
    devices.slot = slot
    threading.Thread(target=_exit_with_command, daemon=True).start()


def _exit_with_command() -> None:
    command = multiprocessing.parent_process()
    assert command is not None
    command.join()
    os._exit(1)


def run_stack(members: Sequence[Member], table: Path, root: Path, stop: Path) -> list[MemberResult]:
    """Train one stack, or return its saved results.

    Checkpoints and the results are written to the folder of the stack if it exists here.

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
        if stop.exists():
            raise Stopped
        found, expected = read_table(table).data_version, members[0].version
        if expected and found != expected:
            raise DataError(
                f"machine {socket.gethostname()}: {table} has data version {found}, not "
                f"{expected}; run `dvc pull` there, or start the command again if the table was "
                "changed during the sweep"
            )
        from bikefit.training.fit import fit_stack

        results = fit_stack(members, read_pool(table), directory, stop.exists)
    except Stopped:
        return [MemberResult(failure=STOPPED, killed=True) for _ in members]
    except Exception:
        raise StackError(traceback.format_exc().strip()) from None
    if not any(result.killed for result in results):
        directory.save_result(results)
    return results
