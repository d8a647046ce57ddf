"""Boosted trees of three packages, tuned on validation rows, as peers of our model.

XGBoost and CatBoost need `pip install -c constraints.txt -e ".[bench]"`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from sklearn.metrics import mean_poisson_deviance

from bikefit.data.bikes.columns import TARGET
from bikefit.data.bikes.model_data import TREE_COLUMNS as SAME
from bikefit.data.bikes.model_data import tree_columns
from bikefit.data.features import DAYS_SINCE_START, first_date
from bikefit.final.trees import (
    LEAVES,
    MOST_TREES,
    PATIENCE,
    make_model,
    tree_features,
)

T = TypeVar("T")

DEPTHS = (4, 6, 8)
DERIVED = (DAYS_SINCE_START, "day_of_year", "commuting", "occasion")
PLAIN = [name for name in SAME if name not in DERIVED]  # the columns of the published table
COLUMNS = {"plain columns": PLAIN, "same columns": SAME}


def with_columns(libraries: Mapping[str, T]) -> dict[str, tuple[T, Sequence[str]]]:
    """Return each library with each set of columns, by its name in the table."""
    return {
        f"{name}, {kind}": (library, columns)
        for kind, columns in COLUMNS.items()
        for name, library in libraries.items()
    }


Rows = tuple[pd.DataFrame, pd.Series]
"""Columns and rentals."""
Fitted = tuple[Callable[[pd.DataFrame], np.ndarray], int]
"""Function from columns to expected rentals (bikes/hour), and the number of trees that it uses."""


@dataclass(frozen=True)
class Library:
    """Boosted trees of a package.

    Args:
        fit: Function of rows, size and number of trees, and of rows that stop early or None.
        sizes: Size limits of a tree to choose from: leaves or depth.
    """

    fit: Callable[[Rows, int, int, Rows | None], Fitted]
    sizes: Sequence[int]


def light(rows: Rows, leaves: int, trees: int, held_out: Rows | None) -> Fitted:
    """Fit LightGBM."""
    import lightgbm

    model, stopping = make_model(leaves, trees), {}
    if held_out:
        callbacks = [lightgbm.early_stopping(PATIENCE, verbose=False)]
        stopping = {"eval_X": held_out[0], "eval_y": held_out[1], "callbacks": callbacks}
    model.fit(*rows, **stopping)
    return model.predict, max(1, model.best_iteration_) if held_out else trees


def xgboost(rows: Rows, depth: int, trees: int, held_out: Rows | None) -> Fitted:
    """Fit XGBoost with histograms."""
    from xgboost import XGBRegressor

    model = XGBRegressor(
        objective="count:poisson",
        eval_metric="poisson-nloglik",
        tree_method="hist",
        max_depth=depth,
        n_estimators=trees,
        learning_rate=0.04,
        subsample=0.8,
        colsample_bytree=0.8,
        reg_lambda=1.0,
        random_state=0,
        n_jobs=1,
        early_stopping_rounds=PATIENCE if held_out else None,
    )
    model.fit(*rows, eval_set=[held_out] if held_out else None, verbose=False)
    return model.predict, model.best_iteration + 1 if held_out else trees


def catboost(rows: Rows, depth: int, trees: int, held_out: Rows | None) -> Fitted:
    """Fit CatBoost with symmetric trees, the target divided by its mean.

    CatBoost starts at a rate of 1 with Newton steps, which diverge for rates of hundreds.
    """
    from catboost import CatBoostRegressor

    unit = rows[1].mean()
    model = CatBoostRegressor(
        loss_function="Poisson",
        depth=depth,
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

    return predict, model.tree_count_


LIBRARIES = {
    "LightGBM": Library(light, LEAVES),
    "XGBoost": Library(xgboost, DEPTHS),
    "CatBoost": Library(catboost, DEPTHS),
}
PEERS = with_columns(LIBRARIES)
"""Library and columns of each peer by its name in the table."""


def predict(
    peer: str, train: pd.DataFrame, validation: pd.DataFrame, test: pd.DataFrame
) -> np.ndarray:
    """Return the expected rentals of test rows, ``(N,)`` bikes/hour.

    The validation rows choose size and number of the trees, which are then fitted on both parts.

    Args:
        peer: Name in `PEERS`.
        train: Rows, as `validation` and `test`.
        validation: Rows to tune on.
        test: Rows to predict.
    """
    library, names = PEERS[peer]

    read = {name: words for name, words in tree_columns(train).items() if name in names}

    def rows(hours: pd.DataFrame, start: date | None) -> Rows:
        return tree_features(hours, start, read), hours[TARGET]

    given, held_out = (rows(part, first_date(train)) for part in (train, validation))
    tuned: dict[tuple[int, int], Any] = {}
    for size in library.sizes:
        model, trees = library.fit(given, size, MOST_TREES, held_out)
        tuned[size, trees] = mean_poisson_deviance(held_out[1], model(held_out[0]))
    size, trees = min(tuned, key=lambda one: tuned[one])
    both = pd.concat([train, validation], ignore_index=True)
    start = first_date(both)
    model, _ = library.fit(rows(both, start), size, trees, None)
    return np.asarray(model(tree_features(test, start, read)))
