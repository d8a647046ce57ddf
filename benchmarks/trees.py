"""Boosted trees that only the benchmark has: `pip install -c constraints.txt -e ".[bench]"`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bikefit.final.trees import LIBRARIES, PATIENCE, Fitted, Library, LightGBM, Rows

DEPTHS = (4, 6, 8)


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


EVERY: dict[str, Library] = {
    **LIBRARIES,
    "LightGBM with squared loss": LightGBM("l2"),
    "XGBoost": XGBoost(),
    "CatBoost": CatBoost(),
}
"""All boosted trees that the benchmark measures."""
