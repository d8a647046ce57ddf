"""Intervals have the nominal coverage."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import nbinom

from bikefit.final.interval import Interval, calibrate


def sample(dispersion: float, rows: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    mean = np.exp(random.uniform(3, 6, rows))
    rate = mean * random.gamma(1 / dispersion, dispersion, rows) if dispersion else mean
    return random.poisson(rate).astype(float), mean, np.zeros(rows)


def test_the_variance_is_estimated() -> None:
    interval = calibrate(*sample(0.05, 20_000, 0))
    for mean in (30, 100, 300):  # α and p are estimated well together only
        excess = interval.dispersion * mean**interval.power
        assert excess == pytest.approx(0.05 * mean**2, rel=0.1)


def test_poisson_data_have_no_overdispersion() -> None:
    interval = calibrate(*sample(0, 5000, 1))
    assert interval.dispersion * 100**interval.power < 5
    mean, spread = np.array([100.0]), np.array([0.0])
    low, high = interval.bounds(mean, spread)
    assert (low[0], high[0]) == (pytest.approx(84, abs=2), pytest.approx(116, abs=2))  # Poisson's


def coverage(interval: Interval, rows: tuple[np.ndarray, np.ndarray, np.ndarray]) -> float:
    target, mean, spread = rows
    low, high = interval.bounds(mean, spread)
    return float(((low <= target) & (target <= high)).mean())


def test_the_coverage_of_new_rows() -> None:
    interval = calibrate(*sample(0.1, 10_000, 2))
    # Bounds are whole numbers, so a little more than the nominal share is inside.
    assert 0.89 < coverage(interval, sample(0.1, 10_000, 3)) < 0.93


def test_the_levels_correct_another_distribution() -> None:
    random = np.random.default_rng(4)

    def heavy(rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        mean = np.full(rows, 200.0)
        target = np.round(mean * np.exp(0.2 * random.standard_t(3, rows)))
        return target, mean, np.zeros(rows)

    interval = calibrate(*heavy(10_000))
    assert coverage(interval, heavy(10_000)) == pytest.approx(0.9, abs=0.015)


def test_bounds_are_the_quantiles_of_the_negative_binomial() -> None:
    random = np.random.default_rng(5)
    mean = np.exp(random.uniform(0, 7, 3000))
    spread = mean * random.uniform(0, 0.3, 3000)
    for dispersion, lower, upper in ((0.05, 0.05, 0.95), (1e-12, 0.01, 0.5), (2.0, 1e-4, 0.999)):
        interval = Interval(dispersion, 2.0, lower, upper).bounds(mean, spread)
        extra = np.maximum(spread**2 + dispersion * mean**2, 1e-9 * mean**2)
        law = nbinom(mean**2 / extra, mean / (mean + extra))
        for bound, level in zip(interval, (lower, upper), strict=True):
            np.testing.assert_array_equal(bound, law.ppf(level))
