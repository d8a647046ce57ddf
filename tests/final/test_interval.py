"""Intervals have the nominal coverage."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import nbinom

from bikefit.final.interval import CountInterval, ResidualInterval, calibrate
from bikefit.losses import LossName


def sample(dispersion: float, rows: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    mean = np.exp(random.uniform(3, 6, rows))
    rate = mean * random.gamma(1 / dispersion, dispersion, rows) if dispersion else mean
    return random.poisson(rate).astype(float), mean, np.zeros(rows)


def calibrate_counts(*rows: np.ndarray) -> CountInterval:
    interval = calibrate("poisson", *rows)
    assert isinstance(interval, CountInterval)
    return interval


def test_the_variance_is_estimated() -> None:
    interval = calibrate_counts(*sample(0.05, 20_000, 0))
    for mean in (30, 100, 300):  # α and p are estimated well together only
        excess = interval.dispersion * mean**interval.power
        assert excess == pytest.approx(0.05 * mean**2, rel=0.1)


def test_poisson_data_have_no_overdispersion() -> None:
    interval = calibrate_counts(*sample(0, 5000, 1))
    assert interval.dispersion * 100**interval.power < 5
    mean, spread = np.array([100.0]), np.array([0.0])
    low, high = interval.bounds(mean, spread)
    assert (low[0], high[0]) == (pytest.approx(84, abs=2), pytest.approx(116, abs=2))  # Poisson's


def coverage(
    interval: CountInterval | ResidualInterval, rows: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> float:
    target, mean, spread = rows
    low, high = interval.bounds(mean, spread)
    return float(((low <= target) & (target <= high)).mean())


def test_the_coverage_of_new_rows() -> None:
    interval = calibrate_counts(*sample(0.1, 10_000, 2))
    # Bounds are whole numbers, so a little more than the nominal share is inside.
    assert 0.89 < coverage(interval, sample(0.1, 10_000, 3)) < 0.93


def test_the_levels_correct_another_distribution() -> None:
    random = np.random.default_rng(4)

    def heavy(rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        mean = np.full(rows, 200.0)
        target = np.round(mean * np.exp(0.2 * random.standard_t(3, rows)))
        return target, mean, np.zeros(rows)

    interval = calibrate_counts(*heavy(10_000))
    assert coverage(interval, heavy(10_000)) == pytest.approx(0.9, abs=0.015)


def test_bounds_are_the_quantiles_of_the_negative_binomial() -> None:
    random = np.random.default_rng(5)
    mean = np.exp(random.uniform(0, 7, 3000))
    spread = mean * random.uniform(0, 0.3, 3000)
    for dispersion, lower, upper in ((0.05, 0.05, 0.95), (1e-12, 0.01, 0.5), (2.0, 1e-4, 0.999)):
        interval = CountInterval(dispersion, 2.0, lower, upper).bounds(mean, spread)
        extra = np.maximum(spread**2 + dispersion * mean**2, 1e-9 * mean**2)
        law = nbinom(mean**2 / extra, mean / (mean + extra))
        for bound, level in zip(interval, (lower, upper), strict=True):
            np.testing.assert_array_equal(bound, law.ppf(level))


def test_bounds_of_other_numbers_are_quantiles_of_residuals() -> None:
    residuals = np.arange(-10.0, 9.0)  # 19: one in twenty is below the first, one above the last
    random = np.random.default_rng(0)
    mean = random.normal(0, 100, 19)
    interval = calibrate("mse", mean + random.permutation(residuals), mean, np.zeros(19))
    assert isinstance(interval, ResidualInterval)
    low, high = interval.bounds(np.array([5.0]), np.zeros(1))
    assert (low[0], high[0]) == pytest.approx((-5, 13))


def test_two_of_forty_residuals_are_outside_on_each_side() -> None:
    residuals = np.arange(39.0)
    interval = calibrate("mse", residuals - 9, np.full(39, -9.0), np.zeros(39))
    assert isinstance(interval, ResidualInterval)
    assert (interval.low_residual, interval.high_residual) == (1, 37)


@pytest.mark.parametrize("loss", ["mse", "poisson"])
def test_the_coverage_of_other_numbers(loss: LossName) -> None:
    random = np.random.default_rng(1)

    def skewed(rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        mean = random.uniform(0, 3, rows)
        return mean + random.gamma(2, 1, rows) - 2, mean, np.zeros(rows)

    interval = calibrate(loss, *skewed(2000))
    assert isinstance(interval, ResidualInterval)
    assert coverage(interval, skewed(20_000)) == pytest.approx(0.9, abs=0.015)


def test_bounds_are_not_negative_if_no_target_is() -> None:
    mean = np.full(40, 1.0)
    interval = calibrate("mse", np.linspace(0.0, 4.0, 40), mean, np.zeros(40))
    assert interval is not None
    assert interval.bounds(np.array([0.5]), np.zeros(1))[0].tolist() == [0.0]


def test_a_probability_has_no_interval() -> None:
    assert calibrate("bernoulli", np.array([0.0, 1.0]), np.full(2, 0.5), np.zeros(2)) is None
