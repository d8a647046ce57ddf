"""Scores of the test rows, with uncertainty from a bootstrap.

The errors of the hours of a day are correlated, so the bootstrap draws whole days (Efron and
Tibshirani 1993, section 8.6), or the blocks that :func:`bikefit.data.rows.blocks` returns.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.special import xlogy

from bikefit.losses import SMALLEST_RATE

DRAWS = 2000
LEVEL = 0.95
MEASURES = ("rmse", "deviance", "mae")  # deviance: mean Poisson deviance; all in bikes/hour


def deviances(target: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return the Poisson deviance of each row, ``(..., N)``, bikes/hour.

    If some predictions are not positive, those below 1 are replaced by 1.
    """
    predicted = np.maximum(predicted, SMALLEST_RATE if (predicted <= 0).any() else 0.0)
    return np.asarray(2 * (xlogy(target, target / predicted) + (predicted - target)))


def block_sums(block: pd.Series, target: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return number of rows, and sums of squared errors, deviances and absolute errors by block.

    The result is ``(D, 4)``. All arguments are ``(N,)``, and predictions are above 0.
    """
    target, predicted = target.astype(np.float64), predicted.astype(np.float64)
    error = predicted - target
    columns = [np.ones(len(target)), error**2, deviances(target, predicted), np.abs(error)]
    return pd.DataFrame(np.column_stack(columns)).groupby(block.to_numpy()).sum().to_numpy()


def _bootstrap_counts(days: int) -> np.ndarray:
    """Return how often each bootstrap sample draws each day, ``(B, D)``, with a fixed seed."""
    return np.random.default_rng(0).multinomial(days, np.full(days, 1 / days), size=DRAWS)


def measures(sums: np.ndarray) -> np.ndarray:
    """Return the :data:`MEASURES`, ``(..., 3)``, from sums like those of :func:`block_sums`."""
    means = sums[..., 1:] / sums[..., :1]
    return np.stack([np.sqrt(means[..., 0]), means[..., 1], means[..., 2]], axis=-1)


def score(sums: np.ndarray) -> dict[str, float]:
    """Return the measures of :func:`block_sums` by name.

    ``…_low`` and ``…_high`` are the bounds of the 95 % interval, ``…_se`` is the standard error.
    """
    samples = measures(_bootstrap_counts(len(sums)) @ sums)
    low, high = np.quantile(samples, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    values = {"": measures(sums.sum(axis=0)), "_low": low, "_high": high}
    values["_se"] = samples.std(axis=0, ddof=1)
    return {f"{n}{end}": float(v[i]) for i, n in enumerate(MEASURES) for end, v in values.items()}


def lead(first: np.ndarray, second: np.ndarray) -> dict[str, tuple[float, float]]:
    """Return the lead of the first model over the second in each measure, and its standard error.

    The arguments are the :func:`block_sums` of two models for the same rows. The bootstrap draws
    the same days for both, so the difficulty of a day cancels.
    """
    counts = _bootstrap_counts(len(first))
    gain = measures(second.sum(axis=0)) - measures(first.sum(axis=0))
    error = (measures(counts @ second) - measures(counts @ first)).std(axis=0, ddof=1)
    return {name: (float(gain[i]), float(error[i])) for i, name in enumerate(MEASURES)}
