"""Scores of the test rows and their bootstrap."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import mean_absolute_error, mean_poisson_deviance, root_mean_squared_error

from bikefit.data.rows import blocks
from bikefit.final.scores import block_sums, lead, score

TIME = np.arange("2012-01-01", "2012-03-01", dtype="datetime64[h]")
DAY = blocks(pd.DataFrame({"timestamp": TIME}))


def sample(day_noise: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Return rentals and predictions; the errors of a day have a common factor."""
    random = np.random.default_rng(0)
    predicted = np.exp(random.uniform(1, 5, len(TIME)))
    day = np.repeat(np.exp(day_noise * random.normal(size=len(TIME) // 24)), 24)
    return random.poisson(predicted * day).astype(float), predicted


def test_measures_equal_those_of_scikit_learn_in_any_order() -> None:
    target, predicted = sample()
    sums = block_sums(DAY, target, predicted)
    scores = score(sums)
    assert scores["rmse"] == pytest.approx(root_mean_squared_error(target, predicted))
    assert scores["deviance"] == pytest.approx(mean_poisson_deviance(target, predicted))
    assert scores["mae"] == pytest.approx(mean_absolute_error(target, predicted))
    order = np.random.default_rng(1).permutation(len(TIME))
    assert block_sums(DAY[order], target[order], predicted[order]) == pytest.approx(sums)


def test_the_interval_contains_the_measure_and_is_repeatable() -> None:
    sums = block_sums(DAY, *sample(0.3))
    scores = score(sums)
    assert scores == score(sums)
    for name in ("rmse", "deviance", "mae"):
        low, high = scores[f"{name}_low"], scores[f"{name}_high"]
        assert low < scores[name] < high
        assert high - low == pytest.approx(3.92 * scores[f"{name}_se"], rel=0.1)


def test_the_standard_error_is_that_of_the_mean_of_days() -> None:
    sums = block_sums(DAY, *sample(0.5))
    by_day = sums[:, 2] / sums[:, 0]
    expected = by_day.std(ddof=1) / np.sqrt(len(by_day))
    assert score(sums)["deviance_se"] == pytest.approx(expected, rel=0.1)


def test_a_lead_is_paired_by_day() -> None:
    target, predicted = sample(0.5)
    good, worse = (block_sums(DAY, target, values) for values in (predicted, 1.02 * predicted))
    gain, error = lead(good, worse)["deviance"]
    assert gain == pytest.approx(score(worse)["deviance"] - score(good)["deviance"])
    assert error < score(good)["deviance_se"] / 5  # the difficulty of days cancels
    assert lead(good, good)["rmse"] == (0.0, 0.0)
