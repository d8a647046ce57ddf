"""Folders in which stacks keep their state, their history and their results.

The name of a folder is a hash of the fingerprints of the stack's members, so stacks with other
code, data or settings never read it. It contains

- ``stack.json``: the members, written by the command;
- ``runs.json``: the ids of their MLflow runs, written by the command;
- ``checkpoint.safetensors``: the state at the end of an epoch, replaced by each later one;
- ``result.safetensors``: the results of all members, until MLflow has them.

All files are tensors and JSON, are written atomically and can be read while the stack trains. A
damaged file is ignored with a warning. Importing this module does not import torch.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pydantic import TypeAdapter
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from bikefit.data.files import atomic_write, delete_temporary_files, remove_folder
from bikefit.training.members import Arrays, Member, MemberResult

log = logging.getLogger(__name__)
STACK, RUNS = "stack.json", "runs.json"
CHECKPOINT, RESULT = "checkpoint.safetensors", "result.safetensors"
LAST, TIMESTAMPS = "selection/last", "selection/timestamps"  # entries of a checkpoint
MEMBERS = TypeAdapter(list[Member])
Value = TypeVar("Value")


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

    @property
    def has_result(self) -> bool:
        """Whether the results of all members are in the folder."""
        return (self.folder / RESULT).exists()

    def create(self) -> None:
        """Create the folder; log a warning if the disk does not allow it."""
        self._write(STACK, MEMBERS.dump_json(self.members, by_alias=True))

    def save(self, checkpoint: Mapping[str, np.ndarray]) -> None:
        """Replace the checkpoint; if that fails, log a warning and keep the previous one."""
        self._write(CHECKPOINT, _encode(checkpoint))

    def load(self) -> Arrays | None:
        """Return the checkpoint; None if there is none or it is damaged."""
        with _damage_ignored(self.folder / CHECKPOINT) as file:
            return _read(file)[0]
        return None

    def histories(self) -> tuple[list[int], list[Arrays]]:
        """Return what the checkpoint knows of the epochs so far.

        Returns:
            The end of each epoch in ms since 1970, and for each member its metrics by name, one
            value per epoch, NaN if a metric does not apply. No epochs without a checkpoint.
        """
        with _damage_ignored(self.folder / CHECKPOINT) as file:
            values, _ = _read(file, ("history/", LAST, TIMESTAMPS))
            history = with_prefix(values, "history")
            return values[TIMESTAMPS].tolist(), [
                {name: metric[m, :last] for name, metric in history.items()}
                for m, last in enumerate(values[LAST])
            ]
        return [], [{} for _ in self.members]

    def epoch(self) -> int:
        """Return the number of finished epochs in the checkpoint, 0 without a checkpoint."""
        with _damage_ignored(self.folder / CHECKPOINT) as file:
            return len(_read(file, TIMESTAMPS)[0][TIMESTAMPS])
        return 0

    def save_result(self, results: Sequence[MemberResult]) -> None:
        """Write the results of all members; if that fails, log a warning."""
        arrays: Arrays = {}
        members = []
        for m, result in enumerate(results):
            values = dict(vars(result))
            for field in ("metrics", "state", "predictions"):
                arrays |= {f"{m}/{field}/{k}": v for k, v in values.pop(field).items()}
            members.append(values)
        self._write(RESULT, _encode(arrays, {"members": json.dumps(members)}))

    def load_result(self) -> list[MemberResult] | None:
        """Return the results of all members; None if there are none or they are damaged."""
        with _damage_ignored(self.folder / RESULT) as file:
            arrays, notes = _read(file)
            members = enumerate(json.loads(notes["members"]))
            return [_decode_member(values, with_prefix(arrays, str(m))) for m, values in members]
        return None

    def assign_runs(self, runs: MemberRuns) -> None:
        """Write the ids of the members' MLflow runs."""
        self._write(RUNS, json.dumps(asdict(runs)).encode())

    def runs(self) -> MemberRuns | None:
        """Return the ids of the members' MLflow runs; None if none are assigned."""
        with _damage_ignored(self.folder / RUNS) as file:
            return MemberRuns(**json.loads(file.read_bytes()))
        return None

    def forget_runs(self) -> None:
        """Remove the ids of the members' MLflow runs; the results stay."""
        (self.folder / RUNS).unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the folder."""
        with suppress(FileNotFoundError):  # another command may have removed it
            remove_folder(self.folder)

    def _write(self, name: str, content: bytes) -> None:
        if name != STACK and not (self.folder / STACK).exists():
            return  # on another machine, or on a full disk
        try:
            with atomic_write(self.folder / name) as temporary:
                temporary.write_bytes(content)
        except OSError as error:
            log.warning(f"{self.folder / name} could not be written, training continues: {error}")


def checkpoint_dirs(root: Path) -> list[CheckpointDir]:
    """List the stacks that have a folder."""
    delete_temporary_files(root)
    directories = []
    for path in sorted(root.glob(f"[!.]*/{STACK}")):
        delete_temporary_files(path.parent)
        with _damage_ignored(path) as file:
            directory = CheckpointDir(root, MEMBERS.validate_json(file.read_bytes()))
            if directory.folder != file.parent:
                raise ValueError("its members are not those of its folder")
            directories.append(directory)
    return directories


def with_prefix(values: Mapping[str, Value], prefix: str) -> dict[str, Value]:
    """Return the entries whose key starts with ``<prefix>/``, without it."""
    start = f"{prefix}/"
    return {k.removeprefix(start): v for k, v in values.items() if k.startswith(start)}


@contextmanager
def _damage_ignored(file: Path) -> Iterator[Path]:
    """Log a warning if the block cannot read the file; a missing file is no damage."""
    try:
        yield file
    except FileNotFoundError:
        pass
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        log.warning(f"{file} is ignored: {(str(error) or repr(error)).splitlines()[0]}")


def _encode(arrays: Mapping[str, np.ndarray], notes: dict[str, str] | None = None) -> bytes:
    # safetensors saves wrong values of arrays that are not contiguous, and has no times.
    contiguous = {name: np.asarray(value, order="C") for name, value in arrays.items()}
    return save(
        {k: v.view(np.int64) if v.dtype.kind == "M" else v for k, v in contiguous.items()}, notes
    )


def _read(file: Path, prefix: str | tuple[str, ...] = "") -> tuple[Arrays, dict[str, str]]:
    with safe_open(file, "numpy") as opened:
        names = [name for name in opened.keys() if name.startswith(prefix)]  # noqa: SIM118
        return {name: opened.get_tensor(name) for name in names}, opened.metadata() or {}


def _decode_member(values: dict[str, Any], arrays: Arrays) -> MemberResult:
    fields: dict[str, Any] = {
        name: with_prefix(arrays, name) for name in ("metrics", "state", "predictions")
    }
    if predictions := fields["predictions"]:
        predictions["timestamp"] = predictions["timestamp"].view("M8[us]")
    return MemberResult(**fields, **values)
