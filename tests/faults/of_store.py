"""Faults of the store: many that start or write at once, and a folder that moves."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from pathlib import Path

from faults import fault
from faults.of_disk import lost_runs
from faults.places import environment, python

PROCESSES = 8
START = "from bikefit import tracking; print(tracking.experiment_id('full'))"
WRITE = """
import sys, stores
from bikefit import tracking
sweep = tracking.start_sweep("full", sys.argv[1], [])
for seed in range(int(sys.argv[2])):
    print(stores.add(sweep, stores.settings(seed=seed), stores.result(1.0, 2.0)), flush=True)
tracking.finish_sweep(sweep, "", {}, "FINISHED")
"""


def together(folder: Path, *arguments: str) -> list[str]:
    """Run the same Python command in many processes at once; what each printed."""
    processes = [
        subprocess.Popen([sys.executable, *arguments], cwd=folder, env=environment(), text=True,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(PROCESSES)
    ]  # fmt: skip
    said = [process.communicate() for process in processes]
    errors = [error for _, error in said]
    assert [process.returncode for process in processes] == [0] * PROCESSES, errors
    assert not any("locked" in error for error in errors), errors
    return [printed for printed, _ in said]


@fault(f"{PROCESSES} processes start with no database yet", times=3)
def start_together(folder: Path, draw: random.Random) -> int:
    """All find the same store, and it is sound."""
    found = together(folder, "-c", START)
    assert len(set(found)) == 1, found
    return lost_runs(folder / "mlflow.db", [])


@fault(f"{PROCESSES} sweeps write to one SQLite store at once", times=2)
def write_together(folder: Path, draw: random.Random) -> int:
    """Every run is there with all its metrics, and nobody is told of a lock."""
    runs = 12
    printed = together(folder, "-c", WRITE, "s", str(runs))
    written = [run for text in printed for run in text.split()]
    assert len(written) == PROCESSES * runs
    return lost_runs(folder / "mlflow.db", written)


ATTACH = """
import stores
from pathlib import Path
from bikefit import tracking
run = stores.add(tracking.start_sweep("full", "s", []), stores.settings(), stores.result(1.0, 2.0))
Path("note.txt").write_text("hello")
tracking.log_files(run, [Path("note.txt")])
print(run)
"""
READ = """
import sys
from mlflow import MlflowClient
if sys.argv[2] == "plain":
    store = MlflowClient("sqlite:///mlflow.db")
    print(open(store.download_artifacts(sys.argv[1], "note.txt")).read())
else:
    from bikefit import tracking
    tracking.latest_sweep()
    print(tracking.read_artifact(sys.argv[1], "note.txt").decode())
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
    for reader in draw.sample(["plain", "ours"], 2):
        done = python(new, "-c", READ, run, reader)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == "hello", done.stdout
    return lost_runs(new / "mlflow.db", [run])
