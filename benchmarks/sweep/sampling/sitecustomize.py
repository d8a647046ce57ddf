"""Where every process spends its time: imported by each Python that finds it on its path.

A thread looks at the stacks of all threads every few milliseconds and writes what it saw to
``$BIKEFIT_SAMPLES/<process id>.json``. The command that is looked at stays as a user types it.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from types import FrameType

INTERVAL = 0.005  # s
WRITE = 0.5  # s; worker processes are ended without a word

# What a moment is spent on: the first line that fits a frame of the stack (part of its file's
# name, function or any).
RULES = (
    ("imports", "<frozen importlib._bootstrap>", "_find_and_load"),
    ("closing: verdicts, table, reading back", "bikefit/comparison/", ""),
    ("MLflow: opening or making the store", "bikefit/tracking/connection.py", "client"),
    ("MLflow: writing runs", "bikefit/tracking/", ""),
    ("training: evaluation", "bikefit/training/module.py", "validation_step"),
    ("training: evaluation", "bikefit/training/module.py", "on_validation_epoch_end"),
    ("training: choosing epochs", "bikefit/training/callbacks.py", ""),
    ("training: evaluation", "bikefit/training/afterwards.py", ""),
    ("training: backward", "torch/autograd/__init__.py", ""),
    ("training: backward", "bikefit/nn/fused.py", "backward"),
    ("training: optimizer", "torch/optim/", ""),
    ("training: optimizer", "bikefit/training/optimizers.py", ""),
    ("training: random numbers", "bikefit/nn/randomness.py", ""),
    ("training: forward", "bikefit/nn/fused.py", ""),
    ("training: forward", "bikefit/nn/stacking.py", ""),
    ("training: loss and penalties", "bikefit/nn/losses.py", ""),
    ("training: loss and penalties", "bikefit/nn/penalties.py", ""),
    ("training: rows of a batch", "bikefit/training/module.py", "_gather"),
    ("training: rows of a batch", "bikefit/training/data.py", "__iter__"),
    ("training: rest of a step", "bikefit/training/module.py", "training_step"),
    ("training: Lightning's loop", "pytorch_lightning/", ""),
    ("training: before and after the epochs", "bikefit/training/", ""),
    ("waiting for the other processes", "/joblib/", ""),
    ("waiting for the other processes", "/selectors.py", ""),
    ("composing configs, folders of jobs", "stack_launcher/_core.py", "_run"),
    ("jobs: grouping, collecting", "bikefit/sweeps/", ""),
    ("Hydra: start, parsing, config", "/hydra/", ""),
)


def _category(frame: FrameType | None) -> str:
    codes = []
    while frame is not None:
        codes.append((frame.f_code.co_filename, frame.f_code.co_name))
        frame = frame.f_back
    for category, part, function in RULES:
        if any(part in file and function in ("", name) for file, name in codes):
            return category
    return "rest"


def _clock(number: int) -> int:
    """Return what Linux calls the processor time of a thread.

    Python's own way there asks the C library about a thread that may have ended, which crashes.
    """
    return ~number << 3 | 6


def _sample(folder: Path) -> None:
    main, own = threading.main_thread().ident, threading.get_ident()
    of_main: Counter[str] = Counter()
    of_others: Counter[str] = Counter()
    of_cores: Counter[str] = Counter()
    clocks: dict[int, float] = {}
    start = last = written = time.perf_counter()
    while True:
        time.sleep(INTERVAL)
        now = time.perf_counter()
        numbers = {one.ident: one.native_id for one in threading.enumerate()}
        numbers[main] = os.getpid()  # after a fork, Python still has the number of before
        for thread, frame in sys._current_frames().items():
            if thread != own:
                # A call that lets no other thread run delays the look: it counts in full.
                category = _category(frame)
                (of_main if thread == main else of_others)[category] += now - last
                number = numbers.get(thread)
                if number is None:  # not one of Python's own, or about to begin or end
                    continue
                with suppress(OSError):  # it may have ended since; then it has no clock
                    used = time.clock_gettime(_clock(number))
                    of_cores[category] += used - clocks.get(thread, 0.0)
                    clocks[thread] = used
        last = now
        if now - written > WRITE:
            content = {
                "command": sys.orig_argv, "parent": os.getppid(), "main": of_main,
                "others": of_others, "cores": of_cores,
            }  # fmt: skip
            temporary = folder / f".{os.getpid()}"
            temporary.write_text(json.dumps(content | {"seconds": now - start}))
            temporary.replace(folder / f"{os.getpid()}.json")
            written = now


def _start() -> None:
    folder = Path(os.environ["BIKEFIT_SAMPLES"])
    threading.Thread(target=_sample, args=(folder,), daemon=True).start()


if "BIKEFIT_SAMPLES" in os.environ:
    os.register_at_fork(after_in_child=_start)
    _start()
