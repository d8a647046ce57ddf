"""Atomic writes, and temporary files that killed processes left."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bikefit.data.files import (
    atomic_write,
    delete_temporary_files,
    remove_folder,
    replace_section,
)
from bikefit.errors import DataError
from bikefit.processes import process_id

OTHER_HOST = "elsewhere.123.1700000000"


@pytest.fixture(scope="module")
def ended() -> str:
    """The id of a process that has ended."""
    code = "from bikefit.processes import process_id; print(process_id())"
    return subprocess.check_output([sys.executable, "-c", code], text=True).strip()


def content(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_text() for path in files}


def test_a_write_is_complete_or_changes_nothing(tmp_path: Path) -> None:
    for text in ("old", "new"):
        with atomic_write(tmp_path / "below/file") as file:
            file.write_text(text)
        with atomic_write(tmp_path / "folder") as folder:
            (folder / "inner").mkdir(parents=True)
            (folder / f"inner/{text}").write_text(text)
    complete = {"below/file": "new", "folder/inner/new": "new"}
    assert content(tmp_path) == complete
    with pytest.raises(OSError, match="full"), atomic_write(tmp_path / "below/file") as file:
        file.write_text("half")
        raise OSError("full")
    with pytest.raises(OSError, match="full"), atomic_write(tmp_path / "folder") as folder:
        folder.mkdir()
        (folder / "inner").write_text("half")
        raise OSError("full")
    assert content(tmp_path) == complete
    remove_folder(tmp_path / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["below"]


@pytest.mark.process
def test_temporary_files_of_ended_processes_are_deleted(tmp_path: Path, ended: str) -> None:
    (tmp_path / f".hour.csv.{ended}.tmp").write_text("half")
    (tmp_path / f".full.{ended}.tmp").mkdir()
    (tmp_path / f".full.{ended}.tmp/part").write_text("half")
    (tmp_path / f".full.{ended}.old").mkdir()
    others = {f".hour.csv.{process_id()}.tmp", ".a.b.c", f"hour.csv.{ended}.tmp", ".x.tmp"}
    for name in others:
        (tmp_path / name).write_text("other")
    for name, age in (("new", 0.9), ("old", 1.1)):
        file = tmp_path / f".{name}.{OTHER_HOST}.tmp"
        file.write_text("half")
        os.utime(file, (time.time() - age * 3600,) * 2)
    with atomic_write(tmp_path / "file") as file:
        file.write_text("")
    assert set(content(tmp_path)) == others | {f".new.{OTHER_HOST}.tmp", "file"}
    (tmp_path / f".full.{ended}.tmp").mkdir()
    delete_temporary_files(tmp_path)
    assert not (tmp_path / f".full.{ended}.tmp").exists()


def test_a_section_of_a_file_is_replaced(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- table -->\nold\n<!-- end of table -->\nafter\n")
    replace_section(page, "table", "new")
    lines = ["before", "<!-- table -->", "", "new", "", "<!-- end of table -->", "after", ""]
    assert page.read_text() == "\n".join(lines)
    with pytest.raises(DataError, match="has no lines '<!-- other -->'"):
        replace_section(page, "other", "new")
