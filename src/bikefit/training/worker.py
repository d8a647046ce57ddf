"""Functions of worker processes. Importing this module does not import torch."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
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
    """Training of a stack failed; the message is the traceback of the exception."""


def initialize_worker(slot: int) -> None:
    """Prepare a worker process: set its slot, ignore Ctrl-C, and end it with the command."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command handles it
    devices.slot = slot
    if mlflow := sys.modules.get("mlflow"):  # the main module of the command may import it
        mlflow.autolog(disable=True)
    threading.Thread(target=_exit_with_command, daemon=True).start()


def _exit_with_command() -> None:
    command = multiprocessing.parent_process()
    assert command is not None
    command.join()
    os._exit(1)


def run_stack(members: Sequence[Member], table: Path, root: Path, stop: Path) -> list[MemberResult]:
    """Train a stack and return the results of its members; read them if they are saved.

    Checkpoints and the results are written to the folder of the stack if it exists here.

    Args:
        members: Members of the stack.
        table: Folder of their table.
        root: Folder of all stacks.
        stop: Training stops after the step in which this file appears.

    Raises:
        StackError: Training failed.
    """
    directory = CheckpointDir(root, members)
    try:
        if saved := directory.load_result():
            return saved
        if stop.exists():
            raise Stopped
        version, expected = read_table(table).data_version, members[0].version
        if expected and version != expected:
            raise DataError(
                f"machine {socket.gethostname()}: {table} has data version {version}, not "
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
