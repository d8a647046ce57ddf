"""Atomic writes of files and folders, hashes, JSON and sections of text files."""

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bikefit.errors import DataError
from bikefit.processes import has_ended, process_id


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield the path of a temporary file or folder, which replaces `path` if the block succeeds.

    The block creates it. If the block fails, it is deleted and `path` is unchanged. A file does not
    replace a folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    delete_temporary_files(path.parent)
    temporary = _temporary(path)
    try:
        yield temporary
        for file in (temporary, *temporary.rglob("*")):
            if file.is_file():
                with file.open("rb+") as opened:  # otherwise empty after a power failure
                    os.fsync(opened.fileno())
        if temporary.is_dir() and path.is_dir():  # only an empty folder can be replaced
            remove_folder(path)
        temporary.replace(path)
    finally:
        _delete(temporary)


def check_writable(path: Path) -> None:
    """Raise a DataError unless a file can be written to ``path``; create the folder it is in."""
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent) as file:
            file.write(bytes(4096))  # a full disk
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror}") from None


def remove_folder(path: Path) -> None:
    """Delete a folder; it is renamed first, so that readers never see it incomplete."""
    old = _temporary(path, "old")
    path.replace(old)
    _delete(old)


def delete_temporary_files(folder: Path) -> None:
    """Delete temporary files and folders that killed processes left in a folder."""
    for path in folder.glob(".*.*.*.*.*"):
        match = re.fullmatch(r"\..+\.([^.]+\.\d+\.\d+)\.(tmp|old)", path.name)
        if not match:
            continue
        with suppress(FileNotFoundError):  # another process may have deleted it
            if has_ended(match[1], path.stat().st_mtime):
                _delete(path)


def _temporary(path: Path, suffix: str = "tmp") -> Path:
    """Return a hidden path in the same folder, because renaming needs the same file system."""
    return path.with_name(f".{path.name}.{process_id()}.{suffix}")


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


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
        temporary.write_text(to_json(value), encoding="utf-8", newline="\n")


def replace_section(file: Path, section: str, text: str) -> None:
    """Replace the text between `<!-- section -->` and `<!-- end of section -->` in a file."""
    before, first, rest = file.read_text(encoding="utf-8").partition(f"<!-- {section} -->")
    _, last, after = rest.partition(f"<!-- end of {section} -->")
    if not last:
        raise DataError(f"{file} has no lines '<!-- {section} -->' and '<!-- end of {section} -->'")
    with atomic_write(file) as temporary:
        temporary.write_text(f"{before}{first}\n\n{text}\n\n{last}{after}", encoding="utf-8")
