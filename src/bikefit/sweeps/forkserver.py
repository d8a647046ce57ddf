"""The fork server: a process that imports what training needs, and from which workers fork.

It is started first of all, so that it imports torch while Hydra composes the jobs.
"""

import multiprocessing
import signal
from contextlib import suppress
from multiprocessing import forkserver, resource_tracker

import psutil

# Workers run the main module of the command once more, which imports Hydra.
PRELOADED = ["bikefit.training.preload", "hydra"]


def start() -> None:
    """Start the fork server, unless it runs, without waiting for its imports."""
    multiprocessing.set_forkserver_preload(PRELOADED)
    resource_tracker.ensure_running()  # it would unblock Ctrl-C below
    # Ctrl-C stays blocked in the server and in its workers: the command handles it.
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)


def kill() -> None:
    """Kill the fork server, which would first finish its imports and hold the output open."""
    for child in psutil.Process().children():
        with suppress(psutil.Error):
            if any("multiprocessing.forkserver" in word for word in child.cmdline()):
                child.kill()
