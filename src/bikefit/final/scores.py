"""Test figures and how sure they are: a bootstrap over whole days.

Hours of a day err together, so days are drawn, not hours (Efron and Tibshirani 1993, 8.6).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.special import xlogy

DRAWS = 2000
LEVEL = 0.95
MEASURES = ("rmse", "deviance", "mae")
"""RMSE, mean Poisson deviance and mean absolute error, all in bikes/hour."""


def deviances(target: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Poisson deviance of each row, bikes/hour; both broadcast, ``(..., N)``."""
    return np.asarray(2 * (xlogy(target, target / predicted) + (predicted - target)))


def day_sums(timestamps: np.ndarray, target: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Sum rows, squared errors, deviances and absolute errors by day: ``(D, 4)``.

    Args:
        timestamps: ``(N,)`` datetime64.
        target: rentals, ``(N,)``, bikes/hour.
        predicted: expected rentals above 0, ``(N,)``, bikes/hour.
    """
    target, predicted = target.astype(np.float64), predicted.astype(np.float64)
    error = predicted - target
    deviance = deviances(target, predicted)
    rows = np.column_stack([np.ones(len(target)), error**2, deviance, np.abs(error)])
    days = timestamps.astype("datetime64[D]")
    return pd.DataFrame(rows).groupby(days).sum().to_numpy()


def draws(days: int) -> np.ndarray:
    """How often each day is drawn in each of the bootstrap's draws, ``(B, D)``; always the same."""
    return np.random.default_rng(0).multinomial(days, np.full(days, 1 / days), size=DRAWS)


def figures(sums: np.ndarray) -> np.ndarray:
    """Turn sums ``(..., 4)`` over rows into the :data:`MEASURES`, ``(..., 3)``."""
    means = sums[..., 1:] / sums[..., :1]
    return np.stack([np.sqrt(means[..., 0]), means[..., 1], means[..., 2]], axis=-1)


def score(sums: np.ndarray) -> dict[str, float]:
    """Return each measure with ``…_low`` and ``…_high``, its 95 % interval, and ``…_se``."""
    found = figures(sums.sum(axis=0))
    drawn = figures(draws(len(sums)) @ sums)
    edges = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    low, high = np.quantile(drawn, edges, axis=0)
    error = drawn.std(axis=0, ddof=1)
    return {
        f"{name}{part}": float(values[i])
        for i, name in enumerate(MEASURES)
        for part, values in (("", found), ("_low", low), ("_high", high), ("_se", error))
    }


def lead(first: np.ndarray, second: np.ndarray) -> dict[str, tuple[float, float]]:
    """How much lower each measure of the first is, and the standard error of that difference.

    Args:
        first: sums by day, ``(D, 4)``.
        second: of the same days, ``(D, 4)``; they are drawn for both at once, so that what both
            find hard cancels.
    """
    weights = draws(len(first))
    gain = figures(second.sum(axis=0)) - figures(first.sum(axis=0))
    drawn = figures(weights @ second) - figures(weights @ first)
    error = drawn.std(axis=0, ddof=1)
    return {name: (float(gain[i]), float(error[i])) for i, name in enumerate(MEASURES)}
