"""Faults of a sweep: kills, Ctrl-C, members that fail, a server that goes away."""

from __future__ import annotations

import math
import os
import random
import signal
import sqlite3
import subprocess
import time
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import chdir, closing, contextmanager, suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory, mkstemp
from typing import Any
from urllib.request import urlopen

import mlflow.server
import psutil

import commands
from bikefit.tracking import reading
from faults import fault
from faults.places import environment, fill, project, python, shared, small_disk, some
from ports import free_port

LONG = 240  # s after which something hangs
TRAIN = [
    "-m",
    "bikefit.train",
    "-m",
    "training.batch_size=64",
    "trainer.progress=false",
    "tracking.weights=false",
    "tracking.predictions=false",
    "hydra.launcher.stack_size=2",
]
ALONE = "hydra.launcher.processes=1"
SMALL = "network.hidden=[4]"
TWO = "hydra.launcher.processes=2"
CROSSED = [
    TWO,
    SMALL,
    "training.epochs=30",
    "seed=0,1",
    "validation=holdout,kfold",
    "validation.folds=2",
]

Metrics = dict[tuple[str, int], float]


class Sweep:
    """A sweep under way in a process group of its own, as a terminal starts it."""

    def __init__(self, folder: Path, *overrides: str, **variables: str) -> None:
        descriptor, name = mkstemp()  # not on a disk that fills up
        self.output = Path(name)
        self.process = commands.start(
            [*TRAIN, *overrides], folder, environment() | variables, stdout=descriptor
        )
        self.started = time.monotonic()
        os.close(descriptor)
        weakref.finalize(self, self._clean, self.process, self.output)

    @staticmethod
    def _clean(process: subprocess.Popen[bytes], output: Path) -> None:
        """End what a failed test left running."""
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        output.unlink()

    def said(self) -> str:
        """What it has printed so far."""
        return self.output.read_text()

    def age(self) -> float:
        """Seconds since it was started."""
        return time.monotonic() - self.started

    def until(self, words: str) -> None:
        """Wait until it says something."""
        while words not in self.said():
            assert self.process.poll() is None and self.age() < LONG, self.said()
            time.sleep(0.05)

    def workers(self) -> list[psutil.Process]:
        """Its worker processes, which are forked from a server."""
        with suppress(psutil.NoSuchProcess):
            servers = psutil.Process(self.process.pid).children()
            return [worker for server in servers for worker in server.children()]
        return []

    def kill_worker(self, draw: random.Random, within: float = 0.0) -> None:
        """Kill one of its workers within so many seconds after there is one."""
        while not (workers := self.workers()):
            assert self.process.poll() is None, (
                f"it ended before a worker was killed: {self.said()}"
            )
            time.sleep(0.01)
        time.sleep(draw.uniform(0, within))
        draw.choice(workers).kill()

    def send(self, number: int) -> None:
        """Send a signal to the whole group."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def end(self) -> int:
        """Wait for the end; the exit status."""
        try:
            status = self.process.wait(LONG)
        except subprocess.TimeoutExpired:
            self.send(signal.SIGKILL)
            raise AssertionError(f"hangs:\n{self.said()}") from None
        assert "Traceback" not in self.said(), self.said()
        return status


def asked(folder: Path, statement: str, *values: str) -> list[tuple[Any, ...]]:
    """What a project's store answers."""
    with closing(sqlite3.connect(folder / "mlflow.db", timeout=60)) as connection:
        return connection.execute(statement, values).fetchall()


def finished(folder: Path) -> Counter[str]:
    """How many finished runs the store has of each fingerprint."""
    if not (folder / "mlflow.db").exists():
        return Counter()
    return Counter(
        mark
        for (mark,) in asked(
            folder,
            "SELECT value FROM runs JOIN tags USING (run_uuid) "
            "WHERE key = 'fingerprint' AND status = 'FINISHED'",
        )
    )


def states(folder: Path) -> Counter[str]:
    """How many runs are in which state."""
    assert asked(folder, "PRAGMA integrity_check") == [("ok",)]
    return Counter(state for (state,) in asked(folder, "SELECT status FROM runs"))


def results(folder: Path) -> dict[str, Metrics]:
    """All metrics of all epochs of the latest sweep's runs and their folds, by fingerprint."""
    with chdir(folder):
        jobs = reading.read_runs(reading.latest_sweep())
        crossed = jobs.loc[jobs["validation.name"] == "kfold", "run_id"]
        runs = [*jobs["run_id"], *(r for job in crossed for r in reading.read_runs(job)["run_id"])]
    found: dict[str, Metrics] = {}
    with closing(sqlite3.connect(folder / "mlflow.db")) as connection:
        for run in runs:
            ((mark,),) = connection.execute(
                "SELECT value FROM tags WHERE key = 'fingerprint' AND run_uuid = ?", (run,)
            )
            rows = connection.execute(
                "SELECT key, step, value FROM metrics WHERE run_uuid = ?", (run,)
            )
            assert mark not in found, "a run stands twice in the sweep"
            found[mark] = {(key, step): value for key, step, value in rows}
    return found


