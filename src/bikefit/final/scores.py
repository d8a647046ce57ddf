"""Scores of the test rows, with uncertainty from a bootstrap over whole days.

The errors of the hours of a day are correlated, so days are drawn (Efron and Tibshirani 1993, 8.6).
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
    """Return the Poisson deviance of each row, ``(..., N)``, bikes/hour."""
    return np.asarray(2 * (xlogy(target, target / predicted) + (predicted - target)))


def day_sums(timestamps: np.ndarray, target: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return for each day the number of rows and the sums of three errors, ``(D, 4)``.

    The errors are squared errors, deviances and absolute errors. All arguments are ``(N,)``, and
    predictions are above 0.
    """
    target, predicted = target.astype(np.float64), predicted.astype(np.float64)
    error = predicted - target
    columns = [np.ones(len(target)), error**2, deviances(target, predicted), np.abs(error)]
    days = timestamps.astype("datetime64[D]")
    return pd.DataFrame(np.column_stack(columns)).groupby(days).sum().to_numpy()


def _bootstrap_counts(days: int) -> np.ndarray:
    """Return how often each bootstrap sample draws each day, ``(B, D)``, with a fixed seed."""
    return np.random.default_rng(0).multinomial(days, np.full(days, 1 / days), size=DRAWS)


def measures(sums: np.ndarray) -> np.ndarray:
    """Return the :data:`MEASURES`, ``(..., 3)``, of sums over rows, ``(..., 4)``."""
    means = sums[..., 1:] / sums[..., :1]
    return np.stack([np.sqrt(means[..., 0]), means[..., 1], means[..., 2]], axis=-1)


def score(sums: np.ndarray) -> dict[str, float]:
    """Return each measure with its 95 % interval (``…_low``, ``…_high``) and error (``…_se``)."""
    samples = measures(_bootstrap_counts(len(sums)) @ sums)
    low, high = np.quantile(samples, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    values = {"": measures(sums.sum(axis=0)), "_low": low, "_high": high}
    values["_se"] = samples.std(axis=0, ddof=1)
    return {f"{n}{end}": float(v[i]) for i, n in enumerate(MEASURES) for end, v in values.items()}


def lead(first: np.ndarray, second: np.ndarray) -> dict[str, tuple[float, float]]:
    """Return how much lower each measure of the first model is, and its standard error.

    The arguments are the results of :func:`day_sums` of two models for the same rows. The same days
    are drawn for both, so the difficulty of a day cancels.
    """
    counts = _bootstrap_counts(len(first))
    gain = measures(second.sum(axis=0)) - measures(first.sum(axis=0))
    error = (measures(counts @ second) - measures(counts @ first)).std(axis=0, ddof=1)
    return {name: (float(gain[i]), float(error[i])) for i, name in enumerate(MEASURES)}
