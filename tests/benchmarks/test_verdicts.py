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


@pytest.mark.slow(seconds=80)
def test_verdicts_are_right_on_problems_whose_truth_is_known() -> None:
    runs = verdicts.train(first=500, problems=5, processes=1)
    found = verdicts.summary(verdicts.judged(runs))
    assert found["runs"] > 200
    assert found["accuracy"] > 0.9
    assert found["accuracy.decided"] > 0.95
    assert found["far_off"] > 10
    assert found["far_off.good_fit"] == 0
    cases = verdicts.directions(runs)
    assert len(cases) > 30
    assert not cases["wrong"].any()
    assert not (cases["significant"] & (cases["verdict"] == "good fit")).any()


def test_the_report_counts_runs_and_directions() -> None:
    judgements = pd.DataFrame(
        {
            "loss": ["mse", "mse", "poisson", "poisson"],
            "verdict": ["good fit", "undecided", "overfitting", "overfitting"],
            "right": ["good fit", "good fit", "overfitting", "underfitting"],
            "acceptable": ["good fit", "good fit", "overfitting", "overfitting|underfitting"],
            "clear": [True, True, True, False],
            "truth.excess": [1.0, 1.0, 1.0, 5.0],
            "truth.irreducible": 2.0,
        }
    )
    cases = pd.DataFrame(
        {
            "verdict": ["good fit", "overfitting"],
            "wrong": [False, True],
            "significant": [True, False],
        }
    )
    lines = verdicts.report(judgements, cases).splitlines()
    for line in (
        "| runs with an acceptable verdict |  | 75.0% |",
        "| clear runs that are undecided wrongly | 1 |  |",
        "| runs far off | 1 |  |",
        "| wrong directions | 1 |  |",
        "| of these, called a good fit | 1 |  |",
        "| **good fit** | 0 | 0 | 1 | 1 |",
        "| **underfitting** | 0 | 1 | 0 | 0 |",
        "| poisson | 2 | 100.0% | 100.0% | 1 | 0 |",
    ):
        assert line in lines
