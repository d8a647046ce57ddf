"""Faults of a sweep: kills, Ctrl-C, an unavailable server, a full disk, other sweeps."""

from __future__ import annotations

import os
import random
import re
import signal
import sqlite3
import subprocess
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory, mkstemp
from typing import Any
from urllib.request import urlopen

import mlflow.server
import numpy as np
import pandas as pd
import psutil

import commands
from bikefit.training.checkpoints import CHECKPOINT, checkpoint_dirs
from faults import fault
from faults.projects import environment, fill, project, python, random_size, shared, small_disk
from ports import free_port
from slurm import wait_until

LONG = 240  # s, time limit of a command
TRAIN = [
    "-m",
    "bikefit.train",
    "-m",
    "training.batch_size=64",
    "trainer.progress=false",
    "tracking.weights=false",
    "tracking.predictions=false",
    "hydra.launcher.stack_size=2",
    "network.hidden=[4]",
]
SINGLE, TWO = "hydra.launcher.processes=1", "hydra.launcher.processes=2"
ALONE = "hydra.launcher.stack_size=1"
FOUR = "seed=0,1,2,3"
FOLDS = [TWO, "training.epochs=30", "seed=0,1", "validation=holdout,kfold", "validation.folds=2"]
EPOCHS = 200
LONGER = [f"training.epochs={EPOCHS}", FOUR, "regularization.dropout=0.2"]
EVERY_EPOCH = {"BIKEFIT_CHECKPOINT": "0"}


