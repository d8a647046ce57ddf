"""Scores of the test rows and their bootstrap."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import (
    accuracy_score,
    log_loss,
    mean_absolute_error,
    mean_poisson_deviance,
    roc_auc_score,
    root_mean_squared_error,
)

from bikefit.data.rows import blocks
from bikefit.final.scores import ROWS, bootstrap, lead, score

TIME = np.arange("2012-01-01", "2012-03-01", dtype="datetime64[h]")
DAY = blocks(pd.DataFrame({"timestamp": TIME}))


def sample(day_noise: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Return rentals and predictions; the errors of a day have a common factor."""
    random = np.random.default_rng(0)
    predicted = np.exp(random.uniform(1, 5, len(TIME)))
    day = np.repeat(np.exp(day_noise * random.normal(size=len(TIME) // 24)), 24)
    return random.poisson(predicted * day).astype(float), predicted


def poisson(block: pd.Series, target: np.ndarray, predicted: np.ndarray) -> pd.DataFrame:
    return bootstrap("poisson", block, target, predicted)


def test_measures_equal_those_of_scikit_learn_in_any_order() -> None:
    target, predicted = sample()
    sums = poisson(DAY, target, predicted)
    scores = score(sums)
    assert scores["rmse"] == pytest.approx(root_mean_squared_error(target, predicted))
    assert scores["deviance"] == pytest.approx(mean_poisson_deviance(target, predicted))
    assert scores["mae"] == pytest.approx(mean_absolute_error(target, predicted))
    order = np.random.default_rng(1).permutation(len(TIME))
    again = score(poisson(DAY[order], target[order], predicted[order]))
    assert again == pytest.approx(scores)


def test_the_interval_contains_the_measure_and_is_repeatable() -> None:
    sums = poisson(DAY, *sample(0.3))
    scores = score(sums)
    assert scores == score(sums)
    for name in ("rmse", "deviance", "mae"):
        low, high = scores[f"{name}_low"], scores[f"{name}_high"]
        assert low < scores[name] < high
        assert high - low == pytest.approx(3.92 * scores[f"{name}_se"], rel=0.1)


def test_the_standard_error_is_that_of_the_mean_of_days() -> None:
    target, predicted = sample(0.5)
    by_day = pd.Series(ROWS["deviance"](target, predicted)).groupby(DAY).mean()
    expected = by_day.std() / np.sqrt(len(by_day))
    assert score(poisson(DAY, target, predicted))["deviance_se"] == pytest.approx(expected, rel=0.1)


def test_a_lead_is_paired_by_day() -> None:
    target, predicted = sample(0.5)
    good, worse = (poisson(DAY, target, values) for values in (predicted, 1.02 * predicted))
    gain, error = lead(good, worse)["deviance"]
    assert gain == pytest.approx(score(worse)["deviance"] - score(good)["deviance"])
    assert error < score(good)["deviance_se"] / 5  # the difficulty of days cancels
    assert lead(good, good)["rmse"] == (0.0, 0.0)


def test_measures_of_yes_and_no() -> None:
    random = np.random.default_rng(0)
    probability = random.random(300)
    target = (random.random(300) < probability).astype(float)
    row = pd.Series(np.arange(300))
    scores = score(bootstrap("bernoulli", row, target, probability))
    assert scores["log_loss"] == pytest.approx(log_loss(target, probability))
    assert scores["accuracy"] == accuracy_score(target, probability > 0.5)
    assert scores["auc"] == pytest.approx(roc_auc_score(target, probability))
    losses = -np.log(np.where(target > 0, probability, 1 - probability))
    assert scores["log_loss_se"] == pytest.approx(losses.std() / 300**0.5, rel=0.1)
    # Hanley and McNeil (1982): the standard error of an area under the ROC curve
    area, ones = scores["auc"], target.sum()
    excess = (ones - 1) * (area / (2 - area) - area**2)
    excess += (300 - ones - 1) * (2 * area**2 / (1 + area) - area**2)
    error = np.sqrt((area * (1 - area) + excess) / (ones * (300 - ones)))
    assert scores["auc_se"] == pytest.approx(error, rel=0.15)
    same = score(bootstrap("bernoulli", row, np.ones(300), probability))
    assert "auc" not in same and "log_loss" in same


def test_the_squared_error_may_predict_anything() -> None:
    target, predicted = np.array([-2.0, 0.0, 1.0]), np.array([-1.0, -1.0, 3.0])
    scores = score(bootstrap("mse", pd.Series([0, 1, 2]), target, predicted))
    assert scores["rmse"] == pytest.approx(2**0.5) and scores["mae"] == pytest.approx(4 / 3)
    assert "deviance" not in scores
