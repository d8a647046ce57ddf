"""The runs of a sweep as a table: one row per run, with its configuration, losses and settings.

Only `run_table` refers to this project's metrics, parameters and tags. The rest of the package
works on the columns of its result.

A configuration is all that its runs share: every setting except the seed and the fold. It is
identified by an id; labels name configurations for people and are never compared.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from bikefit.losses import LOSSES, with_unit
from bikefit.tracking.names import CONFIGURATION_ID, METHOD, NETWORK, TARGET, UNIT

# Columns of a run table, and where `reading.read_runs` has them.
TEXTS = {
    "run_id": "run_id",
    "experiment_id": "experiment_id",
    "name": "name",
    "status": "status",
    "seed": "seed",
    "failure": "tags.failure",
    "regularization": "method",
    "kind": f"tags.{METHOD}",
    "network": f"tags.{NETWORK}",
    "table": "data.name",
    "target": f"tags.{TARGET}",
    "target_unit": f"tags.{UNIT}",
}
NUMBERS = {
    "folds": "validation.folds",
    "train_rows": "tags.train_rows",
    "val_rows": "tags.val_rows",
    "best_epoch": "best/epoch",
    "lowest": "lowest/val/loss",
    "unfinished": "unfinished",
    "parameters": "parameters",
    "weight_norm": "best/weights/norm",
    "constant_train": "constant/train/loss",
    "constant_val": "constant/val/loss",
}
METRICS = {
    "train_loss": "best/train/{metric}",
    "val_loss": "best/val/{metric}",
    "train_rmse": "best/train/rmse",
    "val_rmse": "best/val/rmse",
    "train_deviance": "best/train/deviance",
    "val_deviance": "best/val/deviance",
    "val_accuracy": "best/val/accuracy",
    "val_auc": "best/val/auc",
}
SETS = "training sets"
FRACTION = "data.fraction"
# Prefixes of parameters in MLflow that are settings, and settings that do not change a result.
# "parameter." is the prefix for runs that another program recorded.
SETTINGS = (
    *("data.", "network.", "regularization.", "optimizer.", "training.", "validation."),
    "parameter.",
)
NO_SETTINGS = {"data.root", "regularization.name"}


def run_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Return one row per run with its results and settings, in the order of `runs`.

    Args:
        runs: as returned by :func:`bikefit.tracking.reading.read_runs`.

    Returns:
        ``train_loss`` and ``val_loss`` are in the metric that ranks the runs: the loss, or the
        Poisson deviance if the runs have different losses and all have it. ``metric`` and ``unit``
        name it, in every row. RMSE and deviance are in the ``target_unit``. All metrics are of the
        selected epoch, and NaN if the run failed or the target has no such metric; ``…_se`` is the
        standard error over folds, NaN without cross-validation. ``repetition`` is "folds" with
        cross-validation and "training sets" with ``validation=resample``, whose sets are treated
        like folds; otherwise "seeds". ``validation_rows`` is equal for runs whose losses on the
        same validation rows can be compared. ``configuration`` is the label and
        ``configuration_id`` the id of the configuration. All other columns are settings.
    """
    losses = _column(runs, "loss")
    has_loss, has_deviance = (_column(runs, f"best/val/{m}").notna() for m in ("loss", "deviance"))
    several = losses.nunique() > 1
    metric = "deviance" if several and has_deviance[has_loss].all() else "loss"
    errors = {f"{name}_se": f"{key}/standard_error" for name, key in METRICS.items()}
    numbers = NUMBERS | METRICS | errors
    sources = [key.format(metric=metric) for key in (TEXTS | numbers).values()]
    table = runs.reindex(columns=sources).set_axis(list(TEXTS | numbers), axis=1)
    table = table.astype(dict.fromkeys(TEXTS, object) | dict.fromkeys(numbers, float))
    table = table.fillna({"regularization": "unknown", "folds": 1, "target": "", "target_unit": ""})
    names = _column(runs, "network.name").fillna("unknown")
    table = table.fillna({"kind": table["regularization"], "network": names})
    sets = _column(runs, "validation.sets").astype(float)
    table["folds"] = sets.fillna(table["folds"])
    repetition = np.where(table["folds"] > 1, "folds", "seeds")
    table["repetition"] = np.where(sets.notna(), SETS, repetition)
    if metric == "deviance":
        # Half a deviance is the Poisson loss; of the squared error there is none for single epochs.
        scale = losses.map({"poisson": 2.0})
        for key in ("lowest", "constant_train", "constant_val"):
            table[key] *= scale
    table["metric"] = metric
    units = zip(losses, table["target_unit"], strict=True)
    if metric == "deviance":
        table["unit"] = [with_unit("Poisson deviance", unit) for _, unit in units]
    else:
        table["unit"] = [LOSSES[loss].label(unit) if loss in LOSSES else "" for loss, unit in units]
    table["gap"] = table["val_loss"] - table["train_loss"]
    # Cross-validated jobs have no number of rows, but the loss of a constant prediction.
    rows = table["val_rows"].fillna(table["constant_val"] if metric == "loss" else np.nan)
    rows = rows.map("{:.4g} rows, ".format) + table["folds"].map("{:.0f} folds".format)
    if metric == "loss" and several:
        rows = rows + ", " + losses.map(str)
    table["validation_rows"] = rows.where(table["val_loss"].notna())
    table = table.join(settings_of(runs).drop(columns=NO_SETTINGS, errors="ignore"))
    ids = _column(runs, f"tags.{CONFIGURATION_ID}")
    texts = settings_of(table).assign(regularization=table["regularization"]).map(str)
    hashes = pd.util.hash_pandas_object(texts, index=False).map("{:016x}".format)
    table["configuration_id"] = ids.fillna(hashes)
    return table.assign(configuration=configuration_labels(table))


