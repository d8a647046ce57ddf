"""Who is trained on and who is held out: one split of a table, and folds for cross-validation.

Neighbouring hours are alike, so a network that has seen 8:00 and 10:00 knows much about 9:00.
The kind `random` lets that happen, `days` keeps each calendar day on one side, and `chronological`
also keeps the past before the future.
"""

from typing import Final, Literal, get_args

import numpy as np

from bikefit.errors import DataError

Kind = Literal["random", "days", "chronological"]
PARTS: Final = ("train", "validation", "test")


def split(
    timestamps: np.ndarray, kind: Kind, seed: int, validation: float, test: float
) -> np.ndarray:
    """Label each row `train`, `validation` or `test`.

    `timestamps` is (N,) datetime64 in any order; the labels are (N,) in the same order. Fractions
    are of the rows (`random`, `chronological`) or of the days (`days`). The test part depends on
    kind, seed and `test` alone, so that another `validation` leaves the same rows for the end.
    `chronological` puts train first and test last, and has no use for the seed.

    Raises:
        DataError: if the kind is unknown, a fraction is outside [0, 1), they leave nothing for
            training, or a fraction above 0 gives no row.
    """
    # Here, since its import takes a second, which training on one split need not wait for.
    from sklearn.model_selection import train_test_split

    _check_kind(kind)
    units, unit_of_row = _units(np.asarray(timestamps), kind)
    sizes = _sizes(units, kind, {"validation": validation, "test": test})
    order = np.arange(units)
    label_of_unit = np.full(units, "train", dtype="<U10")
    for part in ("test", "validation"):
        if sizes[part] == 0:
            continue
        order, held_out = train_test_split(
            order,
            test_size=sizes[part],
            shuffle=kind != "chronological",
            random_state=seed if kind != "chronological" else None,
        )
        label_of_unit[held_out] = part
    return label_of_unit[unit_of_row]


def folds(
    timestamps: np.ndarray, kind: Kind, n_folds: int, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Cut rows into folds; each row is in the validation part of exactly one.

    `timestamps` is (N,) datetime64 in any order; gives `n_folds` pairs of sorted row positions
    (train, validation). `random` shuffles rows, `days` shuffles whole days, `chronological` cuts
    the time into blocks.

    Raises:
        DataError: if the kind is unknown or there are fewer rows (or days) than folds.
    """
    from sklearn.model_selection import GroupKFold, KFold

    _check_kind(kind)
    timestamps = np.asarray(timestamps)
    units, unit_of_row = _units(timestamps, kind)
    if not 2 <= n_folds <= units:
        what = "days" if kind == "days" else "rows"
        raise DataError(f"folds = {n_folds}: must be from 2 to {units}, the number of {what}")
    if kind == "days":
        splitter = GroupKFold(n_folds, shuffle=True, random_state=seed)
        pairs = list(splitter.split(timestamps, groups=unit_of_row))
    else:
        shuffle = kind == "random"
        splitter = KFold(n_folds, shuffle=shuffle, random_state=seed if shuffle else None)
        row_of_unit = np.argsort(unit_of_row)
        cuts = splitter.split(row_of_unit)
        pairs = [(row_of_unit[train], row_of_unit[held_out]) for train, held_out in cuts]
    return [(np.sort(train), np.sort(held_out)) for train, held_out in pairs]


def _units(timestamps: np.ndarray, kind: Kind) -> tuple[int, np.ndarray]:
    """How many units are dealt out, and the unit of each row; units count up in time."""
    if kind == "days":
        days, unit_of_row = np.unique(timestamps.astype("datetime64[D]"), return_inverse=True)
        return len(days), unit_of_row
    unit_of_row = np.empty(len(timestamps), dtype=np.intp)
    unit_of_row[np.argsort(timestamps, kind="stable")] = np.arange(len(timestamps))
    return len(timestamps), unit_of_row


def _sizes(units: int, kind: Kind, fractions: dict[str, float]) -> dict[str, int]:
    """Whole numbers of units for the fractions, or an error where they make no sense."""
    what = "days" if kind == "days" else "rows"
    for part, fraction in fractions.items():
        if not 0 <= fraction < 1:
            raise DataError(f"split.{part} = {fraction}: must be at least 0 and below 1")
        if fraction > 0 and round(fraction * units) == 0:
            raise DataError(f"split.{part} = {fraction}: gives none of the {units} {what}")
    sizes = {part: round(fraction * units) for part, fraction in fractions.items()}
    if sum(fractions.values()) >= 1 or sum(sizes.values()) >= units:
        said = " + ".join(f"{part} {fraction}" for part, fraction in fractions.items())
        raise DataError(f"split: {said} of {units} {what} leaves none for training")
    return sizes


def _check_kind(kind: str) -> None:
    if kind not in get_args(Kind):
        raise DataError(f"split.kind = {kind!r}: must be one of {', '.join(get_args(Kind))}")


def subset(timestamps: np.ndarray, kind: Kind, fraction: float, seed: int) -> np.ndarray:
    """Choose a fraction of rows for a data-size curve; a larger fraction holds the smaller ones.

    `timestamps` is (N,) datetime64; gives sorted row positions. `random` takes rows, `days` whole
    days, and `chronological` the latest rows, those closest to what is predicted.

    Raises:
        DataError: if the kind is unknown or the fraction is not in (0, 1].
    """
    _check_kind(kind)
    if not 0 < fraction <= 1:
        raise DataError(f"fraction = {fraction}: must be above 0 and at most 1")
    units, unit_of_row = _units(np.asarray(timestamps), kind)
    count = max(1, round(fraction * units))
    if kind == "chronological":
        chosen = np.arange(units - count, units)
    else:
        chosen = np.random.default_rng(seed).permutation(units)[:count]
    return np.flatnonzero(np.isin(unit_of_row, chosen))
