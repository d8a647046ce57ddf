"""Checkpoints: the state of a stack in the middle of its training, in a folder of its own.

The folder's name follows from the fingerprints of the stack's members, so that other code, data
or settings never find it. ``stack.json`` lists them from the start; ``state.safetensors`` comes
with the first checkpoint and is replaced by each later one: tensors alone, with the rest as JSON
in its header. Every tensor has the members as its first axis, so a member's slice is enough for it
to go on in a stack of fewer members.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from bikefit.data.files import atomic_write, delete_temporary_files, remove_folder

log = logging.getLogger(__name__)
STACK, STATE = "stack.json", "state.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """A stack as it was at the end of an epoch.

    Args:
        epoch: how many epochs were done.
        failures: why a member has failed, None where it has not; length M.
        values: by name, ``(M, ...)`` each.
    """

    epoch: int
    failures: list[str | None]
    values: Mapping[str, np.ndarray]

    def part(self, members: Sequence[int]) -> Checkpoint:
        """Return the slices of some members, by their positions."""
        return Checkpoint(
            self.epoch,
            [self.failures[m] for m in members],
            {name: value[list(members)] for name, value in self.values.items()},
        )  # fmt: skip


class Place:
    """Where one stack keeps its checkpoint.

    Args:
        root: folder of all stacks, or of the stack that this one is a part of.
        marks: fingerprints of its members, in order.
    """

    def __init__(self, root: Path, marks: Sequence[str]) -> None:
        self.marks = list(marks)
        self.folder = root / hashlib.sha256("\n".join(marks).encode()).hexdigest()[:16]

    @property
    def is_open(self) -> bool:
        """Whether the folder is there: on another machine it may not be."""
        return (self.folder / STACK).exists()

    def open(self) -> None:
        """Make the folder, and note in it who the members are, where that is not noted there."""
        note, file = json.dumps(self.marks).encode(), self.folder / STACK
        if not file.exists() or file.read_bytes() != note:
            with atomic_write(file) as temporary:
                temporary.write_bytes(note)

    def save(self, checkpoint: Checkpoint) -> None:
        """Put a checkpoint in the place of an earlier one, whole or not at all."""
        arrays = {n: np.ascontiguousarray(v) for n, v in sorted(checkpoint.values.items())}
        notes = asdict(checkpoint)
        del notes["values"]
        notes |= {"marks": self.marks, "sum": _sum(arrays)}
        written = save(arrays, {"notes": json.dumps(notes)})
        with atomic_write(self.folder / STATE) as temporary:
            temporary.write_bytes(written)

    def load(self) -> Checkpoint | None:
        """Return the checkpoint; None where there is none, or none that can be used."""
        if not (self.folder / STATE).exists():
            return None
        try:
            with safe_open(self.folder / STATE, "numpy") as file:
                notes = json.loads(file.metadata()["notes"])
                arrays = {name: file.get_tensor(name) for name in sorted(file.keys())}
            if notes.pop("sum") != _sum(arrays):
                raise ValueError("its values are not those that were written")
            if notes.pop("marks") != self.marks:
                raise ValueError("it belongs to other members")
            return Checkpoint(**notes, values=arrays)
        except _TORN as error:
            log.warning(f"{self.folder / STATE} is not used: {_line(error)}")
            return None

    def epoch(self) -> int:
        """Return after how many epochs the checkpoint was written, 0 where there is none."""
        try:
            with safe_open(self.folder / STATE, "numpy") as file:
                return int(json.loads(file.metadata()["notes"])["epoch"])
        except _TORN:  # said by whoever loads it
            return 0

    def part(self, members: Sequence[int], root: Path | None = None) -> Place:
        """Make a place for some members, by their positions, with their slices.

        Args:
            members: positions in this stack.
            root: where it is made; None for below this place, so that it goes with it.
        """
        found = Place(root or self.folder, [self.marks[m] for m in members])
        if self.is_open:
            found.open()
            checkpoint = self.load()
            if checkpoint is not None:
                found.save(checkpoint.part(members))
        return found

    def remove(self) -> None:
        """Remove the folder: the stack is done."""
        if self.folder.exists():
            remove_folder(self.folder)


_TORN = (SafetensorError, OSError, ValueError, KeyError, TypeError)


def _line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _sum(arrays: Mapping[str, np.ndarray]) -> int:
    """Sum up names, shapes and values in their order: a disk may keep a file's size alone."""
    total = 0
    for name, value in arrays.items():
        total = crc32(f"{name} {value.shape} {value.dtype}".encode(), total)
        total = crc32(value.tobytes(), total)
    return total


def places(root: Path) -> list[Place]:
    """List the stacks that have a folder, those with the most epochs first."""
    delete_temporary_files(root)
    found = list(_read(root))
    return [place for _, _, place in sorted((-p.epoch(), str(p.folder), p) for p in found)]


def _read(root: Path) -> Iterator[Place]:
    for file in root.rglob(STACK):
        if any(part.startswith(".") for part in file.relative_to(root).parts):
            continue  # on its way to be removed
        try:
            marks: Any = json.loads(file.read_text())
            place = Place(file.parents[1], marks)
            if place.folder != file.parent:
                raise ValueError("it lists other members than its folder's")
        except _TORN as error:
            log.warning(f"{file} is not used: {_line(error)}")
            continue
        yield place
