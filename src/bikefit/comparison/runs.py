"""The runs of a sweep as a table: one row per run, with its configuration, settings and losses.

A configuration is all that its runs share: every setting except the seed and the fold. It is
identified by an id; labels name configurations for people and are never compared.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd

from bikefit.config import STRENGTHS
from bikefit.tracking.names import CONFIGURATION_ID, METHOD, NETWORK

# Parameters in MLflow that are settings; all other columns of `reading.read_runs` are results.
SETTING_GROUPS = (
    "data.",
    "network.",
    "regularization.",
    "optimizer.",
    "training.",
    "validation.",
)
FRACTION = "data.fraction"
NO_SETTINGS = {"data.root", "regularization.name"}  # they do not change a result
METHODS = (*STRENGTHS, "batch_norm", "patience")  # settings of regularization in every run table
NAMED = {"network.name", "network.hidden", "data.name", "validation.folds", "loss"}
METRICS = {
    "train_loss": "best/train/loss",
    "val_loss": "best/val/loss",
    "gap": "gap",
    "train_rmse": "best/train/rmse",
    "val_rmse": "best/val/rmse",
    "train_deviance": "best/train/deviance",
    "val_deviance": "best/val/deviance",
}
UNITS = {
    "mse": "in units of the target's variance",
    "poisson": "half Poisson deviance, bikes/hour",
    "deviance": "Poisson deviance, bikes/hour",
}


def run_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Return one row per run with its settings and results, in the order of `runs`.

    Args:
        runs: as returned by :func:`bikefit.tracking.reading.read_runs`.

    Returns:
        ``configuration`` is the label and ``configuration_id`` the id of the configuration. Losses
        have the unit given by :func:`loss_unit`, RMSE and deviance are in bikes/hour; all are of
        the selected epoch, and NaN if the run failed. Settings that differ between the runs and
        have no column of their own are added under their own names, and with cross-validation so
        are standard errors over the folds (``…_se``).
    """
    get = partial(column, runs)
    table = pd.DataFrame({key: get(key) for key in ("run_id", "name", "status")})
    labelled = "configuration" in runs
    table["configuration"] = runs["configuration"] if labelled else configuration_labels(runs)
    table["configuration_id"] = configuration_ids(runs)
    table["regularization"] = _methods(runs)
    table["kind"] = get(f"tags.{METHOD}").astype(object).fillna(table["regularization"])
    for key in METHODS:
        table[key] = get(f"regularization.{key}")
    table["network"] = _networks(runs)
    table["table"], table["loss"] = get("data.name"), get("loss")
    table["folds"], table["seed"] = get("validation.folds").fillna(1), get("seed")
    for name, metric in METRICS.items():
        table[name] = get(metric).astype(float)
    table["best_epoch"] = get("best/epoch")
    errors = {f"{name}_se": f"{metric}/standard_error" for name, metric in METRICS.items()}
    more = {key: runs[key] for key in _swept_settings(runs)}
    more |= {name: runs[metric] for name, metric in errors.items() if metric in runs}
    return table.assign(**more, failure=get("tags.failure"))


def column(runs: pd.DataFrame, key: str) -> pd.Series:
    """Return a column, or NaN for every run if there is no such column."""
    return runs[key] if key in runs else pd.Series(np.nan, index=runs.index)


def setting_columns(runs: pd.DataFrame) -> list[str]:
    """Return the names of the columns that are settings."""
    keys = [str(key) for key in runs]
    return [
        key
        for key in keys
        if key == "loss" or (key.startswith(SETTING_GROUPS) and key not in NO_SETTINGS)
    ]


def _swept_settings(runs: pd.DataFrame) -> list[str]:
    """Return the settings that differ between runs and have no column of their own."""
    known = NAMED | {f"regularization.{key}" for key in METHODS}
    keys = [key for key in setting_columns(runs) if key not in known]
    return [key for key in keys if runs[key].nunique(dropna=False) > 1]


def full_data_runs(runs: pd.DataFrame) -> pd.DataFrame:
    """Keep the runs on the largest fraction of the training rows.

    Runs on fewer rows measure the effect of more data and are not ranked. Configurations are
    labelled before runs are dropped, because a label lists only the settings that differ from most
    runs.
    """
    if FRACTION not in runs:
        return runs
    runs = runs.assign(configuration=configuration_labels(runs))
    return runs[runs[FRACTION] == runs[FRACTION].max()].reset_index(drop=True)


