"""A sweep that has been moved to another store is there with all that it had."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient

import stores
from bikefit import move
from bikefit.config import Settings
from bikefit.sweeps import jobs
from bikefit.sweeps.jobs import Job
from bikefit.tracking import connection, moving, reading, writing
from bikefit.tracking.connection import TrackingError
from bikefit.tracking.names import PARENT, SWEEP
from conftest import make_settings

SMALL = ("network.hidden=[4]", "training.epochs=2", "training.batch_size=64")


@pytest.fixture
def other(workplace: Path, empty_store: Path) -> str:
    """The address of a second, empty store."""
    (workplace / "there").mkdir()
    shutil.copy(empty_store, workplace / "there/mlflow.db")
    return f"sqlite:///{workplace}/there/mlflow.db"


@pytest.fixture
def sweep(workplace: Path) -> str:
    """A sweep of a run, a cross-validation, a failed run, and a run of an earlier sweep."""
    first = writing.start_sweep("full", "first", [])
    settings = make_settings(*SMALL, "seed=1")
    jobs.train([Job(settings, "old")], first, processes=1)
    second = writing.start_sweep("full", "second", ["seed=0,1"])
    folds = make_settings(*SMALL, "validation=kfold", "validation.folds=2")
    jobs.train([Job(settings, "old"), Job(folds, "folds")], second, processes=1)
    stores.add(second, stores.settings(seed=7), stores.result(1.0, 2.0, failure="disk on fire"))
    writing.finish_sweep(second, "it was so", {"runs": 3.0}, "FINISHED")
    return second


def content(sweep: str) -> tuple[pd.DataFrame, list[pd.DataFrame]]:
    """The runs of a sweep and of its cross-validations, without what differs by store."""
    ids = ["run_id", "experiment_id", f"tags.{moving.MOVED}", f"tags.{SWEEP}"]
    runs = reading.read_runs(sweep)
    assert (runs[f"tags.{SWEEP}"] == sweep).all()  # whichever it was trained for
    runs = runs.drop(columns=ids, errors="ignore")
    below = [reading.read_runs(run) for run in reading.read_runs(sweep)["run_id"]]
    return runs.sort_index(axis=1), [
        table.drop(columns=ids, errors="ignore").sort_index(axis=1) for table in below if len(table)
    ]


@pytest.mark.slow
def test_all_that_a_sweep_has_is_there(
    sweep: str, other: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, folds = content(sweep)
    (first, *_) = reading.read_runs(sweep)["run_id"]
    history = reading.read_history(first, "val/loss")
    config, weights = reading.read_config(first), reading.read_weights(first)
    assert move.main([sweep, "--to", other]) == 0
    assert f"6 runs of sweep {sweep} are in {other}" in capsys.readouterr().out
    monkeypatch.setenv("MLFLOW_TRACKING_URI", other)
    moved = reading.latest_sweep()
    assert reading.sweep_name(moved) == "second"
    found, found_folds = content(moved)
    pd.testing.assert_frame_equal(found, runs)
    assert len(folds) == len(found_folds) == 1
    pd.testing.assert_frame_equal(found_folds[0], folds[0])
    (first, *_) = reading.read_runs(moved)["run_id"]
    assert reading.read_history(first, "val/loss") == history
    assert reading.read_config(first) == config
    again = reading.read_weights(first)
    assert weights is not None and again is not None
    assert {k: v.tolist() for k, v in again.items()} == {k: v.tolist() for k, v in weights.items()}
    tags = MlflowClient(other).get_run(moved).data.tags
    assert tags["mlflow.note.content"] == "it was so"


@pytest.mark.slow
def test_a_move_goes_on_where_it_was_broken_off(
    sweep: str, other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = moving._Move._files
    broken = []

    def breaking(self: moving._Move, here: str, created: str) -> None:
        broken.append(created)
        if len(broken) == 3:
            raise moving.MlflowException("the server is gone")
        real(self, here, created)

    monkeypatch.setattr(moving._Move, "_files", breaking)
    with pytest.raises(TrackingError, match="the server is gone; the same command goes on"):
        move.move(sweep, other)
    assert move.move(sweep, other) == 6
    assert len(broken) == 3 + 4  # two are there, the third and the others are copied
    assert move.move(sweep, other) == 6
    assert len(broken) == 7
    there = MlflowClient(other)
    experiments = [e.experiment_id for e in there.search_experiments()]
    assert len(there.search_runs(experiments)) == 6


def test_what_cannot_be_moved_is_refused(
    workplace: Path, other: str, capsys: pytest.CaptureFixture[str]
) -> None:
    running = writing.start_sweep("full", "running", [])
    assert move.main([running, "--to", other]) == 1
    assert "is still running" in capsys.readouterr().err
    settings: Settings = stores.settings()
    run = stores.add(running, settings, stores.result(1.0, 2.0))
    assert move.main([run, "--to", other]) == 1
    assert "is not a sweep but job" in capsys.readouterr().err
    writing.finish_sweep(running, "", {}, "FINISHED")
    for spelled in (connection.address(), f"sqlite:///{workplace}/./mlflow.db"):
        assert move.main([running, "--to", spelled]) == 1
        assert "in already" in capsys.readouterr().err
    assert move.main([running, "--to", "localhost:5000"]) == 1
    assert "localhost:5000: " in capsys.readouterr().err
    assert move.main([running, "--to", "http://me:hush@127.0.0.1:9"]) == 1
    said = capsys.readouterr().err
    assert "http://…@127.0.0.1:9: " in said and "hush" not in said


@pytest.mark.slow
def test_a_run_that_came_first_for_another_sweep_is_below_its_own_as_well(
    workplace: Path, other: str
) -> None:
    first, second = (writing.start_sweep("full", name, []) for name in ("first", "second"))
    runs = [stores.add(first, stores.settings(seed=s), stores.result(1.0, 2.0)) for s in (0, 1)]
    writing.refer(second, runs[:1])
    for one in (first, second):
        writing.finish_sweep(one, "", {}, "FINISHED")
    assert move.move(second, other) == 2
    assert move.move(first, other) == 3
    there = MlflowClient(other)
    experiments = [e.experiment_id for e in there.search_experiments()]
    (copy,) = there.search_runs(experiments, f"tags.`{moving.MOVED}` = '{first}'")
    below = f"tags.`{PARENT}` = '{copy.info.run_id}'"
    assert len(there.search_runs(experiments, below)) == 2
    mine = f"tags.`{SWEEP}` = '{copy.info.run_id}'"
    assert len(there.search_runs(experiments, mine)) == 2
