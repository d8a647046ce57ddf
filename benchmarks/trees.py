"""Boosted trees of three packages, tuned on validation rows, as peers of our model.

XGBoost and CatBoost need `pip install -c constraints.txt -e ".[bench]"`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bikefit.data.columns import TARGET
from bikefit.data.features import first_day
from bikefit.final.trees import (
    LEAVES,
    MOST_TREES,
    PATIENCE,
    PLAIN,
    SAME,
    make_model,
    tree_features,
)

DEPTHS = (4, 6, 8)
COLUMNS = {"plain columns": PLAIN, "same columns": SAME}

Rows = tuple[pd.DataFrame, pd.Series]
"""Columns and rentals."""


@dataclass(frozen=True)
class Fitted:
    """Fitted trees.

    Args:
        predict: Function from columns to expected rentals (bikes/hour).
        trees: Number of trees with the lowest loss on the held-out rows, if there were any.
        loss: That loss.
    """

    predict: Callable[[pd.DataFrame], Any]
    trees: int
    loss: float = math.nan


@dataclass(frozen=True)
class Library:
    """Boosted trees of a package.

    Args:
        fit: Function of rows, size and number of trees, and of held-out rows or None.
        sizes: Size limits of a tree to choose from: leaves or depth.
    """

    fit: Callable[[Rows, int, int, Rows | None], Fitted]
    sizes: Sequence[int]


def light(rows: Rows, size: int, trees: int, held_out: Rows | None) -> Fitted:
    """Fit LightGBM with trees of at most `size` leaves."""
    import lightgbm

    model = make_model(size, trees)
    if held_out is None:
        return Fitted(model.fit(*rows).predict, trees)
    stopping = lightgbm.early_stopping(PATIENCE, verbose=False)
    model.fit(*rows, eval_X=held_out[0], eval_y=held_out[1], callbacks=[stopping])
    loss = min(model.best_score_["valid_0"].values())
    return Fitted(model.predict, max(1, model.best_iteration_), loss)


def xgboost(rows: Rows, size: int, trees: int, held_out: Rows | None) -> Fitted:
    """Fit XGBoost with histograms and trees of at most `size` levels."""
    from xgboost import XGBRegressor

    model = XGBRegressor(
        objective="count:poisson",
        eval_metric="poisson-nloglik",
        tree_method="hist",
        max_depth=size,
        n_estimators=trees,
        learning_rate=0.04,
        subsample=0.8,
        colsample_bytree=0.8,
        reg_lambda=1.0,
        random_state=0,
        n_jobs=1,
        early_stopping_rounds=PATIENCE if held_out else None,
    )
    if held_out is None:
        return Fitted(model.fit(*rows).predict, trees)
    model.fit(*rows, eval_set=[held_out], verbose=False)
    return Fitted(model.predict, model.best_iteration + 1, float(model.best_score))


def catboost(rows: Rows, size: int, trees: int, held_out: Rows | None) -> Fitted:
    """Fit CatBoost with symmetric trees of `size` levels, the target divided by its mean.

    CatBoost starts at a rate of 1 with Newton steps, which diverge for rates of hundreds.
    """
    from catboost import CatBoostRegressor

    unit = rows[1].mean()
    model = CatBoostRegressor(
        loss_function="Poisson",
        depth=size,
        iterations=trees,
        learning_rate=0.08,
        random_seed=0,
        thread_count=1,
        verbose=False,
        allow_writing_files=False,
        od_type="Iter" if held_out else None,
        od_wait=PATIENCE if held_out else None,
    )
    model.fit(rows[0], rows[1] / unit, eval_set=held_out and (held_out[0], held_out[1] / unit))

    def predict(columns: pd.DataFrame) -> np.ndarray:
        return unit * np.asarray(model.predict(columns, prediction_type="Exponent"))

    if held_out is None:
        return Fitted(predict, trees)
    loss = model.get_best_score()["validation"]["Poisson"]
    return Fitted(predict, model.get_best_iteration() + 1, float(loss))


LIBRARIES = {
    "LightGBM": Library(light, LEAVES),
    "XGBoost": Library(xgboost, DEPTHS),
    "CatBoost": Library(catboost, DEPTHS),
}
PEERS = {
    f"{name}, {kind}": (library, columns)
    for kind, columns in COLUMNS.items()
    for name, library in LIBRARIES.items()
}
"""Library and columns of each peer by its name in the table."""


def predict(
    peer: str, train: pd.DataFrame, validation: pd.DataFrame, test: pd.DataFrame
) -> np.ndarray:
    """Return the expected rentals of test rows, ``(N,)`` bikes/hour.

    The validation rows choose size and number of the trees, which are then fitted on both parts.

    Args:
        peer: Name in `PEERS`.
        train: Clean rows, as `validation` and `test`.
        validation: Rows to tune on.
        test: Rows to predict.
    """
    library, names = PEERS[peer]

    def rows(hours: pd.DataFrame, start: np.datetime64) -> Rows:
        return tree_features(hours, start, names), hours[TARGET]

    given, held_out = (rows(part, first_day(train)) for part in (train, validation))
    tuned = {size: library.fit(given, size, MOST_TREES, held_out) for size in library.sizes}
    size = min(tuned, key=lambda size: tuned[size].loss)
    both = pd.concat([train, validation], ignore_index=True)
    start = first_day(both)
    fitted = library.fit(rows(both, start), size, tuned[size].trees, None)
    return np.asarray(fitted.predict(tree_features(test, start, names)))
