"""Peer: scikit-learn's MLPRegressor with joblib on all cores, nothing tracked.

It has neither dropout nor batch norm; each point of the grid is fitted without them.
"""

from __future__ import annotations

import warnings

import joblib
from shared import GRID, Rows, epochs, read, report
from sklearn.metrics import mean_squared_error
from sklearn.neural_network import MLPRegressor


def fit(train: Rows, validation: Rows, alpha: float, seed: int, epochs: int) -> float:
    """Train one network and return its validation loss."""
    network = MLPRegressor(
        hidden_layer_sizes=(128, 128),
        alpha=alpha,
        batch_size=256,
        learning_rate_init=1e-3,
        max_iter=epochs,
        n_iter_no_change=epochs + 1,
        tol=0.0,
        random_state=seed,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # stopping at max_iter is intended
        network.fit(*train)
    return float(mean_squared_error(validation.target, network.predict(validation.features)))


if __name__ == "__main__":
    rows = read()
    report(
        joblib.Parallel(n_jobs=-1)(
            joblib.delayed(fit)(*rows, l2, seed, epochs()) for l2, _, seed in GRID
        )
    )
