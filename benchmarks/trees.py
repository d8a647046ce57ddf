"""Boosted trees of four packages: `pip install -c constraints.txt -e ".[bench]"`.

Every package chooses size and number of its trees on the validation rows, and fits them on training
and validation rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import pandas as pd

from bikefit.data.columns import TARGET
from bikefit.final.trees import (
    LEAVES,
    MOST_TREES,
    PATIENCE,
    PLAIN,
    SAME,
    first_day,
    make_model,
    tree_features,
)

COLUMNS = {"plain columns": PLAIN, "same columns": SAME}
DEPTHS = (4, 6, 8)
Rows = tuple[pd.DataFrame, pd.Series]
"""Feature columns, and rentals."""


@dataclass(frozen=True)
class Fitted:
    """Boosted trees.

    Args:
        predict: Function from feature columns to expected rentals (bikes/hour).
        trees: Number of trees with the lowest loss on the held-out rows, if there were any.
        loss: That loss.
    """

    predict: Callable[[pd.DataFrame], Any]
    trees: int
    loss: float


class Library(Protocol):
    """Boosted trees of a package, with Poisson loss unless stated otherwise."""

    @property
    def sizes(self) -> Sequence[int]:
        """Size limits of a tree, in the package's own unit."""

    def __call__(self, rows: Rows, size: int, trees: int, held_out: Rows | None = None) -> Fitted:
        """Fit this number of trees, or the number with the lowest loss on held-out rows."""


@dataclass(frozen=True)
class LightGBM:
    """LightGBM with the settings of the pipeline."""

    objective: str = "poisson"
    sizes: Sequence[int] = LEAVES

    def __call__(self, rows: Rows, size: int, trees: int, held_out: Rows | None = None) -> Fitted:
        """Fit trees of at most `size` leaves."""
        import lightgbm

        model = make_model(size, trees, self.objective)
        if held_out is None:
            return Fitted(model.fit(*rows).predict, trees, math.nan)
        stopping = lightgbm.early_stopping(PATIENCE, verbose=False)
        model.fit(*rows, eval_X=held_out[0], eval_y=held_out[1], callbacks=[stopping])
        loss = min(model.best_score_["valid_0"].values())
        return Fitted(model.predict, max(1, model.best_iteration_), loss)


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
class XGBoost:
    """XGBoost with histograms."""

    sizes: Sequence[int] = DEPTHS

    def __call__(self, rows: Rows, size: int, trees: int, held_out: Rows | None = None) -> Fitted:
        """Fit trees of at most `size` levels."""
        import xgboost

        model = xgboost.XGBRegressor(
            objective="count:poisson", eval_metric="poisson-nloglik", tree_method="hist",
            max_depth=size, n_estimators=trees, learning_rate=0.04, subsample=0.8,
            colsample_bytree=0.8, reg_lambda=1.0, random_state=0, n_jobs=1,
            early_stopping_rounds=PATIENCE if held_out else None,
        )  # fmt: skip
        if held_out is None:
            return Fitted(model.fit(*rows).predict, trees, math.nan)
        model.fit(*rows, eval_set=[held_out], verbose=False)
        return Fitted(model.predict, model.best_iteration + 1, float(model.best_score))


@dataclass(frozen=True)
class CatBoost:
    """CatBoost with its own symmetric trees.

    It starts from the rate 1 and steps by Newton's rule, which from so far away overshoots: without
    a target in units of its mean, a window of `chronological` had rates of 1e36 bikes/hour.
    """

    sizes: Sequence[int] = DEPTHS

    def __call__(self, rows: Rows, size: int, trees: int, held_out: Rows | None = None) -> Fitted:
        """Fit trees of `size` levels."""
        import catboost

        unit = rows[1].mean()
        model = catboost.CatBoostRegressor(
            loss_function="Poisson", depth=size, iterations=trees, learning_rate=0.08,
            random_seed=0, thread_count=1, verbose=False, allow_writing_files=False,
            od_type="Iter" if held_out else None, od_wait=PATIENCE if held_out else None,
        )  # fmt: skip
        model.fit(rows[0], rows[1] / unit, eval_set=held_out and (held_out[0], held_out[1] / unit))

        def predict(asked: pd.DataFrame) -> np.ndarray:
            return unit * np.asarray(model.predict(asked, prediction_type="Exponent"))

        if held_out is None:
            return Fitted(predict, trees, math.nan)
        loss = model.get_best_score()["validation"]["Poisson"]
        return Fitted(predict, model.get_best_iteration() + 1, float(loss))


LIBRARIES: dict[str, Library] = {
    "LightGBM": LightGBM(),
    "scikit-learn trees": Scikit(),
    "LightGBM with squared loss": LightGBM("l2"),
    "XGBoost": XGBoost(),
    "CatBoost": CatBoost(),
}


def predict(
    library: Library, names: Sequence[str],
    train: pd.DataFrame, validation: pd.DataFrame, test: pd.DataFrame,
) -> np.ndarray:  # fmt: skip
    """Tune trees on the validation rows, fit them on both parts and predict the test rows.

    Args:
        library: Package of the trees.
        names: Feature columns.
        train: Clean rows to fit on.
        validation: Clean rows to choose size and number of trees by.
        test: Clean rows to predict.

    Returns:
        Expected rentals of the test rows, ``(N,)``, bikes/hour.
    """

    def rows(hours: pd.DataFrame, start: np.datetime64) -> Rows:
        return tree_features(hours, start, names), hours[TARGET]

    start = first_day(train)
    given, held_out = rows(train, start), rows(validation, start)
    tuned = {size: library(given, size, MOST_TREES, held_out) for size in library.sizes}
    size = min(tuned, key=lambda size: tuned[size].loss)
    both = pd.concat([train, validation], ignore_index=True)
    start = first_day(both)
    fitted = library(rows(both, start), size, tuned[size].trees)
    return np.asarray(fitted.predict(tree_features(test, start, names)))


def every() -> dict[str, Callable[..., np.ndarray]]:
    """Return a function like :func:`predict` for each package and choice of columns."""
    return {
        f"{name}, {described}": partial(predict, library, names)
        for described, names in COLUMNS.items()
        for name, library in LIBRARIES.items()
    }