class SweepProcess:
    """A command that trains a sweep, in a new process group, as a terminal starts it."""

    def __init__(self, folder: Path, *overrides: str, **variables: str) -> None:
        descriptor, name = mkstemp()  # not on a disk that fills up
        self.log = Path(name)
        self.process = commands.start(
            [*TRAIN, *overrides], folder, environment() | variables, stdout=descriptor
        )
        self.started = time.monotonic()
        os.close(descriptor)
        weakref.finalize(self, self._clean, self.process, self.log)

    @staticmethod
    def _clean(process: subprocess.Popen[bytes], log: Path) -> None:
        """Kill the process if it is still running."""
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        log.unlink()

    @property
    def output(self) -> str:
        """All that the command has printed so far."""
        return self.log.read_text()

    def age(self) -> float:
        """Return the seconds since its start."""
        return time.monotonic() - self.started

    def wait_until(self, ready: Callable[[], bool], ended: bool = False) -> None:
        """Wait for a condition; the command may end before only if ``ended`` allows it."""
        while not ready():
            if self.process.poll() is not None:
                assert ended, self.output
                return
            assert self.age() < LONG, self.output
            time.sleep(0.002)

    def wait_for(self, text: str) -> None:
        """Wait until the command prints a text."""
        self.wait_until(lambda: text in self.output)

    def workers(self) -> list[psutil.Process]:
        """Return its worker processes, which are children of the fork server."""
        with suppress(psutil.NoSuchProcess):
            servers = psutil.Process(self.process.pid).children()
            return [worker for server in servers for worker in server.children()]
        return []

    def send(self, number: int) -> None:
        """Send a signal to the process group."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def end(self, status: int = 0) -> None:
        """Wait for the end, and check exit status and output."""
        self.process.wait(LONG)
        assert self.process.returncode == status, self.output
        assert "Traceback" not in self.output, self.output


def query(folder: Path, statement: str) -> pd.DataFrame:
    """Return the answer of the store's database, which must be intact."""
    with closing(sqlite3.connect(folder / "mlflow.db", timeout=60)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return pd.read_sql_query(statement, connection)


def finished(folder: Path) -> Counter[str]:
    """Count the finished runs of each fingerprint."""
    if not (folder / "mlflow.db").exists():
        return Counter()
    statement = (
        "SELECT value FROM runs JOIN tags USING (run_uuid) "
        "WHERE key = 'fingerprint' AND status = 'FINISHED'"
    )
    return Counter(query(folder, statement)["value"])


def statuses(folder: Path) -> Counter[str]:
    """Count the runs with each status."""
    return Counter(query(folder, "SELECT status FROM runs")["status"])


def metrics(folder: Path) -> pd.Series[float]:
    """Return all values of finished runs by fingerprint, metric and step, each of them once."""
    table = query(
        folder,
        "SELECT t.value AS fingerprint, m.key AS metric, m.step AS step, m.value AS value "
        "FROM runs JOIN metrics m USING (run_uuid) JOIN tags t USING (run_uuid) "
        "WHERE t.key = 'fingerprint' AND status = 'FINISHED'",
    )
    values = table.set_index(["fingerprint", "metric", "step"])["value"]
    assert values.index.is_unique, "a value was recorded twice"
    return values


@cache
def undisturbed(*overrides: str) -> tuple[pd.Series[float], float]:
    """Return the metrics of a sweep without a fault, and its duration in seconds."""
    with TemporaryDirectory(prefix="undisturbed-") as name:
        folder = project(Path(name))
        sweep = SweepProcess(folder, *overrides)
        sweep.end()
        return metrics(folder), sweep.age()


def lost(folder: Path, *overrides: str, tolerance: float = 1e-5) -> int:
    """Count the metrics that are missing or differ from those of an undisturbed sweep.

    Stacks of other sizes round otherwise. `unfinished` is a small difference of two losses and
    keeps fewer digits, so it may differ by the tolerance itself.
    """
    expected, actual = undisturbed(*overrides)[0].align(metrics(folder))
    small = expected.index.get_level_values("metric").str.startswith("unfinished")
    close = np.isclose(actual, expected, rtol=tolerance, atol=tolerance * small)
    if not close.all():
        print(pd.DataFrame({"expected": expected, "actual": actual})[~close].to_string())
    return int((~close).sum())


@fault("sweep killed at a random moment, twice, then resumed", times=26)
def kill(folder: Path, draw: random.Random) -> int:
    """After kills of all processes, or only of the command, the same command resumes."""
    project(folder)
    _, seconds = undisturbed(*FOLDS)
    done: Counter[str] = Counter()
    for _ in range(2):
        sweep = SweepProcess(folder, *FOLDS)
        time.sleep(draw.uniform(0.2, 1) * seconds)
        if draw.random() < 0.3:
            workers = sweep.workers()
            sweep.process.kill()
            _, alive = psutil.wait_procs(workers, timeout=30)
            busy = [worker for worker in alive if worker.cpu_percent(0.5) > 20]
            assert not busy, "workers continue without the command"
        sweep.send(signal.SIGKILL)
        sweep.process.wait()
        assert "Traceback" not in sweep.output, sweep.output
        assert done <= finished(folder), "a finished run is not finished any more"
        done = finished(folder)
    SweepProcess(folder, *FOLDS).end()
    assert set(finished(folder).values()) == {1}, "a finished run was trained again"
    assert statuses(folder)["RUNNING"] == 0
    assert not list((folder / "checkpoints").iterdir()), "results were not recorded"
    return lost(folder, *FOLDS)


def epochs(folder: Path) -> dict[str, int]:
    """Return the number of epochs in the checkpoint of each stack."""
    return {d.folder.name: d.epoch() for d in checkpoint_dirs(folder / "checkpoints")}


def wait_for_epoch(sweep: SweepProcess, folder: Path, epoch: int) -> None:
    sweep.wait_until(lambda: max(epochs(folder).values(), default=0) >= epoch, ended=True)


@fault("sweep killed at a random epoch or write, resumed with the same bits", times=50)
def kill_at_an_epoch(folder: Path, draw: random.Random) -> int:
    """The same command resumes from its checkpoints, also with fewer processes."""
    project(folder)
    sweep = SweepProcess(folder, TWO, *LONGER, **EVERY_EPOCH)
    wait_for_epoch(sweep, folder, draw.randrange(1, EPOCHS - 10))
    if draw.random() < 0.3:
        temporary = f"*/.{CHECKPOINT}.*.tmp"
        sweep.wait_until(lambda: any((folder / "checkpoints").glob(temporary)), ended=True)
    before = epochs(folder)
    sweep.send(signal.SIGKILL)
    sweep.process.wait()
    left = epochs(folder)
    assert all(left.get(stack, EPOCHS) >= epoch for stack, epoch in before.items()), (before, left)
    again = SweepProcess(folder, draw.choice([SINGLE, TWO]), *LONGER, **EVERY_EPOCH)
    again.end()
    assert "is ignored" not in again.output, again.output
    if any(left.values()):
        match = re.search(r"resume from checkpoints, after (\d+) to (\d+) epochs", again.output)
        assert match, again.output
        assert [int(match[1]), int(match[2])] == [min(left.values()), max(left.values())]
    assert set(finished(folder).values()) == {1}, "a finished run was trained again"
    assert not epochs(folder), "checkpoints are left"
    return lost(folder, TWO, *LONGER, tolerance=0.0)


@fault("worker killed at a random epoch, its stack resumes with the same bits", times=12)
def kill_a_worker(folder: Path, draw: random.Random) -> int:
    """Another worker continues from the checkpoint."""
    project(folder)
    sweep = SweepProcess(folder, TWO, *LONGER, **EVERY_EPOCH)
    wait_for_epoch(sweep, folder, draw.randrange(1, EPOCHS // 2))
    draw.choice(sweep.workers()).kill()
    sweep.end()
    assert "is trained again" in sweep.output, sweep.output
    assert not epochs(folder), "checkpoints are left"
    return lost(folder, TWO, *LONGER, tolerance=0.0)


def endless(folder: Path) -> SweepProcess:
    """Return a sweep of four runs that has begun and does not end by itself."""
    project(folder)
    sweep = SweepProcess(folder, TWO, "training.epochs=100000", FOUR)
    sweep.wait_for("members in")
    return sweep


@fault("Ctrl-C once", times=6)
def interrupt(folder: Path, draw: random.Random) -> int:
    """Runs are KILLED and keep what they measured, and the summary is printed."""
    sweep = endless(folder)
    time.sleep(draw.uniform(3, 8))
    sweep.send(signal.SIGINT)
    pressed = time.monotonic()
    sweep.end(130)
    assert time.monotonic() - pressed < shared(10), sweep.output
    assert "4 of 4 runs failed or did not finish" in sweep.output, sweep.output
    assert statuses(folder) == {"KILLED": 5}, statuses(folder)
    runs = query(
        folder,
        "SELECT value AS reason, (SELECT count(*) FROM metrics m WHERE m.run_uuid = t.run_uuid "
        "AND m.key = 'val/loss') AS epochs FROM tags t WHERE key = 'failure'",
    )
    runs["expected"] = runs["reason"].str.extract(r"after .*?(\d+)")[0].fillna(0).astype(int)
    return 4 - int((runs["expected"] == runs["epochs"]).sum())


@fault("Ctrl-C twice", times=6)
def interrupt_twice(folder: Path, draw: random.Random) -> int:
    """The command ends at once and leaves no process."""
    sweep = endless(folder)
    time.sleep(draw.uniform(0, 8))
    workers = sweep.workers()
    sweep.send(signal.SIGINT)
    time.sleep(draw.uniform(0.05, 0.5))
    pressed = time.monotonic()
    sweep.send(signal.SIGINT)
    sweep.end(130)
    assert time.monotonic() - pressed < shared(2), sweep.output
    _, alive = psutil.wait_procs(workers, timeout=5)
    return len(alive)


def _answers(address: str) -> bool:
    with suppress(OSError), urlopen(address, timeout=5):
        return True
    return False


@contextmanager
def tracking_server(folder: Path, port: int) -> Iterator[None]:
    """Run MLflow's server in front of a project's database, and kill it at the end."""
    variables = {
        mlflow.server.BACKEND_STORE_URI_ENV_VAR: f"sqlite:///{folder}/mlflow.db",
        mlflow.server.ARTIFACT_ROOT_ENV_VAR: "mlflow-artifacts:/",
        mlflow.server.SERVE_ARTIFACTS_ENV_VAR: "true",
        mlflow.server.ARTIFACTS_DESTINATION_ENV_VAR: str(folder / "artifacts"),
    }
    application = ["-m", "uvicorn", "mlflow.server.fastapi_app:app", "--port", str(port)]
    process = commands.start(application, folder, environment() | variables)
    try:
        wait_until(lambda: _answers(f"http://127.0.0.1:{port}/health"), seconds=LONG)
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


SERVED = [TWO, "training.epochs=60", FOUR, ALONE]


@fault("tracking server is not available in the middle or at the start of a sweep", times=6)
def unavailable_server(folder: Path, draw: random.Random) -> int:
    """Training continues; results are recorded when the server is back, or by `send`."""
    project(folder)
    made = python(folder, "-c", "from bikefit.tracking import connection; connection.client()")
    assert made.returncode == 0, made.stderr
    kind = draw.choice(["back in time", "back too late", "late at the start"])
    port = free_port()
    variables: dict[str, Any] = {
        "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}",
        "BIKEFIT_PATIENCE": "4" if kind == "back too late" else "200",
    }
    if kind == "late at the start":
        sweep = SweepProcess(folder, *SERVED, **variables)
        sweep.wait_for("retrying for up to 200 s")
    else:
        with tracking_server(folder, port):
            sweep = SweepProcess(folder, *SERVED, **variables)
            sweep.wait_for("1/4 runs done")
        sweep.wait_for("results are kept in checkpoints/ and recorded later")
    if kind == "back too late":
        sweep.end(1)
        assert "`python -m bikefit.send` records them" in sweep.output, sweep.output
    with tracking_server(folder, port):
        if kind == "back too late":
            sent = commands.run("-m", "bikefit.send", cwd=folder, env=environment() | variables)
            assert sent.stdout.endswith(" 0 left\n"), sent.stdout + sent.stderr
        else:
            sweep.end()
    assert statuses(folder) == {"FINISHED": 5}, statuses(folder)
    return lost(folder, *SERVED)


@fault("disk full under a sweep", times=6)
def full_under_a_sweep(folder: Path, draw: random.Random) -> int:
    """The command ends with a clear error; with space again it finishes."""
    overrides = [SINGLE, "training.epochs=20", ALONE]
    with small_disk(folder, 8192) as disk:
        project(disk)
        SweepProcess(disk, *overrides, "seed=0").end()
        (first,) = finished(disk)
        filler = fill(disk, leave=random_size(draw, 20_000, 900_000))
        second = SweepProcess(disk, *overrides, FOUR)
        if second.process.wait(LONG):
            assert re.search("disk is full|No space left on device", second.output), second.output
        filler.unlink()
        SweepProcess(disk, *overrides, FOUR).end()
        assert set(finished(disk).values()) == {1}
        assert finished(disk)[first] == 1
        return lost(disk, *overrides, FOUR)


@fault("disk full at a checkpoint", times=6)
def full_at_a_checkpoint(folder: Path, draw: random.Random) -> int:
    """Training continues; a killed sweep resumes from the last checkpoint that was written."""
    with small_disk(folder, 16384) as disk:
        project(disk)
        sweep = SweepProcess(disk, TWO, *LONGER, **EVERY_EPOCH)
        wait_for_epoch(sweep, disk, draw.randrange(1, EPOCHS - 10))
        filler = fill(disk, leave=draw.randrange(0, 4096))
        text = "could not be written, training continues"
        sweep.wait_until(lambda: text in sweep.output, ended=True)
        if draw.random() < 0.5:
            sweep.process.kill()
        filler.unlink()
        sweep.process.wait(LONG)
        SweepProcess(disk, TWO, *LONGER, **EVERY_EPOCH).end()
        assert set(finished(disk).values()) == {1}
        return lost(disk, TWO, *LONGER, tolerance=0.0)


@fault("8 sweeps at once, with no database yet", times=2)
def sweeps_at_once(folder: Path, draw: random.Random) -> int:
    """All succeed, and no message is about a lock."""
    project(folder)
    overrides = (SINGLE, "training.epochs=3")
    sweeps = [SweepProcess(folder, *overrides, f"seed={2 * i},{2 * i + 1}") for i in range(8)]
    for sweep in sweeps:
        sweep.end()
        assert "locked" not in sweep.output, sweep.output
    assert statuses(folder) == {"FINISHED": 24}, statuses(folder)
    counts = metrics(folder).groupby("fingerprint").size()
    return 16 - int((counts == counts.max()).sum())
