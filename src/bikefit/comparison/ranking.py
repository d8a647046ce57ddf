"""The ranking of the configurations of a sweep by their validation loss, and selections from it."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from bikefit.comparison.noise import differences
from bikefit.comparison.runs import METRICS
from bikefit.tracking.names import CURVES, PLANE

PAGE = 100  # runs that a page of MLflow loads
FEW = 8  # configurations whose curves can be told apart

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
    chosen = [
        finished.drop_duplicates("kind").index,
        failing.drop_duplicates(["kind", "verdict"], keep="last").index,
        _shortest(plain).index,
    ]
    return finished.loc[sorted(set().union(*chosen))]


def _shortest(ranking: pd.DataFrame) -> pd.DataFrame:
    """Return the row with the shortest label, which differs least from the other settings."""
    return ranking.loc[ranking["configuration"].str.len().sort_values(kind="stable").index[:1]]


def _roles(candidates: pd.DataFrame) -> dict[str, str]:
    """Return the configuration of each role of :func:`highlighted_runs`."""
    if candidates.empty:
        return {}
    chosen = {"winner": str(candidates["configuration_id"].iloc[0])}
    for role, score in (("underfitting", "train_loss"), ("overfitting", "gap")):
        others = candidates.iloc[1:]
        others = others[others["verdict"] == role].sort_values(score, ascending=False)
        if len(others):
            chosen[role] = str(others["configuration_id"].iloc[0])
    return chosen


def telling_configurations(ranking: pd.DataFrame) -> list[str]:
    """Return the ids of the few configurations that show what regularization does.

    These are those of :func:`highlighted_runs`, the best of each single method, and the winner's
    network and the linear network without regularization; if there are at most `FEW`
    configurations, all of them.
    """
    candidates = comparable(ranking)
    if len(candidates) <= FEW:
        return list(candidates["configuration_id"])
    single = candidates[~candidates["kind"].str.contains(" + ", regex=False)]
    plain = single[single["kind"] == "none"]
    chosen = [
        single[single["kind"] != "none"].drop_duplicates("kind"),
        _shortest(plain[plain["network"] == candidates["network"].iloc[0]]),
        plain[plain["network"].str.startswith("linear")].head(1),
    ]
    ids = pd.concat(chosen)["configuration_id"]
    return list(dict.fromkeys([*_roles(candidates).values(), *ids]))


def views_of_runs(table: pd.DataFrame, ranking: pd.DataFrame) -> dict[str, str]:
    """Return the views in MLflow that show a run, by run id: "curves plane" or one of them.

    MLflow's pages load `PAGE` runs. *curves* shows :func:`telling_configurations`. *plane* shows
    all runs, a run of each configuration if there are more than `PAGE`, or as many configurations
    from the best to the worst.
    """
    finished = table.dropna(subset=["val_loss"]).sort_values("val_loss", kind="stable")
    plane = finished if len(finished) <= PAGE else finished.drop_duplicates("configuration_id")
    plane = plane.iloc[np.linspace(0, len(plane) - 1, min(len(plane), PAGE)).astype(int)]
    telling = telling_configurations(ranking)
    curves = finished[finished["configuration_id"].isin(telling)]
    curves = curves.groupby("configuration_id").head(PAGE // max(1, len(telling)))
    shown = dict.fromkeys(curves["run_id"], CURVES)
    return shown | {run: f"{shown.get(run, '')} {PLANE}".strip() for run in plane["run_id"]}


def highlighted_runs(table: pd.DataFrame, ranking: pd.DataFrame) -> dict[str, pd.Series]:
    """Return a row of a run table for each of three roles; roles without a candidate are absent.

    ``winner`` is the best configuration, ``underfitting`` the configuration with this verdict and
    the highest train loss, ``overfitting`` that with this verdict and the widest gap. The row is
    their run with the lowest validation loss.
    """
    runs = table.dropna(subset=["val_loss"]).sort_values("val_loss", kind="stable")
    ids = runs["configuration_id"]
    return {role: runs[ids == id_].iloc[0] for role, id_ in _roles(comparable(ranking)).items()}
