"""The fork server: a process that imports torch while Hydra composes jobs, and forks workers."""

import multiprocessing
import os
import signal
from multiprocessing import forkserver, resource_tracker
from typing import Any

PRELOADED = ["bikefit.training.preload", "bikefit.sweeps.workers"]
DEFAULT = ["__main__"]  # what Python preloads
_started = False


def start() -> None:
    """Start the fork server if this process has none, without waiting for its imports."""
    global _started
    server: Any = forkserver._forkserver
    if server._forkserver_pid is None:
        _started = True
    if not _started:  # it belongs to other code of this process
        return
    multiprocessing.set_forkserver_preload(PRELOADED)
    resource_tracker.ensure_running()  # otherwise the server starts it, which unblocks Ctrl-C
    # The server and its workers inherit the block of Ctrl-C, which the command handles.
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)


def kill() -> None:
    """Kill the fork server that `start` started; it would finish its imports before it ends."""
    global _started
    if _started:
        server: Any = forkserver._forkserver
        os.kill(server._forkserver_pid, signal.SIGKILL)
        server._stop()  # no public function forgets a server
        multiprocessing.set_forkserver_preload(DEFAULT)
        _started = False