@cache
def undisturbed(*overrides: str) -> tuple[dict[str, Metrics], float]:
    """What a sweep gives that nothing happens to, and how many seconds it takes."""
    with TemporaryDirectory(prefix="undisturbed-") as place:
        folder = project(Path(place))
        sweep = Sweep(folder, *overrides)
        assert sweep.end() == 0, sweep.said()
        return results(folder), sweep.age()


def lost(folder: Path, *overrides: str, tolerance: float = 1e-5) -> int:
    """How many runs and metrics differ from those of an undisturbed sweep.

    Stacks of other sizes round otherwise, and `unfinished`, a small difference of two losses, keeps
    fewer digits than they: it alone may differ by the tolerance itself, not by a share of it.
    """
    expected, _ = undisturbed(*overrides)
    found = results(folder)
    return len(expected.keys() ^ found.keys()) + sum(
        key not in found[mark]
        or not math.isclose(
            found[mark][key],
            value,
            rel_tol=tolerance,
            abs_tol=tolerance if key[0].startswith("unfinished") else 0.0,
        )
        for mark in expected.keys() & found.keys()
        for key, value in expected[mark].items()
    )


KILLS = 2


@fault(f"sweep killed at a random moment, {KILLS} times, then resumed", times=26)
def kill(folder: Path, draw: random.Random) -> int:
    """After kills of all processes, or of the parent alone, the same command goes on."""
    project(folder)
    _, seconds = undisturbed(*CROSSED)
    done: Counter[str] = Counter()
    for _ in range(KILLS):
        sweep = Sweep(folder, *CROSSED)
        time.sleep(draw.uniform(0.2, 1) * seconds)
        if draw.random() < 0.3:
            workers = sweep.workers()
            sweep.process.kill()
            _, alive = psutil.wait_procs(workers, timeout=30)
            busy = [worker for worker in alive if worker.cpu_percent(0.5) > 20]
            assert not busy, "workers go on without the parent"
            for worker in alive:
                worker.kill()
        elif sweep.process.poll() is None:
            sweep.send(signal.SIGKILL)
        sweep.process.wait()
        assert "Traceback" not in sweep.said(), sweep.said()
        assert done <= finished(folder), "a finished run is finished no more"
        done = finished(folder)
    last = Sweep(folder, *CROSSED)
    assert last.end() == 0, last.said()
    assert set(finished(folder).values()) == {1}, "a finished run was trained again"
    assert states(folder)["RUNNING"] == 0
    assert not list((folder / "checkpoints").iterdir()), "results were not recorded"
    return lost(folder, *CROSSED)


def endless(folder: Path) -> Sweep:
    """A sweep of four runs that has begun and will not end by itself."""
    project(folder)
    sweep = Sweep(folder, TWO, "training.epochs=100000", "seed=0,1", "network.hidden=[4],[5]")
    sweep.until("members in")
    return sweep


@fault("Ctrl-C once", times=6)
def interrupt(folder: Path, draw: random.Random) -> int:
    """Runs are KILLED and keep what they measured, and the summary is printed."""
    sweep = endless(folder)
    time.sleep(draw.uniform(3, 8))
    sweep.send(signal.SIGINT)
    pressed = time.monotonic()
    assert sweep.end() == 130, sweep.said()
    assert time.monotonic() - pressed < shared(10), sweep.said()
    assert "4 of 4 runs failed or did not finish" in sweep.said(), sweep.said()
    assert states(folder) == {"KILLED": 5}, states(folder)
    reasons = asked(
        folder,
        "SELECT value, (SELECT count(*) FROM metrics m WHERE m.run_uuid = t.run_uuid "
        "AND m.key = 'val/loss') FROM tags t WHERE key = 'failure'",
    )
    assert len(reasons) == 4
    kept = {"stopped before the end of the first epoch": 0}
    return sum(
        kept.get(said, int(said.split()[-2]) if "after" in said else -1) != count
        for said, count in reasons
    )


@fault("Ctrl-C twice", times=6)
def interrupt_twice(folder: Path, draw: random.Random) -> int:
    """It ends at once, and leaves no process behind."""
    sweep = endless(folder)
    time.sleep(draw.uniform(0, 8))
    workers = sweep.workers()
    sweep.send(signal.SIGINT)
    time.sleep(draw.uniform(0.05, 0.5))
    pressed = time.monotonic()
    sweep.send(signal.SIGINT)
    assert sweep.end() == 130, sweep.said()
    assert time.monotonic() - pressed < shared(2), sweep.said()
    _, alive = psutil.wait_procs(workers, timeout=5)
    return len(alive)


