"""Scores of the test rows, with uncertainty from a bootstrap.

The errors of the hours of a day are correlated, so the bootstrap draws whole days (Efron and
Tibshirani 1993, section 8.6), or the blocks that :func:`bikefit.data.rows.blocks` returns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from bikefit.losses import (
    LOSSES,
    LossName,
    area_under_roc,
    half_deviance,
    log_loss,
    positive,
    squared_error,
)

DRAWS = 2000
LEVEL = 0.95
CHUNK = 100  # bootstrap samples whose area under the ROC curve is computed together


AUC: Final = "auc"
ROWS: Final[dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]]] = {
    "rmse": squared_error,
    "deviance": lambda target, predicted: 2 * half_deviance(target, positive(predicted)),
    "mae": lambda target, predicted: np.abs(predicted - target),
    "log_loss": lambda target, predicted: log_loss(target, LOSSES["bernoulli"].valid(predicted)),
    "accuracy": lambda target, predicted: (predicted > 0.5) == (target > 0.5),
}
"""Functions of target and prediction whose mean over rows is a measure, or its square (RMSE)."""

MEASURES: Final[dict[LossName, tuple[str, ...]]] = {
    "mse": ("rmse", "mae"),
    "poisson": ("rmse", "deviance", "mae"),
    "bernoulli": ("log_loss", "accuracy", AUC),
}
"""Measures by loss."""

MAIN: Final[dict[LossName, str]] = {"mse": "rmse", "poisson": "deviance", "bernoulli": "log_loss"}
"""Measure that ranks models, by loss; lower is better."""

NAMES: Final = {
    **{"rmse": "RMSE", "deviance": "mean Poisson deviance", "mae": "MAE"},
    **{"log_loss": "log loss", "accuracy": "accuracy", AUC: "area under the ROC curve"},
}
"""Names of measures for people."""


def main_measure(loss: LossName, target: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return the main measure of predictions ``(..., N)``, ``(...)``."""
    mean = ROWS[MAIN[loss]](target, predicted).mean(axis=-1)
    return np.asarray(np.sqrt(mean) if MAIN[loss] == "rmse" else mean)


def unit_of(measure: str, unit: str) -> str:
    """Return the unit of a measure after a blank, from that of the target; "" if it has none."""
    return f" {unit}" if unit and measure in ("rmse", "deviance", "mae") else ""


@dataclass(frozen=True, eq=False)
class Scores:
    """Measures of a model.

    Args:
        names: The K measures.
        values: On all rows, ``(K,)``.
        samples: On bootstrap samples, ``(B, K)``; the same blocks are drawn for each model.
    """

    names: tuple[str, ...]
    values: np.ndarray
    samples: np.ndarray


def bootstrap(
    loss: LossName, block: pd.Series, target: np.ndarray, predicted: np.ndarray
) -> Scores:
    """Return the scores of predictions; ``block``, target and predictions are ``(N,)``."""
    target, predicted = target.astype(float), predicted.astype(float)
    one_value = target.min() == target.max()  # then there is no ROC curve
    names = tuple(name for name in MEASURES[loss] if name != AUC or not one_value)
    columns = [ROWS[name](target, predicted) for name in names if name != AUC]
    codes = pd.factorize(block, sort=True)[0]
    rows = pd.DataFrame(np.column_stack([np.ones(len(target)), *columns]))
    sums = rows.groupby(codes).sum().to_numpy()
    counts = _bootstrap_counts(len(sums))
    values, samples = _from_sums(names, sums.sum(axis=0)), _from_sums(names, counts @ sums)
    if AUC in names:
        chunks = (part[:, codes].astype(float) for part in np.array_split(counts, DRAWS // CHUNK))
        areas = np.concatenate([area_under_roc(target, predicted, part) for part in chunks])
        values = np.append(values, area_under_roc(target, predicted))
        samples = np.column_stack([samples, areas])[~np.isnan(areas)]
    return Scores(names, values, samples)


def _bootstrap_counts(blocks: int) -> np.ndarray:
    """Return how often each bootstrap sample draws each block, ``(B, D)``, with a fixed seed."""
    return np.random.default_rng(0).multinomial(blocks, np.full(blocks, 1 / blocks), size=DRAWS)


def _from_sums(names: tuple[str, ...], sums: np.ndarray) -> np.ndarray:
    """Return measures, ``(..., K)``, from the number of rows and the sums over them."""
    means = sums[..., 1:] / sums[..., :1]
    pairs = [(name, means[..., i]) for i, name in enumerate(names) if name != AUC]
    return np.stack([np.sqrt(mean) if name == "rmse" else mean for name, mean in pairs], axis=-1)


def score(scores: Scores) -> dict[str, float]:
    """Return the measures by name.

    ``…_low`` and ``…_high`` are the bounds of the 95 % interval, ``…_se`` is the standard error.
    """
    low, high = np.quantile(scores.samples, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    values = {"": scores.values, "_low": low, "_high": high}
    values["_se"] = scores.samples.std(axis=0, ddof=1)
    return {
        f"{name}{end}": float(value[i])
        for i, name in enumerate(scores.names)
        for end, value in values.items()
    }


def lead(first: Scores, second: Scores) -> dict[str, tuple[float, float]]:
    """Return by how much the first model is lower in each measure, and its standard error.

    The bootstrap draws the same blocks for both, so the difficulty of a day cancels.
    """
    gain = second.values - first.values
    error = (second.samples - first.samples).std(axis=0, ddof=1)
    return {name: (float(gain[i]), float(error[i])) for i, name in enumerate(first.names)}
