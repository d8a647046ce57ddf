"""Ctrl-C: once asks stacks to stop, twice ends the command."""

from __future__ import annotations

import logging
import os
import signal
import threading
from contextlib import suppress
from pathlib import Path
from types import FrameType

from bikefit.processes import process_id
from bikefit.sweeps import forkserver

log = logging.getLogger(__name__)


class Interrupt:
    """Handles Ctrl-C while stacks train: workers end their step once the file ``stop`` exists."""

    def __init__(self, root: Path) -> None:
        self.requested = False
        self.stop = root / f".stop.{process_id()}.tmp"  # deleted with other temporary files

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            self.previous = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self.previous)
        self.stop.unlink(missing_ok=True)

    def request(self) -> None:
        """Ask all stacks to stop at the end of their step."""
        self.requested = True
        with suppress(OSError):
            self.stop.touch()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:  # workers end with this process; the next command closes the runs
            forkserver.kill()
            os._exit(130)
        self.request()
        log.warning("stopping at the end of the step; Ctrl-C again stops at once")
