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


@pytest.mark.parametrize(
    ("near", "share", "far_off", "left", "right", "acceptable"),
    [
        (0.0, -1.0, False, 0.0, "good fit", "good fit"),
        (0.08, 0.9, False, 0.0, "good fit", "good fit|undecided|underfitting"),
        (0.15, 0.1, False, 0.0, "overfitting", "good fit|overfitting|undecided"),
        (0.5, 0.9, False, 0.0, "underfitting", "underfitting"),
        (0.5, 0.5, False, 0.0, "underfitting", "overfitting|underfitting"),
        (0.0, 0.1, True, 0.0, "overfitting", "overfitting|undecided"),
        (0.5, 0.1, True, 0.0, "overfitting", "overfitting"),
        (0.5, 0.9, False, 0.02, "underfitting", "underfitting"),
        (0.5, 0.9, False, 0.04, "underfitting", "undecided|underfitting"),
        (0.5, 0.9, False, 0.06, "undecided", "undecided|underfitting"),
        (0.5, 0.9, False, 0.11, "undecided", "undecided"),
        (0.5, 0.1, False, 0.11, "overfitting", "overfitting"),
    ],
)
def test_what_the_benchmark_calls_right(
    near: float, share: float, far_off: bool, left: float, right: str, acceptable: str
) -> None:
    found = verdicts.right_verdict(near, share, far_off, left, exhausted=set())
    assert found == (right, "|" not in acceptable, acceptable)


def test_undecided_is_right_where_the_true_paths_speak_against_the_verdict() -> None:
    against = verdicts.right_verdict(0.5, 0.9, False, 0.0, {1})
    assert against == ("underfitting", False, "undecided|underfitting")
    other_side = verdicts.right_verdict(0.5, 0.9, False, 0.0, {-1})
    assert other_side == ("underfitting", True, "underfitting")


def test_a_problem_has_the_noise_that_it_claims() -> None:
    problem = Problem.draw(0)
    x = problem.features(9, 20_000)
    known = problem.mean(x)
    assert problem.loss == "mse"
    assert np.var(problem.target(known, 10) - known) == pytest.approx(problem.noise, rel=0.05)
    assert known.std() == pytest.approx(1, rel=0.05)


@pytest.mark.slow(seconds=60)
def test_verdicts_are_right_on_problems_whose_truth_is_known() -> None:
    runs = verdicts.train(first=500, problems=3, processes=1)
    rule = verdicts.RULES["… and paths: the verdicts of bikefit"]
    judgements = verdicts.judged(runs, rule)
    assert len(judgements) > 120
    found = verdicts.summary(judgements)
    assert float(found["clear runs right"].rstrip("%")) > 90
    assert found["far off, called good"].startswith("0 of ")
    wrong = verdicts.directions(runs, rule)
    assert len(wrong) > 15
    assert not any(wrong)


def test_the_baselines_decide_from_train_and_validation_loss() -> None:
    losses = {
        "best/train/loss": [0.5, 0.89, 0.91, 0.98],
        "best/val/loss": [0.9, 1.0, 1.0, 0.97],
        "constant/train/loss": 1.0,
        "constant/val/loss": 1.0,
        "regularization.l2": [0.0, 0.1, 0.2, 0.3],
    }
    runs = pd.DataFrame(losses)
    over, good = "overfitting", "good fit"
    assert sorted(verdicts.fixed_gap(runs)) == sorted([over, over, good, good])
    assert sorted(verdicts.skore(runs)) == sorted([over, over, good, "underfitting"])


def test_the_summary_counts_runs() -> None:
    judgements = pd.DataFrame(
        {
            "verdict": ["good fit", "undecided", "overfitting", "overfitting"],
            "acceptable": ["good fit", "good fit", "overfitting", "overfitting|underfitting"],
            "clear": [True, True, True, False],
            "far_off": [True, False, False, False],
        }
    )
    assert verdicts.summary(judgements) == {
        "clear runs right": "66.7%",
        "all runs right": "75.0%",
        "clear, wrongly undecided": "33.3%",
        "far off, called good": "1 of 1",
    }
