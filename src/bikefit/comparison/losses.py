"""Losses read from MLflow: by fold, by validation day, and by epoch."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from multiprocessing.pool import ThreadPool
from statistics import fmean
from typing import Any

import pandas as pd

from bikefit.comparison.runs import ranking_metric
from bikefit.data.rows import blocks
from bikefit.losses import LOSSES, LossName
from bikefit.tracking import connection, reading

READERS = 8  # files that are read concurrently


def losses_by_fold_and_day(table: pd.DataFrame) -> pd.DataFrame:
    """Return a run table with the validation losses of each run by fold and by day, as tuples.

    ``fold_losses`` has the loss of each fold or training set, ``days`` the contribution of each day
    to the loss, in the order of the days. ``days`` is empty if a run is cross-validated, has no
    result or no saved predictions.
    """
    if table.empty:
        return table
    crossed = table["folds"] > 1
    metric = f"folds/best/val/{ranking_metric(table)}"
    folds = [
        tuple(reading.read_history(run, metric)) if has_folds else ()
        for run, has_folds in zip(table["run_id"], crossed, strict=True)
    ]
    loss = table["loss"] if ranking_metric(table) == "loss" else "poisson"
    inputs = table[["run_id", "val_loss"]].assign(loss=loss)
    inputs["val_loss"] = inputs["val_loss"].mask(table["repetition"] == "folds")
    connection.client()  # opened before several threads need it
    with ThreadPool(READERS) as pool:
        days = pool.starmap(_losses_by_day, inputs.itertuples(index=False))
    index = table.index
    return table.assign(
        fold_losses=pd.Series(folds, index, dtype=object), days=pd.Series(days, index, dtype=object)
    )


@lru_cache(maxsize=10_000)
def _losses_by_day(run: str, mean: float, loss: LossName) -> tuple[float, ...]:
    """Return the contribution of each day to the mean loss of a run."""
    predictions = reading.read_predictions(run) if mean > 0 else None
    if predictions is None:
        return ()
    true, predicted = predictions["target"].to_numpy(), predictions["predicted"].to_numpy()
    rows = LOSSES[loss].rows(true, LOSSES[loss].valid(predicted))
    days = pd.Series(rows).groupby(blocks(predictions).to_numpy()).sum()
    # The contributions sum to the mean loss, whatever its unit.
    return tuple(float(day) for day in days * (mean / days.sum()))


def loss_curves(runs: Mapping[Any, str], metrics: Mapping[str, str]) -> pd.DataFrame:
    """Return metrics of runs by epoch; of a cross-validated run, the means over its folds.

    Args:
        runs: Run ids by name.
        metrics: Names of the metrics, by what they are called in the result.

    Returns:
        ``name`` of the run, ``part`` (name of the metric), ``epoch`` from 1 on, and ``loss``.
    """
    rows = [
        (name, part, epoch, loss)
        for name, run in runs.items()
        for part, metric in metrics.items()
        for epoch, loss in enumerate(_history(run, metric), start=1)
    ]
    return pd.DataFrame(rows, columns=["name", "part", "epoch", "loss"])


def _history(run: str, metric: str) -> list[float]:
    values = reading.read_history(run, metric)
    if values:
        return values
    folds = [reading.read_history(fold.info.run_id, metric) for fold in reading.children(run)]
    return [fmean(losses) for losses in zip(*folds, strict=False)]
