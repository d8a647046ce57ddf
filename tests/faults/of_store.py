"""Faults of the store: a folder that moves."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

from faults import fault
from faults.of_disk import lost_runs
from faults.places import python

ATTACH = """
import stores
from pathlib import Path
from bikefit.tracking import reading, writing
run = stores.add(writing.start_sweep("full", "s", []), stores.settings(), stores.result(1.0, 2.0))
Path("note.txt").write_text("hello")
writing.log_files(run, [Path("note.txt")])
print(run)
"""
READ = """
import sys
from bikefit.tracking import reading
reading.latest_sweep()
print(reading.read_artifact(sys.argv[1], "note.txt").decode())
"""


@fault("the project's folder is moved or copied", times=4)
def move(folder: Path, draw: random.Random) -> int:
    """Runs and artifacts are found in the new place, and those of a copy are its own."""
    old, new = folder / "old", folder / draw.choice(["new", "a b", "ü"])
    old.mkdir()
    made = python(old, "-c", ATTACH)
    assert made.returncode == 0, made.stderr
    run = made.stdout.strip()
    if draw.random() < 0.5:
        old.rename(new)
    else:
        shutil.copytree(old, new)
        (artifact,) = old.glob("mlruns/*/*/artifacts/note.txt")
        artifact.write_text("that of the original")
    done = python(new, "-c", READ, run)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "hello", done.stdout
    return lost_runs(new / "mlflow.db", [run])
