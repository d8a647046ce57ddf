"""What a network has to beat, from a constant to boosted trees; each is told nothing of the test.

Every baseline is fitted on training and validation rows, as the winner is. The trees stop when
the validation loss does, and are then fitted on both with as many trees.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import PoissonRegressor

from bikefit.data import transformer
from bikefit.data.features import DAYS_SINCE_START, Features, codes, number

CODED = ("season", "weekday", "weather", "occasion")  # categories, told by their position
PATIENCE = 100  # trees
MOST_TREES = 5000
NUMBERS = (
    "hour", "month", "year", "holiday", "working_day", "temperature", "feels_like", "humidity",
    "windspeed", "windspeed_calm",
)  # fmt: skip
PLAIN = (*NUMBERS, "season", "weekday", "weather")
"""What the published table itself has."""
WITH_TREND = (*PLAIN, DAYS_SINCE_START, "day_of_year")
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


def tree_features(
    hours: pd.DataFrame, start: np.datetime64, names: Sequence[str] = WITH_TREND
) -> pd.DataFrame:
    """Columns as trees want them: numbers as they stand, categories as their position."""
    return pd.DataFrame({
        name: codes(name, hours).astype(float) if name in CODED else number(name, hours, start)
        for name in names
    })  # fmt: skip


def scikit_trees(
    train: pd.DataFrame, validation: pd.DataFrame, asked: pd.DataFrame,
    names: Sequence[str] = WITH_TREND,
) -> np.ndarray:  # fmt: skip
    """Predict by scikit-learn's histogram gradient boosting, ``(N,)`` bikes/hour."""
    start = _start(train)
    options = {"loss": "poisson", "learning_rate": 0.05, "max_leaf_nodes": 31, "random_state": 0}
    stopping = HistGradientBoostingRegressor(
        **options, max_iter=MOST_TREES, early_stopping=True, n_iter_no_change=PATIENCE, tol=0
    )
    stopping.fit(
        tree_features(train, start, names), train["rentals"],
        X_val=tree_features(validation, start, names), y_val=validation["rentals"],
    )  # fmt: skip
    trees = int(np.argmax(stopping.validation_score_[1:])) + 1  # the first score is of no tree
    both = pd.concat([train, validation], ignore_index=True)
    final = HistGradientBoostingRegressor(**options, max_iter=trees, early_stopping=False)
    final.fit(tree_features(both, start, names), both["rentals"])
    return final.predict(tree_features(asked, start, names))


def lightgbm_trees(
    train: pd.DataFrame, validation: pd.DataFrame, asked: pd.DataFrame,
    names: Sequence[str] = WITH_TREND, leaves: Sequence[int] = (31,), **options: Any,
) -> np.ndarray:  # fmt: skip
    """Predict by LightGBM, ``(N,)`` bikes/hour.

    Args:
        train: clean rows.
        validation: clean rows that the number of trees is the best for.
        asked: clean rows to predict.
        names: the columns.
        leaves: most leaves of a tree; of several, the best for the validation rows is taken.
        options: of LightGBM, instead of those here.

    Raises:
        OSError: the machine lacks a library that LightGBM needs (libgomp).
    """
    import lightgbm

    start = _start(train)
    given: dict[str, Any] = {
        "objective": "poisson", "learning_rate": 0.05, "verbose": -1, "deterministic": True,
        "force_row_wise": True, "random_state": 0, "n_jobs": 1,
    } | options  # fmt: skip

    def stopped(most: int) -> Any:
        return lightgbm.LGBMRegressor(**given, num_leaves=most, n_estimators=MOST_TREES).fit(
            tree_features(train, start, names), train["rentals"],
            eval_X=tree_features(validation, start, names), eval_y=validation["rentals"],
            callbacks=[lightgbm.early_stopping(PATIENCE, verbose=False)],
        )  # fmt: skip

    best = min(map(stopped, leaves), key=lambda found: min(found.best_score_["valid_0"].values()))
    both = pd.concat([train, validation], ignore_index=True)
    trees = max(1, best.best_iteration_)
    final = lightgbm.LGBMRegressor(**given, num_leaves=best.num_leaves, n_estimators=trees)
    final.fit(tree_features(both, start, names), both["rentals"])
    return np.asarray(final.predict(tree_features(asked, start, names)))


def _start(train: pd.DataFrame) -> np.datetime64:
    return train["timestamp"].min().to_datetime64().astype("datetime64[D]")


def predict_all(parts: dict[str, pd.DataFrame], features: Features) -> dict[str, np.ndarray]:
    """Predict the test rows with every baseline.

    Args:
        parts: clean rows by ``train``, ``validation`` and ``test``.
        features: of the network's table.

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
        "gradient-boosted trees (scikit-learn)": lambda: scikit_trees(train, validation, test),
        "gradient-boosted trees (LightGBM)": lambda: lightgbm_trees(train, validation, test),
    }
    found = {}
    for name, predict in ways.items():
        try:
            found[name] = predict()
        except OSError as error:
            warnings.warn(f"{name} is left out: {error}", stacklevel=2)
    return found
