"""What is written to MLflow is what can be read back."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from pytest_httpserver import HTTPServer
from safetensors.numpy import load_file

from bikefit.config import configuration_id
from bikefit.tracking import connection, reading, writing
from bikefit.tracking.connection import StoreUnavailableError, TrackingError
from bikefit.training.members import Failure, MemberResult
from conftest import make_settings


def result(scale: float = 1.0, failure: str | None = None) -> MemberResult:
    metrics = {
        "train/loss": np.array([4.0, 2.0, 1.0]) * scale,
        "val/loss": np.array([5.0, 3.0, 3.5]) * scale,
        "val/deviance": np.array([10.0, 6.0, 7.0]) * scale,
    }
    state = {"output.linear.weight": np.ones((1, 3), dtype=np.float32)}
    values = {"train_rows": 10, "val_rows": 5, "layers": [], "parameters": 3, "final": {}}
    values |= {"metrics": metrics, "selected": 2, "state": state}
    values["failure"] = Failure(failure) if failure else None
    values["timestamps"] = [1_700_000_000_000, 1_700_000_001_000, 1_700_000_002_000]
    values["predictions"] = {
        "timestamp": np.array(["2012-01-01T08"], "M8[us]"),
        "rentals": np.ones(1),
        "predicted": np.full(1, 2.0),
    }
    return MemberResult(**values)


def test_a_sweep_with_its_jobs(workplace: Path) -> None:
    sweep = writing.start_sweep("full", "sweep · seed=0,1", ["seed=0,1"])
    settings = make_settings("regularization.dropout=0.3", "seed=1")
    run = writing.start_job(settings, sweep, "abc123")
    writing.finish_member(run, result(), settings)
    writing.finish_sweep(sweep, "**dropout** won", {"runs": 1.0}, "FINISHED")

    client = MlflowClient()
    kept = client.get_run(run)
    assert kept.info.run_name == "dropout p=0.3 · mlp 256×256 · seed 1"
    assert kept.info.status == "FINISHED"
    params = {"regularization.dropout": "0.3", "network.hidden": "[256,256]"}
    tags = {"mlflow.parentRunId": sweep, f"bikefit.member_of.{sweep}": "true"}
    tags |= {"data.version": "abc123", "configuration.id": configuration_id(settings)}
    tags |= {"method.kind": "dropout", "network.label": "mlp 256×256"}
    metrics = {"best/val/loss": 3.0, "best/train/loss": 2.0, "gap": 1.0, "best/epoch": 2.0}
    assert kept.data.params.items() >= params.items()
    assert kept.data.tags.items() >= tags.items()
    assert kept.data.metrics.items() >= metrics.items()
    assert reading.read_history(run, "train/loss") == [4.0, 2.0, 1.0]
    artifacts = workplace / "mlruns/full" / run / "artifacts"
    names = ["config.yaml", "network.yaml", "predictions.parquet", "weights.safetensors"]
    assert sorted(path.name for path in artifacts.iterdir()) == names
    weights = load_file(artifacts / "weights.safetensors")
    assert weights["output.linear.weight"].tolist() == [[1.0, 1.0, 1.0]]

    parent = client.get_run(sweep)
    assert parent.data.tags["mlflow.note.content"] == "**dropout** won"
    assert parent.info.status == "FINISHED"
    assert reading.latest_sweep() == sweep
    assert reading.sweep_name(sweep) == "sweep · seed=0,1"
    (row,) = reading.read_runs(sweep).to_dict("records")
    assert row["run_id"] == run
    assert row["status"] == "FINISHED"
    assert (row["seed"], row["regularization.dropout"], row["best/val/loss"]) == (1, 0.3, 3.0)
    assert row["method"] == "dropout p=0.3"


def test_folds_carry_mean_and_standard_error(workplace: Path) -> None:
    settings = make_settings("validation=kfold", "validation.folds=2")
    job = writing.start_job(settings, None, "abc123")
    results = [result(1.0), result(3.0)]
    for fold, one in enumerate(results):
        run = writing.start_fold(settings, job, "abc123", fold)
        writing.finish_member(run, one, settings)
    writing.finish_folds(job, [writing.best_metrics(one) for one in results])
    metrics = MlflowClient().get_run(job).data.metrics
    assert metrics["best/val/loss"] == pytest.approx((3 + 9) / 2)
    # deviations ±3, variance 18 (n - 1), over √2 folds
    assert metrics["best/val/loss/standard_error"] == pytest.approx(18**0.5 / 2**0.5)
    history = MlflowClient().get_metric_history(job, "folds/best/val/loss")
    assert [(m.step, m.value) for m in history] == [(0, 3.0), (1, 9.0)]
    assert reading.read_runs(job)["fold"].tolist() == [0, 1]


def test_metrics_that_some_folds_lack_have_the_standard_error_of_the_others() -> None:
    """With patience, a fold has either `unfinished` or `unfinished/val`."""
    losses = {"best/train/loss": 1.0, "best/val/loss": 1.0, "best/val/deviance": 1.0}
    folds = [losses | {"unfinished": value} for value in (0.1, 0.3)]
    folds += [losses | {"unfinished/val": 0.2}, losses]
    metrics = {metric.key: metric.value for metric in writing.fold_metrics(folds, stamp=0)}
    assert metrics["unfinished"] == pytest.approx(0.2)
    # deviations ±0.1, variance 0.02 (n - 1), over √2 folds
    assert metrics["unfinished/standard_error"] == pytest.approx((0.02 / 2) ** 0.5)
    assert metrics["unfinished/val"] == 0.2
    assert "unfinished/val/standard_error" not in metrics


def test_a_failed_member_keeps_its_metrics_and_says_why(workplace: Path) -> None:
    settings = make_settings()
    run = writing.start_job(settings, None, "abc123")
    writing.finish_member(run, result(failure="validation loss became nan in epoch 4"), settings)
    kept = MlflowClient().get_run(run)
    assert kept.info.status == "FAILED"
    assert kept.data.tags["failure"] == "validation loss became nan in epoch 4"
    assert kept.data.metrics["val/loss"] == 3.5
    assert "best/val/loss" not in kept.data.metrics


def test_what_is_not_there_is_said(workplace: Path) -> None:
    with pytest.raises(TrackingError, match="no sweep in sqlite"):
        reading.latest_sweep()
    with pytest.raises(TrackingError, match="no run abc"):
        reading.sweep_name("abc")
    run = writing.start_job(make_settings(), None, "v")
    with pytest.raises(TrackingError, match="is not a sweep but job"):
        reading.sweep_name(run)


def test_another_address_is_another_store(
    workplace: Path, empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = writing.start_sweep("full", "here", [])
    shutil.copy(empty_store, tmp_path / "other.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/other.db")
    with pytest.raises(TrackingError, match=f"no run {sweep} in .*other.db"):
        reading.sweep_name(sweep)
    there = writing.start_sweep("full", "there", [])
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert reading.sweep_name(sweep) == "here"
    with pytest.raises(TrackingError, match=f"no run {there}"):
        reading.sweep_name(there)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")  # of whichever folder
    assert reading.sweep_name(sweep) == "here"
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(empty_store, tmp_path / "elsewhere/mlflow.db")
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(TrackingError, match=f"no run {sweep}"):
        reading.sweep_name(sweep)


def test_a_deleted_experiment_is_named(workplace: Path) -> None:
    found = connection.experiment_id("full")
    assert connection.experiment_id("full") == found
    MlflowClient().delete_experiment(found)
    connection._experiment_id.cache_clear()  # another command
    with pytest.raises(TrackingError, match=f"restore -x {found}"):
        connection.experiment_id("full")


def test_a_server_that_is_away_is_waited_for_then_named(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:hush@127.0.0.1:9")
    monkeypatch.setenv("BIKEFIT_PATIENCE", "0.2")
    with pytest.raises(StoreUnavailableError, match=r"^http://…@127\.0\.0\.1:9 does not answer$"):
        reading.latest_sweep()
    assert "retrying for up to 0 s" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "reason", "later"),
    [
        (503, "503 Service Unavailable", True),
        (401, "401 Unauthorized; set MLFLOW_TRACKING_USERNAME", False),
        (403, "403 Forbidden; check the user's permissions", False),
        (404, "404 Not Found; check that an MLflow server runs", False),
    ],
)
def test_an_answer_that_is_not_mlflows_is_named(
    httpserver: HTTPServer, status: int, reason: str, later: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    httpserver.expect_request(re.compile(".*")).respond_with_data(status=status)
    address = httpserver.url_for("").rstrip("/")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    monkeypatch.setenv("BIKEFIT_PATIENCE", "0")
    with pytest.raises(TrackingError, match=re.escape(f"{address} answered {reason}")) as error:
        reading.sweep_name("1" * 32)
    assert isinstance(error.value, StoreUnavailableError) == later


@pytest.mark.slow
def test_a_database_is_made_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(engine: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(connection, "_initialize_tables", die)
        connection.client()
    assert {path.name for path in tmp_path.iterdir()} <= {"mlflow.db.lock"}
    (tmp_path / "mlflow.db").touch()  # as others leave it that were killed
    assert len(connection.client().search_experiments()) == 1


def test_results_that_are_written_again_are_stored_once(workplace: Path) -> None:
    settings = make_settings("validation=kfold", "validation.folds=2")
    job = writing.start_job(settings, None, "v")
    run = writing.start_fold(settings, job, "v", 0)
    writing.log_epochs(run, 0, [{"train/loss": 4.0, "val/loss": 5.0}], result().timestamps)
    for _ in range(2):
        writing.finish_member(run, result(), settings, logged=1)
        writing.finish_folds(job, [writing.best_metrics(result())] * 2)
    for metric, expected in (
        ("val/loss", [(1, 5.0), (2, 3.0), (3, 3.5)]),
        ("best/val/loss", [(2, 3.0)]),
    ):
        history = MlflowClient().get_metric_history(run, metric)
        assert [(m.step, m.value) for m in history] == expected
    (mean,) = MlflowClient().get_metric_history(job, "best/val/loss")
    assert mean.value == 3.0
    assert len(MlflowClient().get_metric_history(job, "folds/best/val/loss")) == 2
    assert MlflowClient().get_run(run).info.status == "FINISHED"
