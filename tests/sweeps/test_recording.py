"""Curves are written during training, and results are written again after an error."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow import MlflowClient

from bikefit import processes, send
from bikefit.processes import process_id
from bikefit.sweeps import recording
from bikefit.sweeps.engines import Engine
from bikefit.sweeps.jobs import Job
from bikefit.sweeps.recording import (
    CHECKPOINTS,
    Recorder,
    Stack,
    pending_stacks,
    record_pending_results,
    start_runs,
)
from bikefit.sweeps.run import train_jobs
from bikefit.sweeps.stacks import plan_stacks
from bikefit.tracking import connection, reading, writing
from bikefit.tracking.connection import StoreUnavailableError, TrackingError
from bikefit.tracking.names import PROCESS
from bikefit.training import callbacks
from bikefit.training.checkpoints import CheckpointDir
from conftest import ROOT, make_settings
from inline import INLINE
from namespaces import ELSEWHERE, needs_namespaces

SMALL = ["network.hidden=[4]", "training.epochs=6", "training.batch_size=64"]
FOLDS = ["validation=kfold", "validation.folds=2"]
LONG = ["training.epochs=300", "trainer.progress=false"]


def make_job(*overrides: str) -> Job:
    return Job(make_settings(*SMALL, *overrides), " ".join(overrides))


def steps(run: str, metric: str = "val/loss") -> list[int]:
    return [m.step for m in connection.client().get_metric_history(run, metric)]


def status(run: str) -> str:
    return str(MlflowClient().get_run(run).info.status)


def assert_complete(run: str, epochs: int) -> None:
    """Assert that each metric has each epoch once, and each final metric once."""
    assert status(run) == "FINISHED"
    metrics = MlflowClient().get_run(run).data.metrics
    per_epoch = [name for name in metrics if name.startswith(("train/", "val/"))]
    assert len(per_epoch) >= 7
    for name in per_epoch:
        assert steps(run, name) == list(range(1, epochs + 1)), name
    assert len(steps(run, "best/val/loss")) == 1


@pytest.mark.slow(seconds=10)
def test_curves_grow_during_the_training(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(callbacks.INTERVAL, "0.05")
    monkeypatch.setattr(recording, "INTERVAL", 0.0)
    monkeypatch.setattr(recording, "SHARE", 1.0)
    written: list[int] = []
    real = writing.log_epochs

    def log_epochs(run: str, metrics: Any, after: int, stamps: Any) -> None:
        written.append(max(map(len, metrics.values())) - after)
        if len(written) == 1:
            raise StoreUnavailableError("does not answer")
        real(run, metrics, after, stamps)

    monkeypatch.setattr(writing, "log_epochs", log_epochs)
    jobs = [make_job(*LONG, "seed=0"), make_job(*LONG, "seed=1", "regularization.l2=0.1")]
    with ThreadPoolExecutor(1) as thread:  # a worker process might not see the patched variable
        train_jobs(jobs, None, engine=Engine(thread, 1))
    assert len(written) > 2 and sum(written) <= 600 + written[0]
    for job in jobs:
        assert_complete(job.run, 300)
    # a penalty of another member is no metric of a member
    assert "train/penalty/hidden1" not in MlflowClient().get_run(jobs[0].run).data.metrics


class Store:
    """A store that is unavailable for results after the first ``takes`` ones."""

    def __init__(self, patch: pytest.MonkeyPatch, takes: int) -> None:
        self.takes = takes
        self.real = writing.finish_member
        patch.setattr(writing, "finish_member", self)

    def __call__(self, *arguments: Any) -> None:
        self.takes -= 1
        if self.takes >= 0:
            self.real(*arguments)
            return
        raise StoreUnavailableError("the store does not answer")


@pytest.mark.slow
@pytest.mark.parametrize("takes", [0, 1])
def test_results_stay_in_folders_while_the_store_is_unavailable(
    workplace: Path,
    takes: int,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sweep = writing.start_sweep("full", "sweep", [])
    jobs = [
        make_job("seed=0"),
        make_job("seed=1"),
        make_job("validation=kfold", "validation.folds=2"),
    ]
    with pytest.MonkeyPatch.context() as patch:
        Store(patch, takes)
        results = train_jobs(jobs, sweep, engine=INLINE)
        assert all(isinstance(result, float) for result in results)
        text = "the store does not answer: results are kept in checkpoints/ and recorded later"
        assert text in caplog.text
        assert record_pending_results() == 4
    assert len(pending_stacks()) == 2
    assert {status(job.run) for job in jobs} <= {"RUNNING", "FINISHED"}
    MlflowClient().set_tag(sweep, PROCESS, "elsewhere.1.1")  # may be running
    assert send.main() == 0
    assert capsys.readouterr().out.startswith("4 runs recorded in sqlite:///")
    assert not list(CHECKPOINTS.iterdir())
    for job in jobs[:2]:
        assert_complete(job.run, 6)
    children = reading.read_runs(jobs[2].run)
    assert children["status"].tolist() == ["FINISHED"] * 2
    metrics = MlflowClient().get_run(jobs[2].run).data.metrics
    assert metrics["best/val/loss"] == pytest.approx(children["best/val/loss"].mean())
    assert status(jobs[2].run) == "FINISHED"
    assert status(sweep) == "RUNNING"


@pytest.mark.slow
def test_results_of_another_store_are_named(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        Store(patch, 0)
        train_jobs([make_job()], None, engine=INLINE)
    first = connection.address()
    shutil.copy("mlflow.db", "other.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///other.db")
    assert send.main() == 0
    said = capsys.readouterr().out
    assert "0 runs recorded in sqlite:///other.db, 0 left" in said
    assert f"checkpoints/ has results of another store: set MLFLOW_TRACKING_URI={first}" in said


@pytest.mark.slow
def test_a_refused_result_is_not_tried_again_and_again(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A proxy that refuses large files refuses them at every attempt."""
    monkeypatch.setattr(recording, "INTERVAL", 0.0)
    jobs, tries, real = [make_job(f"seed={seed}") for seed in range(3)], [], writing.finish_member

    def finish_member(run: str, *arguments: Any) -> None:
        tries.append(run)
        if run == jobs[0].run:
            raise TrackingError("413 Request Entity Too Large")
        real(run, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writing, "finish_member", finish_member)
        results = train_jobs(jobs, None, stack_size=1, engine=INLINE)
        assert all(isinstance(result, float) for result in results)
        assert record_pending_results() == 1
    assert tries.count(jobs[0].run) == 2  # once when it was finished, and once at the end
    assert "413 Request Entity Too Large; the results stay in " in caplog.text
    assert [status(job.run) for job in jobs] == ["RUNNING", "FINISHED", "FINISHED"]
    assert record_pending_results() == 0  # the limit was raised
    assert_complete(jobs[0].run, 6)


