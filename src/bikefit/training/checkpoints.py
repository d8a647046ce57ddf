"""Folders in which stacks keep their state, their history and their results.

The name of a folder is a hash of the fingerprints of the stack's members, so stacks with other
code, data or settings never read it. It contains

- ``stack.json``: the members, written by the command;
- ``runs.json``: the ids of their MLflow runs, written by the command;
- ``checkpoint.safetensors``: the state at the end of an epoch, replaced by each later one;
- ``result.safetensors``: the results of all members, until MLflow has them.

All files are tensors and JSON, are written atomically and can be read while the stack trains.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from bikefit.config import Settings
from bikefit.data.files import atomic_write, delete_temporary_files, remove_folder
from bikefit.training.members import Failure, Member, MemberResult

log = logging.getLogger(__name__)
STACK, RUNS = "stack.json", "runs.json"
CHECKPOINT, RESULT = "checkpoint.safetensors", "result.safetensors"
DAMAGED = (SafetensorError, OSError, ValueError, KeyError, TypeError)
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Checkpoint:
    """State of a stack at the end of an epoch.

    Args:
        epoch: Number of finished epochs.
        timestamps: End of each epoch, in ms since 1970.
        failures: Reason why a member has failed, or None; length M.
        values: Tensors by name.
    """

    epoch: int
    timestamps: list[int]
    failures: list[str | None]
    values: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class StackResult:
    """Results of all members of a stack.

    Args:
        members: Result of each member, in their order.
        timestamps: End of each epoch, in ms since 1970; empty if no epoch was finished.
    """

    members: Sequence[MemberResult | Failure]
    timestamps: Sequence[int]


@dataclass(frozen=True)
class MemberRuns:
    """MLflow runs of a stack's members.

    Args:
        store: Address of the tracking store.
        sweep: Run of the sweep, if any.
        runs: Run of each member; None if its result is not to be recorded.
        jobs: Run of the cross-validated job that each member belongs to; None for others.
        process: Process that records the results, see :mod:`bikefit.processes`; "" for any.
    """

    store: str
    sweep: str | None
    runs: Sequence[str | None]
    jobs: Sequence[str | None]
    process: str = ""


class CheckpointDir:
    """The folder of one stack.

    Args:
        root: Folder of all stacks.
        members: Members of the stack, in their order.
    """

    def __init__(self, root: Path, members: Sequence[Member]) -> None:
        self.members = list(members)
        self.fingerprints = [member.fingerprint for member in members]
        name = hashlib.sha256("\n".join(self.fingerprints).encode()).hexdigest()[:16]
        self.folder = root / name
        self.timestamps: list[int] = []  # of the epochs of this training

    @property
    def exists(self) -> bool:
        """Whether the folder exists; it may not, on another machine or on a full disk."""
        return (self.folder / STACK).exists()

    @property
    def has_result(self) -> bool:
        """Whether the results of all members are in the folder."""
        return (self.folder / RESULT).exists()

    def changed(self) -> float:
        """Return the time of the last checkpoint, 0 without a checkpoint."""
        with suppress(OSError):
            return (self.folder / CHECKPOINT).stat().st_mtime
        return 0.0

    def create(self) -> None:
        """Create the folder, unless it exists; log a warning if the disk does not allow it."""
        members = [
            {
                "settings": member.settings.model_dump(mode="json", by_alias=True),
                "fold": member.fold,
                "fingerprint": member.fingerprint,
                "version": member.version,
            }
            for member in self.members
        ]
        content = json.dumps(members).encode()
        with suppress(OSError):
            if (self.folder / STACK).read_bytes() == content:
                return
        self._write(STACK, content)

    def save(self, checkpoint: Checkpoint) -> None:
        """Replace the checkpoint; if that fails, log a warning and keep the previous one."""
        notes = asdict(checkpoint)
        del notes["values"]
        self._write(CHECKPOINT, self._encode(checkpoint.values, notes))

    def load(self) -> Checkpoint | None:
        """Return the checkpoint; None if there is none or it is damaged."""
        content = self._read(CHECKPOINT)
        return Checkpoint(**content[1], values=content[0]) if content else None

    def epoch(self) -> int:
        """Return the number of finished epochs in the checkpoint, 0 without a checkpoint."""
        with suppress(*DAMAGED), safe_open(self.folder / CHECKPOINT, "numpy") as file:
            return int(json.loads(file.metadata()["notes"])["epoch"])
        return 0

    def histories(self) -> tuple[list[int], list[Arrays]]:
        """Return what the checkpoint knows of the epochs so far.

        Returns:
            The end of each epoch in ms since 1970, and for each member its metrics by name, one
            value per epoch, NaN if a metric does not apply. No epochs without a checkpoint.
        """
        with suppress(*DAMAGED), safe_open(self.folder / CHECKPOINT, "numpy") as file:
            last = file.get_tensor("selection/last")
            names = [name for name in file.keys() if name.startswith("history/")]  # noqa: SIM118
            history = {name.removeprefix("history/"): file.get_tensor(name) for name in names}
            return json.loads(file.metadata()["notes"])["timestamps"], [
                {name: values[m, : last[m]] for name, values in history.items()}
                for m in range(len(self.members))
            ]
        return [], [{} for _ in self.members]

    def save_result(self, result: StackResult) -> None:
        """Write the results of all members; if that fails, log a warning."""
        arrays: Arrays = {}
        members = [_encode_member(m, r, arrays) for m, r in enumerate(result.members)]
        notes = {"members": members, "timestamps": list(result.timestamps)}
        self._write(RESULT, self._encode(arrays, notes))

    def load_result(self) -> StackResult | None:
        """Return the results of all members; None if there are none or they are damaged."""
        content = self._read(RESULT)
        if content is None:
            return None
        arrays, notes = content
        members = [_decode_member(m, note, arrays) for m, note in enumerate(notes["members"])]
        return StackResult(members, notes["timestamps"])

    def assign_runs(self, runs: MemberRuns) -> None:
        """Write the ids of the members' MLflow runs."""
        self._write(RUNS, json.dumps(asdict(runs)).encode())

    def runs(self) -> MemberRuns | None:
        """Return the ids of the members' MLflow runs; None if none are assigned."""
        with suppress(*DAMAGED):
            return MemberRuns(**json.loads((self.folder / RUNS).read_text()))
        return None

    def forget_runs(self) -> None:
        """Remove the ids of the members' MLflow runs; the results stay."""
        (self.folder / RUNS).unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the folder."""
        with suppress(FileNotFoundError):  # another command may have removed it
            remove_folder(self.folder)

    def _write(self, name: str, content: bytes) -> None:
        if name != STACK and not self.exists:
            return
        try:
            with atomic_write(self.folder / name) as temporary:
                temporary.write_bytes(content)
        except OSError as error:
            log.warning(f"{self.folder / name} could not be written, training continues: {error}")

    def _encode(self, arrays: Mapping[str, np.ndarray], notes: dict[str, Any]) -> bytes:
        copies = {name: np.array(value, order="C") for name, value in sorted(arrays.items())}
        notes |= {"fingerprints": self.fingerprints, "checksum": _checksum(copies)}
        return save(copies, {"notes": json.dumps(notes)})

    def _read(self, name: str) -> tuple[Arrays, dict[str, Any]] | None:
        if not (self.folder / name).exists():
            return None
        try:
            with safe_open(self.folder / name, "numpy") as file:
                notes = json.loads(file.metadata()["notes"])
                arrays = {key: file.get_tensor(key) for key in sorted(file.keys())}
            if notes.pop("checksum") != _checksum(arrays):
                raise ValueError("the checksum of its values is wrong")
            if notes.pop("fingerprints") != self.fingerprints:
                raise ValueError("it belongs to other members")
            return arrays, notes
        except DAMAGED as error:
            log.warning(f"{self.folder / name} is ignored: {_first_line(error)}")
            return None


def checkpoint_dirs(root: Path) -> list[CheckpointDir]:
    """List the stacks that have a folder."""
    delete_temporary_files(root)
    directories = []
    for file in sorted(root.glob(f"[!.]*/{STACK}")):
        delete_temporary_files(file.parent)
        try:
            members = [
                Member(**member | {"settings": Settings.model_validate(member["settings"])})
                for member in json.loads(file.read_text())
            ]
            directory = CheckpointDir(root, members)
            if directory.folder != file.parent:
                raise ValueError("its members are not those of its folder")
        except DAMAGED as error:
            log.warning(f"{file} is ignored: {_first_line(error)}")
            continue
        directories.append(directory)
    return directories


def _encode_member(m: int, result: MemberResult | Failure, arrays: Arrays) -> dict[str, Any]:
    """Return the JSON part of a result and add its arrays."""
    if isinstance(result, Failure):
        return {"failure": asdict(result)}
    timestamps, *others = result.predictions
    arrays |= {f"{m}/metrics/{name}": value for name, value in result.metrics.items()}
    arrays |= {f"{m}/state/{name}": value for name, value in result.state.items()}
    arrays |= {f"{m}/predictions/{i}": value for i, value in enumerate(others, start=1)}
    arrays[f"{m}/predictions/0"] = timestamps.view(np.int64)
    return {
        "final": result.final,
        "selected": result.selected,
        "failure": asdict(result.failure) if result.failure else None,
        "layers": result.layers,
        "parameters": result.parameters,
        "train_rows": result.train_rows,
        "val_rows": result.val_rows,
        "time_type": str(timestamps.dtype),
    }


def _decode_member(m: int, note: dict[str, Any], arrays: Arrays) -> MemberResult | Failure:
    failure = Failure(**note.pop("failure")) if note["failure"] else note.pop("failure")
    if not note:
        assert failure is not None
        return failure
    parts: dict[str, Arrays] = {"metrics": {}, "state": {}, "predictions": {}}
    for key, value in arrays.items():
        number, part, name = key.split("/", 2)
        if int(number) == m:
            parts[part][name] = value
    predictions = parts["predictions"]
    time = predictions["0"].view(note.pop("time_type"))
    return MemberResult(
        metrics=parts["metrics"],
        state=parts["state"],
        predictions=(time, predictions["1"], predictions["2"]),
        failure=failure,
        **note,
    )


def _checksum(arrays: Mapping[str, np.ndarray]) -> int:
    """Return a checksum of names, shapes and values: after a crash only the size may be right."""
    total = 0
    for name, value in arrays.items():
        total = crc32(f"{name} {value.shape} {value.dtype}".encode(), total)
        total = crc32(value.tobytes(), total)
    return total


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
