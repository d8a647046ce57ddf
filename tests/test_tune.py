"""A small search with real trainings: `python -m bikefit.train -m +experiment=tune`."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest

import bikefit
import commands
from bikefit.tracking import reading

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("workplace")]
TUNE = [
    "+experiment=tune",
    "network.hidden=[4],[8]",
    "training.epochs=4",
    "training.batch_size=64",
    "hydra.sweeper.trials=6",
    "hydra.sweeper.batch=6",
    "hydra.sweeper.stack=3",
    "hydra.launcher.processes=1",
    "hydra.sweep.dir=out",
]


def tune(*overrides: str, status: int = 0) -> str:
    """Search in a process of its own and return what it said."""
    words = ("-m", "bikefit.train", "-m", *TUNE, *overrides)
    done = commands.run(*words, env={**os.environ, "COLUMNS": "200"})
    assert done.returncode == status, done.stderr
    return done.stdout + done.stderr


def trials() -> list[dict[str, str]]:
    with Path("out/trials.csv").open() as file:
        return list(csv.DictReader(file))


def latest_runs() -> list[dict[str, object]]:
    return reading.read_runs(reading.latest_sweep()).to_dict("records")


def test_trials_are_runs_and_a_repeated_search_reuses_them() -> None:
    said = tune()
    assert "6 members in 2 stacks (of 3, 3)" in said or "6 members in 1 stacks (of 6)" in said
    found = {float(trial["value"]) for trial in trials()}
    before = latest_runs()
    losses = [float(str(run["best/val/loss"])) for run in before]
    assert found <= set(losses)
    assert len(losses) > len(found) == 6  # those that went on have a run on each rung
    again = bikefit.sweep(TUNE)
    assert {*again.runs["run_id"]} == {run["run_id"] for run in before}  # nothing trained again
    assert {float(trial["value"]) for trial in trials()} == found


def test_a_trial_may_be_cross_validated_and_may_diverge() -> None:
    tune("validation=kfold", "validation.folds=3", "optimizer.lr=1e-3,1e30", status=1)
    table = trials()
    well = [trial for trial in table if float(trial["optimizer.lr"]) < 1]
    assert {trial["state"] for trial in table if trial not in well} == {"failed"}
    assert well
    # a mean over folds may be summed up in another order
    runs = {round(float(str(run["best/val/loss"])), 9): run for run in latest_runs()}
    for trial in well:
        run = runs[round(float(trial["value"]), 9)]
        assert run["validation.folds"] == 3
        assert float(str(run["best/val/loss/standard_error"])) > 0
