"""Runs that are written to MLflow are read back; errors of the store are converted."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from pytest_httpserver import HTTPServer

from bikefit.config import configuration_id
from bikefit.tracking import connection, reading, writing
from bikefit.tracking.connection import NotFoundError, StoreUnavailableError, TrackingError
from bikefit.training.members import MemberResult
from conftest import make_settings

FOLDS = ("validation=kfold", "validation.folds=2")


def result(scale: float = 1.0, failure: str = "") -> MemberResult:
    metrics = {
        "train/loss": np.array([4.0, 2.0, 1.0]) * scale,
        "val/loss": np.array([5.0, 3.0, 3.5]) * scale,
        "val/deviance": np.array([10.0, 6.0, 7.0]) * scale,
    }
    state = {"output.linear.weight": np.ones((1, 3), dtype=np.float32)}
    values = {"train_rows": 10, "val_rows": 5, "layers": [], "parameters": 3}
    values["final"] = {"best/train/loss": 2.2 * scale}  # of all training rows
    values |= {"metrics": metrics, "selected": 2, "state": state}
    values["failure"] = failure
    values["timestamps"] = [1_700_000_000_000, 1_700_000_001_000, 1_700_000_002_000]
    values["predictions"] = {
        "timestamp": np.array(["2012-01-01T08"], "M8[us]"),
        "target": np.ones(1),
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
    stored = client.get_run(run)
    assert stored.info.run_name == "dropout p=0.3 · mlp 256×256 · seed 1"
    assert stored.info.status == "FINISHED"
    tags = {"mlflow.parentRunId": sweep, f"bikefit.member_of.{sweep}": "true"}
    tags |= {"data.version": "abc123", "configuration.id": configuration_id(settings)}
    tags |= {"method.kind": "dropout", "network.label": "mlp 256×256"}
    metrics = {"best/val/loss": 3.0, "best/train/loss": 2.2, "gap": 3.0 - 2.2, "best/epoch": 2.0}
    metrics["parameters"] = 3.0
    assert stored.data.params["network.hidden"] == "[256,256]"
    assert stored.data.tags.items() >= tags.items()
    assert stored.data.metrics.items() >= metrics.items()
    assert reading.read_history(run, "train/loss") == [4.0, 2.0, 1.0]
    artifacts = workplace / "mlruns/full" / run / "artifacts"
    names = ["config.yaml", "network.yaml", "predictions.parquet", "weights.safetensors"]
    assert sorted(path.name for path in artifacts.iterdir()) == names
    weights = reading.read_weights(run)
    assert weights and weights["output.linear.weight"].tolist() == [[1.0, 1.0, 1.0]]
    predictions = reading.read_predictions(run)
    assert predictions is not None and predictions["predicted"].tolist() == [2.0]

    parent = client.get_run(sweep)
    assert parent.data.tags["mlflow.note.content"] == "**dropout** won"
    assert parent.info.status == "FINISHED"
    assert reading.latest_sweep() == sweep
    assert reading.sweep_name(sweep) == "sweep · seed=0,1"
    (row,) = reading.read_runs(sweep).to_dict("records")
    assert (row["run_id"], row["status"], row["method"]) == (run, "FINISHED", "dropout p=0.3")
    assert (row["seed"], row["regularization.dropout"], row["best/val/loss"]) == (1, 0.3, 3.0)
    assert (row["network.hidden"], row["regularization.proximal"]) == ("[256,256]", False)


def test_folds_have_mean_and_standard_error(workplace: Path) -> None:
    settings = make_settings(*FOLDS)
    job = writing.start_job(settings, None, "abc123")
    results = [result(1.0), result(3.0), result(2.0)]
    for fold, fold_result in enumerate(results):
        run = writing.start_job(settings, job, "abc123", fold=fold)
        writing.finish_member(run, fold_result, settings)
    # A fold that stopped early has no `unfinished`.
    probes: list[dict[str, float]] = [{"unfinished": 0.1}, {"unfinished": 0.3}, {}]
    best = [writing.summarize(r) for r in results]
    writing.finish_folds(
        job, [metrics | probe for metrics, probe in zip(best, probes, strict=True)]
    )
    metrics = MlflowClient().get_run(job).data.metrics
    assert metrics["best/val/loss"] == pytest.approx((3 + 9 + 6) / 3)
    # deviations -3, 3, 0, variance 9 (n - 1), over √3 folds
    assert metrics["best/val/loss/standard_error"] == pytest.approx(3 / 3**0.5)
    # over the two folds that have it: deviations ±0.1, variance 0.02 (n - 1)
    assert metrics["unfinished"] == pytest.approx(0.2)
    assert metrics["unfinished/standard_error"] == pytest.approx((0.02 / 2) ** 0.5)
    assert reading.read_history(job, "folds/best/val/loss") == [3.0, 9.0, 6.0]
    assert reading.read_runs(job)["fold"].tolist() == [0, 1, 2]


def test_a_failed_member_has_metrics_and_a_reason(workplace: Path) -> None:
    settings = make_settings()
    run = writing.start_job(settings, None, "abc123")
    writing.finish_member(run, result(failure="validation loss became nan in epoch 4"), settings)
    stored = MlflowClient().get_run(run)
    assert stored.info.status == "FAILED"
    assert stored.data.tags["failure"] == "validation loss became nan in epoch 4"
    assert stored.data.metrics["val/loss"] == 3.5
    assert "best/val/loss" not in stored.data.metrics


def test_a_missing_sweep_is_an_error(workplace: Path) -> None:
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
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert reading.sweep_name(sweep) == "here"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")  # relative to the folder
    assert reading.sweep_name(sweep) == "here"
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(empty_store, tmp_path / "elsewhere/mlflow.db")
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(TrackingError, match=f"no run {sweep}"):
        reading.sweep_name(sweep)


def test_calls_of_an_unavailable_server_are_retried(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:hush@127.0.0.1:9")
    monkeypatch.setenv("BIKEFIT_PATIENCE", "2")
    with pytest.raises(
        StoreUnavailableError, match=r"=http://…@127\.0\.0\.1:9 does not answer: Conn"
    ):
        reading.latest_sweep()
    assert "retrying for up to 2 s" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize(("status", "later"), [(503, True), (401, False), (404, False)])
def test_http_errors_are_converted(
    httpserver: HTTPServer, status: int, later: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    httpserver.expect_request(re.compile(".*")).respond_with_data(status=status)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", httpserver.url_for("").rstrip("/"))
    monkeypatch.setenv("BIKEFIT_PATIENCE", "0")
    # A 404 of a proxy does not mean that the run does not exist.
    with pytest.raises(TrackingError, match=rf"{status}|does not answer") as error:
        reading.sweep_name("1" * 32)
    assert isinstance(error.value, StoreUnavailableError) == later
    assert not isinstance(error.value, NotFoundError)


@pytest.mark.slow
def test_a_database_is_created_atomically(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(engine: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(connection, "_initialize_tables", die)
        connection.client()
    assert {path.name for path in tmp_path.iterdir()} <= {"mlflow.db.lock"}
    (tmp_path / "mlflow.db").touch()  # as a killed process of another program leaves it
    assert len(connection.client().search_experiments()) == 1


def test_results_that_are_written_again_are_stored_once(workplace: Path) -> None:
    settings = make_settings(*FOLDS)
    job = writing.start_job(settings, None, "v")
    run = writing.start_job(settings, job, "v", fold=0)
    first = {name: values[:1] for name, values in result().metrics.items()}
    writing.log_epochs(run, first, 0, result().timestamps)
    for _ in range(2):
        writing.finish_member(run, result(), settings, logged=1)
        writing.finish_folds(job, [writing.summarize(result())] * 2)
    for of, metric, expected in (
        (run, "val/loss", [(1, 5.0), (2, 3.0), (3, 3.5)]),
        (run, "best/val/loss", [(2, 3.0)]),
        (job, "best/val/loss", [(0, 3.0)]),
        (job, "folds/best/val/loss", [(0, 3.0), (1, 3.0)]),
    ):
        history = MlflowClient().get_metric_history(of, metric)
        assert [(m.step, m.value) for m in history] == expected
    assert MlflowClient().get_run(run).info.status == "FINISHED"


def test_long_commands_notes_and_reasons_fit_into_tags(workplace: Path) -> None:
    """SQLite accepts any length; PostgreSQL and MySQL end with an error."""
    seeds = f"seed={','.join(map(str, range(2000)))}"
    assert len(seeds) == 8894
    sweep = writing.start_sweep("full", f"sweep {seeds}", [seeds])
    run = writing.start_job(make_settings(), sweep, "v", configuration="c" * 9000)
    writing.fail_run(run, "r" * 9000 + "the last line")
    writing.finish_sweep(sweep, "n" * 9000, {}, "FINISHED")
    parent, job = (MlflowClient().get_run(one) for one in (sweep, run))
    assert len(parent.info.run_name) == 250
    assert parent.data.tags["overrides"] == f"{seeds[:4999]}…"
    assert parent.data.tags["mlflow.note.content"] == "n" * 4999 + "…"
    assert job.data.tags["configuration"] == "c" * 4999 + "…"
    assert job.data.tags["failure"].endswith("the last line")
    assert max(map(len, (parent.data.tags | job.data.tags).values())) == 5000
