"""Stacks in worker processes: started early, watched, asked to stop, replaced when one is killed.

A small shared file, the board, says which stacks have begun, how many epochs are done, and
whether all should stop.
"""

from __future__ import annotations

import logging
import os
import signal
import tempfile
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType

import joblib
import numpy as np
import psutil
from joblib.externals.loky import get_reusable_executor
from joblib.externals.loky.backend.context import set_start_method
from joblib.externals.loky.process_executor import BrokenProcessPool

from bikefit.sweeps import server
from bikefit.sweeps.halving import Results, cut, fit
from bikefit.training.epochs import Folders
from bikefit.training.members import Failure, Member

log = logging.getLogger(__name__)

ATTEMPTS = 3  # to start workers that end before they begin a stack
NEVER_BEGAN = Failure(
    f"its worker process ended {ATTEMPTS} times before it began: too little memory? A script of "
    "your own that starts sweeps must do so below `if __name__ == '__main__':`"
)

KILLED_ALONE = Failure(
    "its worker process was killed twice, the second time with nothing beside it: too little "
    "memory? A smaller network, training.batch_size or table needs less"
)


class Board:
    """What the parent and its workers tell one another.

    Args:
        stacks: number of stacks.
    """

    def __init__(self, stacks: int) -> None:
        descriptor, name = tempfile.mkstemp(prefix="bikefit-board-")
        os.close(descriptor)
        self.path = Path(name)
        # written out, so that a full disk is an error here and does not kill who writes a cell
        self.path.write_bytes(np.zeros((stacks + 1, 2), np.int64).tobytes())
        self.cells = np.memmap(self.path, dtype=np.int64, mode="r+", shape=(stacks + 1, 2))

    def stop(self) -> None:
        """Ask every member to stop at the end of its step."""
        self.cells[0, 0] = 1

    def stopping(self) -> bool:
        """Say whether members are asked to stop."""
        return bool(self.cells[0, 0])

    def begun(self) -> list[int]:
        """List the stacks that have begun."""
        return [int(i) for i in np.flatnonzero(self.cells[1:, 0])]

    def epochs(self) -> int:
        """Count the member-epochs done by all stacks."""
        return int(self.cells[1:, 1].sum())

    def add(self, stack: int, epochs: int) -> None:
        """Count member-epochs of a stack that has no watch of its own."""
        self.cells[stack + 1, 1] += epochs

    def close(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)


class Watch:
    """A stack's side of the board.

    Args:
        path: the board's file.
        index: number of the stack.
    """

    def __init__(self, path: Path, index: int) -> None:
        self.cells = np.memmap(path, dtype=np.int64, mode="r+").reshape(-1, 2)
        self.row = self.cells[index + 1]
        self.row[0] = 1

    def report(self, epochs: int) -> None:
        """Count member-epochs that have just been done."""
        self.row[1] += epochs

    def stopping(self) -> bool:
        """Say whether the stack is asked to stop."""
        return bool(self.cells[0, 0])


class Interrupt:
    """Ctrl-C once asks the members to stop at the end of their step; twice stops at once."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self.main = threading.current_thread() is threading.main_thread()

    def __enter__(self) -> Interrupt:
        if self.main:
            self.previous = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        if self.main:
            signal.signal(signal.SIGINT, self.previous)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.board.stopping():  # runs that still say "running" are closed by the next sweep
            for worker in psutil.Process().children(recursive=True):
                with suppress(psutil.Error):  # it has ended by itself
                    worker.kill()
            self.board.close()
            os._exit(130)
        self.board.stop()
        log.warning("stopping at the end of the step; Ctrl-C again stops at once")


def start() -> None:
    """Let joblib's workers be forked from the server."""
    set_start_method("forkserver", force=True)
    server.start()


def end() -> None:
    """Kill the workers, whatever they do: nobody waits for them any more."""
    get_reusable_executor(reuse=True).shutdown(wait=False, kill_workers=True)


def run(
    stacks: Sequence[Sequence[Member]],
    processes: int,
    board: Board,
    folders: Folders | None = None,
) -> Iterator[tuple[int, Results]]:
    """Start to train stacks, and give each with its members' results as it is done.

    When a worker is killed (out of memory, say), each of the stacks that were being trained goes
    on alone; where that kills its worker, too, its halves do, and so on. A member whose worker is
    killed with nothing beside it has failed.

    Args:
        stacks: members of each.
        processes: how many stacks are trained at once; 1 trains them in this process.
        board: tells of progress, and is asked whether to stop.
        folders: for checkpoints and epochs, None for neither.
    """
    if processes == 1 or not stacks:
        return (_watched(board.path, i, stack, folders) for i, stack in enumerate(stacks))
    workers = _Workers(processes, board)
    return _collect(dict(enumerate(stacks)), workers, folders)


def _collect(
    pending: dict[int, Sequence[Member]], workers: _Workers, folders: Folders | None
) -> Iterator[tuple[int, Results]]:
    idle = 0
    while pending:
        try:  # a worker may be killed before the last stack has been given out
            for index, results in workers.submit(pending, folders):
                del pending[index]
                yield index, results
        except BrokenProcessPool:
            suspects = [index for index in workers.board.begun() if index in pending]
            idle = 0 if suspects else idle + 1
            if idle == ATTEMPTS:
                yield from ((i, [NEVER_BEGAN] * len(stack)) for i, stack in pending.items())
                return
            log.warning(
                "a worker process was killed (out of memory?): "
                f"{sum(len(pending[i]) for i in suspects)} members go on, stack by stack"
            )
            for index in suspects:
                yield index, _alone(index, pending.pop(index), workers, folders)


def _alone(
    index: int, members: Sequence[Member], workers: _Workers, folders: Folders | None
) -> Results:
    """Train a stack in a worker while no other runs; its halves, if that kills the worker."""
    try:
        ((_, results),) = workers.submit({index: members}, folders)
        return results
    except BrokenProcessPool:
        if len(members) == 1:
            return [KILLED_ALONE]
    parts = cut(members, folders)
    return [result for part, below in parts for result in _alone(index, part, workers, below)]


@dataclass(frozen=True)
class _Workers:
    """Worker processes that train stacks.

    Args:
        processes: how many.
        board: where they report.
    """

    processes: int
    board: Board

    def submit(
        self, stacks: Mapping[int, Sequence[Member]], folders: Folders | None
    ) -> Iterator[tuple[int, Results]]:
        """Give stacks to workers, and each back with its results as it is done."""
        # joblib renews a worker that has grown by 300 MB; its stacks go on elsewhere.
        warnings.filterwarnings("ignore", "A worker stopped while some jobs were given")
        start()
        count = min(self.processes, max(2, len(stacks)))  # alone, joblib would work in this process
        parallel = joblib.Parallel(
            n_jobs=count, return_as="generator_unordered", batch_size=1, pre_dispatch="all"
        )
        with server.deaf():
            found: Iterator[tuple[int, Results]] = parallel(
                joblib.delayed(_work)(self.board.path, i, stack, folders)
                for i, stack in stacks.items()
            )
        return found


def _work(
    board: Path, index: int, members: Sequence[Member], folders: Folders | None
) -> tuple[int, Results]:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears Ctrl-C and tells the board
    return _watched(board, index, members, folders)


def _watched(
    board: Path, index: int, members: Sequence[Member], folders: Folders | None
) -> tuple[int, Results]:
    watch = Watch(board, index)
    return index, fit(members, watch.report, watch.stopping, folders)
