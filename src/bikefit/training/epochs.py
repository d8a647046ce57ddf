"""Epochs on their way from a stack in training to the command, which writes them to MLflow.

Each stack appends to a file of its own, in a folder that the command watches: a line of JSON with
the members' fingerprints and the metrics' names, then a row of numbers for each epoch.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import numpy as np

log = logging.getLogger(__name__)


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
        folder: that the command watches; where it is not there, nothing is written.
        marks: fingerprints of the members.
    """

    def __init__(self, folder: Path, marks: Sequence[str]) -> None:
        self.marks = list(marks)
        self.file: Path | None = folder / uuid4().hex if folder.is_dir() else None
        self.begun = False

    def write(self, names: Sequence[str], first: int, values: np.ndarray) -> None:
        """Append epochs.

        Args:
            names: of the K metrics.
            first: number of the first of these epochs.
            values: of E epochs, ``(E, K, M)``.
        """
        if self.file is None:
            return
        head = b"" if self.begun else json.dumps([self.marks, list(names)]).encode() + b"\n"
        numbers = np.arange(first, first + len(values), dtype=np.float64)
        rows = np.column_stack([numbers, values.reshape(len(values), -1)])
        try:
            with self.file.open("ab") as opened:
                opened.write(head + rows.tobytes())
            self.begun = True
        except OSError as error:
            log.warning(f"epochs come to MLflow at the end only: {error}")
            self.file = None


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
