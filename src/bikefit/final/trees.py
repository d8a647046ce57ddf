"""Boosted trees of LightGBM: a baseline, and an optional part of the registered model."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bikefit.data.columns import TARGET
from bikefit.data.features import DAYS_SINCE_START, codes, number

if TYPE_CHECKING:
    from lightgbm import LGBMRegressor

ORDINAL = ("season", "weekday", "weather", "occasion")  # categories given as their position
PATIENCE = 100  # trees without a lower validation loss
MOST_TREES = 5000
LEAVES = (15, 31, 63)
PLAIN = (
    "hour", "month", "year", "holiday", "working_day", "temperature", "feels_like", "humidity",
    "windspeed", "windspeed_calm", "season", "weekday", "weather",
)  # fmt: skip
"""The columns of the published table."""
SAME = (*PLAIN, DAYS_SINCE_START, "day_of_year", "commuting", "occasion")
"""The columns from which the features of the table `rich` are derived."""
PLAIN_COLUMNS, SAME_COLUMNS = "LightGBM, plain columns", "LightGBM, same columns"


def tree_features(hours: pd.DataFrame, start: np.datetime64, names: Sequence[str]) -> pd.DataFrame:
    """Return columns of clean rows as numbers; categories are given as their position."""
    columns = {
        name: codes(name, hours).astype(float) if name in ORDINAL else number(name, hours, start)
        for name in names
    }
    return pd.DataFrame(columns)


def first_day(hours: pd.DataFrame) -> np.datetime64:
    """Return the first day of clean rows, from which `days_since_start` counts."""
    return hours["timestamp"].min().to_datetime64().astype("datetime64[D]")


def make_model(leaves: int, trees: int, objective: str = "poisson") -> LGBMRegressor:
    """Return an unfitted LightGBM model of this size."""
    import lightgbm

    return lightgbm.LGBMRegressor(
        objective=objective,
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
    """Fitted trees in LightGBM's text format, which holds no code.

    Args:
        text: The trees.
        names: Their columns.
        start: First day of the rows that they were fitted on, an ISO date.
    """

    text: str
    names: Sequence[str]
    start: str

    def predict(self, hours: pd.DataFrame) -> np.ndarray:
        """Return expected rentals for clean rows, ``(N,)``, bikes/hour."""
        import lightgbm

        columns = tree_features(hours, np.datetime64(self.start, "D"), self.names)
        return np.asarray(lightgbm.Booster(model_str=self.text).predict(columns, num_threads=1))


@dataclass(frozen=True)
class TunedTrees:
    """Size and number of boosted trees, chosen on the validation rows.

    Args:
        names: Feature columns.
        leaves: Largest number of leaves of a tree.
        count: Number of trees.
    """

    names: Sequence[str]
    leaves: int
    count: int

    def fit(self, hours: pd.DataFrame) -> FittedTrees:
        """Fit trees of this size and number on clean rows."""
        start = first_day(hours)
        model = make_model(self.leaves, self.count)
        model.fit(tree_features(hours, start, self.names), hours[TARGET])
        return FittedTrees(model.booster_.model_to_string(), self.names, str(start))


def tune(names: Sequence[str], train: pd.DataFrame, validation: pd.DataFrame) -> TunedTrees:
    """Choose size and number of trees by the Poisson loss of the validation rows.

    Args:
        names: Feature columns.
        train: Clean rows to fit on.
        validation: Clean rows to measure the loss on.
    """
    import lightgbm

    start = first_day(train)
    features, held_out = (tree_features(part, start, names) for part in (train, validation))
    losses, counts = {}, {}
    for leaves in LEAVES:
        model = make_model(leaves, MOST_TREES)
        stopping = lightgbm.early_stopping(PATIENCE, verbose=False)
        model.fit(
            features,
            train[TARGET],
            eval_X=held_out,
            eval_y=validation[TARGET],
            callbacks=[stopping],
        )
        losses[leaves] = min(model.best_score_["valid_0"].values())
        counts[leaves] = max(1, model.best_iteration_)
    best = min(losses, key=lambda leaves: losses[leaves])
    return TunedTrees(names, best, counts[best])


def tune_all(parts: Mapping[str, pd.DataFrame]) -> dict[str, TunedTrees]:
    """Tune trees with plain and with the same columns as the networks.

    Returns:
        The tuned trees by name; none, with a warning, if LightGBM cannot be loaded because the
        machine lacks a library (libgomp).
    """
    columns = {PLAIN_COLUMNS: PLAIN, SAME_COLUMNS: SAME}
    train, validation = parts["train"], parts["validation"]
    try:
        return {name: tune(names, train, validation) for name, names in columns.items()}
    except OSError as error:
        warnings.warn(f"no boosted trees, because LightGBM cannot be loaded: {error}", stacklevel=2)
        return {}
