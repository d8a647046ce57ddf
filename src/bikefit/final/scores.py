"""Scores of the test rows, with uncertainty from a bootstrap.

The errors of the hours of a day are correlated, so the bootstrap draws whole days (Efron and
Tibshirani 1993, section 8.6), or the blocks that :func:`bikefit.data.rows.blocks` returns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
CHUNK = 100  # bootstrap samples that are measured together

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


def bootstrap(
    loss: LossName, block: pd.Series, target: np.ndarray, predicted: np.ndarray
) -> pd.DataFrame:
    """Return the measures of predictions, one column each; ``block`` and arrays are ``(N,)``.

    The first row is of all rows, each other row of a bootstrap sample. The same blocks are drawn
    for each model.
    """
    target, predicted = target.astype(float), predicted.astype(float)
    codes = pd.factorize(block, sort=True)[0]
    measures = pd.concat(
        pd.DataFrame({n: _measure(n, target, predicted, w[:, codes]) for n in MEASURES[loss]})
        for w in _draws(codes.max() + 1)
    )
    # Without both targets there is no ROC curve: in all rows, or in some samples.
    return measures.loc[:, measures.iloc[0].notna()].dropna().reset_index(drop=True)


def _draws(blocks: int) -> Iterator[np.ndarray]:
    """Yield once every block, then how often bootstrap samples draw each, ``(B, D)``."""
    yield np.ones((1, blocks))
    random = np.random.default_rng(0)
    for _ in range(DRAWS // CHUNK):
        drawn = random.multinomial(blocks, np.full(blocks, 1 / blocks), size=CHUNK)
        yield drawn.astype(float)


def _measure(
    name: str, target: np.ndarray, predicted: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Return a measure of rows for each of their weights ``(B, N)``, ``(B,)``."""
    if name == AUC:
        return area_under_roc(target, predicted, weights)
    mean = weights @ ROWS[name](target, predicted) / weights.sum(axis=-1)
    return np.asarray(np.sqrt(mean) if name == "rmse" else mean)


def score(measures: pd.DataFrame) -> dict[str, float]:
    """Return the measures of :func:`bootstrap` by name.

    ``…_low`` and ``…_high`` are the bounds of the 95 % interval, ``…_se`` is the standard error.
    """
    drawn = measures.iloc[1:]
    low, high = (drawn.quantile((1 + sign * LEVEL) / 2) for sign in (-1, 1))
    values = {"": measures.iloc[0], "_low": low, "_high": high, "_se": drawn.std()}
    names = map(str, measures)
    return {f"{name}{end}": float(of[name]) for name in names for end, of in values.items()}


def lead(first: pd.DataFrame, second: pd.DataFrame) -> dict[str, tuple[float, float]]:
    """Return by how much the first model is lower in each measure, and its standard error.

    The bootstrap draws the same blocks for both, so the difficulty of a day cancels.
    """
    gains = second - first
    names = map(str, gains)
    return {n: (float(gains[n].iloc[0]), float(gains[n].iloc[1:].std())) for n in names}
