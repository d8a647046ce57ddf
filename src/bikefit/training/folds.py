"""The rows that members may read, and the folds that divide them.

A pool holds the training and validation rows of a table. A fold states which of them a member
trains on and which it is validated on. Test rows are never read here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np

from bikefit.config import ConfigError, Settings, Validation
from bikefit.data.splits import Kind, folds, subset
from bikefit.data.table import read_table


@dataclass(frozen=True, eq=False)
class Fold:
    """Positions in the pool of the rows to train on and to validate on.

    Args:
        train: Positions of the training rows.
        validation: Positions of the validation rows.
        refit: Whether the columns are standardized again with the statistics of these training
            rows, because they are not all training rows of the table.
    """

    train: np.ndarray
    validation: np.ndarray
    refit: bool


@dataclass(frozen=True, eq=False)
class Pool:
    """Training rows, followed by validation rows.

    Args:
        features: ``(N, D)`` float32.
        target: ``(N,)`` float32, bikes/hour.
        timestamps: ``(N,)`` datetime64.
        train_rows: Number of training rows.
        standardized: Positions of the standardized columns.
        split_kind: Kind of the table's split, which is also that of folds.
        split_seed: Seed of the table's split.
        name: Name of the table, for messages.
    """

    features: np.ndarray
    target: np.ndarray
    timestamps: np.ndarray
    train_rows: int
    standardized: tuple[int, ...] = ()
    split_kind: Kind = "days"
    split_seed: int = 0
    name: str = ""
    _folds: dict[tuple[float, Validation], list[Fold]] = field(default_factory=dict, init=False)

    def folds(self, settings: Settings) -> list[Fold]:
        """Return the folds of a configuration; equal settings share them.

        Raises:
            ConfigError: A fold has fewer than 2 training rows or no validation row.
        """
        fraction, validation = key = settings.data.fraction, settings.validation
        if key in self._folds:
            return self._folds[key]
        if validation.name == "holdout":
            rows = np.arange(len(self.target))
            pairs = [(rows[: self.train_rows], rows[self.train_rows :])]
        else:
            pairs = folds(self.timestamps, self.split_kind, validation.folds, self.split_seed)
        result = []
        for rows, held_out in pairs:
            train = rows
            if fraction < 1:
                times = self.timestamps[rows]
                train = rows[subset(times, self.split_kind, fraction, self.split_seed)]
            if len(train) < 2 or not len(held_out):
                raise ConfigError(
                    f"table {self.name}: {len(train)} training and {len(held_out)} validation rows "
                    f"(data.fraction={fraction}, validation={validation.name}); at least 2 and 1 "
                    "are needed"
                )
            result.append(Fold(train, held_out, refit=fraction < 1 or len(pairs) > 1))
        self._folds[key] = result
        return result


def read_pool(path: Path) -> Pool:
    """Read the pool of a table; a process reads it again only if the table has changed."""
    return _pool(path, read_table(path).data_version)


@lru_cache(maxsize=4)
def _pool(path: Path, version: str) -> Pool:
    table = read_table(path)
    count, held_out = table.rows["train"], table.rows["validation"]
    features = np.empty((count + held_out, len(table.feature_names)), dtype=np.float32)
    parts = table.read("train", features[:count]), table.read("validation", features[count:])
    return Pool(
        features,
        np.concatenate([part.target for part in parts]),
        np.concatenate([part.timestamps for part in parts]),
        count,
        table.standardized,
        table.split_kind,
        table.split_seed,
        table.name,
    )
