"""Modules that worker processes share: the fork server imports this once, workers fork from it."""

# ruff: noqa: E402
import gc

gc.disable()  # collecting would take a fifth of the import time

import multiprocessing
import os
import threading
import time

import bikefit.training.fit  # noqa: F401
from bikefit.nn import kernels


def _exit_with_command() -> None:
    """End this worker as soon as the command that started it has ended."""
    while (command := multiprocessing.parent_process()) is None:
        time.sleep(0.01)  # it is not known yet directly after the fork
    command.join()
    os._exit(1)


def _watch_command() -> None:
    threading.Thread(target=_exit_with_command, daemon=True).start()


kernels.prepare()
gc.freeze()  # workers share the pages of imported objects, which collecting would copy
gc.enable()
os.register_at_fork(after_in_child=_watch_command)
