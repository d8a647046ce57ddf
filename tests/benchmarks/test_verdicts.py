"""The benchmark of verdicts: its synthetic problems, its rule for the right verdict, its report."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest

from conftest import ROOT

sys.path.insert(0, str(ROOT))
from benchmarks.problems import Problem

from benchmarks import verdicts

GOOD, OVER, UNDER, UNDECIDED = "good fit", "overfitting", "underfitting", "undecided"


@pytest.mark.parametrize(
    ("near", "share", "far_off", "left", "exhausted", "expected"),
    [
        (0.0, 0.0, False, 0.0, False, [GOOD]),
        (0.08, 0.9, False, 0.0, False, [GOOD, UNDER, UNDECIDED]),
        (0.15, 0.1, False, 0.0, False, [GOOD, OVER, UNDECIDED]),
        (0.5, 0.9, False, 0.0, False, [UNDER]),
        (0.5, 0.5, False, 0.0, False, [UNDER, OVER]),
        (0.0, 0.1, True, 0.0, False, [OVER, UNDECIDED]),
        (0.5, 0.1, True, 0.0, False, [OVER]),
        (0.5, 0.9, False, 0.02, False, [UNDER]),
        (0.5, 0.9, False, 0.04, False, [UNDER, UNDECIDED]),
        (0.5, 0.9, False, 0.11, False, [UNDECIDED]),
        (0.5, 0.1, False, 0.11, False, [OVER]),
        (0.5, 0.9, False, 0.0, True, [UNDER, UNDECIDED]),
        (0.0, 0.9, False, 0.0, True, [GOOD]),
    ],
)
def test_which_verdicts_the_benchmark_accepts(
    near: float, share: float, far_off: bool, left: float, exhausted: bool, expected: list[str]
) -> None:
    truth = pd.DataFrame([{"near": near, "share": share, "far_off": far_off, "left": left}])
    (accepted,) = verdicts.acceptable(truth, pd.Series([exhausted])).to_dict("records")
    assert [name for name, is_accepted in accepted.items() if is_accepted] == expected


def test_a_problem_has_the_noise_that_it_claims() -> None:
    problem = Problem.draw(0)
    x = problem.features(9, 20_000)
    known = problem.mean(x)
    assert problem.loss == "mse"
    assert np.var(problem.target(known, 10) - known) == pytest.approx(problem.noise, rel=0.05)
    assert known.std() == pytest.approx(1, rel=0.05)


@pytest.mark.slow(seconds=60)
def test_verdicts_are_right_on_problems_whose_truth_is_known() -> None:
    counts = sum(verdicts.count(verdicts.sweep(Problem.draw(seed))) for seed in (500, 501, 502))
    bikefit = counts.loc["… and paths (bikefit)"]
    assert bikefit["runs"] > 120
    assert bikefit["right"] / bikefit["clear"] > 0.9
    assert bikefit["good"] == 0
    assert bikefit["cases"] > 15
    assert bikefit["wrong"] == 0


def test_the_baselines_decide_from_train_and_validation_loss() -> None:
    losses = {
        "configuration_id": list("abcd"),
        "train_loss": [0.5, 0.89, 0.91, 0.98],
        "val_loss": [0.9, 1.0, 1.0, 0.97],
        "constant_train": 1.0,
        "constant_val": 1.0,
    }
    table = pd.DataFrame(losses)
    assert list(verdicts.fixed_gap(table, [])) == [OVER, OVER, GOOD, GOOD]
    assert list(verdicts.skore(table, [])) == [OVER, OVER, GOOD, UNDER]


def test_counts_of_problems_become_a_table() -> None:
    numbers = {"runs": 45, "clear": 30, "right": 20, "far off": 8, "good": 1, "cases": 9}
    count = pd.DataFrame([numbers | {"wrong": 2}], index=["a rule"])
    text = verdicts.report([count, count])
    assert text.startswith("2 problems, 90 runs, 60 of them clear.")
    assert text.endswith("| a rule | 66.7% | 2 of 16 | 4 of 18 |")
