"""The reference sweep: 24 runs on table `full` of a network with two hidden layers of 128."""

from __future__ import annotations

import sys
from itertools import islice, product

from benchmarks.common import settings

from bikefit.config import Settings

L2 = ("0", "1e-5", "1e-4", "1e-3")
DROPOUT = ("0", "0.1", "0.3")
RUNS = 24
SHARED = (
    "data=full",
    "network.hidden=[128,128]",
    "network.activation=relu",
    "regularization.batch_norm=before",
    "loss=mse",
    "optimizer=adam",
    "optimizer.lr=1e-3",
    "optimizer.schedule=constant",
    "training.batch_size=256",
)
GRID = (f"regularization.l2={','.join(L2)}", f"regularization.dropout={','.join(DROPOUT)}")
TRAIN = (sys.executable, "-m", "bikefit.train")


def command(epochs: int) -> list[str]:
    """Return the command that trains the sweep."""
    return [*TRAIN, "-m", *SHARED, f"training.epochs={epochs}", *GRID, "seed=0,1"]


def members(count: int, *overrides: str) -> list[Settings]:
    """Return the first members of the grid: all 12 strengths of a seed, then the next seed."""
    base = settings(*SHARED, *overrides)
    grid = islice(product(range(count), map(float, L2), map(float, DROPOUT)), count)
    return [
        base.model_copy(
            update={
                "seed": seed,
                "regularization": base.regularization.model_copy(
                    update={"l2": l2, "dropout": dropout}
                ),
            }
        )
        for seed, l2, dropout in grid
    ]