def _column(runs: pd.DataFrame, key: str) -> pd.Series:
    missing = pd.Series(np.nan, index=runs.index)
    return runs.get(key, missing).astype(object)


def settings_of(table: pd.DataFrame) -> pd.DataFrame:
    """Return the columns of a run table that are settings."""
    return table[[key for key in table if key == "loss" or str(key).startswith(SETTINGS)]]


def full_data_runs(table: pd.DataFrame) -> pd.DataFrame:
    """Keep the runs on the largest fraction of the training rows; others are not ranked."""
    if FRACTION not in table:
        return table
    return table[table[FRACTION] == table[FRACTION].max()].reset_index(drop=True)


def configuration_labels(table: pd.DataFrame) -> pd.Series:
    """Return a label of each run's configuration: "l2 λ=0.1 · mlp 8 · optimizer.lr=0.01".

    Method and network are followed by the settings in which configurations with the same method
    and network differ, unless most runs have this value. Different configurations have different
    labels.
    """
    ids = table["configuration_id"]
    label = table["regularization"] + " · " + table["network"]
    label = label + _differences(settings_of(table), label)
    label = label.groupby(ids).transform("first")
    ambiguous = ids.groupby(label).transform("nunique") > 1
    return label.mask(ambiguous, label + " · configuration " + ids)


def _differences(settings: pd.DataFrame, label: pd.Series) -> pd.Series:
    """Return the settings in which runs of the same label differ: " · optimizer.lr=0.001".

    The value that most runs have is omitted, and so is the largest fraction of the training rows.
    """
    differ = settings.groupby(label).nunique(dropna=False) > 1
    text = pd.Series("", index=settings.index)
    for key in differ.columns[differ.any()]:
        values = settings[key]
        words = values.map(lambda value: f"{value:g}" if isinstance(value, float) else str(value))
        words = (f"{key}=" + words).where(values.notna(), f"no {key}")
        usual = values.max() if key == FRACTION else _majority(values)
        named = label.map(differ[key]) & (values != usual)
        named &= values.notna() | pd.notna(usual)
        text += (" · " + words).where(named, "")
    return text


def _majority(values: pd.Series) -> object:
    """Return the value that more than half of the runs have, NaN if there is none."""
    counts = values.value_counts(dropna=False)
    return counts.index[0] if counts.iloc[0] > len(values) / 2 else np.nan


def ranking_metric(table: pd.DataFrame) -> str:
    """Return the metric of ``train_loss`` and ``val_loss``: "loss" or "deviance"."""
    return str(table["metric"].iloc[0]) if len(table) else "loss"


def loss_unit(table: pd.DataFrame) -> str:
    """Return what ``train_loss`` and ``val_loss`` measure: "half Poisson deviance, bikes/hour"."""
    return str(table["unit"].iloc[0]) if len(table) else ""


def target_unit(table: pd.DataFrame) -> str:
    """Return the unit of the target, "" if it has none."""
    return str(table["target_unit"].iloc[0]) if len(table) else ""
