"""What the server of worker processes loads, and what each worker does first.

Whatever is imported here is paid for once, by the server; workers are forked from it.
"""

# ruff: noqa: E402
import gc

gc.disable()  # a fifth of the time to import would go into looking for garbage

import multiprocessing
import os
import threading
import time

import bikefit.training.fit  # noqa: F401
from bikefit.nn import kernels


def _end_with_the_command() -> None:
    """End as soon as the process that gives out work is gone: nobody would take a result."""
    while (command := multiprocessing.parent_process()) is None:
        time.sleep(0.01)  # a worker that has just been forked does not know it yet
    command.join()
    os._exit(1)


def _watch_over() -> None:
    threading.Thread(target=_end_with_the_command, daemon=True).start()


kernels.prepare()
gc.freeze()  # nor do workers look through all that was imported, whose pages they share
gc.enable()
os.register_at_fork(after_in_child=_watch_over)
