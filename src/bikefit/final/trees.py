"""Boosted trees of LightGBM: a baseline, and an optional part of our model."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bikefit.data.bikes.columns import TARGET
from bikefit.data.features import (
    DAYS_SINCE_START,
    categories_of,
    category_codes,
    first_date,
    numeric,
)

if TYPE_CHECKING:
    from lightgbm import LGBMRegressor

ORDINAL = ("season", "weekday", "weather", "occasion")  # categories, coded by their position
PATIENCE = 100  # early stopping after this many trees without a lower validation loss
MOST_TREES = 5000
LEAVES = (15, 31, 63)  # candidates for the largest number of leaves
# The columns from which the features of the table `rich` are derived.
COLUMNS = (
    *("hour", "month", "year", "holiday", "working_day", "temperature", "feels_like", "humidity"),
    *("windspeed", "windspeed_calm", "season", "weekday", "weather"),
    *(DAYS_SINCE_START, "day_of_year", "commuting", "occasion"),
)


def tree_features(
    hours: pd.DataFrame, start: np.datetime64 | None, names: Sequence[str] = COLUMNS
) -> pd.DataFrame:
    """Return columns of clean rows as numbers; days are counted from ``start``."""
    columns = {
        name: category_codes(name, hours, categories_of(name, hours)).astype(float)
        if name in ORDINAL
        else numeric(name, hours, start)
        for name in names
    }
    return pd.DataFrame(columns)


def make_model(leaves: int, trees: int) -> LGBMRegressor:
    """Return an unfitted LightGBM model with this size and number of trees."""
    import lightgbm

    return lightgbm.LGBMRegressor(
        objective="poisson",
        num_leaves=leaves,
        n_estimators=trees,
        learning_rate=0.04,
        colsample_bytree=0.8,
        subsample=0.8,
        subsample_freq=1,
        reg_lambda=1.0,
        verbose=-1,
        deterministic=True,
        force_row_wise=True,
        random_state=0,
        n_jobs=1,
    )


@dataclass(frozen=True)
class FittedTrees:
    """Fitted trees in LightGBM's text format, and the first day of their rows, an ISO date."""

    text: str
    start: str

    def predict(self, hours: pd.DataFrame) -> np.ndarray:
        """Return the predictions for clean rows, ``(N,)``, bikes/hour."""
        import lightgbm

        features = tree_features(hours, np.datetime64(self.start, "D"))
        return np.asarray(lightgbm.Booster(model_str=self.text).predict(features, num_threads=1))


@dataclass(frozen=True)
class TunedTrees:
    """Tuned settings: the largest number of leaves of a tree, and the number of trees."""

    leaves: int
    trees: int

    def fit(self, hours: pd.DataFrame) -> FittedTrees:
        """Return trees fitted on clean rows."""
        start = first_date(hours)
        model = make_model(self.leaves, self.trees)
        model.fit(tree_features(hours, start), hours[TARGET])
        return FittedTrees(model.booster_.model_to_string(), str(start))


def tune(train: pd.DataFrame, validation: pd.DataFrame) -> TunedTrees | None:
    """Return the settings with the lowest Poisson loss of the validation rows.

    If the machine lacks a library that LightGBM needs (libgomp), warn and return None.
    """
    try:
        import lightgbm
    except OSError as error:
        warnings.warn(f"no boosted trees, because LightGBM cannot be loaded: {error}", stacklevel=2)
        return None
    start = first_date(train)
    features, held_out = (tree_features(rows, start) for rows in (train, validation))
    models = [make_model(leaves, MOST_TREES) for leaves in LEAVES]
    for model in models:
        stopping: Any = {"callbacks": [lightgbm.early_stopping(PATIENCE, verbose=False)]}
        stopping |= {"eval_X": held_out, "eval_y": validation[TARGET]}
        model.fit(features, train[TARGET], **stopping)
    best = min(models, key=lambda model: min(model.best_score_["valid_0"].values()))
    return TunedTrees(best.num_leaves, max(1, best.best_iteration_))
