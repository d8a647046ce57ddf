"""Losses read from MLflow: by fold, by validation day, and by epoch."""

from __future__ import annotations

from functools import lru_cache
from multiprocessing.pool import ThreadPool

import numpy as np
import pandas as pd

from bikefit.comparison.runs import ranking_metric, run_table
from bikefit.tracking import connection, reading

FOLDS, DAYS = "folds/best/val/{}", "days/best/val/{}"
READERS = 8  # files that are read concurrently
SMALLEST = 1.0  # bikes/hour; lower bound of predictions for the deviance


def losses_by_fold_and_day(runs: pd.DataFrame) -> pd.DataFrame:
    """Add the validation losses of each run by fold or by day, so that they can be paired.

    Args:
        runs: as returned by :func:`bikefit.tracking.reading.read_runs`.

    Returns:
        `runs` with ``folds/best/val/loss`` (the loss of each fold) and ``days/best/val/loss`` (the
        contribution of each day to the loss, in the order of the days) as tuples, or with
        ``…/deviance`` if kinds of loss differ. A tuple of days is empty if a run is
        cross-validated, has no result or no saved predictions. Columns that `runs` has already are
        not read again.
    """
    if runs.empty:
        return runs
    table = run_table(runs)
    metric = ranking_metric(table)
    folds, days = FOLDS.format(metric), DAYS.format(metric)
    if (table["folds"] > 1).any() and not (
        folds in runs and runs[folds].map(lambda value: isinstance(value, tuple)).any()
    ):
        values = [tuple(reading.read_steps(run, folds).values()) for run in runs["run_id"]]
        runs = runs.assign(**{folds: pd.Series(values, index=runs.index, dtype=object)})
    if days not in runs:
        kind = "deviance" if metric == "deviance" else table["loss"]
        inputs = pd.DataFrame(
            {"run": table["run_id"], "kind": kind, "mean": table[f"val_{metric}"]}
        )
        inputs.loc[table["folds"] > 1, "mean"] = np.nan
        connection.client()  # opened before several threads need it
        with ThreadPool(READERS) as pool:
            values = pool.starmap(_losses_by_day, inputs.itertuples(index=False))
        runs = runs.assign(**{days: pd.Series(values, index=runs.index, dtype=object)})
    return runs


@lru_cache(maxsize=10_000)
def _losses_by_day(run: str, kind: str, mean: float) -> tuple[float, ...]:
    """Return the contribution of each day to the mean loss of a run; `kind` is that of the loss."""
    predictions = reading.read_predictions(run) if mean > 0 else None
    if predictions is None:
        return ()
    true, predicted = predictions["rentals"].to_numpy(), predictions["predicted"].to_numpy()
    rows = (predicted - true) ** 2 if kind == "mse" else _half_deviance(true, predicted)
    days = pd.Series(rows).groupby(predictions["timestamp"].dt.normalize().to_numpy()).sum()
    # Scaled to the unit of the mean loss.
    return tuple(float(day) for day in days * (mean / days.sum()))


def _half_deviance(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    rate = np.maximum(predicted.astype(float), SMALLEST if predicted.min() <= 0 else 0.0)
    logarithm = np.log(np.where(true > 0, true, 1.0) / rate)
    return np.asarray(true * logarithm - true + rate)


def learning_curves(table: pd.DataFrame, ranking: pd.DataFrame) -> pd.DataFrame:
    """Return the losses by epoch of three configurations that show the recipe's step 6.

    Args:
        table: of :func:`bikefit.comparison.runs.run_table`.
        ranking: of :func:`bikefit.comparison.ranking.rank`.

    Returns:
        One row per epoch that all seeds reached, with means over seeds: columns ``winner train``
        and ``winner validation``; the same of ``unregularized``, the configuration without
        regularization that has the lowest train loss; and of ``most underfitting``, the one with
        the highest train loss. Columns of configurations that do not exist are absent.
    """
    finished = ranking.dropna(subset=["train_loss"]).set_index("configuration_id")
    if finished.empty:
        return pd.DataFrame({"epoch": []})
    plain = finished.loc[finished["kind"] == "none", "train_loss"]
    chosen = {"winner": finished.index[0]}
    if len(plain):
        chosen["unregularized"] = plain.idxmin()
    chosen["most underfitting"] = finished["train_loss"].idxmax()
    columns: dict[str, pd.Series] = {}
    for role, configuration in chosen.items():
        runs = table[table["configuration_id"] == configuration].dropna(subset=["train_loss"])
        for part, word in (("train", "train"), ("val", "validation")):
            histories = [history(run, f"{part}/loss") for run in runs["run_id"]]
            columns[f"{role} {word}"] = pd.DataFrame(histories).T.mean(axis=1, skipna=False)
    curves = pd.DataFrame(columns).dropna(how="all")
    return curves.rename_axis("epoch").rename(lambda epoch: epoch + 1).reset_index()


def history(run: str, metric: str) -> list[float]:
    """Return a metric of a run by epoch; for a cross-validated run, the mean over its folds."""
    values = reading.read_history(run, metric)
    if values:
        return values
    folds = [
        reading.read_history(fold, metric) for fold in reading.read_runs(run).get("run_id", [])
    ]
    return [sum(values) / len(values) for values in zip(*folds, strict=False)]
