"""Splits of a table into parts, folds for cross-validation, subsets and samples of training rows.

Rentals of neighbouring hours are similar, so a random split overestimates the accuracy on new days.
The kind `days` puts all rows of a day into the same part. `chronological` divides rows by time.
"""

from collections.abc import Sequence
from typing import Final, Literal

import numpy as np

from bikefit.errors import DataError

Kind = Literal["random", "days", "chronological"]
PARTS: Final = ("train", "validation", "test")


def split(
    timestamps: np.ndarray, kind: Kind, seed: int, validation: float, test: float
) -> np.ndarray:
    """Return the part of each row: `train`, `validation` or `test`, (N,).

    `validation` and `test` are fractions of the rows, or of the days for the kind `days`. The test
    rows do not depend on `validation`. `chronological` puts train first and test last.
    """
    from sklearn.model_selection import train_test_split  # slow to import

    units, shuffle = _units(timestamps, kind), kind != "chronological"
    rest = np.arange(units.max() + 1)
    labels = np.full(len(rest), "train", dtype="<U10")
    for part, fraction in (("test", test), ("validation", validation)):
        if fraction == 0:
            continue
        size = round(fraction * len(labels))
        if not 0 < size < len(rest):
            limit = f"between 0 and {len(rest)}, the number of remaining days or rows"
            raise DataError(f"split.{part} = {fraction}: would be {size}, must be {limit}")
        rest, held_out = train_test_split(
            rest, test_size=size, shuffle=shuffle, random_state=seed if shuffle else None
        )
        labels[held_out] = part
    return labels[units]


def folds(
    timestamps: np.ndarray, kind: Kind, n_folds: int, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the sorted positions of the training rows and of the validation rows of each fold.

    Each row is a validation row of exactly one fold. `chronological` does not shuffle.
    """
    from sklearn.model_selection import KFold  # slow to import

    units = _units(timestamps, kind)
    count, shuffle = units.max() + 1, kind != "chronological"
    if not 2 <= n_folds <= count:
        raise DataError(f"folds = {n_folds}: must be from 2 to {count}, the number of days or rows")
    splitter = KFold(n_folds, shuffle=shuffle, random_state=seed if shuffle else None)
    held_out = [np.isin(units, fold) for _, fold in splitter.split(np.arange(count))]
    return [(np.flatnonzero(~rows), np.flatnonzero(rows)) for rows in held_out]


def subset(timestamps: np.ndarray, kind: Kind, fraction: float, seed: int) -> np.ndarray:
    """Return the sorted positions of a fraction of the rows, or of the days for the kind `days`.

    `chronological` takes the latest rows, other kinds random ones. With equal seeds, the rows of a
    smaller fraction are among those of a larger fraction.
    """
    units = _units(timestamps, kind)
    order = np.arange(units.max() + 1)[::-1]
    if kind != "chronological":
        order = np.random.default_rng(seed).permutation(len(order))
    return np.flatnonzero(np.isin(units, order[: max(1, round(fraction * len(order)))]))


def resample(
    timestamps: np.ndarray, kind: Kind, fraction: float, seed: Sequence[int]
) -> np.ndarray:
    """Return the positions of rows drawn with replacement, sorted: a bootstrap sample.

    Rows are drawn, or days for the kind `days`. The number of draws is a fraction of all. A row
    occurs as often as it was drawn.
    """
    units = _units(timestamps, kind)
    count = units.max() + 1
    drawn = np.random.default_rng(seed).integers(count, size=max(1, round(fraction * count)))
    return np.repeat(np.arange(len(units)), np.bincount(drawn, minlength=count)[units])


def _units(timestamps: np.ndarray, kind: Kind) -> np.ndarray:
    """Return the rank in time of each row, or of its day for the kind `days`, (N,)."""
    if kind == "days":
        return np.unique(timestamps.astype("datetime64[D]"), return_inverse=True)[1]
    return np.argsort(np.argsort(timestamps, kind="stable"))
