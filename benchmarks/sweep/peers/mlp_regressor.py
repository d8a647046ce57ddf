"""Peer: scikit-learn's MLPRegressor, joblib on all cores, nothing tracked.

It has neither dropout nor batch norm: each point of the grid is fitted without them.
"""

from __future__ import annotations

import argparse
import json
import warnings
from itertools import product

import joblib
from rows import Rows, read
from sklearn.metrics import mean_squared_error
from sklearn.neural_network import MLPRegressor


def fit(train: Rows, validation: Rows, alpha: float, seed: int, epochs: int) -> float:
    """Train one network and return its validation loss."""
    network = MLPRegressor(
        hidden_layer_sizes=(128, 128), alpha=alpha, batch_size=256, learning_rate_init=1e-3,
        max_iter=epochs, n_iter_no_change=epochs + 1, tol=0.0, random_state=seed,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it stops at max_iter is meant
        network.fit(*train)
    return float(mean_squared_error(validation.target, network.predict(validation.features)))


def main() -> None:
    """Train the grid."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=20)
    epochs = parser.parse_args().epochs
    train, validation = read()
    losses = joblib.Parallel(n_jobs=-1)(
        joblib.delayed(fit)(train, validation, alpha, seed, epochs)
        for alpha, _, seed in product((0, 1e-5, 1e-4, 1e-3), range(3), (0, 1))
    )
    print(json.dumps({"runs": len(losses), "val_loss": sum(losses) / len(losses)}))


if __name__ == "__main__":
    main()
