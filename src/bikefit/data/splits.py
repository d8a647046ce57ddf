"""Splits of a table into parts, folds for cross-validation, subsets and samples of training rows.

None of them divides a unit. Neighbouring hours are similar, so a random split of rows overestimates
the accuracy on new days. With the kind `days`, a unit is a day; with `groups`, all rows that have
the same value in a column. `random` draws rows, `chronological` divides them by time; in both, rows
with the same time are a unit.
"""

from collections.abc import Sequence
from typing import Final, Literal

import numpy as np

from bikefit.errors import DataError

Kind = Literal["random", "groups", "days", "chronological"]
PARTS: Final = ("train", "validation", "test")


def split_units(keys: np.ndarray, kind: Kind) -> np.ndarray:
    """Return the unit of each row, (N,) int64, from its key: a timestamp or a row number.

    The units of the kind `groups` are not a function of the keys.
    """
    return (keys.astype("datetime64[D]") if kind == "days" else keys).astype("int64")


def split(units: np.ndarray, kind: Kind, seed: int, validation: float, test: float) -> np.ndarray:
    """Return the part of each row: `train`, `validation` or `test`, (N,).

    `validation` and `test` are fractions of the units. The test rows do not depend on `validation`.
    `chronological` puts train first and test last.
    """
    from sklearn.model_selection import train_test_split  # slow to import

    units, shuffle = _ranks(units), kind != "chronological"
    rest = np.arange(units.max() + 1)
    labels = np.full(len(rest), "train", dtype="<U10")
    for part, fraction in (("test", test), ("validation", validation)):
        if fraction == 0:
            continue
        size = round(fraction * len(labels))
        if not 0 < size < len(rest):
            limit = f"between 0 and {len(rest)}, the number of remaining units"
            raise DataError(f"split.{part} = {fraction}: would be {size}, must be {limit}")
        rest, held_out = train_test_split(
            rest, test_size=size, shuffle=shuffle, random_state=seed if shuffle else None
        )
        labels[held_out] = part
    return labels[units]


def folds(
    units: np.ndarray, kind: Kind, n_folds: int, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the sorted positions of the training rows and of the validation rows of each fold.

    Each row is a validation row of exactly one fold. `chronological` does not shuffle.
    """
    from sklearn.model_selection import KFold  # slow to import

    units = _ranks(units)
    count, shuffle = units.max() + 1, kind != "chronological"
    if not 2 <= n_folds <= count:
        raise DataError(f"folds = {n_folds}: must be from 2 to {count}, the number of units")
    splitter = KFold(n_folds, shuffle=shuffle, random_state=seed if shuffle else None)
    held_out = [np.isin(units, fold) for _, fold in splitter.split(np.arange(count))]
    return [(np.flatnonzero(~rows), np.flatnonzero(rows)) for rows in held_out]


def subset(units: np.ndarray, kind: Kind, fraction: float, seed: int) -> np.ndarray:
    """Return the sorted positions of a fraction of the units.

    `chronological` takes the latest units, other kinds random ones. With equal seeds, the rows of a
    smaller fraction are among those of a larger fraction.
    """
    units = _ranks(units)
    order = np.arange(units.max() + 1)[::-1]
    if kind != "chronological":
        order = np.random.default_rng(seed).permutation(len(order))
    return np.flatnonzero(np.isin(units, order[: max(1, round(fraction * len(order)))]))


def resample(units: np.ndarray, fraction: float, seed: Sequence[int]) -> np.ndarray:
    """Return the positions of rows drawn with replacement, sorted: a bootstrap sample.

    Units are drawn. The number of draws is a fraction of all. A row occurs as often as its unit was
    drawn.
    """
    units = _ranks(units)
    count = units.max() + 1
    drawn = np.random.default_rng(seed).integers(count, size=max(1, round(fraction * count)))
    return np.repeat(np.arange(len(units)), np.bincount(drawn, minlength=count)[units])


def _ranks(units: np.ndarray) -> np.ndarray:
    """Return the rank of each row's unit, (N,) int64."""
    return np.unique(units, return_inverse=True)[1]
