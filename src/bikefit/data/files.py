"""Atomic writes: a file or folder appears complete or not at all."""

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bikefit.errors import DataError
from bikefit.processes import is_running, process_id

MAX_AGE = 24 * 3600  # s after which a temporary file of another host is deleted


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield the name of a temporary file that becomes `path` if the block succeeds.

    If it fails, the temporary file is deleted and `path` is unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    delete_temporary_files(path.parent)
    temporary = _temporary(path)
    try:
        yield temporary
        _flush(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder that becomes `path` if the block succeeds.

    If it fails, the temporary folder is deleted and `path` is unchanged.
    """
    delete_temporary_files(path.parent)
    temporary = _temporary(path)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                _flush(file)
        if path.exists():  # only an empty folder can be replaced
            remove_folder(path)
        temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_folder(path: Path) -> None:
    """Delete a folder; it is renamed first, so that no reader sees a part of it."""
    old = _temporary(path, "old")
    path.replace(old)
    shutil.rmtree(old, ignore_errors=True)


def delete_temporary_files(folder: Path) -> None:
    """Delete temporary files and folders that killed processes left in a folder."""
    for path in folder.glob(".*.*.*.*.*"):
        match = re.fullmatch(r"\..+\.([^.]+\.\d+\.\d+)\.(tmp|old)", path.name)
        if match and not _in_use(path, match[1]):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _temporary(path: Path, suffix: str = "tmp") -> Path:
    """Return a hidden name in the same folder: files can be renamed only within a file system."""
    return path.with_name(f".{path.name}.{process_id()}.{suffix}")


def _in_use(path: Path, process: str) -> bool:
    running = is_running(process)
    if running is not None:
        return running
    try:
        return time.time() - path.stat().st_mtime < MAX_AGE
    except FileNotFoundError:  # deleted by another process
        return False


def _flush(file: Path) -> None:
    """Write a file to the disk: otherwise it may be empty after a power failure."""
    with file.open("rb+") as opened:
        os.fsync(opened.fileno())


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def to_json(value: Any) -> str:
    """Return JSON text that is the same for equal values, with sorted keys and without NaN."""
    return json.dumps(value, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"


def write_json(path: Path, value: Any) -> None:
    """Write `to_json(value)` atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(to_json(value), encoding="utf-8")


def replace_section(file: Path, section: str, text: str) -> None:
    """Replace the text between `<!-- section -->` and `<!-- end of section -->` in a file.

    Raises:
        DataError: The file has no such lines.
    """
    old = file.read_text(encoding="utf-8")
    first, last = f"<!-- {section} -->", f"<!-- end of {section} -->"
    begin, end = old.find(first), old.find(last)
    if not 0 <= begin < end:
        raise DataError(f"{file} has no lines {first!r} and {last!r}")
    with atomic_write(file) as temporary:
        new = f"{old[: begin + len(first)]}\n\n{text}\n\n{old[end:]}"
        temporary.write_text(new, encoding="utf-8")
