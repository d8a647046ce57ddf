"""Baselines, from a constant to boosted trees, fitted on training and validation rows."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from sklearn.linear_model import PoissonRegressor

from bikefit.data.features import Features
from bikefit.data.transformer import Transformer
from bikefit.final.trees import TunedTrees

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
    fitted = Transformer.fit(features, rows)
    regression = PoissonRegressor(alpha=LINEAR_PENALTY, solver="newton-cholesky", max_iter=100)
    regression.fit(fitted.transform(rows).astype(np.float64), rows["rentals"])
    return regression.predict(fitted.transform(asked).astype(np.float64))


def predict_all(
    parts: dict[str, pd.DataFrame], features: Features, trees: Mapping[str, TunedTrees]
) -> dict[str, np.ndarray]:
    """Predict the test rows with every baseline.

    Args:
        parts: Clean rows by ``train``, ``validation`` and ``test``.
        features: Features of the networks' table.
        trees: Boosted trees by name.

    Returns:
        Expected rentals of the test rows by the name of the baseline, ``(N,)`` bikes/hour.
    """
    rows = pd.concat([parts["train"], parts["validation"]], ignore_index=True)
    test = parts["test"]
    return {
        "constant": constant(rows, test),
        "hourly mean by working day": hourly_mean(rows, test),
        "linear Poisson regression": linear_poisson(rows, test, features),
        **{name: tuned.fit(rows).predict(test) for name, tuned in trees.items()},
    }
