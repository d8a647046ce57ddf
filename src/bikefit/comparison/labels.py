"""What runs are called: all that they share with runs of other seeds, in words."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bikefit.config import PLAIN

# What settings are called in MLflow; all other columns of `read_runs` were measured.
GROUPS = ("data.", "network.", "regularization.", "optimizer.", "training.", "validation.")
FRACTION = "data.fraction"


def configurations(runs: pd.DataFrame) -> pd.Series:
    """Name what each run shares with those of other seeds: "l2 λ=0.1 · mlp 8 · optimizer.lr=0.01".

    Args:
        runs: with their settings, under the names that `read_runs` gives.
    """
    label = methods(runs) + " · " + networks(runs)
    return label + _apart(runs, label)


def column(runs: pd.DataFrame, key: str) -> pd.Series:
    """Return a column, empty values where there is none."""
    return runs[key] if key in runs else pd.Series(np.nan, index=runs.index)


def methods(runs: pd.DataFrame) -> pd.Series:
    """Label the regularization of runs: "l2 λ=0.001 + dropout p=0.3"."""
    return column(runs, "method").astype(object).fillna("unknown")


def networks(runs: pd.DataFrame) -> pd.Series:
    """Label networks as their runs are named: "mlp 256×256", "mlp 64 relu", "linear"."""
    keys = ("network.name", "network.hidden", "network.activation")
    names, hidden, activation = (column(runs, key) for key in keys)
    names = names.astype(object).fillna("unknown")
    widths = hidden.astype(object).fillna("").astype(str).str.strip("[]").str.replace(",", "×")
    plain = activation.isna() | activation.eq(PLAIN) | widths.eq("")
    return (names + " " + widths + (" " + activation.astype(str)).mask(plain, "")).str.strip()


def settings(runs: pd.DataFrame) -> list[str]:
    """List the columns that say what was set."""
    keys = [str(key) for key in runs]
    return [k for k in keys if k == "loss" or (k.startswith(GROUPS) and k != "regularization.name")]


def _apart(runs: pd.DataFrame, label: pd.Series) -> pd.Series:
    """Text for settings in which runs of the same label differ: " · optimizer.lr=0.001".

    What most runs have goes without saying, and so do all of the rows.
    """
    keys = settings(runs)
    differ = runs[keys].groupby(label).nunique(dropna=False) > 1
    text = pd.Series("", index=runs.index)
    for key in differ.columns[differ.any()]:
        values = runs[key].map(lambda value: f"{value:g}" if isinstance(value, float) else value)
        usual = runs[key].max() if key == FRACTION else _of_most(runs[key])
        named = runs[key].notna() & label.map(differ[key]) & (runs[key] != usual)
        text += (" · " + key + "=" + values.astype(str)).where(named, "")
    return text


def _of_most(values: pd.Series) -> object:
    """The value that more than half of the runs have; None where none has."""
    counts = values.value_counts()
    return counts.index[0] if len(counts) and counts.iloc[0] > len(values) / 2 else None
