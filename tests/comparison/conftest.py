"""Made-up runs in the shape that `tracking.reading.read_runs` gives them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

STRENGTHS: dict[str, Any] = {
    "l1": 0.0, "l2": 0.0, "lp": 0.0, "p_norm": 1.5, "on": "all", "weight_decay": 0.0,
    "dropout": 0.0, "batch_norm": "none",
}  # fmt: skip


def make_run(
    method: str = "none", hidden: str = "[256,256]", seed: int = 0, train: float = 5.0,
    val: float = 7.0, failure: str | None = None, **more: Any,
) -> dict[str, Any]:  # fmt: skip
    """One row of `read_runs`; without losses if there is a failure."""
    network = "mlp" if hidden != "[]" else "linear"
    label = f"{network} {hidden.strip('[]').replace(',', '×')}".strip()
    kinds = (re.sub(r" (λ=|p=|before|after|\d).*", "", part) for part in method.split(" + "))
    row: dict[str, Any] = {
        "tags.method.kind": " + ".join(dict.fromkeys(kinds)),
        "tags.network.label": label,
        "run_id": f"{method}-{hidden}-{seed}", "name": f"{method} · {label} · seed {seed}",
        "status": "FAILED" if failure else "FINISHED", "method": method, "seed": seed,
        "data.name": "full", "data.fraction": 1.0, "loss": "poisson", "network.name": network,
        "network.hidden": hidden, "network.activation": "gelu" if hidden != "[]" else "identity",
        "regularization.name": "none", "optimizer.name": "adam", "optimizer.lr": 0.001,
        "training.epochs": 40, "validation.name": "holdout", "validation.folds": 1,
        **{f"regularization.{key}": value for key, value in STRENGTHS.items()},
    }  # fmt: skip
    if failure:
        row["tags.failure"] = failure
    else:
        row |= {
            "best/train/loss": train, "best/val/loss": val, "gap": val - train, "best/epoch": 40.0,
            "best/train/rmse": 10 * train, "best/val/rmse": 10 * val,
            "best/train/deviance": 2 * train, "best/val/deviance": 2 * val,
        }  # fmt: skip
    return row | more


@pytest.fixture
def run() -> Callable[..., dict[str, Any]]:
    """What makes a row."""
    return make_run


# Method, mean train loss and mean validation loss of the large network in a full comparison.
LARGE = {
    "none": (2.6, 9.4), "l1 λ=0.0001": (3.4, 8.5), "l1 λ=0.001": (5.4, 7.2),
    "l1 λ=0.01": (14.0, 14.6), "l2 λ=0.0001": (3.0, 8.9), "l2 λ=0.001": (4.1, 7.7),
    "l2 λ=0.01": (7.1, 8.4), "weight decay λ=0.01": (2.8, 9.1), "weight decay λ=0.1": (3.5, 8.3),
    "weight decay λ=1": (5.9, 7.4), "dropout p=0.1": (3.2, 7.3), "dropout p=0.2": (3.9, 6.9),
    "dropout p=0.3": (4.6, 6.95), "dropout p=0.5": (7.2, 8.0), "batch norm before": (2.3, 8.1),
    "batch norm after": (2.4, 8.0), "early stopping 5": (4.4, 7.6), "early stopping 10": (3.9, 7.8),
    "l2 λ=0.0001 + dropout p=0.2": (4.2, 6.8), "dropout p=0.2 + batch norm before": (3.7, 7.05),
}  # fmt: skip
OTHERS = {
    "[]": (33.0, 34.0), "[4]": (19.0, 20.1), "[16]": (10.2, 11.4), "[64]": (6.3, 8.9),
    "[64,64]": (4.4, 8.8), "[1024,1024]": (1.6, 10.4),
}  # fmt: skip


def make_sweep() -> pd.DataFrame:
    """26 configurations over three seeds, as a full comparison gives them."""
    random = np.random.default_rng(0)
    rows = []
    for method, hidden, (train, val) in [
        *((method, "[256,256]", losses) for method, losses in LARGE.items()),
        *(("none", hidden, losses) for hidden, losses in OTHERS.items()),
    ]:
        for seed in range(3):
            noise = random.normal(0, 0.02, 2) + np.array([0, 0.01 * (seed - 1)])
            rows.append(make_run(
                method, hidden, seed, train * (1 + noise[0]), val * (1 + noise[1]),
            ))  # fmt: skip
    return pd.DataFrame(rows)


@pytest.fixture
def sweep() -> pd.DataFrame:
    """The runs of :func:`make_sweep`."""
    return make_sweep()
