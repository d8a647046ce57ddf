"""Folders in which faults happen: a project of made-up data, and a disk that fills up."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import chdir, contextmanager, redirect_stdout, suppress
from functools import cache
from io import StringIO
from pathlib import Path
from tempfile import mkdtemp

import joblib
import yaml

import commands
from bikefit.data import clean, featurize
from faults import ImpossibleError
from synthetic import raw_hours

ROOT = Path(__file__).parents[2]


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@cache
def _made() -> Path:
    """A project with the outputs of all data stages, made once in each process."""
    folder = Path(mkdtemp(prefix="project-"))
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["download"] |= {"file": "own.csv", "sha256": None}
    for name, table in params["featurize"]["tables"].items():
        table["rows"] = None if name == "full" else 240
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    (folder / "data/raw").mkdir(parents=True)
    raw_hours(days=20).to_csv(folder / "own.csv", index=False)
    shutil.copy(folder / "own.csv", folder / "data/raw/hour.csv")
    with chdir(folder), redirect_stdout(StringIO()):
        clean.main()
        featurize.main()
    return folder


def project(folder: Path) -> Path:
    """Copy a project with made-up data into an empty folder."""
    return Path(shutil.copytree(_made(), folder, dirs_exist_ok=True))


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python with our code in a folder."""
    return commands.run(*arguments, cwd=folder, env=environment())


def environment() -> dict[str, str]:
    """Variables for a process that uses our code and the tests' tools."""
    paths = [str(ROOT / "src"), str(ROOT / "tests")]
    kept = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    return kept | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}


def shared(seconds: float) -> float:
    """How long what takes so many seconds may take while other processes want the cores too."""
    return seconds * max(1.0, os.getloadavg()[0] / joblib.cpu_count())


def _fails(command: list[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode != 0


@contextmanager
def small_disk(folder: Path, kib: int) -> Iterator[Path]:
    """A disk of its own below a folder, so small that it can be filled."""
    disk = folder / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(disk)]
    if shutil.which("mount") is None or _fails(command):
        raise ImpossibleError("no right to mount a small disk")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(disk: Path, leave: int) -> Path:
    """Fill a disk but for so many bytes, while others write to it; returns the file that does."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        with suppress(OSError):  # what is free now need not be free in a moment
            while file.write(bytes(4096)):
                pass
        file.truncate(max(0, file.tell() - leave))
    return filler


def some(draw: random.Random, low: int, high: int) -> int:
    """A number of bytes, small ones as likely as large ones."""
    return int(low * (high / low) ** draw.random())
