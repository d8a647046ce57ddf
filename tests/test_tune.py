"""A small search with real trainings: `python -m bikefit.train -m +experiment=tune`."""

from __future__ import annotations

import os
import re

import pandas as pd
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


def trial_values() -> set[float]:
    return set(pd.read_csv("out/trials.csv")["value"])


def test_trials_are_runs_and_a_repeated_search_reuses_them() -> None:
    done = commands.run("-m", "bikefit.train", "-m", *TUNE, env={**os.environ, "COLUMNS": "200"})
    assert done.returncode == 0, done.stderr
    assert re.search(r"6 members in (2 stacks \(of 3, 3\)|1 stacks \(of 6\))", done.stderr)
    values = trial_values()
    runs = reading.read_runs(reading.latest_sweep())
    assert values <= set(runs["best/val/loss"])
    assert len(runs) > len(values) == 6  # a promoted trial has one run per rung
    again = bikefit.sweep(TUNE)
    assert set(again.runs["run_id"]) == set(runs["run_id"])
    assert trial_values() == values
