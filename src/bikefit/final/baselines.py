"""What a network has to beat, from a constant to boosted trees; each is told nothing of the test.

Every baseline is fitted on training and validation rows, as our model is. Trees choose their number
and their size by the validation rows, and are then fitted on both.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
from sklearn.linear_model import PoissonRegressor

from bikefit.data import transformer
from bikefit.data.features import Features
from bikefit.final.trees import LIBRARIES, Tuned, every

LINEAR_PENALTY = 1e-4  # PoissonRegressor's alpha; without any, unseen columns have no solution


def constant(rows: pd.DataFrame, asked: pd.DataFrame) -> np.ndarray:
    """Predict the mean of the rows, ``(N,)`` bikes/hour."""
    return np.full(len(asked), rows["rentals"].mean())


def hourly_mean(rows: pd.DataFrame, asked: pd.DataFrame) -> np.ndarray:
    """Predict the mean of the same hour on working days or on other days, ``(N,)`` bikes/hour."""
    keys = ["working_day", "hour"]
    means = rows.groupby(keys)["rentals"].mean().rename("mean")
    found = asked[keys].join(means, on=keys)["mean"]
    return found.fillna(rows["rentals"].mean()).to_numpy()


def linear_poisson(rows: pd.DataFrame, asked: pd.DataFrame, features: Features) -> np.ndarray:
    """Predict by Poisson regression on the network's own features, ``(N,)`` bikes/hour."""
    fitted = transformer.fit(features, rows)
    regression = PoissonRegressor(alpha=LINEAR_PENALTY, solver="newton-cholesky", max_iter=100)
    regression.fit(transformer.apply(fitted, rows).astype(np.float64), rows["rentals"])
    return regression.predict(transformer.apply(fitted, asked).astype(np.float64))


def predict_all(
    parts: dict[str, pd.DataFrame], features: Features, tuned: Tuned | None = None
) -> dict[str, np.ndarray]:
    """Predict the test rows with every baseline.

    Args:
        parts: clean rows by ``train``, ``validation`` and ``test``.
        features: of the network's table.
        tuned: trees that were tuned on these rows already, if any.

    Returns:
        Expected rentals of the test rows by the name of the baseline, ``(N,)`` bikes/hour. One
        that this machine cannot run is left out with a warning.
    """
    train, validation, test = (parts[name] for name in ("train", "validation", "test"))
    both = pd.concat([train, validation], ignore_index=True)
    ways: dict[str, Callable[[], np.ndarray]] = {
        "constant": lambda: constant(both, test),
        "hourly mean by working day": lambda: hourly_mean(both, test),
        "linear Poisson regression": lambda: linear_poisson(both, test, features),
    }
    for name, way in every(LIBRARIES).items():
        ways[name] = partial(way, train, validation, test, tuned)
    found = {}
    for name, predict in ways.items():
        try:
            found[name] = predict()
        except OSError as error:
            warnings.warn(f"{name} is left out: {error}", stacklevel=2)
    return found
