"""Write runs to a store without training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bikefit.config import Settings, parse
from bikefit.tracking import writing

EPOCHS = 3


@contextmanager
def visiting(folder: Path) -> Iterator[None]:
    """Work in a folder with its own store."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield


def settings(dropout: float = 0.0, seed: int = 0, hidden: int = 8, **more: Any) -> Settings:
    """Settings of a run without weights and predictions."""
    values: dict[str, Any] = {
        "data": {"name": "full"},
        "network": {"name": "mlp", "hidden": [hidden]},
        "regularization": {"dropout": dropout},
        "optimizer": {"name": "adam", "lr": 0.001},
        "training": {"epochs": EPOCHS, "batch_size": 32},
        "validation": {"name": "holdout"},
        "trainer": {},
        "tracking": {"experiment": "full", "weights": False, "predictions": False},
        "loss": "poisson",
        "seed": seed,
    }
    return parse(values | more)


def result(train: float, val: float, failure: str = "", **more: Any) -> Any:
    """Result of a member whose losses fall to `train` and `val` in the last epoch.

    `predictions` are times, targets and predicted targets.
    """
    factors = np.array([2.0, 1.5, 1.0])
    metrics = {"train/loss": train * factors, "val/loss": val * factors}
    for part, loss in (("train", train), ("val", val)):
        metrics |= {f"{part}/rmse": 10 * loss * factors, f"{part}/deviance": 2 * loss * factors}
    values: dict[str, Any] = {"metrics": metrics, "selected": EPOCHS, "state": {}, "final": {}}
    values |= {"train_rows": 90, "val_rows": 30, "layers": [], "parameters": 3}
    values["timestamps"] = [1000, 2000, 3000]
    values |= {"failure": failure, "killed": False}
    columns = zip(("timestamp", "target", "predicted"), more.pop("predictions", ()), strict=False)
    return SimpleNamespace(**(values | more), predictions=dict(columns))


def add(sweep: str, one: Settings, outcome: Any) -> str:
    """Add a finished run to a sweep and return its id."""
    run = writing.start_job(one, sweep, "v1")
    writing.finish_member(run, outcome, one)
    return run
