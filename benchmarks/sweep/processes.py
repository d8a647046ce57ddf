"""Whole processes, timed from outside, in a scratch folder."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
POLL = 0.1  # s between two looks at the memory


@dataclass(frozen=True)
class Measured:
    """One process and its children.

    Args:
        seconds: wall time from start to exit.
        processor: seconds of a core that the process and all its descendants had, as last seen.
        memory: highest sum of the resident memory of the same, MB; pages that they share count
            more than once.
        output: what it wrote to stdout.
    """

    seconds: float
    processor: float
    memory: float
    output: str


@contextmanager
def scratch() -> Iterator[Path]:
    """Give a folder with the project's data and no store."""
    with tempfile.TemporaryDirectory(prefix="bikefit-bench-") as name:
        (Path(name) / "data").symlink_to(ROOT / "data")
        yield Path(name)


def run(
    arguments: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None,
    statuses: Container[int] = (0,),
) -> Measured:  # fmt: skip
    """Run Python with arguments in a folder and measure it.

    Args:
        arguments: of the interpreter.
        folder: to run it in.
        environment: what is added to ours.
        statuses: with which it may exit.

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
        with _watched(process.pid) as seen:
            output, _ = process.communicate()
            seconds = time.perf_counter() - start
        if process.returncode not in statuses:
            errors.seek(0)
            raise RuntimeError(f"{' '.join(arguments)} failed:\n{errors.read()[-3000:]}")
    return Measured(seconds, sum(seen.processor.values()), seen.memory, output)


@dataclass
class _Seen:
    """What was seen of a process tree: peak memory, MB, and processor seconds by process."""

    memory: float = 0.0
    processor: dict[int, float] = field(default_factory=dict)


@contextmanager
def _watched(process: int) -> Iterator[_Seen]:
    """Look at a process tree every so often until the block ends."""
    seen = _Seen()
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(POLL):
            _look(process, seen)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


def _look(process: int, seen: _Seen) -> None:
    total = 0
    try:
        parent = psutil.Process(process)
        family = [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for member in family:
        try:
            total += member.memory_info().rss
            used = member.cpu_times()
        except psutil.NoSuchProcess:
            continue
        seen.processor[member.pid] = used.user + used.system
    seen.memory = max(seen.memory, total / 1e6)
