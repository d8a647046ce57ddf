"""What a network has to beat, from a constant to boosted trees; each is told nothing of the test.

Every baseline is fitted on training and validation rows, as our model is. Trees choose their number
and their size by the validation rows, and are then fitted on both.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import PoissonRegressor

from bikefit.data import transformer
from bikefit.data.features import DAYS_SINCE_START, Features, codes, number

CODED = ("season", "weekday", "weather", "occasion")  # categories, told by their position
PATIENCE = 100  # trees
MOST_TREES = 5000
LEAVES = (15, 31, 63)
PLAIN = (
    "hour", "month", "year", "holiday", "working_day", "temperature", "feels_like", "humidity",
    "windspeed", "windspeed_calm", "season", "weekday", "weather",
)  # fmt: skip
"""What the published table itself has."""
SAME = (*PLAIN, DAYS_SINCE_START, "day_of_year", "commuting", "occasion")
"""All that the columns of the table `rich` are made of; trees bend and multiply by themselves."""
COLUMNS = {"plain columns": PLAIN, "same columns": SAME}
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


def tree_features(hours: pd.DataFrame, start: np.datetime64, names: Sequence[str]) -> pd.DataFrame:
    """Columns as trees want them: numbers as they stand, categories as their position."""
    return pd.DataFrame({
        name: codes(name, hours).astype(float) if name in CODED else number(name, hours, start)
        for name in names
    })  # fmt: skip


@dataclass(frozen=True)
class Fitted:
    """Boosted trees.

    Args:
        predict: expected rentals (bikes/hour) of rows in the columns of :func:`tree_features`.
        trees: after how many the loss of the held-out rows was lowest, if there were any.
        loss: that loss.
    """

    predict: Callable[[pd.DataFrame], Any]
    trees: int
    loss: float


Rows = tuple[pd.DataFrame, pd.Series]
"""Columns of trees, and rentals."""


class Library(Protocol):
    """Boosted trees of a package, with Poisson loss unless its name says otherwise."""

    @property
    def sizes(self) -> Sequence[int]:
        """How large a tree may be, in the package's own measure."""

    def __call__(self, rows: Rows, size: int, trees: int, held_out: Rows | None = None) -> Fitted:
        """Fit so many trees, or with held-out rows as many as are best for them."""


@dataclass(frozen=True)
class Scikit:
    """Histogram gradient boosting of scikit-learn."""

    sizes: Sequence[int] = LEAVES

    def __call__(self, rows: Rows, size: int, trees: int, held_out: Rows | None = None) -> Fitted:
        """Fit trees of at most `size` leaves."""
        stop = {"early_stopping": True, "n_iter_no_change": PATIENCE, "tol": 0}
        model = HistGradientBoostingRegressor(
            loss="poisson", learning_rate=0.05, max_leaf_nodes=size, random_state=0,
            max_iter=trees, **(stop if held_out else {"early_stopping": False}),
        )  # fmt: skip
        if held_out is None:
            return Fitted(model.fit(*rows).predict, trees, math.nan)
        model.fit(*rows, X_val=held_out[0], y_val=held_out[1])
        scores = model.validation_score_[1:]  # the first is of no tree
        return Fitted(model.predict, int(np.argmax(scores)) + 1, -float(np.max(scores)))


@dataclass(frozen=True)
class LightGBM:
    """LightGBM.

    Raises (when called):
        OSError: the machine lacks a library that LightGBM needs (libgomp).
    """

    objective: str = "poisson"
    sizes: Sequence[int] = LEAVES

    def __call__(self, rows: Rows, size: int, trees: int, held_out: Rows | None = None) -> Fitted:
        """Fit trees of at most `size` leaves."""
        import lightgbm

        model = lightgbm.LGBMRegressor(
            objective=self.objective, num_leaves=size, n_estimators=trees, learning_rate=0.04,
            colsample_bytree=0.8, subsample=0.8, subsample_freq=1, reg_lambda=1.0, verbose=-1,
            deterministic=True, force_row_wise=True, random_state=0, n_jobs=1,
        )  # fmt: skip
        if held_out is None:
            return Fitted(model.fit(*rows).predict, trees, math.nan)
        stopping = lightgbm.early_stopping(PATIENCE, verbose=False)
        model.fit(*rows, eval_X=held_out[0], eval_y=held_out[1], callbacks=[stopping])
        loss = min(model.best_score_["valid_0"].values())
        return Fitted(model.predict, max(1, model.best_iteration_), loss)


def boosted(
    library: Library, names: Sequence[str], train: pd.DataFrame, validation: pd.DataFrame,
    asked: pd.DataFrame,
) -> np.ndarray:  # fmt: skip
    """Predict by boosted trees, ``(N,)`` bikes/hour.

    Args:
        library: of which package.
        names: the columns.
        train: clean rows.
        validation: clean rows that number and size of the trees are the best for; then trees of
            that number and size are fitted on both.
        asked: clean rows to predict.
    """
    start = train["timestamp"].min().to_datetime64().astype("datetime64[D]")

    def told(rows: pd.DataFrame) -> Rows:
        return tree_features(rows, start, names), rows["rentals"]

    tried = {
        size: library(told(train), size, MOST_TREES, told(validation)) for size in library.sizes
    }
    size = min(tried, key=lambda size: tried[size].loss)
    both = pd.concat([train, validation], ignore_index=True)
    final = library(told(both), size, tried[size].trees)
    return np.asarray(final.predict(tree_features(asked, start, names)))


Trees = Callable[[pd.DataFrame, pd.DataFrame, pd.DataFrame], np.ndarray]
"""From rows to train, to validate and to predict to expected rentals, ``(N,)`` bikes/hour."""

LIBRARIES: dict[str, Library] = {"LightGBM": LightGBM(), "scikit-learn trees": Scikit()}


def trees(libraries: Mapping[str, Library]) -> dict[str, Trees]:
    """Every library with plain and with the same columns as the networks, by its name."""
    return {
        f"{name}, {told}": partial(boosted, library, names)
        for told, names in COLUMNS.items()
        for name, library in libraries.items()
    }


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
    }
    for name, way in trees(LIBRARIES).items():
        ways[name] = partial(way, train, validation, test)
    found = {}
    for name, predict in ways.items():
        try:
            found[name] = predict()
        except OSError as error:
            warnings.warn(f"{name} is left out: {error}", stacklevel=2)
    return found
