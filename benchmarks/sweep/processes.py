"""Whole processes, timed from outside, in a scratch folder."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
POLL = 0.1  # s between two looks at the memory


@dataclass(frozen=True)
class Measured:
    """One process and its children.

    Args:
        seconds: wall time from start to exit.
        memory: highest sum of the resident memory of the process and all its descendants, MB;
            pages that they share count more than once.
        output: what it wrote to stdout.
    """

    seconds: float
    memory: float
    output: str


@contextmanager
def scratch() -> Iterator[Path]:
    """Give a folder with the project's data and no store."""
    with tempfile.TemporaryDirectory(prefix="bikefit-bench-") as name:
        (Path(name) / "data").symlink_to(ROOT / "data")
        yield Path(name)


def run(
    arguments: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None
) -> Measured:
    """Run Python with arguments in a folder and measure it.

    Raises:
        RuntimeError: it failed; with the end of what it said.
    """
    given = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
    given |= environment or {}
    with (folder / "errors.txt").open("w+") as errors:
        start = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, *arguments], cwd=folder, env=given, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors,
        )  # fmt: skip
        with _memory_of(process.pid) as memory:
            output, _ = process.communicate()
            seconds = time.perf_counter() - start
        if process.returncode:
            errors.seek(0)
            raise RuntimeError(f"{' '.join(arguments)} failed:\n{errors.read()[-3000:]}")
    return Measured(seconds, max(memory), output)


@contextmanager
def _memory_of(process: int) -> Iterator[list[float]]:
    """Give a list that receives the memory of a process tree, MB, until the block ends."""
    found = [0.0]
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(POLL):
            found.append(_resident(process) / 1e6)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()


def _resident(process: int) -> int:
    total = 0
    try:
        parent = psutil.Process(process)
        family = [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for member in family:
        try:
            total += member.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total