class Server:
    """What `mlflow server` starts, on this machine."""

    def __init__(self, folder: Path, port: int) -> None:
        self.address = f"http://127.0.0.1:{port}"
        self.said = (folder / "server.txt").open("ab")
        told = {
            mlflow.server.BACKEND_STORE_URI_ENV_VAR: f"sqlite:///{folder}/mlflow.db",
            mlflow.server.ARTIFACT_ROOT_ENV_VAR: "mlflow-artifacts:/",
            mlflow.server.SERVE_ARTIFACTS_ENV_VAR: "true",
            mlflow.server.ARTIFACTS_DESTINATION_ENV_VAR: str(folder / "kept"),
        }
        application = ["-m", "uvicorn", "mlflow.server.fastapi_app:app", "--port", str(port)]
        self.process = commands.start(application, folder, environment() | told, self.said)

    def ready(self) -> None:
        """Wait until it answers."""
        end = time.monotonic() + LONG
        while time.monotonic() < end:
            try:
                urlopen(f"{self.address}/health", timeout=5).close()
            except OSError:
                time.sleep(0.2)
            else:
                return
        raise AssertionError("the server does not start")

    def kill(self) -> None:
        """Take it away."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.said.close()


@contextmanager
def serving(folder: Path, port: int) -> Iterator[Server]:
    server = Server(folder, port)
    try:
        yield server
    finally:
        server.kill()


KINDS = ("comes back", "comes back late", "comes first late")
SERVED = [TWO, SMALL, "training.epochs=60", "seed=0,1,2,3", "hydra.launcher.stack_size=1"]


@fault("tracking server goes away in the middle of a sweep", times=6)
def server_away(folder: Path, draw: random.Random) -> int:
    """Training goes on; what was measured is sent when the server is back, or by a command."""
    project(folder)
    made = python(folder, "-c", "from bikefit.tracking import connection; connection.client()")
    assert made.returncode == 0, made.stderr
    kind = draw.choice(KINDS)
    port = free_port()
    patience = "4" if kind == "comes back late" else "200"
    variables = {
        "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}",
        "BIKEFIT_PATIENCE": patience,
    }
    if kind == "comes first late":
        sweep = Sweep(folder, *SERVED, **variables)
        sweep.until("does not answer: retrying for up to 200 s")
        with serving(folder, port):
            assert sweep.end() == 0, sweep.said()
        return lost(folder, *SERVED)
    with serving(folder, port) as server:
        server.ready()
        sweep = Sweep(folder, *SERVED, **variables)
        sweep.until("1/4 runs done")
    if kind == "comes back":
        sweep.until("results are kept in checkpoints/ and recorded later")
        with serving(folder, port):
            assert sweep.end() == 0, sweep.said()
    else:
        assert sweep.end() == 1, sweep.said()
        assert "`python -m bikefit.send` records them" in sweep.said(), sweep.said()
        with serving(folder, port) as server:
            server.ready()
            sent = commands.run("-m", "bikefit.send", cwd=folder, env=environment() | variables)
        assert sent.returncode == 0, sent.stderr
        assert sent.stdout.endswith(" 0 left\n"), sent.stdout
    assert states(folder) == {"FINISHED": 5}, states(folder)
    return lost(folder, *SERVED)


@fault("disk full under a sweep", times=6)
def full_under_a_sweep(folder: Path, draw: random.Random) -> int:
    """It ends with a clear error; with space again the same command goes on."""
    overrides = [ALONE, SMALL, "training.epochs=20", "seed=0,1,2,3", "hydra.launcher.stack_size=1"]
    with small_disk(folder, 8192) as disk:
        project(disk)
        first = Sweep(disk, *overrides[:-2], "seed=0", "hydra.launcher.stack_size=1")
        assert first.end() == 0, first.said()
        (old,) = finished(disk)
        filler = fill(disk, leave=some(draw, 20_000, 900_000))
        second = Sweep(disk, *overrides)
        if second.end():
            said = second.said()
            assert "disk is full" in said or "No space left on device" in said, said
        filler.unlink()
        last = Sweep(disk, *overrides)
        assert last.end() == 0, last.said()
        assert set(finished(disk).values()) == {1}
        assert finished(disk)[old] == 1
        return lost(disk, *overrides)


@fault("8 sweeps at once, with no database yet", times=2)
def sweeps_at_once(folder: Path, draw: random.Random) -> int:
    """All succeed, and nobody is told of a lock."""
    project(folder)
    overrides = (ALONE, "training.epochs=3", "network=linear")
    sweeps = [Sweep(folder, *overrides, f"seed={2 * i},{2 * i + 1}") for i in range(8)]
    for sweep in sweeps:
        assert sweep.end() == 0, sweep.said()
        assert "locked" not in sweep.said(), sweep.said()
    assert states(folder) == {"FINISHED": 24}, states(folder)
    counts = asked(
        folder,
        "SELECT count(*) FROM metrics JOIN tags t USING (run_uuid) "
        "WHERE t.key = 'fingerprint' GROUP BY run_uuid",
    )
    return 16 - max(Counter(counts).values())
