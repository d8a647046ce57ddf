"""Ctrl-C: once asks stacks to stop, twice ends the command."""

from __future__ import annotations

import logging
import os
import signal
import threading
from contextlib import suppress
from pathlib import Path
from types import FrameType

from bikefit.processes import is_running, process_id
from bikefit.sweeps import forkserver

log = logging.getLogger(__name__)


class Interrupt:
    """Handles Ctrl-C while stacks train.

    Workers end at the end of their step once the file ``stop`` exists. A file is renamed to it,
    because a full disk does not allow another one.

    Args:
        root: Folder of all checkpoints.
    """

    def __init__(self, root: Path) -> None:
        self.requested = False
        self.stop = root / f"{process_id()}.stop"
        self.prepared = self.stop.with_suffix(".running")

    def __enter__(self) -> Interrupt:
        try:
            self.stop.parent.mkdir(parents=True, exist_ok=True)
            for left in self.stop.parent.glob("*.*"):  # of commands that were killed
                if left.suffix in (".stop", ".running") and is_running(left.stem) is False:
                    left.unlink(missing_ok=True)
            self.prepared.touch()
        except OSError as error:
            log.warning(f"Ctrl-C will not keep what was measured: {error}")
        if threading.current_thread() is threading.main_thread():
            self.previous = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self.previous)
        self.stop.unlink(missing_ok=True)
        self.prepared.unlink(missing_ok=True)

    def request(self) -> None:
        """Ask all stacks to stop at the end of their step."""
        self.requested = True
        with suppress(OSError):
            self.prepared.replace(self.stop)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:  # workers end with this process; the next command closes the runs
            forkserver.kill()
            os._exit(130)
        self.request()
        log.warning("stopping at the end of the step; Ctrl-C again stops at once")
