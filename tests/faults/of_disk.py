"""Disks that fill up while something is written."""

from __future__ import annotations

import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import stores
from bikefit.tracking import writing
from faults import fault
from faults.places import ROOT, files_of, fill, project, python, small_disk, some

CLEAR = "No space left on device"


def _outputs(disk: Path) -> dict[str, bytes]:
    return {name: c for name, c in files_of(disk).items() if name not in ("filler", "mlflow.db")}


@fault("disk full while a table is written", times=12)
def full_for_a_table(folder: Path, draw: random.Random) -> int:
    """The stage ends with a message, and every table is still the old one or is the new one."""
    stage = draw.choice(["clean", "look", "featurize"])
    with small_disk(folder, 4096) as disk:
        project(disk)
        (disk / "reports").mkdir(exist_ok=True)
        before = _outputs(disk)
        fill(disk, leave=some(draw, 1, 12_000))
        done = python(disk, "-m", f"bikefit.data.{stage}")
        after = _outputs(disk)
    assert done.returncode == 1, done.stderr + done.stdout
    assert CLEAR in done.stderr, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return sum(after.get(name) != content for name, content in before.items()) + len(
        set(after) - set(before) - {"reports/data_quality.json"}
    )


def _sweep(folder: Path) -> str:
    sweep = writing.start_sweep("full", "s", [])
    for seed in range(2):
        for dropout in (0.0, 0.3):
            one = stores.settings(dropout=dropout, seed=seed)
            stores.add(sweep, one, stores.result(1 + dropout, 2 - dropout + 0.01 * seed))
    writing.finish_sweep(sweep, "", {}, "FINISHED")
    return sweep


@fault("disk full while a report is written", times=4)
def full_for_a_report(folder: Path, draw: random.Random) -> int:
    """Earlier reports stay as they were; a half one never has a final name."""
    with small_disk(folder, 4096) as disk:
        reports = disk / "reports"
        made = python(folder, "-c", "from faults import of_disk; of_disk._sweep(None)")
        assert made.returncode == 0, made.stderr
        shutil.copytree(ROOT / "conf", folder / "conf")
        command = ["-m", "bikefit.compare", "--reports", str(reports)]
        first = python(folder, *command)
        assert first.returncode == 0, first.stderr
        before = files_of(reports)
        fill(disk, leave=some(draw, 1, 20_000))
        done = python(folder, *command)
        after = files_of(reports)
    assert done.returncode == 1, done.stderr
    assert CLEAR in done.stderr, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return len({name for name in before | after if before.get(name) != after.get(name)})


WRITE = """
import stores
from bikefit.tracking import writing
sweep = writing.start_sweep("full", "s", [])
for seed in range(200):
    print(stores.add(sweep, stores.settings(seed=seed), stores.result(1.0, 2.0)), flush=True)
"""


@fault("disk full while the store is written", times=4)
def full_for_the_store(folder: Path, draw: random.Random) -> int:
    """What was finished before is intact, and with space again the store is used as before."""
    with small_disk(folder, 8192) as disk:
        first = python(disk, "-c", WRITE.replace("200", "3"))
        assert first.returncode == 0, first.stderr
        filler = fill(disk, leave=some(draw, 40_000, 400_000))
        done = python(disk, "-c", WRITE)
        assert done.returncode != 0, done.stdout
        assert "disk is full" in done.stderr or CLEAR in done.stderr, done.stderr[-2000:]
        filler.unlink()
        finished = [*first.stdout.split(), *done.stdout.split()]
        again = python(disk, "-c", WRITE.replace("200", "1"))
        assert again.returncode == 0, again.stderr
        return lost_runs(disk / "mlflow.db", [*finished, *again.stdout.split()])


def lost_runs(database: Path, runs: list[str], metrics: int = 6 * stores.EPOCHS) -> int:
    """How many finished runs a store lacks, or has without all of their metrics."""
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        finished = "SELECT run_uuid FROM runs WHERE status = 'FINISHED'"
        there = {run for (run,) in connection.execute(finished)}
        counts = dict(
            connection.execute(
                "SELECT run_uuid, count(*) FROM metrics "
                "WHERE key LIKE 'train/%' OR key LIKE 'val/%' GROUP BY run_uuid"
            )
        )
    return sum(run not in there or counts.get(run) != metrics for run in runs)
