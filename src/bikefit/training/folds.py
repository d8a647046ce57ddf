"""The rows that members may read, and the folds that say what each trains on.

A pool holds the training and validation rows of a table; a fold says which of them a member
trains on. Test rows are never read here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from bikefit.config import ConfigError, Settings, Validation
from bikefit.data.splits import folds as cut_folds
from bikefit.data.splits import subset
from bikefit.data.table import Table, read_table


@dataclass(frozen=True, eq=False)
class Pool:
    """Training rows of a table, then its validation rows.

    Args:
        table: what featurize wrote of them.
        features: ``(N, D)`` float32.
        target: ``(N,)`` float32, bikes/hour.
        timestamps: ``(N,)``.
        train_rows: how many of the N rows are training rows.
    """

    table: Table
    features: np.ndarray
    target: np.ndarray
    timestamps: np.ndarray
    train_rows: int


def read_pool(path: Path) -> Pool:
    """Read the pool of a table, once in each process as long as the table stays as it is."""
    return _pool(path, read_table(path).data_version)


@lru_cache(maxsize=4)
def _pool(path: Path, version: str) -> Pool:
    table = read_table(path)
    count, held_out = table.rows["train"], table.rows["validation"]
    features = np.empty((count + held_out, len(table.feature_names)), dtype=np.float32)
    parts = table.read("train", features[:count]), table.read("validation", features[count:])
    return Pool(
        table,
        features,
        np.concatenate([part.target for part in parts]),
        np.concatenate([part.timestamps for part in parts]),
        count,
    )


@dataclass(frozen=True, eq=False)
class Fold:
    """Positions in the pool of the rows to train on and to validate on."""

    train: np.ndarray
    validation: np.ndarray
    refit: bool  # whether the columns' statistics must be fitted anew on the training rows


def cut(path: Path, fraction: float, validation: Validation) -> tuple[Fold, ...]:
    """Cut the pool of a table into folds; a fraction is taken of the training rows alone.

    Raises:
        ConfigError: a fold has fewer than 2 training rows or no validation row.
    """
    return _cut(path, read_table(path).data_version, fraction, validation)


@lru_cache(maxsize=32)
def _cut(path: Path, version: str, fraction: float, validation: Validation) -> tuple[Fold, ...]:
    pool = _pool(path, version)
    table = pool.table
    if validation.name == "holdout":
        rows = np.arange(len(pool.target))
        cuts = [(rows[: pool.train_rows], rows[pool.train_rows :])]
    else:
        cuts = cut_folds(pool.timestamps, table.split_kind, validation.folds, table.split_seed)
    found = []
    for train, held_out in cuts:
        kept = train
        if fraction < 1:
            chosen = subset(pool.timestamps[train], table.split_kind, fraction, table.split_seed)
            kept = train[chosen]
        if len(kept) < 2 or not len(held_out):
            raise ConfigError(
                f"table {table.name}: {len(kept)} training and {len(held_out)} validation rows "
                f"(data.fraction={fraction}, validation={validation.name}); at least 2 and 1 are "
                "needed"
            )
        found.append(Fold(kept, held_out, refit=fraction < 1 or len(cuts) > 1))
    return tuple(found)


def folds_of(settings: Settings) -> tuple[Fold, ...]:
    """Return the folds that the settings ask for."""
    return cut(settings.data.path, settings.data.fraction, settings.validation)
