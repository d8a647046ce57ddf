"""Folders with the state, the history and the results of stacks.

The name of a folder is a hash of the fingerprints of the stack's members, so it changes with the
code, the data and the settings. A folder contains

- ``stack.json``: the members and their MLflow runs, written by the command;
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pydantic import TypeAdapter
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from bikefit.data.files import atomic_write, delete_temporary_files, remove_folder
from bikefit.processes import has_ended, process_id
from bikefit.training.members import Arrays, Member, MemberResult

log = logging.getLogger(__name__)
STACK = "stack.json"
CHECKPOINT, RESULT = "checkpoint.safetensors", "result.safetensors"
LAST, TIMESTAMPS = "selection/last", "selection/timestamps"  # entries of a checkpoint
Value = TypeVar("Value")


@dataclass(frozen=True)
class MemberRuns:
    """Ids of the MLflow runs of a stack's members; none by default.

    Args:
        store: Address of the tracking store.
        sweep: Run of the sweep, if any.
        runs: Run of each member; None if its result is not to be recorded.
        jobs: Run of the cross-validated job that each member belongs to; None for others.
        process: Process that records the results, see :mod:`bikefit.processes`; "" for any.
    """

    store: str = ""
    sweep: str | None = None
    runs: Sequence[str | None] = ()
    jobs: Sequence[str | None] = ()
    process: str = ""


NO_RUNS = MemberRuns()
STACK_FILE = TypeAdapter(tuple[list[Member], MemberRuns])


class CheckpointDir:
    """The folder of one stack.

    Args:
        root: Folder of all stacks.
        members: Members of the stack, in their order.
        runs: MLflow runs of the members.
    """

    def __init__(self, root: Path, members: Sequence[Member], runs: MemberRuns = NO_RUNS) -> None:
        self.members, self.runs = list(members), runs
        self.fingerprints = [member.fingerprint for member in members]
        name = hashlib.sha256("\n".join(self.fingerprints).encode()).hexdigest()[:16]
        self.folder = root / name

    @property
    def has_result(self) -> bool:
        """Whether the results of all members are in the folder."""
        return (self.folder / RESULT).exists()

    @property
    def abandoned(self) -> bool:
        """Whether no other command trains the stack, so that its folder may be removed."""
        with suppress(FileNotFoundError):  # another command may have removed it
            last_write = max(file.stat().st_mtime for file in self.folder.iterdir())
            return self.runs.process == process_id() or has_ended(self.runs.process, last_write)
        return True

    def create(self) -> None:
        """Write ``stack.json``; if that fails, log a warning."""
        self._write(STACK, STACK_FILE.dump_json((self.members, self.runs), by_alias=True))

    def save(self, checkpoint: Mapping[str, np.ndarray]) -> None:
        """Replace the checkpoint; if that fails, log a warning and keep the previous one."""
        self._write(CHECKPOINT, _encode(checkpoint))

    def load(self) -> Arrays | None:
        """Return the checkpoint; None if there is none or it is damaged."""
        with _suppress_damage(self.folder / CHECKPOINT) as file:
            return _read(file)[0]
        return None

    def histories(self) -> tuple[list[int], list[Arrays]]:
        """Return the epochs of the checkpoint; without a checkpoint there are none.

        Returns:
            The end of each epoch in ms since 1970, and for each member its metrics by name, one
            value per epoch, NaN if a metric does not apply.
        """
        with _suppress_damage(self.folder / CHECKPOINT) as file:
            values, _ = _read(file, ("history/", LAST, TIMESTAMPS))
            history = with_prefix(values, "history")
            return values[TIMESTAMPS].tolist(), [
                {name: metric[m, :last] for name, metric in history.items()}
                for m, last in enumerate(values[LAST])
            ]
        return [], [{} for _ in self.members]

    def epoch(self) -> int:
        """Return the number of finished epochs in the checkpoint, 0 without a checkpoint."""
        with _suppress_damage(self.folder / CHECKPOINT) as file:
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
        with _suppress_damage(self.folder / RESULT) as file:
            arrays, metadata = _read(file)
            members = enumerate(json.loads(metadata["members"]))
            return [_decode_member(values, with_prefix(arrays, str(m))) for m, values in members]
        return None

    def assign_runs(self, runs: MemberRuns) -> None:
        """Set the members' MLflow runs, also in the folder."""
        self.runs = runs
        self.create()

    def remove(self) -> None:
        """Remove the folder."""
        with suppress(FileNotFoundError):  # another command may have removed it
            remove_folder(self.folder)

    def _write(self, name: str, content: bytes) -> None:
        if name != STACK and not (self.folder / STACK).exists():
            return  # the folder is on another machine, or the disk was full
        try:
            with atomic_write(self.folder / name) as temporary:
                temporary.write_bytes(content)
        except OSError as error:
            log.warning(f"{self.folder / name} could not be written, training continues: {error}")


def checkpoint_dirs(root: Path) -> list[CheckpointDir]:
    """Return the folders of stacks in a root; those with a damaged ``stack.json`` are left out."""
    delete_temporary_files(root)
    directories = []
    for path in sorted(root.glob(f"[!.]*/{STACK}")):
        delete_temporary_files(path.parent)
        with _suppress_damage(path) as file:
            directory = CheckpointDir(root, *STACK_FILE.validate_json(file.read_bytes()))
            if directory.folder != file.parent:
                raise ValueError("its members do not belong to its folder")
            directories.append(directory)
    return directories


def with_prefix(values: Mapping[str, Value], prefix: str) -> dict[str, Value]:
    """Return the entries whose key starts with ``<prefix>/``; this is removed from the keys."""
    start = f"{prefix}/"
    return {k.removeprefix(start): v for k, v in values.items() if k.startswith(start)}


@contextmanager
def _suppress_damage(file: Path) -> Iterator[Path]:
    """Suppress errors of reading a file, with a warning unless the file is missing."""
    try:
        yield file
    except FileNotFoundError:
        pass
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        log.warning(f"{file} is ignored: {(str(error) or repr(error)).splitlines()[0]}")


def _encode(arrays: Mapping[str, np.ndarray], metadata: dict[str, str] | None = None) -> bytes:
    # safetensors writes wrong values of arrays that are not contiguous, and has no time type.
    contiguous = {name: np.asarray(value, order="C") for name, value in arrays.items()}
    return save(
        {k: v.view(np.int64) if v.dtype.kind == "M" else v for k, v in contiguous.items()}, metadata
    )


def _read(file: Path, prefix: str | tuple[str, ...] = "") -> tuple[Arrays, dict[str, str]]:
    with safe_open(file, "numpy") as opened:
        names = [name for name in opened.keys() if name.startswith(prefix)]  # noqa: SIM118
        return {name: opened.get_tensor(name) for name in names}, opened.metadata() or {}


def _decode_member(values: dict[str, Any], arrays: Arrays) -> MemberResult:
    fields: dict[str, Any] = {
        name: with_prefix(arrays, name) for name in ("metrics", "state", "predictions")
    }
    predictions = fields["predictions"]
    if "timestamp" in predictions:
        predictions["timestamp"] = predictions["timestamp"].view("M8[us]")
    return MemberResult(**fields, **values)
