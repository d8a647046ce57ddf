"""Training and validation rows of a table, folds and samples of them. Test rows are never read."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np

from bikefit.config import ConfigError, Settings, Validation
from bikefit.data.splits import Kind, folds, resample, subset
from bikefit.data.table import read_table
from bikefit.losses import LOSSES, LossName


@dataclass(frozen=True, eq=False)
class Fold:
    """Positions of training and validation rows in the pool; training rows may be repeated.

    With ``restandardize``, columns are standardized with the statistics of these training rows,
    which are not the training rows of the table.
    """

    train: np.ndarray
    validation: np.ndarray
    restandardize: bool


@dataclass(frozen=True, eq=False)
class Pool:
    """Training rows of a table, followed by its validation rows.

    Args:
        features: ``(N, D)`` float32.
        target: ``(N,)`` float32.
        keys: ``(N,)`` datetime64, or int64 numbers of rows.
        units: ``(N,)`` int64, what a fold or a subset does not divide.
        train_rows: Number of training rows.
        standardized: Positions of the standardized columns.
        split_kind, split_seed: Split of the table, and also of folds and drawn training sets.
        name: Name of the table, for messages.
    """

    features: np.ndarray
    target: np.ndarray
    keys: np.ndarray
    units: np.ndarray
    train_rows: int
    standardized: tuple[int, ...] = ()
    split_kind: Kind = "days"
    split_seed: int = 0
    name: str = ""
    _folds: dict[tuple[float, Validation, LossName], list[Fold]] = field(
        default_factory=dict, init=False
    )

    def folds(self, settings: Settings) -> list[Fold]:
        """Return the folds of a configuration; configurations with equal folds share the objects.

        With ``validation=resample`` each fold is a training set, drawn with replacement from all
        training rows; ``data.fraction`` is its size.

        Raises:
            ConfigError: A fold has fewer than 2 training rows or no validation row, or the loss
                does not suit the target.
        """
        fraction, validation = settings.data.fraction, settings.validation
        key = fraction, validation, settings.loss
        if key not in self._folds:
            rows = np.arange(len(self.target))
            pairs = [(rows[: self.train_rows], rows[self.train_rows :])]
            if validation.name == "kfold":
                pairs = folds(self.units, self.split_kind, validation.folds, self.split_seed)
            if validation.name == "resample":
                samples = self._samples(fraction, validation.networks)
                pairs = [(sample, rows[self.train_rows :]) for sample in samples]
            elif fraction < 1:
                pairs = [(self._subset(train, fraction), held_out) for train, held_out in pairs]
            for train, held_out in pairs:
                if len(train) < 2 or not len(held_out):
                    raise ConfigError(
                        f"table {self.name}: {len(train)} training and {len(held_out)} validation "
                        f"rows (data.fraction={fraction}, validation={validation.name}); at least "
                        "2 and 1 are needed"
                    )
                self._check_target(settings.loss, self.target)
                self._check_target(settings.loss, self.target[train])
            restandardize = fraction < 1 or len(pairs) > 1
            self._folds[key] = [Fold(train, held_out, restandardize) for train, held_out in pairs]
        return self._folds[key]

    def _check_target(self, loss: LossName, target: np.ndarray) -> None:
        if problem := LOSSES[loss].problem(target):
            part = "" if len(target) == len(self.target) else f" in {len(target)} training rows"
            raise ConfigError(f"loss={loss} does not suit table {self.name}: it {problem}{part}")

    def labels(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Return ``timestamp`` or ``row``, ``target`` and, of groups, the ``unit`` of rows."""
        keys = self.keys[rows]
        key = {"timestamp": keys.astype("M8[us]")} if keys.dtype.kind == "M" else {"row": keys}
        unit = {"unit": self.units[rows]} if self.split_kind == "groups" else {}
        return key | unit | {"target": self.target[rows]}

    def _subset(self, rows: np.ndarray, fraction: float) -> np.ndarray:
        return rows[subset(self.units[rows], self.split_kind, fraction, self.split_seed)]

    def _samples(self, fraction: float, count: int) -> list[np.ndarray]:
        train = self.units[: self.train_rows]
        return [resample(train, fraction, (self.split_seed, i)) for i in range(count)]


def read_pool(path: Path) -> Pool:
    """Return the pool of a table; the files are read again only if the table has changed."""
    return _pool(path, read_table(path).data_version)


@lru_cache(maxsize=4)
def _pool(path: Path, version: str) -> Pool:
    table = read_table(path)
    rows = table.read("train", "validation")
    return Pool(
        rows.features,
        rows.target,
        rows.keys,
        rows.units,
        table.rows["train"],
        table.standardized,
        table.split_kind,
        table.split_seed,
        table.name,
    )
