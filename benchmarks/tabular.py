"""Networks for tables of the package pytabkit, with its default settings, as peers of our model.

RealMLP (Holzmüller et al. 2024) and TabM (Gorishniy et al. 2025) minimize the squared error. They
need `pip install -c constraints.txt -e ".[bench]"`.
"""

from __future__ import annotations

import ast
import contextlib
import io
from collections.abc import Callable

import numpy as np
import pandas as pd
from benchmarks.trees import with_columns

from bikefit.data.bikes.columns import TARGET
from bikefit.data.bikes.model_data import tree_columns
from bikefit.data.features import first_date
from bikefit.final.trees import tree_features

ONE_CORE = {"device": "cpu", "n_threads": 1, "random_state": 0}
Part = tuple[pd.DataFrame, pd.Series]
"""Columns and rentals."""


def realmlp(train: Part, validation: Part):
    """Return RealMLP, refitted on both parts for the number of epochs with the lowest RMSE."""
    from pytabkit import RealMLP_TD_Regressor

    model = RealMLP_TD_Regressor(n_refit=1, **ONE_CORE)
    return model.fit(*train, *validation)


def tabm(train: Part, validation: Part):
    """Return TabM, refitted on both parts for the number of epochs with the lowest RMSE."""
    from pytabkit import TabM_D_Regressor

    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(io.StringIO()):
        TabM_D_Regressor(verbosity=1, **ONE_CORE).fit(*train, *validation)
    # pytabkit 1.7.3 cannot refit TabM, and it only prints the selected epoch, from 0.
    (best,) = (line for line in output.getvalue().splitlines() if line.startswith("{'val'"))
    epochs = ast.literal_eval(best)["epoch"] + 1
    both = (pd.concat(pair, ignore_index=True) for pair in zip(train, validation, strict=True))
    return TabM_D_Regressor(n_epochs=epochs, patience=epochs, **ONE_CORE).fit(*both, *validation)


LIBRARIES: dict[str, Callable] = {"RealMLP": realmlp, "TabM": tabm}
PEERS = with_columns(LIBRARIES)
"""Function that fits each peer, and its columns, by its name in the table."""


def predict(
    peer: str, train: pd.DataFrame, validation: pd.DataFrame, test: pd.DataFrame
) -> np.ndarray:
    """Return the expected rentals of test rows, see :func:`benchmarks.trees.predict`."""
    fit, names = PEERS[peer]
    read = {name: words for name, words in tree_columns(train).items() if name in names}
    start = first_date(train)

    def columns(hours: pd.DataFrame) -> pd.DataFrame:
        features = tree_features(hours, start, read)
        # The same categories in every part, otherwise concatenation turns them into numbers.
        codes = {n: pd.CategoricalDtype(range(len(words))) for n, words in read.items() if words}
        return features.astype(codes)

    parts = [(columns(hours), hours[TARGET].astype("float32")) for hours in (train, validation)]
    return np.asarray(fit(*parts).predict(columns(test)), np.float64)
