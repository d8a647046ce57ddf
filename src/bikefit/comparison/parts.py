"""The losses of runs by fold and by validation day, from which the noise of differences is told."""

from __future__ import annotations

from functools import lru_cache
from multiprocessing.pool import ThreadPool

import numpy as np
import pandas as pd

from bikefit.comparison.ranking import comparison, measure
from bikefit.tracking import connection, reading

FOLDS, DAYS = "folds/best/val/{}", "days/best/val/{}"
READERS = 8  # files that are read at once: a server answers each after a while
SMALLEST = 1.0  # bikes/hour; what a prediction below it counts as, where a deviance is asked for


def with_parts(runs: pd.DataFrame) -> pd.DataFrame:
    """Give runs their losses by fold or, without cross-validation, by day, as far as known."""
    return with_days(with_folds(runs))


def with_folds(runs: pd.DataFrame) -> pd.DataFrame:
    """Give runs the losses of all their folds as tuples, so that folds can be paired.

    Args:
        runs: as :func:`bikefit.tracking.reading.read_runs` gives them, with the last fold alone.

    Returns:
        The same with ``folds/best/val/loss`` or, where kinds of loss are mixed,
        ``folds/best/val/deviance`` of cross-validated jobs as tuples.
    """
    if "validation.folds" not in runs or not (runs["validation.folds"] > 1).any():
        return runs
    name = FOLDS.format(measure(comparison(runs)))
    if name in runs and any(isinstance(value, tuple) for value in runs[name]):
        return runs  # they have them
    values = [tuple(reading.read_steps(run, name).values()) for run in runs["run_id"]]
    return runs.assign(**{name: pd.Series(values, index=runs.index, dtype=object)})


def with_days(runs: pd.DataFrame) -> pd.DataFrame:
    """Give runs what each validation day adds to their loss, so that days can be paired.

    Args:
        runs: as :func:`bikefit.tracking.reading.read_runs` gives them.

    Returns:
        The same with ``days/best/val/loss`` or, where kinds of loss are mixed,
        ``days/best/val/deviance`` as tuples in the order of the days, which add up to the loss;
        an empty tuple where a run is cross-validated, has no result or kept no predictions.
    """
    if runs.empty:
        return runs
    table = comparison(runs)
    name = measure(table)
    if DAYS.format(name) in runs:
        return runs
    asked = [
        (str(row["run_id"]), "deviance" if name == "deviance" else str(row["loss"]),
         float(row[f"val_{name}"])) if row["folds"] == 1 and row[f"val_{name}"] > 0 else None
        for row in table.to_dict("records")
    ]  # fmt: skip
    connection.client()  # opened once, before several threads ask for it
    with ThreadPool(READERS) as pool:
        found = pool.map(lambda one: _by_day(*one) if one else (), asked)
    return runs.assign(**{DAYS.format(name): pd.Series(found, index=runs.index, dtype=object)})


@lru_cache(maxsize=10_000)
def _by_day(run: str, loss: str, mean: float) -> tuple[float, ...]:
    """What each day adds to the loss of a run; `loss` is mse, poisson or deviance."""
    predictions = reading.read_predictions(run)
    if predictions is None:
        return ()
    true, predicted = predictions["rentals"].to_numpy(), predictions["predicted"].to_numpy()
    rows = (predicted - true) ** 2 if loss == "mse" else _half_deviance(true, predicted)
    days = pd.Series(rows).groupby(predictions["timestamp"].dt.normalize().to_numpy()).sum()
    # In the unit of the loss, whatever scale that has.
    return tuple(float(day) for day in days * (mean / days.sum()))


def _half_deviance(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    rate = np.maximum(predicted.astype(float), SMALLEST if predicted.min() <= 0 else 0.0)
    logarithm = np.log(np.where(true > 0, true, 1.0) / rate)
    return np.asarray(true * logarithm - true + rate)
