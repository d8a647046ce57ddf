"""Losses epoch by epoch, of single runs and of those that stand out."""

from __future__ import annotations

import pandas as pd

from bikefit.tracking import reading

PARTS = {"train": "train", "val": "validation"}


def learning_curves(table: pd.DataFrame, ranking: pd.DataFrame) -> pd.DataFrame:
    """Return losses epoch by epoch of three configurations that show the recipe's step 6.

    Returns:
        One row an epoch, means over seeds up to the epoch that all of them reached: columns
        ``winner train``, ``winner validation``; the same of ``unregularized``, the one without
        regularization that has the lowest train loss; and of ``most underfitting``, the one with
        the highest train loss. Without any unregularized run its columns are absent.
    """
    finished = ranking.dropna(subset=["train_loss"])
    free = finished[finished["kind"] == "none"]
    chosen = {"winner": finished.index[0]}
    if len(free):
        chosen["unregularized"] = free["train_loss"].idxmin()
    chosen["most underfitting"] = finished["train_loss"].idxmax()
    columns: dict[str, pd.Series] = {}
    for role, place in chosen.items():
        runs = table[table["configuration"] == ranking["configuration"][place]]
        runs = runs.dropna(subset=["train_loss"])
        for part, words in PARTS.items():
            histories = [history(run, f"{part}/loss") for run in runs["run_id"]]
            columns[f"{role} {words}"] = pd.DataFrame(histories).T.mean(axis=1, skipna=False)
    curves = pd.DataFrame(columns).dropna(how="all")
    return curves.rename_axis("epoch").rename(lambda epoch: epoch + 1).reset_index()


def history(run: str, metric: str) -> list[float]:
    """A run's loss by epoch; of a run that only holds folds, the mean of what they all reached."""
    own = reading.read_history(run, metric)
    if own:
        return own
    folds = [
        reading.read_history(fold, metric) for fold in reading.read_runs(run).get("run_id", [])
    ]
    return [sum(values) / len(values) for values in zip(*folds, strict=False)]
