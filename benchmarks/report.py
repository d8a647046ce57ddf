"""How long a report takes when the store is full: `make bench-report`.

Fills a store in a temporary folder with a sweep of 1,000 runs of 50 epochs, six metrics an epoch,
as `bikefit.tracking` writes them, and times `python -m bikefit.compare --reports …`.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

LIMIT = 20.0  # s
GRID = [
    {"regularization": {"l2": l2, "dropout": p}, "hidden": [width] * depth, "fraction": fraction}
    for depth in (1, 2) for width in (8, 32, 128)
    for l2 in (0, 1e-4, 1e-3, 1e-2, 1e-1) for p in (0, 0.1, 0.2, 0.3, 0.5)
    for fraction in (0.5, 1.0)
]  # fmt: skip


def settings(point: dict[str, Any], seed: int) -> Any:
    """The settings of a run at a point of the grid."""
    from bikefit.config import parse

    return parse({
        "data": {"name": "full", "fraction": point["fraction"]},
        "network": {"name": "mlp", "hidden": point["hidden"]},
        "regularization": point["regularization"], "optimizer": {"name": "adam", "lr": 0.001},
        "training": {"epochs": 50, "batch_size": 256}, "validation": {"name": "holdout"},
        "trainer": {}, "tracking": {"experiment": "full"}, "loss": "poisson", "seed": seed,
    })  # fmt: skip


def result(draw: np.random.Generator, hidden: list[int], epochs: int) -> Any:
    """What a member with made-up losses, weights and predictions leaves."""
    falling = np.exp(-np.arange(epochs) / 8)
    losses = {"train/loss": 3 + 60 * falling, "val/loss": 5 + draw.normal(0, 0.2) + 60 * falling}
    metrics = {f"{part}/{name}": factor * losses[f"{part}/loss"] for part in ("train", "val")
               for name, factor in (("loss", 1), ("rmse", 9), ("deviance", 2))}  # fmt: skip
    widths = [87, *hidden, 1]
    state = {
        f"hidden{i}.linear.weight": draw.normal(0, 0.1, (after, before)).astype("float32")
        for i, (before, after) in enumerate(pairwise(widths), start=1)
    }
    times = pd.date_range("2011-01-01", periods=3465, freq="5h")
    true = draw.poisson(190, len(times)).astype(float)
    return SimpleNamespace(
        metrics=metrics, selected=epochs, failure=None, state=state, train_rows=10435,
        val_rows=3465, layers=[], parameters=1, final={}, predictions=(times, true, true + 9),
    )  # fmt: skip


def fill(runs: int, epochs: int) -> str:
    """Write a sweep to the store of the current folder and return its id."""
    from bikefit.tracking import writing

    draw = np.random.default_rng(0)
    sweep = writing.start_sweep("full", "benchmark", [])
    for i in range(runs):
        point, seed = GRID[i % len(GRID)], i // len(GRID)
        one = settings(point, seed)
        run = writing.start_job(one, sweep, "v1")
        writing.finish_member(run, result(draw, point["hidden"], epochs), one)
    writing.finish_sweep(sweep, "", {}, "FINISHED")
    return sweep


def main() -> int:
    """Fill a store, time the report, and say whether it was in time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--folder", type=Path, help="keep the store here, and use one that is here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        os.chdir(folder)
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        if not Path("mlflow.db").exists():
            start = time.perf_counter()
            fill(options.runs, options.epochs)
            print(f"filled in {time.perf_counter() - start:.0f} s")
        command = [sys.executable, "-m", "bikefit.compare", "--reports", "reports"]
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - start
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        size = Path("reports/report.html").stat().st_size / 1e6
    print(
        f"report of {options.runs} runs x {options.epochs} epochs: {seconds:.1f} s "
        f"(limit {LIMIT:g} s), of them {used.ru_utime + used.ru_stime:.1f} s of computing; "
        f"{size:.2f} MB"
    )
    return int(seconds > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