@pytest.mark.slow
def test_results_of_a_running_command_are_not_recorded_by_others(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, seen, process = make_job(), [], process_id()

    def refuse(*_: Any) -> None:
        monkeypatch.setattr(recording, "process_id", lambda: "of another command")
        seen.append(len(pending_stacks()))
        raise StoreUnavailableError("the store does not answer")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writing, "finish_member", refuse)
        train_jobs([first], None, engine=INLINE)
    (stack,) = pending_stacks()  # training has ended, but the process is running
    stack.directory.assign_runs(replace(stack.directory.runs, process=process))
    assert [*seen, len(pending_stacks())] == [0, 0]
    killed = f"{process.rpartition('.')[0]}.1000000000"
    stack.directory.assign_runs(replace(stack.directory.runs, process=killed))
    assert record_pending_results() == 0
    assert_complete(first.run, 6)


@pytest.mark.slow
def test_a_sweep_of_an_ended_command_is_closed_with_its_last_run(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = writing.start_sweep("full", "sweep", [])
    wild = make_job("optimizer=sgd", "optimizer.lr=1e12")
    with pytest.MonkeyPatch.context() as patch:
        Store(patch, 0)
        train_jobs([make_job(), wild], sweep, engine=INLINE)
    host, number, _ = MlflowClient().get_run(sweep).data.tags[PROCESS].split(".")
    MlflowClient().set_tag(sweep, PROCESS, f"{host}.{number}.1000000000")
    assert send.main() == 0
    assert status(sweep) == status(wild.run) == "FAILED"


@pytest.mark.slow
@pytest.mark.parametrize("deleted", [False, True])
def test_results_of_an_earlier_command_are_not_trained_again(
    deleted: bool,
    workplace: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    first, second = make_job(), make_job()
    with pytest.MonkeyPatch.context() as patch:
        Store(patch, 0)
        (value,) = train_jobs([first], None, engine=INLINE)
    if deleted:
        MlflowClient().delete_run(first.run)
        for _ in range(2):
            assert record_pending_results() == 0
        assert caplog.text.count(f"does not know the runs {first.run}") == 1
    monkeypatch.setattr(
        callbacks.StopCheck, "on_train_batch_end", lambda *_: pytest.fail("trained")
    )
    assert train_jobs([second], None, engine=INLINE) == [pytest.approx(value)]
    assert (second.run != first.run) == deleted
    assert_complete(second.run, 6)
    assert not list(CHECKPOINTS.iterdir())


def test_runs_of_a_process_that_has_ended_are_closed(workplace: Path) -> None:
    alive, dead, elsewhere = (writing.start_sweep("full", name, []) for name in "ade")
    host, number, _ = MlflowClient().get_run(dead).data.tags[PROCESS].split(".")
    # another process has the number now
    MlflowClient().set_tag(dead, PROCESS, f"{host}.{number}.1000000000")
    MlflowClient().set_tag(elsewhere, PROCESS, f"not-{host}.{number}.1000000000")
    assert writing.close_abandoned_runs() == 1
    assert [status(run) for run in (alive, dead, elsewhere)] == ["RUNNING", "KILLED", "RUNNING"]


def test_runs_of_a_process_that_cannot_be_seen_are_closed_after_its_last_sign(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent, talking = (writing.start_sweep("full", name, []) for name in "st")
    member = writing.start_job(make_settings(), talking, "v")
    monkeypatch.setattr(processes, "_place", lambda: "elsewhere")
    assert writing.close_abandoned_runs() == 0  # they have just started
    monkeypatch.setattr(processes, "SILENCE", -1.0)
    MlflowClient().set_tag(silent, PROCESS, "here.1.1000000000")
    with monkeypatch.context() as patch:
        patch.setattr(writing.time, "time", lambda: 2e9)
        writing.renew(talking)
    assert writing.close_abandoned_runs() == 1
    assert [status(run) for run in (silent, talking, member)] == ["KILLED", "RUNNING", "RUNNING"]


def test_a_command_writes_signs_of_life(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep, (job, crossed) = writing.start_sweep("full", "s", []), (make_job(), make_job(*FOLDS))
    recorder, stacks = Recorder(), []
    for parent, jobs in ((sweep, [job]), (None, [job, crossed])):
        for one in jobs:
            start_runs(one, parent)
            members = {member.fingerprint: one for member in one.members}
            (planned,) = plan_stacks([one], 1, None, CHECKPOINTS, set())
            stacks.append(Stack(planned))
            stacks[-1].assign_runs(members, parent)
    monkeypatch.setattr(recording.time, "monotonic", lambda: recorder.next_sign - 1)
    recorder.update(stacks)
    assert not any("bikefit.alive" in one for one in tags(sweep, job.run, crossed.run))
    monkeypatch.setattr(recording.time, "monotonic", lambda: recorder.next_sign)
    recorder.update(stacks)
    assert all(int(one["bikefit.alive"]) > 1.7e12 for one in tags(sweep, job.run, crossed.run))


def test_an_unavailable_store_is_not_waited_for(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(*_: object) -> None:
        raise sqlite3.OperationalError("database is locked")

    store = connection.RetryingProxy(SimpleNamespace(write=locked))
    monkeypatch.setattr(recording, "record_stack", lambda _: store.write())
    monkeypatch.setattr(connection.time, "sleep", lambda _: pytest.fail("it waits"))
    recorder = Recorder()
    recorder.waiting = [Stack(CheckpointDir(CHECKPOINTS, []))]
    recorder.update([])
    assert len(recorder.waiting) == 1 and recorder.next_results > 0


def tags(*runs: str) -> list[dict[str, str]]:
    return [MlflowClient().get_run(run).data.tags for run in runs]


@needs_namespaces
@pytest.mark.slow
def test_a_command_in_another_container_leaves_a_running_sweep_alone(workplace: Path) -> None:
    sweep = writing.start_sweep("full", "s", [])
    code = "from bikefit.tracking.writing import close_abandoned_runs as close; print(close())"
    given = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    command = [*ELSEWHERE, sys.executable, "-c", code]
    assert subprocess.check_output(command, text=True, env=given) == "0\n"
    assert status(sweep) == "RUNNING"
