"""The ranking of the configurations of a sweep by their validation loss, and selections from it."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from bikefit.comparison.noise import differences
from bikefit.comparison.runs import METRICS

# Columns that the runs of a configuration share.
SHARED = ["configuration", "regularization", "kind", "network", "table", "folds", "metric", "unit"]
SHARED += ["validation_rows", "repetition", "target", "target_unit"]


def rank(table: pd.DataFrame) -> pd.DataFrame:
    """Rank the configurations of a run table by their mean validation loss.

    Losses on different validation rows cannot be compared. Such configurations are ranked
    separately, one group below the other; the group with the lowest loss comes first.

    Returns:
        One row per configuration, best first, those without a result last. ``runs``, ``seeds`` and
        ``failed`` are counts. Each metric is a mean over seeds; ``…_std`` is its standard deviation
        and ``…_se`` its standard error over seeds, or over folds or training sets.
        ``difference`` is the difference from the best on the same validation rows,
        ``difference_se`` its standard error (see :mod:`bikefit.comparison.noise`), and
        ``within_noise`` is True if the difference is not significant, NA for the best itself and
        if the noise is unknown.
    """
    groups = table.groupby("configuration_id", sort=False)
    ranking = groups[SHARED].first().fillna({"validation_rows": ""})
    ranking["runs"], ranking["failed"] = groups.size(), groups.size() - groups["val_loss"].count()
    names = list(METRICS)
    by_seed = table.groupby(["configuration_id", "seed"], dropna=False)[names].mean()
    seeds = by_seed.groupby("configuration_id")
    ranking["seeds"] = seeds["val_loss"].count()
    ranking = ranking.join(groups[["train_rows", "parameters", "weight_norm"]].mean())
    # Seeds share their folds, so more seeds do not reduce the error that is due to the folds.
    errors = groups[[f"{name}_se" for name in names]].mean().set_axis(names, axis=1)
    std = errors.mul(np.sqrt(ranking["folds"]), axis=0).fillna(seeds.std())
    errors = errors.fillna(seeds.std().div(np.sqrt(ranking["seeds"]), axis=0))
    ranking = ranking.join([seeds.mean(), std.add_suffix("_std"), errors.add_suffix("_se")])
    ranking["gap"] = ranking["val_loss"] - ranking["train_loss"]
    lowest = ranking.groupby("validation_rows")["val_loss"].transform("min")
    ranking["lowest"] = lowest.where(ranking["val_loss"].notna())
    ranking = ranking.sort_values(["lowest", "val_loss", "configuration"]).drop(columns="lowest")
    ranking = ranking.reset_index()
    results = table.dropna(subset=["val_loss"])
    leads = [
        differences(results[results["configuration_id"].isin(ids)], "val_loss", ids.iloc[0])
        for _, ids in ranking.groupby("validation_rows")["configuration_id"]
        if ids.isin(results["configuration_id"]).all()
    ]
    columns = ["difference", "difference_se", "within_noise"]
    lead = pd.concat(leads) if leads else pd.DataFrame(columns=columns, dtype=float)
    return ranking.join(lead[columns], on="configuration_id")


def winner(ranking: pd.DataFrame) -> pd.Series | None:
    """Return the first row of a ranking, or None if no run has a result."""
    if ranking.empty or math.isnan(ranking.iloc[0]["val_loss"]):
        return None
    return ranking.iloc[0]


def comparable(ranking: pd.DataFrame) -> pd.DataFrame:
    """Return the configurations that have a result on the validation rows of the winner."""
    finished = ranking.dropna(subset=["val_loss"])
    return finished[finished["validation_rows"] == finished["validation_rows"].head(1).squeeze()]


def least_flexible(ranking: pd.DataFrame) -> pd.Series | None:
    """Return the choice of the one-standard-error rule, or None if no run has a result.

    It is the least flexible configuration (highest train loss) whose validation loss is at most one
    standard error above the lowest (Breiman et al. 1984).
    """
    best = winner(ranking)
    if best is None or math.isnan(best["val_loss_se"]):
        return best
    limit = best["val_loss"] + best["val_loss_se"]
    near = comparable(ranking)
    near = near[near["val_loss"] <= limit]
    return near.loc[near["train_loss"].idxmax()]


def typical_rows(ranking: pd.DataFrame) -> pd.DataFrame:
    """Return representative rows of a ranking with verdicts, in their order.

    These are the best, the worst overfitting and the worst underfitting configuration of each kind
    of regularization, and the winner's network without regularization.
    """
    finished = ranking.dropna(subset=["val_loss"])
    if finished.empty:
        return finished
    failing = finished[finished["verdict"].isin(["underfitting", "overfitting"])]
    network = finished["network"].iloc[0]
    plain = finished[(finished["kind"] == "none") & (finished["network"] == network)]
    # The configuration with the shortest name differs from most in its regularization only.
    shortest = plain["configuration"].str.len().sort_values(kind="stable").index[:1]
    chosen = [
        finished.drop_duplicates("kind").index,
        failing.drop_duplicates(["kind", "verdict"], keep="last").index,
        shortest,
    ]
    return finished.loc[sorted(set().union(*chosen))]


def highlighted_runs(table: pd.DataFrame, ranking: pd.DataFrame) -> dict[str, pd.Series]:
    """Return a row of a run table for each of three roles; roles without a candidate are absent.

    ``winner`` is the best configuration, ``underfitting`` the configuration with this verdict and
    the highest train loss, ``overfitting`` that with this verdict and the widest gap. The row is
    their run with the lowest validation loss.
    """
    candidates = comparable(ranking).set_index("configuration_id")
    if candidates.empty:
        return {}
    chosen = {"winner": candidates.index[0]}
    for role, score in (("underfitting", "train_loss"), ("overfitting", "gap")):
        others = candidates.iloc[1:].loc[candidates["verdict"] == role, score]
        if len(others):
            chosen[role] = others.idxmax()
    runs = {role: table[table["configuration_id"] == id_] for role, id_ in chosen.items()}
    return {role: rows.loc[rows["val_loss"].idxmin()] for role, rows in runs.items()}
