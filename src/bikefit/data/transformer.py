"""From clean rows to the matrix of features: fitted once, kept as JSON, applied anywhere.

A fitted transformer is its `Features` and a few numbers measured on training rows. The columns are
made from just these, so a loaded transformer gives exactly what the fitted one gave, and its file
holds nothing that could run. Nothing but numpy makes them: to answer one row, loading
scikit-learn would take longer than all else.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bikefit.data.features import CATEGORIES, PERIODS, Features, Spline, codes, number, sources
from bikefit.data.files import write_json
from bikefit.data.params import check
from bikefit.errors import DataError

FORMAT = "bikefit transformer 1"
BLOCK = 20_000
"""Rows transformed at a time, so that memory does not grow with copies in double precision."""


@dataclass(frozen=True)
class Transformer:
    """Fitted features: `start` is the first training day; mean and scale are per standardized."""

    features: Features
    start: np.datetime64
    mean: tuple[float, ...]
    scale: tuple[float, ...]


def fit(features: Features, training: pd.DataFrame) -> Transformer:
    """Measure on training rows (clean columns) what the features need.

    A column that is constant there gets the scale 1, so nothing is divided by zero.

    Raises:
        DataError: if there is no training row.
    """
    if training.empty:
        raise DataError("no training row to fit the features on")
    start = training["timestamp"].min().to_datetime64().astype("datetime64[D]")
    if not features.standardized:
        return Transformer(features, start, (), ())
    from sklearn.preprocessing import StandardScaler  # fitting alone needs it

    values = np.column_stack([number(name, training, start) for name in features.standardized])
    scaler = StandardScaler().fit(values)
    return Transformer(features, start, tuple(scaler.mean_.tolist()), tuple(scaler.scale_.tolist()))


def apply(transformer: Transformer, hours: pd.DataFrame) -> np.ndarray:
    """Turn clean rows into features, (N, D) float32 in the order of `features.names`.

    Only the columns that the features use must be there.

    Raises:
        DataError: if a column is missing, a category is not declared or a number is not finite.
    """
    _check_columns(transformer.features, hours)
    matrix = np.empty((len(hours), len(transformer.features.names)), dtype=np.float32)
    for begin in range(0, len(hours), BLOCK):
        columns = _columns(transformer, hours.iloc[begin : begin + BLOCK])
        matrix[begin : begin + BLOCK] = np.concatenate(columns, axis=1)
    wrong = np.argwhere(~np.isfinite(matrix))
    if len(wrong):
        row, column = wrong[0]
        name = transformer.features.names[column]
        raise DataError(f"row {row}, feature {name}: the number it comes from is not finite")
    return matrix


def save(transformer: Transformer, path: Path) -> None:
    """Write a transformer as readable JSON, the same bytes for the same transformer."""
    features = transformer.features
    write_json(
        path,
        {
            "format": FORMAT,
            "features": features.model_dump(),
            "feature_names": features.names,
            "categories": _categories(features),
            "periods": _periods(features),
            "start": str(transformer.start),
            "mean": dict(zip(features.standardized, transformer.mean, strict=True)),
            "scale": dict(zip(features.standardized, transformer.scale, strict=True)),
        },
    )


def load(path: Path) -> Transformer:
    """Read a transformer that `save` wrote.

    Raises:
        DataError: if it is missing, damaged, or made with other categories or feature names.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        features = check("features", Features, content["features"])
        start = np.datetime64(content["start"], "D")
        mean = tuple(float(content["mean"][name]) for name in features.standardized)
        scale = tuple(float(content["scale"][name]) for name in features.standardized)
        same = (
            content["format"] == FORMAT
            and content["feature_names"] == features.names
            and content["categories"] == _categories(features)
            and content["periods"] == _periods(features)
        )
    except FileNotFoundError:
        raise DataError(f"{path} not found: run `dvc repro featurize`") from None
    except (KeyError, TypeError, ValueError, AttributeError, DataError) as error:
        raise DataError(f"{path} is not a transformer of bikefit: {error}") from None
    if not same or np.isnat(start) or not np.isfinite([*mean, *scale]).all() or 0 in scale:
        raise DataError(f"{path} does not fit this version of bikefit: run `dvc repro featurize`")
    return Transformer(features, start, mean, scale)


def _categories(features: Features) -> dict[str, list[str]]:
    """The declared categories of every column that is one-hot, alone or in a product."""
    names = {*features.one_hot, *(name for product in features.interactions for name in product)}
    return {name: list(CATEGORIES[name]) for name in sorted(names)}


def _periods(features: Features) -> dict[str, float]:
    return {name: PERIODS[name] for name in features.cyclic}


def _check_columns(features: Features, hours: pd.DataFrame) -> None:
    numbers = {*features.cyclic, *features.standardized, *features.plain}
    wanted = {*numbers, *_categories(features), *(spline.of for spline in features.splines)}
    needed = {column for name in wanted for column in sources(name)}
    missing = sorted(needed - set(hours.columns))
    if missing:
        raise DataError(f"missing columns: {', '.join(missing)}")


def _columns(transformer: Transformer, hours: pd.DataFrame) -> list[np.ndarray]:
    """The columns in the order of `features.names`, (N, C) each."""
    features, start = transformer.features, transformer.start

    def numbers(names: Sequence[str]) -> np.ndarray:
        found = [number(name, hours, start) for name in names]
        return np.stack(found, axis=1) if found else np.empty((len(hours), 0))

    first = 1 if features.drop_first else 0
    words = [_one_hot(codes(n, hours), len(CATEGORIES[n]))[:, first:] for n in features.one_hot]
    waves = [
        2 * np.pi * number(name, hours, start) / PERIODS[name] * harmonic
        for name, harmonic in features.waves
    ]
    cyclic = [wave(angle)[:, None] for angle in waves for wave in (np.sin, np.cos)]
    standardized = (numbers(features.standardized) - transformer.mean) / transformer.scale
    products = [_product(names, hours) for names in features.interactions]
    hats = [_hats(number(spline.of, hours, start), spline) for spline in features.splines]
    return [*words, *cyclic, standardized, numbers(features.plain), *products, *hats]


def _one_hot(positions: np.ndarray, size: int) -> np.ndarray:
    """A one where a row's category stands: (N,) → (N, size)."""
    return positions[:, None] == np.arange(size)


def _product(names: Sequence[str], hours: pd.DataFrame) -> np.ndarray:
    """One column for each combination of categories."""
    positions = [codes(name, hours) for name in names]
    sizes = [len(CATEGORIES[name]) for name in names]
    return _one_hot(np.ravel_multi_index(positions, sizes), int(np.prod(sizes)))


def _hats(values: np.ndarray, spline: Spline) -> np.ndarray:
    """One hat for each knot: (N,) → (N, K)."""
    inside = values[:, None].clip(spline.knots[0], spline.knots[-1])
    return np.maximum(0, 1 - np.abs(inside - spline.knots) / spline.every)
