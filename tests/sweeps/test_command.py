"""The end of a sweep: its status, counts, record and errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import stores
from bikefit.errors import BikefitError
from bikefit.sweeps import command
from bikefit.sweeps.command import FailedJobsError, OpenSweep
from bikefit.sweeps.jobs import Job, JobError
from bikefit.tracking import connection, reading
from bikefit.tracking.connection import TrackingError


def train_batch(sweep: OpenSweep) -> None:
    """Train a batch of three jobs."""
    tracking = {"experiment": "full", "weights": False, "predictions": False}
    tracking["record"] = "sweep.json"
    settings = [stores.settings(seed=seed, tracking=tracking) for seed in (0, 1, 2)]
    sweep.train(settings, ["seed=0", "seed=1", "seed=2"])


def train_with_one_failure(jobs: list[Job], sweep: str, *_: Any) -> list[float | Exception]:
    for job in jobs:
        stores.add(sweep, job.settings, stores.result(1.0, 2.0))
    return [2.0, JobError("disk on fire"), 2.0]


def status_and_counts(sweep: OpenSweep) -> tuple[str, float, float]:
    """Return status, number of jobs and number of failed jobs of the parent run."""
    run = connection.client().get_run(sweep.run)
    metrics = run.data.metrics
    return run.info.status, metrics["runs"], metrics["runs.failed"]


@pytest.mark.slow
def test_failed_jobs_are_counted_and_named(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(command, "train_jobs", train_with_one_failure)
    with pytest.raises(FailedJobsError, match="2 of 6 jobs failed"), OpenSweep([]) as sweep:
        train_batch(sweep)
        train_batch(sweep)
    assert caplog.text.count("failed: seed=1: disk on fire") == 2
    assert status_and_counts(sweep) == ("FAILED", 6, 2)
    assert json.loads(Path("sweep.json").read_text()) == {"runs": 6, "sweep": sweep.run}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("error", "status"), [(KeyboardInterrupt, "KILLED"), (ValueError, "FAILED")]
)
def test_an_interrupted_sweep_is_closed_and_not_recorded(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException], status: str
) -> None:
    def raises(*arguments: Any) -> None:
        train_with_one_failure(*arguments)
        raise error

    monkeypatch.setattr(command, "train_jobs", raises)
    with pytest.raises(error), OpenSweep([]) as sweep:
        train_batch(sweep)
    assert status_and_counts(sweep) == (status, 3, 0)
    assert not Path("sweep.json").exists()


def test_results_that_mlflow_does_not_take_are_an_error(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "train_jobs", train_with_one_failure)
    monkeypatch.setattr(command, "record_pending_results", lambda: 2)
    with (
        pytest.raises(TrackingError, match="2 results are kept in checkpoints/: `python -m"),
        OpenSweep([]) as sweep,
    ):
        train_batch(sweep)
    assert connection.client().get_run(sweep.run).info.status == "RUNNING"


def test_nothing_is_recorded_without_a_batch(workplace: Path) -> None:
    with OpenSweep([]) as sweep:
        pass
    assert not sweep.run
    assert [e.name for e in connection.client().search_experiments()] == ["Default"]


@pytest.mark.parametrize(
    "wrong", [{"loss": "bernoulli"}, {"validation": {"name": "kfold", "folds": 999}}]
)
def test_a_setting_that_does_not_fit_the_table_leaves_no_sweep(
    workplace: Path, wrong: dict[str, Any]
) -> None:
    settings = [stores.settings(seed=0), stores.settings(seed=1, **wrong)]
    with pytest.raises(BikefitError), OpenSweep([]) as sweep:
        sweep.train(settings, ["seed=0", "seed=1"])
    assert not sweep.run
    with pytest.raises(TrackingError, match="no sweep"):
        reading.latest_sweep()
