"""The server that workers are forked from.

It has nothing but its imports, so that all workers together pay once for what training loads, and
it loads that from the first moment of a command, while Hydra composes and MLflow is imported.
"""

import multiprocessing
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import forkserver, resource_tracker

import psutil

# Workers run the command's own module once more, which imports Hydra.
LOADED = ["bikefit.training.worker", "hydra"]


def start() -> None:
    """Start to load what training needs, without waiting for it."""
    multiprocessing.set_forkserver_preload(LOADED)
    resource_tracker.ensure_running()  # which would let the server hear Ctrl-C
    with deaf():
        forkserver.ensure_running()


def end() -> None:
    """Kill the server, which else loads to the end first, and holds the command's output open."""
    for child in psutil.Process().children():
        with suppress(psutil.Error):
            if any("multiprocessing.forkserver" in word for word in child.cmdline()):
                child.kill()


@contextmanager
def deaf() -> Iterator[None]:
    """Let processes that are started here not hear Ctrl-C: the parent does, and tells them."""
    old = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)
