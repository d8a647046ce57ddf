"""Files appear whole or not at all, and what a killed process left behind is cleared."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bikefit.data.files import atomic_folder, atomic_write, delete_temporary_files, remove_folder

pytestmark = pytest.mark.process
HERE = socket.gethostname().replace(".", "-")


@pytest.fixture(scope="module")
def dead() -> int:
    """The number of a process that is gone."""
    return int(subprocess.check_output([sys.executable, "-c", "import os; print(os.getpid())"]))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_leftovers_of_dead_processes_alone_are_cleared(tmp_path: Path, dead: int) -> None:
    (tmp_path / f".hour.csv.{HERE}.{dead}.tmp").write_text("half")
    (tmp_path / f".full.{HERE}.{dead}.tmp").mkdir()
    (tmp_path / f".full.{HERE}.{dead}.tmp/part").write_text("half")
    kept = {
        f".full.elsewhere.{dead}.tmp",
        f".hour.csv.{HERE}.{os.getpid()}.tmp",
        ".a.b.c",
        f"hour.csv.{HERE}.{dead}.tmp",
        ".x.tmp",
    }
    for name in kept:
        (tmp_path / name).write_text("mine")
    delete_temporary_files(tmp_path)
    assert names(tmp_path) == kept


def test_leftovers_of_another_machine_are_cleared_after_a_day(tmp_path: Path, dead: int) -> None:
    for name, age in (("new", 1), ("old", 25)):
        left = tmp_path / f".{name}.elsewhere.{dead}.tmp"
        left.write_text("half")
        os.utime(left, (time.time() - age * 3600,) * 2)
    delete_temporary_files(tmp_path)
    assert names(tmp_path) == {f".new.elsewhere.{dead}.tmp"}


def test_an_old_folder_whose_successor_never_came_gets_its_name_back(
    tmp_path: Path, dead: int
) -> None:
    for name in ("full", "lecture"):
        (tmp_path / f".{name}.{HERE}.{dead}.old").mkdir()
        (tmp_path / f".{name}.{HERE}.{dead}.old/table").write_text("old")
    (tmp_path / "lecture").mkdir()
    (tmp_path / "lecture/table").write_text("new")
    delete_temporary_files(tmp_path)
    assert names(tmp_path) == {"full", "lecture"}
    assert (tmp_path / "full/table").read_text() == "old"
    assert (tmp_path / "lecture/table").read_text() == "new"


def test_whoever_writes_next_clears(tmp_path: Path, dead: int) -> None:
    (tmp_path / f".a.{HERE}.{dead}.tmp").write_text("half")
    with atomic_write(tmp_path / "b") as file:
        file.write_text("whole")
    (tmp_path / f".a.{HERE}.{dead}.tmp").write_text("half")
    with atomic_folder(tmp_path / "c") as folder:
        (folder / "inner").mkdir()
        (folder / "inner/file").write_text("whole")
    assert names(tmp_path) == {"b", "c"}
    remove_folder(tmp_path / "c")
    assert names(tmp_path) == {"b"}
