"""Folders for faults: a project with made-up data, and a small disk."""

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
from bikefit.data import featurize
from bikefit.data.bikes import clean
from faults import ImpossibleError
from synthetic import raw_hours

ROOT = Path(__file__).parents[2]


def files_of(folder: Path) -> dict[str, bytes]:
    """Return the contents of all files below a folder by relative path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@cache
def _made() -> Path:
    """Return a project with the outputs of all data stages, made once per process."""
    folder = Path(mkdtemp(prefix="project-"))
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["download"] |= {"file": "raw.csv", "sha256": None}
    for name, table in params["featurize"]["tables"].items():
        table["rows"] = None if name == "full" else 240
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    (folder / "data/raw").mkdir(parents=True)
    raw_hours(days=20).to_csv(folder / "raw.csv", index=False)
    shutil.copy(folder / "raw.csv", folder / "data/raw/hour.csv")
    with chdir(folder), redirect_stdout(StringIO()):
        clean.main()
        featurize.main()
    return folder


def project(folder: Path) -> Path:
    """Copy a project with made-up data into an empty folder."""
    return Path(shutil.copytree(_made(), folder, dirs_exist_ok=True))


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python with the code of this project in a folder."""
    return commands.run(*arguments, cwd=folder, env=environment())


def environment() -> dict[str, str]:
    """Return environment variables with which a process imports this project and its tests."""
    paths = [str(ROOT / "src"), str(ROOT / "tests")]
    others = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    return others | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}


def shared(seconds: float) -> float:
    """Return a time limit in seconds that allows for the current load of the machine."""
    return seconds * max(1.0, os.getloadavg()[0] / joblib.cpu_count())


def _fails(command: list[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode != 0


@contextmanager
def small_disk(folder: Path, kib: int) -> Iterator[Path]:
    """Mount a small disk below a folder."""
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
    """Fill a disk up to ``leave`` bytes with a file, and return the file."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        with suppress(OSError):  # other processes write at the same time
            while file.write(bytes(4096)):
                pass
        file.truncate(max(0, file.tell() - leave))
    return filler


def random_size(draw: random.Random, low: int, high: int) -> int:
    """Draw a number of bytes from a log-uniform distribution."""
    return int(low * (high / low) ** draw.random())
