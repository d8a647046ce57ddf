"""Files that appear whole or not at all."""

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bikefit.errors import DataError
from bikefit.processes import is_running, process_id

ABANDONED = 24 * 3600  # s after which another machine's temporary file is nobody's


def _beside(path: Path, kind: str) -> Path:
    """A hidden name in the same folder, so that the last step is a rename within one disk."""
    return path.with_name(f".{path.name}.{process_id()}.{kind}")


def _to_disk(file: Path) -> None:
    """Wait until a file is on the disk: otherwise its name may be there after a power cut alone."""
    with file.open("rb+") as opened:
        os.fsync(opened.fileno())


def delete_temporary_files(folder: Path) -> None:
    """Remove the temporary files of processes that were killed while they wrote in a folder.

    An old folder that had stepped aside, and whose successor never came, gets its name back.
    """
    for left in folder.glob(".*.*.*.*.*"):
        found = re.fullmatch(r"\.(.+)\.([^.]+\.\d+\.\d+)\.(tmp|old)", left.name)
        if found is None or _is_used(left, found[2]):
            continue
        with suppress(OSError):  # somebody else was quicker
            if found[3] == "old" and not (folder / found[1]).exists():
                left.replace(folder / found[1])
        _remove(left)


def _is_used(left: Path, process: str) -> bool:
    """Return whether a process may still write a file; on another host, only its age tells."""
    running = is_running(process)
    if running is not None:
        return running
    with suppress(FileNotFoundError):
        return time.time() - left.stat().st_mtime < ABANDONED
    return False


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def remove_folder(path: Path) -> None:
    """Remove a folder under its name at once, so that no half of it is ever found there."""
    gone = _beside(path, "tmp")
    path.replace(gone)
    _remove(gone)


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give a temporary file name, and put that file at `path` if the block ends well.

    On an error the temporary file is removed and what was at `path` stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    delete_temporary_files(path.parent)
    temporary = _beside(path, "tmp")
    try:
        yield temporary
        _to_disk(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Give a temporary empty folder, and put it at `path` if the block ends well.

    On an error the temporary folder is removed and what was at `path` stays as it was.
    """
    delete_temporary_files(path.parent)
    temporary, old = _beside(path, "tmp"), _beside(path, "old")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                _to_disk(file)
        # A folder that is not empty cannot be renamed over, so the old one steps aside first.
        if path.exists():
            path.replace(old)
        temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if old.exists() and not path.exists():
            old.replace(path)
        shutil.rmtree(old, ignore_errors=True)


def sha256(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def to_json(value: Any) -> str:
    """JSON text that is the same for the same value: sorted keys, no NaN, one last newline."""
    return json.dumps(value, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"


def write_json(path: Path, value: Any) -> None:
    """Write `to_json(value)` to `path`, whole or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_text(to_json(value), encoding="utf-8")


def renew(file: Path, section: str, text: str) -> None:
    """Put text between the lines `<!-- section -->` and `<!-- end of section -->` of a file.

    Raises:
        DataError: the file has no such lines.
    """
    old = file.read_text(encoding="utf-8")
    first, last = f"<!-- {section} -->", f"<!-- end of {section} -->"
    begin, end = old.find(first), old.find(last)
    if not 0 <= begin < end:
        raise DataError(f"{file} has no lines {first!r} and {last!r}")
    with atomic_write(file) as temporary:
        new = f"{old[: begin + len(first)]}\n\n{text}\n\n{old[end:]}"
        temporary.write_text(new, encoding="utf-8")
