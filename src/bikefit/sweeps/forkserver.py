"""The fork server: a process that imports torch while Hydra composes jobs, and forks workers."""

import multiprocessing
import signal
from contextlib import suppress
from multiprocessing import forkserver, resource_tracker

import psutil

# Workers run the main module of the command once more, which imports Hydra.
PRELOADED = ["bikefit.training.preload", "hydra"]


def start() -> None:
    """Start the fork server if it is not running, without waiting for its imports."""
    multiprocessing.set_forkserver_preload(PRELOADED)
    resource_tracker.ensure_running()  # otherwise the server starts it, which unblocks Ctrl-C
    # The server and its workers inherit the block of Ctrl-C, which the command handles.
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)


def kill() -> None:
    """Kill the fork server, which would otherwise run until its imports are finished."""
    for child in psutil.Process().children():
        with suppress(psutil.Error):
            if any("multiprocessing.forkserver" in word for word in child.cmdline()):
                child.kill()
