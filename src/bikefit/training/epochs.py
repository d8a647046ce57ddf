"""Epochs on their way from a stack in training to the command, which writes them to MLflow.

Each stack appends to a file of its own, in a folder that the command watches: a line of JSON with
the members' fingerprints and the metrics' names, then a row of numbers for each epoch.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import numpy as np

log = logging.getLogger(__name__)
PAUSE = 1.0  # s between two parts through a queue, which takes milliseconds for each
Part = tuple[str, bytes]


@dataclass(frozen=True)
class Folders:
    """What a command and the stacks that it trains have in common.

    Args:
        checkpoints: folder in which a stack has one of its own.
        epochs: folder for what is measured, None where nobody watches it.
    """

    checkpoints: Path
    epochs: Path | None = None


@dataclass(frozen=True)
class Epoch:
    """What an epoch of a stack has given.

    Args:
        number: of the epoch, the first is 1.
        marks: fingerprints of the M members.
        names: of the K metrics.
        values: ``(K, M)``; NaN where a member has none.
    """

    number: int
    marks: Sequence[str]
    names: Sequence[str]
    values: np.ndarray


class Writer:
    """A stack's side. A disk that is full ends it, but no training.

    Args:
        folder: that the command watches.
        marks: fingerprints of the members.
        put: takes what belongs to the end of a file and the file's name, once a second, on a
            machine that does not see the folder; with None nothing is told from there.
    """

    def __init__(
        self, folder: Path, marks: Sequence[str], put: Callable[[Part], object] | None = None
    ) -> None:
        self.marks, self.name = list(marks), uuid4().hex
        self.file = folder / self.name if folder.is_dir() else None
        self.put = put if self.file is None else None
        self.begun, self.kept, self.due = False, b"", 0.0

    def write(self, names: Sequence[str], first: int, values: np.ndarray) -> None:
        """Append epochs.

        Args:
            names: of the K metrics.
            first: number of the first of these epochs.
            values: of E epochs, ``(E, K, M)``.
        """
        if self.file is None and self.put is None:
            return
        head = b"" if self.begun else json.dumps([self.marks, list(names)]).encode() + b"\n"
        numbers = np.arange(first, first + len(values), dtype=np.float64)
        rows = np.column_stack([numbers, values.reshape(len(values), -1)])
        self.begun = True
        try:
            self._append(head + rows.tobytes())
        except Exception as error:  # of a disk, or of an engine's queue
            log.warning(f"epochs come to MLflow at the end only: {error}")
            self.file = self.put = None

    def _append(self, content: bytes) -> None:
        if self.file is not None:
            with self.file.open("ab") as opened:
                opened.write(content)
            return
        self.kept += content
        if self.put is not None and time.monotonic() >= self.due:
            self.put((self.name, self.kept))
            self.kept, self.due = b"", time.monotonic() + PAUSE


class Reader:
    """The command's side of one file.

    Args:
        file: that a stack appends to.
    """

    def __init__(self, file: Path) -> None:
        self.file, self.position = file, 0
        self.marks: list[str] = []
        self.names: list[str] = []

    def new(self) -> Iterator[Epoch]:
        """Give the epochs that have been added since the last time."""
        with self.file.open("rb") as opened:
            opened.seek(self.position)
            content = opened.read()
        if not self.names:
            head, end, content = content.partition(b"\n")
            if not end:
                return
            self.marks, self.names = json.loads(head)
            self.position = len(head) + 1
        width = 8 * (1 + len(self.names) * len(self.marks))
        whole = len(content) - len(content) % width  # the last row may be on its way
        self.position += whole
        shape = (len(self.names), len(self.marks))
        for row in np.frombuffer(content[:whole]).reshape(-1, width // 8):
            yield Epoch(int(row[0]), self.marks, self.names, row[1:].reshape(shape))
