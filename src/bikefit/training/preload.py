"""Modules that worker processes share: the fork server imports this once, workers fork from it."""

# ruff: noqa: E402
import gc
from multiprocessing import spawn

gc.disable()  # collecting would take a fifth of the import time

import bikefit.training.fit  # noqa: F401

gc.freeze()  # workers share the pages of imported objects, which collecting would copy
gc.enable()


def _skip_main(_: str) -> None:
    """Do not run the main module of the command or script in a worker, which needs none of it.

    It may have no file (``python - < script``), or start the sweep without
    ``if __name__ == "__main__"``.
    """


spawn._fixup_main_from_path = spawn._fixup_main_from_name = _skip_main  # type: ignore[attr-defined]
