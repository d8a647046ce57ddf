"""From clean rows to the matrix of features: fitted once, kept as JSON, applied anywhere.

A fitted transformer is its `Features` and a few numbers measured on training rows. The columns are
made by scikit-learn from just these, so a loaded transformer gives exactly what the fitted one
gave, and its file holds nothing that could run.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from bikefit.data.features import CATEGORIES, PERIODS, Features, Spline, codes, number, sources
from bikefit.data.files import write_json
from bikefit.data.params import check
from bikefit.data.stage import DataError

FORMAT = "bikefit transformer 1"
BLOCK = 20_000
"""Rows transformed at a time, so that memory does not grow with scikit-learn's copies."""


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
        block = _prepare(transformer, hours.iloc[begin : begin + BLOCK])
        # All it knows is declared, so fitting learns nothing; scikit-learn asks for it.
        matrix[begin : begin + BLOCK] = _columns(transformer).fit_transform(block)
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


def _prepare(transformer: Transformer, hours: pd.DataFrame) -> pd.DataFrame:
    """The columns that scikit-learn works on: positions of categories, and numbers."""
    features, start = transformer.features, transformer.start
    columns = {f"one_hot {name}": codes(name, hours) for name in features.one_hot}
    for name in (*features.cyclic, *features.standardized, *features.plain):
        columns[name] = number(name, hours, start)
    for product in features.interactions:
        positions = [codes(name, hours) for name in product]
        sizes = [len(CATEGORIES[name]) for name in product]
        columns[f"product {product}"] = np.ravel_multi_index(positions, sizes)
    columns |= {f"spline {i}": number(s.of, hours, start) for i, s in enumerate(features.splines)}
    return pd.DataFrame(columns)


def _columns(transformer: Transformer) -> ColumnTransformer:
    """scikit-learn's transformer for the columns of `_prepare`."""
    features = transformer.features
    sizes = [len(CATEGORIES[name]) for name in features.one_hot]
    products = [int(np.prod([len(CATEGORIES[n]) for n in p])) for p in features.interactions]
    moments = {"mean": np.array(transformer.mean), "scale": np.array(transformer.scale)}
    waves = {
        "columns": [features.cyclic.index(name) for name, _ in features.waves],
        "periods": np.array([PERIODS[name] for name, _ in features.waves]),
        "harmonics": np.array([harmonic for _, harmonic in features.waves]),
    }
    words = [f"one_hot {name}" for name in features.one_hot]
    cycle = FunctionTransformer(_cycle, kw_args=waves)
    standardize = FunctionTransformer(_standardize, kw_args=moments)
    steps = [
        ("one_hot", _one_hot(sizes, features.drop_first), words),
        ("cyclic", cycle, list(features.cyclic)),
        ("standardized", standardize, list(features.standardized)),
        ("plain", "passthrough", list(features.plain)),
        ("products", _one_hot(products, False), [f"product {p}" for p in features.interactions]),
        *(
            (f"hats {i}", FunctionTransformer(_hats, kw_args={"spline": s}), [f"spline {i}"])
            for i, s in enumerate(features.splines)
        ),
    ]
    return ColumnTransformer([step for step in steps if step[2]])


def _one_hot(sizes: list[int], drop_first: bool) -> OneHotEncoder:
    return OneHotEncoder(
        categories=[np.arange(size) for size in sizes],
        drop="first" if drop_first else None,
        sparse_output=False,
        dtype=np.float32,
        handle_unknown="error",
    )


def _cycle(
    values: pd.DataFrame, columns: list[int], periods: np.ndarray, harmonics: np.ndarray
) -> np.ndarray:
    """Sine and cosine of W waves, each of one of the columns, side by side: (N, C) → (N, 2 W)."""
    angle = 2 * np.pi * values.to_numpy()[:, columns] / periods * harmonics
    return np.stack([np.sin(angle), np.cos(angle)], axis=2).reshape(len(angle), -1)


def _hats(values: pd.DataFrame, spline: Spline) -> np.ndarray:
    """One hat for each knot: (N, 1) → (N, K).

    scikit-learn's SplineTransformer gives the same, but cannot be made for a single row.
    """
    inside = values.to_numpy().clip(spline.knots[0], spline.knots[-1])
    return np.maximum(0, 1 - np.abs(inside - spline.knots) / spline.every)


def _standardize(values: pd.DataFrame, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return (values.to_numpy() - mean) / scale
