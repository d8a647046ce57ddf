"""Files appear whole or not at all, and what a killed process left behind is cleared."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bikefit.data.files import atomic_folder, atomic_write, delete_temporary_files, remove_folder
from bikefit.processes import process_id

pytestmark = pytest.mark.process
OTHER_HOST = "elsewhere.123.1700000000"


@pytest.fixture(scope="module")
def dead() -> str:
    """The id of a process that has ended."""
    code = "from bikefit.processes import process_id; print(process_id())"
    return subprocess.check_output([sys.executable, "-c", code], text=True).strip()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_leftovers_of_dead_processes_alone_are_cleared(tmp_path: Path, dead: str) -> None:
    (tmp_path / f".hour.csv.{dead}.tmp").write_text("half")
    (tmp_path / f".full.{dead}.tmp").mkdir()
    (tmp_path / f".full.{dead}.tmp/part").write_text("half")
    kept = {
        f".full.{OTHER_HOST}.tmp",
        f".hour.csv.{process_id()}.tmp",
        ".a.b.c",
        f"hour.csv.{dead}.tmp",
        ".x.tmp",
    }
    for name in kept:
        (tmp_path / name).write_text("mine")
    delete_temporary_files(tmp_path)
    assert names(tmp_path) == kept


def test_leftovers_of_another_machine_are_cleared_after_a_day(tmp_path: Path, dead: str) -> None:
    for name, age in (("new", 1), ("old", 25)):
        left = tmp_path / f".{name}.{OTHER_HOST}.tmp"
        left.write_text("half")
        os.utime(left, (time.time() - age * 3600,) * 2)
    delete_temporary_files(tmp_path)
    assert names(tmp_path) == {f".new.{OTHER_HOST}.tmp"}


def test_an_old_folder_whose_successor_never_came_gets_its_name_back(
    tmp_path: Path, dead: str
) -> None:
    for name in ("full", "lecture"):
        (tmp_path / f".{name}.{dead}.old").mkdir()
        (tmp_path / f".{name}.{dead}.old/table").write_text("old")
    (tmp_path / "lecture").mkdir()
    (tmp_path / "lecture/table").write_text("new")
    delete_temporary_files(tmp_path)
    assert names(tmp_path) == {"full", "lecture"}
    assert (tmp_path / "full/table").read_text() == "old"
    assert (tmp_path / "lecture/table").read_text() == "new"


def test_whoever_writes_next_clears(tmp_path: Path, dead: str) -> None:
    (tmp_path / f".a.{dead}.tmp").write_text("half")
    with atomic_write(tmp_path / "b") as file:
        file.write_text("whole")
    (tmp_path / f".a.{dead}.tmp").write_text("half")
    with atomic_folder(tmp_path / "c") as folder:
        (folder / "inner").mkdir()
        (folder / "inner/file").write_text("whole")
    assert names(tmp_path) == {"b", "c"}
    remove_folder(tmp_path / "c")
    assert names(tmp_path) == {"b"}
