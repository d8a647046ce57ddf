"""Boosted trees: what a network has to beat, and what it may be averaged with.

Trees of every package choose their number and their size by validation rows and are then fitted on
training and validation rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import pandas as pd

from bikefit.data.features import DAYS_SINCE_START, codes, number

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
        text: the trees in the package's own format, if they can be kept.
    """

    predict: Callable[[pd.DataFrame], Any]
    trees: int
    loss: float
    text: str = ""


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
        from sklearn.ensemble import HistGradientBoostingRegressor

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
            text = model.fit(*rows).booster_.model_to_string()
            return Fitted(model.predict, trees, math.nan, text)
        stopping = lightgbm.early_stopping(PATIENCE, verbose=False)
        model.fit(*rows, eval_X=held_out[0], eval_y=held_out[1], callbacks=[stopping])
        loss = min(model.best_score_["valid_0"].values())
        return Fitted(model.predict, max(1, model.best_iteration_), loss)


@dataclass(frozen=True)
class Tuned:
    """What validation rows say of boosted trees.

    Args:
        library: of which package.
        names: the columns.
        size: of a tree, and how many of them are the best for the validation rows.
        count: how many trees that are.
    """

    library: Library
    names: Sequence[str]
    size: int
    count: int

    def fit(self, hours: pd.DataFrame) -> tuple[Fitted, np.datetime64]:
        """Fit trees of that size and number on clean rows; return them and the first day."""
        start = first_day(hours)
        rows = tree_features(hours, start, self.names), hours["rentals"]
        return self.library(rows, self.size, self.count), start

    def predict(self, known: pd.DataFrame, asked: pd.DataFrame) -> np.ndarray:
        """Fit them on clean rows and predict others, ``(N,)`` bikes/hour."""
        fitted, start = self.fit(known)
        return np.asarray(fitted.predict(tree_features(asked, start, self.names)))


def tune(
    library: Library, names: Sequence[str], train: pd.DataFrame, validation: pd.DataFrame
) -> Tuned:
    """Choose size and number of trees by validation rows; all are clean rows."""
    start = first_day(train)
    rows, held_out = (
        (tree_features(part, start, names), part["rentals"]) for part in (train, validation)
    )
    tried = {size: library(rows, size, MOST_TREES, held_out) for size in library.sizes}
    size = min(tried, key=lambda size: tried[size].loss)
    return Tuned(library, names, size, tried[size].trees)


def boosted(
    library: Library, names: Sequence[str], train: pd.DataFrame, validation: pd.DataFrame,
    asked: pd.DataFrame, known: Tuned | None = None,
) -> np.ndarray:  # fmt: skip
    """Predict rows by trees that were tuned, then fitted on both parts, ``(N,)`` bikes/hour.

    Args:
        library: of which package.
        names: the columns.
        train: clean rows to tune and to fit on.
        validation: the same; they say how many trees and how large.
        asked: clean rows to predict.
        known: trees that were tuned already; they are used if they are the same.
    """
    again = known is None or (known.library, known.names) != (library, names)
    tuned = tune(library, names, train, validation) if again else known
    assert tuned is not None
    return tuned.predict(pd.concat([train, validation], ignore_index=True), asked)


@dataclass(frozen=True)
class Boosters:
    """Fitted trees of LightGBM as they are kept: in its own text format, which nothing can run.

    Args:
        text: the trees.
        names: their columns.
        start: first day of the rows that they were fitted on, an ISO date.
    """

    text: str
    names: Sequence[str]
    start: str

    def predict(self, hours: pd.DataFrame) -> np.ndarray:
        """Return expected rentals for clean rows, ``(1, N)`` bikes/hour."""
        import lightgbm

        if hours.empty:
            return np.empty((1, 0))
        columns = tree_features(hours, np.datetime64(self.start, "D"), self.names)
        booster = lightgbm.Booster(model_str=self.text)
        return np.asarray(booster.predict(columns, num_threads=1))[None]


def first_day(hours: pd.DataFrame) -> np.datetime64:
    """The day from which trees count, that of the first of the rows that they are fitted on."""
    return hours["timestamp"].min().to_datetime64().astype("datetime64[D]")


Trees = Callable[..., np.ndarray]
""":func:`boosted` with library and columns given."""

LIBRARIES: dict[str, Library] = {"LightGBM": LightGBM(), "scikit-learn trees": Scikit()}


def every(libraries: Mapping[str, Library]) -> dict[str, Trees]:
    """Every library with plain and with the same columns as the networks, by its name."""
    return {
        f"{name}, {told}": partial(boosted, library, names)
        for told, names in COLUMNS.items()
        for name, library in libraries.items()
    }
