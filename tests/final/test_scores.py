"""Test figures and their bootstrap."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import mean_absolute_error, mean_poisson_deviance, root_mean_squared_error

from bikefit.final.scores import day_sums, lead, score

TIME = np.arange("2012-01-01", "2012-03-01", dtype="datetime64[h]")


def made_up(noise_of_day: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    predicted = np.exp(draw.uniform(1, 5, len(TIME)))
    day = np.repeat(np.exp(noise_of_day * draw.normal(size=len(TIME) // 24)), 24)
    return draw.poisson(predicted * day).astype(float), predicted


def test_figures_are_those_of_scikit_learn() -> None:
    target, predicted = made_up()
    found = score(day_sums(TIME, target, predicted))
    assert found["rmse"] == pytest.approx(root_mean_squared_error(target, predicted))
    assert found["deviance"] == pytest.approx(mean_poisson_deviance(target, predicted))
    assert found["mae"] == pytest.approx(mean_absolute_error(target, predicted))


def test_the_order_of_rows_does_not_matter() -> None:
    target, predicted = made_up()
    order = np.random.default_rng(1).permutation(len(TIME))
    mixed = day_sums(TIME[order], target[order], predicted[order])
    assert mixed == pytest.approx(day_sums(TIME, target, predicted))


def test_the_interval_is_around_the_figure_and_repeatable() -> None:
    sums = day_sums(TIME, *made_up(0.3))
    found = score(sums)
    assert found == score(sums)
    for name in ("rmse", "deviance", "mae"):
        assert found[f"{name}_low"] < found[name] < found[f"{name}_high"]
        width = found[f"{name}_high"] - found[f"{name}_low"]
        assert width == pytest.approx(3.92 * found[f"{name}_se"], rel=0.1)


def test_days_that_err_as_a_whole_make_the_figure_less_sure() -> None:
    """The standard error of a mean over D equal days is their deviation over the root of D."""
    target, predicted = made_up(0.5)
    sums = day_sums(TIME, target, predicted)
    by_day = sums[:, 2] / sums[:, 0]
    assert score(sums)["deviance_se"] == pytest.approx(
        by_day.std(ddof=1) / np.sqrt(len(by_day)), rel=0.1
    )


def test_a_lead_is_paired_by_day() -> None:
    target, predicted = made_up(0.5)
    good, worse = (day_sums(TIME, target, values) for values in (predicted, 1.02 * predicted))
    gain, error = lead(good, worse)["deviance"]
    assert gain == pytest.approx(score(worse)["deviance"] - score(good)["deviance"])
    assert error < score(good)["deviance_se"] / 5  # what both find hard cancels
    assert lead(good, good)["rmse"] == (0.0, 0.0)
