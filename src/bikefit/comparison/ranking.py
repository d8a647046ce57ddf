"""The ranking of a sweep: which configuration has the lowest validation loss, and by how much.

Nothing here reads or writes files or MLflow.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from bikefit.comparison.noise import CONFIDENCE, difference, estimate_losses
from bikefit.comparison.runs import METRICS, column, noise_inputs, ranking_metric, run_table

# Columns that the runs of a configuration share.
SHARED = ["configuration", "regularization", "kind", "network", "table", "loss", "folds"]
LEAD_COLUMNS = ["difference", "difference_se", "within_noise"]


def rank(runs: pd.DataFrame, confidence: float = CONFIDENCE) -> pd.DataFrame:
    """Rank the configurations of a sweep by their mean validation loss.

    Losses on different validation rows cannot be compared. Such configurations are ranked
    separately, one group below the other; the group with the lowest loss comes first.

    Args:
        runs: as returned by :func:`bikefit.tracking.reading.read_runs`, preferably with the losses
            of :func:`bikefit.comparison.losses.losses_by_fold_and_day`.
        confidence: Confidence level at which a difference is significant.

    Returns:
        One row per configuration, best first, those without a result last. ``runs``, ``seeds`` and
        ``failed`` are counts. Each metric is a mean over seeds; ``…_std`` is its standard deviation
        and ``…_se`` its standard error over seeds, or over folds with cross-validation.
        ``validation_rows`` is equal for configurations validated on the same rows. ``difference``
        is the difference from the best of these, ``difference_se`` its standard error (see
        :mod:`bikefit.comparison.noise`), and ``within_noise`` is True if the difference is not
        significant at level ``confidence``, NA for the best itself and if the noise is unknown.
    """
    table = run_table(runs)
    metric = ranking_metric(table)
    by = f"val_{metric}"
    table["gap"] = table[by] - table[f"train_{metric}"]
    table["validation_rows"] = _validation_rows(runs, metric).where(table[by].notna())
    groups = table.groupby("configuration_id", sort=False)
    ranking = groups[[*SHARED, "validation_rows"]].first().fillna({"validation_rows": ""})
    ranking["runs"], ranking["failed"] = groups.size(), groups.size() - groups[by].count()
    by_seed = table.groupby(["configuration_id", "seed"], dropna=False)[list(METRICS)].mean()
    ranking["seeds"] = by_seed[by].groupby("configuration_id").count()
    ranking = ranking.join(_moments(table, by_seed, ranking))
    lowest = ranking.groupby("validation_rows")[by].transform("min").where(ranking[by].notna())
    ranking = ranking.assign(lowest=lowest).sort_values(["lowest", by, "configuration"])
    ranking = ranking.drop(columns="lowest").reset_index().assign(confidence=confidence)
    if ranking.empty:
        return ranking.assign(**{key: pd.Series(dtype=float) for key in LEAD_COLUMNS})
    inputs = table[["configuration_id", "seed"]].join(noise_inputs(runs, table))
    inputs = inputs.assign(loss=table[by]).dropna(subset=["loss"])
    leads = [
        _leads(inputs, group, by, confidence)
        for _, group in ranking.groupby("validation_rows", sort=False)
    ]
    return ranking.join(pd.concat(leads))


def _validation_rows(runs: pd.DataFrame, metric: str) -> pd.Series:
    """Return a text that is equal for runs validated on the same rows.

    It holds the number of the rows. Cross-validated jobs have no such tag, but the loss of a
    constant prediction.
    """
    rows = column(runs, "tags.val_rows").astype(object)
    if metric == "loss":  # this loss has one unit
        rows = rows.fillna(
            column(runs, "constant/val/loss").map("{:.4g}".format, na_action="ignore")
        )
    return rows.astype(str) + " rows, " + column(runs, "validation.folds").astype(str) + " folds"


def _moments(table: pd.DataFrame, by_seed: pd.DataFrame, ranking: pd.DataFrame) -> pd.DataFrame:
    """Return mean, standard deviation and standard error of each metric by configuration."""
    groups = by_seed.groupby("configuration_id")
    moments, stds = groups.mean(), groups.std()
    for name in METRICS:
        # Seeds share their folds, so more seeds do not reduce the error that is due to the folds.
        over_folds = column(table, f"{name}_se").groupby(table["configuration_id"]).mean()
        std = stds[name]
        moments[f"{name}_std"] = (over_folds * np.sqrt(ranking["folds"])).fillna(std)
        moments[f"{name}_se"] = over_folds.fillna(std / np.sqrt(ranking["seeds"]))
    return moments


def _leads(inputs: pd.DataFrame, ranking: pd.DataFrame, by: str, confidence: float) -> pd.DataFrame:
    """Return the difference of each configuration from the first, and its significance."""
    inputs = inputs[inputs["configuration_id"].isin(ranking["configuration_id"])]
    estimates, _ = estimate_losses(inputs)
    ids = ranking["configuration_id"]
    leads = pd.DataFrame(np.nan, index=ranking.index, columns=LEAD_COLUMNS[:2])
    within = pd.Series(pd.NA, index=ranking.index, dtype="boolean")
    best = ranking.iloc[0]
    level = float(best[[by, by.replace("val_", "train_")]].mean())
    for index, configuration in zip(ranking.index, ids, strict=True):
        if configuration not in estimates:  # without a result
            continue
        behind = difference(estimates[configuration], estimates[ids.iloc[0]], level)
        leads.loc[index, "difference"] = behind.value
        if index != ranking.index[0] and not math.isnan(behind.error):
            leads.loc[index, "difference_se"] = behind.error
            within[index] = not behind.is_significant(confidence)
    return leads.assign(within_noise=within)


def winner(ranking: pd.DataFrame) -> pd.Series | None:
    """Return the first row of a ranking, or None if no run has a result."""
    if ranking.empty or math.isnan(ranking.iloc[0][f"val_{ranking_metric(ranking)}"]):
        return None
    return ranking.iloc[0]


def comparable(ranking: pd.DataFrame) -> pd.DataFrame:
    """Return the configurations that have a result on the validation rows of the winner."""
    finished = ranking.dropna(subset=[f"val_{ranking_metric(ranking)}"])
    return finished[finished["validation_rows"] == finished["validation_rows"].head(1).squeeze()]


def least_flexible(ranking: pd.DataFrame) -> pd.Series | None:
    """Choose by the one-standard-error rule (Breiman et al. 1984); None if no run has a result.

    Of the configurations whose validation loss is at most one standard error above the lowest, the
    least flexible is chosen: the one with the highest train loss.
    """
    best, metric = winner(ranking), ranking_metric(ranking)
    if best is None or math.isnan(best[f"val_{metric}_se"]):
        return best
    limit = best[f"val_{metric}"] + best[f"val_{metric}_se"]
    near = comparable(ranking)
    near = near[near[f"val_{metric}"] <= limit]
    return near.loc[near[f"train_{metric}"].idxmax()]


def typical_rows(ranking: pd.DataFrame) -> pd.DataFrame:
    """Return a selection of the rows of a ranking with verdicts, in their order.

    Of each kind of method it has the best configuration, the worst that overfits and the worst that
    underfits, and the winner's network without regularization.
    """
    finished = ranking.dropna(subset=[f"val_{ranking_metric(ranking)}"])
    if finished.empty:
        return finished
    failing = finished[finished["verdict"].isin(["underfitting", "overfitting"])]
    network = finished["network"].iloc[0]
    plain = finished[(finished["kind"] == "none") & (finished["network"] == network)]
    # Prefer the configuration that differs from most in nothing but its method.
    shortest = plain["configuration"].str.len().sort_values(kind="stable").index[:1]
    chosen = [
        finished.drop_duplicates("kind").index,
        failing.drop_duplicates(["kind", "verdict"], keep="last").index,
        shortest,
    ]
    return finished.loc[sorted(set().union(*chosen))]


def highlighted_runs(table: pd.DataFrame, ranking: pd.DataFrame) -> dict[str, pd.Series]:
    """Return a run of the winner, of an underfitting and of an overfitting configuration.

    Args:
        table: of :func:`bikefit.comparison.runs.run_table`.
        ranking: of :func:`rank`; only configurations with the verdict can have a role.

    Returns:
        A row of `table` for each role: the run of the configuration with the lowest validation
        loss. The underfitting configuration has the highest train loss, the overfitting one the
        widest gap. Roles without a candidate are absent.
    """
    by, train = f"val_{ranking_metric(ranking)}", f"train_{ranking_metric(ranking)}"
    candidates = comparable(ranking).set_index("configuration_id")
    chosen = {"winner": candidates.index[0]} if len(candidates) else {}
    for role, score in (
        ("underfitting", candidates[train]),
        ("overfitting", candidates[by] - candidates[train]),
    ):
        others = score.drop(list(chosen.values()))
        if "verdict" in candidates:
            others = others[candidates["verdict"].reindex(others.index) == role]
        if chosen:
            others = others[others > score.loc[chosen["winner"]]]
        if len(others):
            chosen[role] = others.idxmax()
    runs = {role: table[table["configuration_id"] == id_] for role, id_ in chosen.items()}
    return {role: rows.loc[rows[by].idxmin()] for role, rows in runs.items()}
