"""Boosted trees of LightGBM: a baseline, and an optional part of the registered model."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bikefit.data.columns import TARGET
from bikefit.data.features import DAYS_SINCE_START, category_codes, first_date, numeric

if TYPE_CHECKING:
    from lightgbm import LGBMRegressor

ORDINAL = ("season", "weekday", "weather", "occasion")  # categories given as their position
PATIENCE = 100  # trees without a lower validation loss
MOST_TREES = 5000
LEAVES = (15, 31, 63)
COLUMNS = (
    *("hour", "month", "year", "holiday", "working_day", "temperature", "feels_like", "humidity"),
    *("windspeed", "windspeed_calm", "season", "weekday", "weather"),
    *(DAYS_SINCE_START, "day_of_year", "commuting", "occasion"),
)
"""The columns from which the features of the table `rich` are derived."""


def tree_features(
    hours: pd.DataFrame, start: np.datetime64, names: Sequence[str] = COLUMNS
) -> pd.DataFrame:
    """Return columns of clean rows as numbers; categories are given as their position."""
    columns = {
        name: category_codes(name, hours).astype(float)
        if name in ORDINAL
        else numeric(name, hours, start)
        for name in names
    }
    return pd.DataFrame(columns)


def make_model(leaves: int, trees: int) -> LGBMRegressor:
    """Return an unfitted LightGBM model of this size."""
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
    """Fitted trees in LightGBM's text format, and their first training day, an ISO date."""

    text: str
    start: str

    def predict(self, hours: pd.DataFrame) -> np.ndarray:
        """Return expected rentals for clean rows, ``(N,)``, bikes/hour."""
        import lightgbm

        features = tree_features(hours, np.datetime64(self.start, "D"))
        return np.asarray(lightgbm.Booster(model_str=self.text).predict(features, num_threads=1))


@dataclass(frozen=True)
class TunedTrees:
    """Largest number of leaves, and number of boosted trees."""

    leaves: int
    count: int

    def fit(self, hours: pd.DataFrame) -> FittedTrees:
        """Fit trees of this size and number on clean rows."""
        start = first_date(hours)
        model = make_model(self.leaves, self.count)
        model.fit(tree_features(hours, start), hours[TARGET])
        return FittedTrees(model.booster_.model_to_string(), str(start))


def tune(train: pd.DataFrame, validation: pd.DataFrame) -> TunedTrees | None:
    """Choose size and number of trees by the Poisson loss of validation rows.

    Returns None, with a warning, if the machine lacks a library that LightGBM needs (libgomp).
    """
    try:
        import lightgbm
    except OSError as error:
        warnings.warn(f"no boosted trees, because LightGBM cannot be loaded: {error}", stacklevel=2)
        return None
    start = first_date(train)
    features, held_out = (tree_features(rows, start) for rows in (train, validation))
    measured: Any = {"eval_X": held_out, "eval_y": validation[TARGET]}
    models = [make_model(leaves, MOST_TREES) for leaves in LEAVES]
    for model in models:
        stopping = lightgbm.early_stopping(PATIENCE, verbose=False)
        model.fit(features, train[TARGET], **measured, callbacks=[stopping])
    best = min(models, key=lambda model: min(model.best_score_["valid_0"].values()))
    return TunedTrees(best.num_leaves, max(1, best.best_iteration_))