def ranking_metric(table: pd.DataFrame) -> str:
    """Return the metric that ranks a run table: "loss", or "deviance" if kinds of loss differ."""
    return "deviance" if table["loss"].nunique() > 1 else "loss"


def loss_unit(table: pd.DataFrame) -> str:
    """Return the unit of the ranking metric."""
    losses = table["loss"].dropna()
    if losses.empty:
        return ""
    return UNITS[losses.iloc[0] if ranking_metric(table) == "loss" else "deviance"]


def noise_inputs(runs: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Return the columns that determine the noise of each run's loss.

    Args:
        runs: as they were read.
        table: :func:`run_table` of them.

    Returns:
        ``days``, ``folds``, ``fold_error`` and ``rows`` in the order of `runs`, see
        :func:`bikefit.comparison.noise.estimate_losses`.
    """
    metric = METRICS[f"val_{ranking_metric(table)}"]
    inputs = pd.DataFrame(index=table.index)
    for part in ("days", "folds"):
        values = column(runs, f"{part}/{metric}")
        inputs[part] = [value if isinstance(value, tuple) else () for value in values]
    inputs["fold_error"] = column(table, f"val_{ranking_metric(table)}_se").astype(float)
    rows = column(runs, "tags.val_rows").astype(float).set_axis(table.index)
    # With cross-validation the folds show the noise of the rows.
    return inputs.assign(rows=rows.where(inputs["fold_error"].isna()))


def configuration_ids(runs: pd.DataFrame) -> pd.Series:
    """Return the id of each run's configuration.

    It is the tag that training writes, or a hash of all settings for runs without this tag.
    """
    texts = _methods(runs)
    for key in setting_columns(runs):
        texts = texts + f" {key}=" + runs[key].map(str)  # astype(str) keeps missing values
    hashes = pd.util.hash_pandas_object(texts, index=False).map("{:016x}".format)
    return column(runs, f"tags.{CONFIGURATION_ID}").astype(object).fillna(hashes)


def configuration_labels(runs: pd.DataFrame) -> pd.Series:
    """Return a label of each run's configuration: "l2 λ=0.1 · mlp 8 · optimizer.lr=0.01".

    Method and network are followed by the settings in which configurations with the same method
    and network differ, unless most runs have this value. Different configurations have different
    labels.
    """
    ids = configuration_ids(runs)
    label = _methods(runs) + " · " + _networks(runs)
    label = label + _differences(runs, label)
    label = label.groupby(ids).transform("first")
    ambiguous = ids.groupby(label).transform("nunique") > 1
    return label.mask(ambiguous, label + " · configuration " + ids)


def _methods(runs: pd.DataFrame) -> pd.Series:
    """Return the label of each run's regularization: "l2 λ=0.001 + dropout p=0.3"."""
    return column(runs, "method").astype(object).fillna("unknown")


def _networks(runs: pd.DataFrame) -> pd.Series:
    """Return the label of each run's network: "mlp 256×256", "mlp 64 relu", "linear"."""
    names = column(runs, "network.name").astype(object).fillna("unknown")
    return column(runs, f"tags.{NETWORK}").astype(object).fillna(names)


def _differences(runs: pd.DataFrame, label: pd.Series) -> pd.Series:
    """Return the settings in which runs of the same label differ: " · optimizer.lr=0.001".

    The value that most runs have is omitted, and so is the largest fraction of the training rows.
    """
    keys = setting_columns(runs)
    differ = runs[keys].groupby(label).nunique(dropna=False) > 1
    text = pd.Series("", index=runs.index)
    for key in differ.columns[differ.any()]:
        values = runs[key].map(lambda value: f"{value:g}" if isinstance(value, float) else value)
        words = (key + "=" + values.astype(str)).where(runs[key].notna(), f"no {key}")
        usual = runs[key].max() if key == FRACTION else _majority(runs[key])
        named = label.map(differ[key]) & (runs[key] != usual)
        named &= runs[key].notna() | pd.notna(usual)
        text += (" · " + words).where(named, "")
    return text


def _majority(values: pd.Series) -> object:
    """Return the value that more than half of the runs have, NaN if there is none."""
    counts = values.value_counts(dropna=False)
    return counts.index[0] if counts.iloc[0] > len(values) / 2 else np.nan
