"""Models of other packages that ours is compared with: boosted trees, tuned, RealMLP and TabM.

All but LightGBM need `pip install -c constraints.txt -e ".[bench]"`.
"""

from __future__ import annotations

import ast
import contextlib
import io
from collections.abc import Callable
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import mean_poisson_deviance

from bikefit.data.bikes.baselines import TREE_COLUMNS, tree_columns
from bikefit.data.bikes.columns import TARGET
from bikefit.data.features import DAYS_SINCE_START, Columns, first_date
from bikefit.final.trees import MOST_TREES, PATIENCE, tree_features, tune

DEPTHS = (4, 6, 8)
ONE_CORE = {"device": "cpu", "n_threads": 1, "random_state": 0}
DERIVED = (DAYS_SINCE_START, "day_of_year", "commuting", "occasion")
COLUMNS = {
    "plain columns": [name for name in TREE_COLUMNS if name not in DERIVED],  # as published
    "same columns": TREE_COLUMNS,
}
Rows = tuple[pd.DataFrame, pd.Series]
"""Columns and rentals."""
Fitted = tuple[Callable[[pd.DataFrame], np.ndarray], int]
"""Function from columns to expected rentals (bikes/hour), and the number of trees that it uses."""


def predict(
    peer: str, train: pd.DataFrame, validation: pd.DataFrame, test: pd.DataFrame
) -> np.ndarray:
    """Return the expected rentals of test rows, ``(N,)`` bikes/hour.

    The validation rows choose size and number of the trees, or the number of epochs. The model is
    then fitted on both parts.

    Args:
        peer: One of :data:`MODELS` and one of :data:`COLUMNS`, like "XGBoost, same columns".
        train: Rows, as `validation` and `test`.
        validation: Rows to tune on.
        test: Rows to predict.
    """
    name, columns = peer.split(", ")
    read = {n: words for n, words in tree_columns(train).items() if n in COLUMNS[columns]}
    return MODELS[name](train, validation, test, read)


def lightgbm(
    train: pd.DataFrame, validation: pd.DataFrame, test: pd.DataFrame, read: Columns
) -> np.ndarray:
    """Predict by LightGBM as the final model uses it."""
    tuned = tune(train, validation, TARGET, "poisson", read)
    assert tuned is not None
    return tuned.fit(pd.concat([train, validation])).predict(test)


def tabular(fit: Callable[..., Any]) -> Callable[..., np.ndarray]:
    """Return a function that predicts by a network of pytabkit, which minimizes the squared error.

    ``fit`` fits it on training rows, with the number of epochs that the validation rows choose, and
    then on both.
    """

    def predict(
        train: pd.DataFrame, validation: pd.DataFrame, test: pd.DataFrame, read: Columns
    ) -> np.ndarray:
        start = first_date(train)
        # The same categories in every part, otherwise concatenation turns them into numbers.
        codes = {n: pd.CategoricalDtype(range(len(words))) for n, words in read.items() if words}
        parts = [tree_features(rows, start, read).astype(codes) for rows in (train, validation)]
        targets = [rows[TARGET].astype("float32") for rows in (train, validation)]
        model = fit(*zip(parts, targets, strict=True))
        return np.asarray(model.predict(tree_features(test, start, read).astype(codes)), np.float64)

    return predict


def fit_realmlp(train: Rows, validation: Rows) -> Any:
    """Fit RealMLP (Holzmüller et al. 2024) with the package's default settings."""
    from pytabkit import RealMLP_TD_Regressor

    return RealMLP_TD_Regressor(n_refit=1, **ONE_CORE).fit(*train, *validation)


def fit_tabm(train: Rows, validation: Rows) -> Any:
    """Fit TabM (Gorishniy et al. 2025) with the two layers of 128 units of our networks.

    An epoch of its own size, three layers of 512, takes 18 s of processor time.
    """
    from pytabkit import TabM_D_Regressor

    options = ONE_CORE | {"n_blocks": 2, "d_block": 128}
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(io.StringIO()):
        TabM_D_Regressor(verbosity=1, **options).fit(*train, *validation)
    # pytabkit 1.7.3 cannot refit TabM, and it only prints the selected epoch, from 0.
    (best,) = (line for line in output.getvalue().splitlines() if line.startswith("{'val'"))
    epochs = ast.literal_eval(best)["epoch"] + 1
    both = (pd.concat(pair, ignore_index=True) for pair in zip(train, validation, strict=True))
    return TabM_D_Regressor(n_epochs=epochs, patience=epochs, **options).fit(*both, *validation)


def boosted(fit: Callable[[Rows, int, int, Rows | None], Fitted]) -> Callable[..., np.ndarray]:
    """Return a function that predicts by trees whose depth and number are tuned.

    ``fit`` fits trees of a depth on rows: of a number, or until other rows stop it.
    """

    def predict(
        train: pd.DataFrame, validation: pd.DataFrame, test: pd.DataFrame, read: Columns
    ) -> np.ndarray:
        def rows(hours: pd.DataFrame, start: date | None) -> Rows:
            return tree_features(hours, start, read), hours[TARGET]

        given, held_out = (rows(part, first_date(train)) for part in (train, validation))
        tuned: dict[tuple[int, int], float] = {}
        for depth in DEPTHS:
            model, trees = fit(given, depth, MOST_TREES, held_out)
            tuned[depth, trees] = mean_poisson_deviance(held_out[1], model(held_out[0]))
        both = pd.concat([train, validation], ignore_index=True)
        start = first_date(both)
        model, _ = fit(rows(both, start), *min(tuned, key=lambda size: tuned[size]), None)
        return np.asarray(model(tree_features(test, start, read)))

    return predict


def fit_xgboost(rows: Rows, depth: int, trees: int, held_out: Rows | None) -> Fitted:
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


def fit_catboost(rows: Rows, depth: int, trees: int, held_out: Rows | None) -> Fitted:
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


MODELS: dict[str, Callable[..., np.ndarray]] = {
    "LightGBM": lightgbm,
    "XGBoost": boosted(fit_xgboost),
    "CatBoost": boosted(fit_catboost),
    "RealMLP": tabular(fit_realmlp),
    "TabM": tabular(fit_tabm),
}
SLOW = ("RealMLP", "TabM")
"""Models that take minutes of CPU time."""
