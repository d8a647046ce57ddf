"""Boosted trees of LightGBM: a baseline, and an optional part of our model."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bikefit.data.features import category_codes, first_date, with_calendar
from bikefit.losses import LossName

if TYPE_CHECKING:
    from lightgbm import LGBMRegressor

    from bikefit.data.features import Columns

PATIENCE = 100  # early stopping after this many trees without a lower validation loss
MOST_TREES = 5000
LEAVES = (15, 31, 63)  # candidates for the largest number of leaves
OBJECTIVES = {"mse": "regression", "poisson": "poisson", "bernoulli": "binary"}  # by loss


def tree_features(rows: pd.DataFrame, start: date | None, columns: Columns) -> pd.DataFrame:
    """Return columns of rows as numbers; days are counted from ``start``."""
    rows = with_calendar(rows, start)
    values = {
        name: category_codes(rows[name], categories).astype(float)
        if categories
        else rows[name].to_numpy("float64")
        for name, categories in columns.items()
    }
    return pd.DataFrame(values)


def make_model(leaves: int, trees: int, loss: LossName = "poisson") -> LGBMRegressor:
    """Return an unfitted LightGBM model with this size and number of trees."""
    import lightgbm

    return lightgbm.LGBMRegressor(
        objective=OBJECTIVES[loss],
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
    """Fitted trees in LightGBM's text format.

    Args:
        text: The trees.
        start: First day of their rows; None without time.
        columns: Columns that they read.
    """

    text: str
    start: date | None
    columns: Columns

    def predict(self, rows: pd.DataFrame) -> np.ndarray:
        """Return the predictions for rows, ``(N,)``, in the unit of the target."""
        import lightgbm

        features = tree_features(rows, self.start, self.columns)
        return np.asarray(lightgbm.Booster(model_str=self.text).predict(features, num_threads=1))


@dataclass(frozen=True)
class TunedTrees:
    """Tuned settings of trees.

    Args:
        leaves: Largest number of leaves of a tree.
        trees: Number of trees.
        target: Column of the target.
        loss: Loss of the trees.
        columns: Columns that they read.
    """

    leaves: int
    trees: int
    target: str
    loss: LossName
    columns: Columns

    def fit(self, rows: pd.DataFrame) -> FittedTrees:
        """Return trees fitted on rows."""
        start = first_date(rows)
        model = make_model(self.leaves, self.trees, self.loss)
        model.fit(tree_features(rows, start, self.columns), rows[self.target])
        return FittedTrees(model.booster_.model_to_string(), start, self.columns)


def tune(
    train: pd.DataFrame, validation: pd.DataFrame, target: str, loss: LossName, columns: Columns
) -> TunedTrees | None:
    """Return the settings with the lowest loss of the validation rows.

    If the machine lacks a library that LightGBM needs (libgomp), warn and return None.
    """
    try:
        import lightgbm
    except OSError as error:
        warnings.warn(f"no boosted trees, because LightGBM cannot be loaded: {error}", stacklevel=2)
        return None
    start = first_date(train)
    features, held_out = (tree_features(rows, start, columns) for rows in (train, validation))
    models = [make_model(leaves, MOST_TREES, loss) for leaves in LEAVES]
    for model in models:
        stopping: Any = {"callbacks": [lightgbm.early_stopping(PATIENCE, verbose=False)]}
        stopping |= {"eval_X": held_out, "eval_y": validation[target]}
        model.fit(features, train[target], **stopping)
    best = min(models, key=lambda model: min(model.best_score_["valid_0"].values()))
    return TunedTrees(best.num_leaves, max(1, best.best_iteration_), target, loss, columns)
