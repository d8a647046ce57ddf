"""Runs, files and experiments that were deleted in MLflow are named with the command that helps."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient

import stores
from bikefit.comparison.compare import main as compare
from bikefit.config import Settings
from bikefit.sweeps.jobs import Job
from bikefit.sweeps.run import train_jobs
from bikefit.tracking import connection, reading, writing
from bikefit.tracking.connection import TrackingError
from conftest import SMALL, make_settings
from inline import INLINE


def settings(*overrides: str) -> Settings:
    return make_settings(*SMALL, *overrides)


def test_deleted_runs_of_a_sweep_are_counted(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = writing.start_sweep("full", "s", [])
    first, second = (
        stores.add(sweep, stores.settings(dropout, seed), stores.result(2.0, 5.0 + seed))
        for dropout, seed in ((0.0, 0), (0.3, 1))
    )
    assert reading.remark_on_deleted(sweep) == ""
    MlflowClient().delete_run(second)
    assert compare([]) == 0
    out = capsys.readouterr().out
    assert "1 runs of the sweep were deleted in MLflow and are left out: `mlflow runs" in out
    assert f"--run-id {second}` restores one; the command of the sweep (`dvc repro -s -f sw" in out
    MlflowClient().delete_run(first)
    assert compare([]) == 0
    assert "2 runs of the sweep were deleted" in capsys.readouterr().out


def test_a_deleted_sweep_is_named_with_the_commands_that_bring_it_back(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = writing.start_sweep("full", "s", [])
    MlflowClient().delete_run(sweep)
    assert compare([sweep]) == 1
    error = capsys.readouterr().err
    assert f"was deleted in MLflow: `mlflow runs restore --run-id {sweep}` restores it" in error
    assert "`dvc repro -s -f sweep` records the sweep of the pipeline again" in error
    (workplace / "sweep.json").write_text('{"sweep": "0123"}')
    assert compare(["--record", "sweep.json"]) == 1
    assert "another one, `dvc repro` trains the sweep" in capsys.readouterr().err


@pytest.mark.slow
def test_runs_without_files_are_trained_again(workplace: Path) -> None:
    crossed = ("validation=kfold", "validation.folds=2")
    jobs = [Job(settings("seed=0"), "0"), Job(settings(*crossed), "k")]
    train_jobs(jobs, None, engine=INLINE)
    again = [Job(job.settings, job.label) for job in jobs]
    train_jobs(again, None, engine=INLINE)
    assert [job.run for job in again] == [job.run for job in jobs]  # reused
    shutil.rmtree("mlruns")
    with pytest.raises(TrackingError, match=f"run {jobs[0].run} has no config.yaml: its files"):
        reading.read_config(jobs[0].run)
    renewed = [Job(settings("seed=0"), "0")]
    train_jobs(renewed, None, engine=INLINE)
    assert renewed[0].run != jobs[0].run
    assert reading.read_weights(renewed[0].run)


def test_a_deleted_experiment_is_named_before_anything_is_trained(workplace: Path) -> None:
    number = connection.experiment_id("full")
    MlflowClient().delete_experiment(number)
    with pytest.raises(TrackingError, match=rf"experiments restore -x {number}` restores it"):
        writing.start_sweep("full", "s", [])


def test_artifacts_of_servers_are_not_looked_for(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert connection.is_missing("/gone/mlruns/1")
    assert not connection.is_missing("s3://bucket/1")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert not connection.is_missing("mlflow-artifacts:/1")


def test_a_store_in_a_temporary_workspace_of_dvc_is_said(
    empty_store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """`dvc exp run --temp` and `--queue` delete the workspace at their end."""
    workspace = tmp_path / ".dvc/tmp/exps/standalone/tmp123"
    workspace.mkdir(parents=True)
    shutil.copy(empty_store, workspace / "mlflow.db")
    monkeypatch.chdir(workspace)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    connection.client()
    (message,) = caplog.messages
    assert "is in a temporary workspace of DVC and is deleted with it" in message
    assert f"set MLFLOW_TRACKING_URI=sqlite:///{tmp_path}/mlflow.db and start" in message
    caplog.clear()
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    connection.client()
    assert not caplog.messages
