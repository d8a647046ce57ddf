"""Conversion of rows to features, fitted on training rows and saved as JSON.

Transforming does not need scikit-learn, whose import would dominate the time to predict one row.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bikefit.data.features import (
    PERIODS,
    Features,
    Spline,
    categories_of,
    category_codes,
    first_date,
    numeric,
)
from bikefit.data.files import to_json, write_json
from bikefit.data.params import validate
from bikefit.errors import DataError

FORMAT = "bikefit transformer 1"


@dataclass(frozen=True)
class Transformer:
    """Features with the statistics of the training rows.

    Args:
        features: Settings of the features.
        categories: Categories of each categorical column.
        periods: Period of each cyclic column.
        start: First training date; None without time.
        mean, scale: Of each standardized feature in the training rows.
    """

    features: Features
    categories: Mapping[str, tuple[str, ...]]
    periods: Mapping[str, float]
    start: np.datetime64 | None
    mean: tuple[float, ...]
    scale: tuple[float, ...]

    @classmethod
    def fit(
        cls, features: Features, training: pd.DataFrame, periods: Mapping[str, float] = PERIODS
    ) -> "Transformer":
        """Return a transformer fitted on rows; the scale of a constant column is 1."""
        categories = {name: categories_of(name, training) for name in features.categorical}
        periods = {name: periods[name] for name in features.cyclic}
        start, mean, scale = _statistics(features, training)
        return cls(features, categories, periods, start, mean, scale)

    def refit(self, rows: pd.DataFrame) -> "Transformer":
        """Return a transformer with the same features and the statistics of other rows."""
        start, mean, scale = _statistics(self.features, rows)
        return replace(self, start=start, mean=mean, scale=scale)

    @cached_property
    def names(self) -> list[str]:
        """Names of the features."""
        return self.features.names(self.categories)

    def transform(self, rows: pd.DataFrame) -> np.ndarray:
        """Return the features of rows, (N, D) float32 in the order of `names`."""
        features = self.features

        def numbers(names: Sequence[str]) -> np.ndarray:
            columns = [numeric(name, rows, self.start) for name in names]
            return np.stack(columns, axis=1) if columns else np.empty((len(rows), 0))

        def one_hot(names: Sequence[str]) -> np.ndarray:
            """Return whether each row has each combination of categories, (N, C) bool."""
            positions = [category_codes(name, rows, self.categories[name]) for name in names]
            sizes = [len(self.categories[name]) for name in names]
            return np.ravel_multi_index(positions, sizes)[:, None] == np.arange(np.prod(sizes))

        first = 1 if features.drop_first else 0
        words = [one_hot([name])[:, first:] for name in features.one_hot]
        waves = [
            2 * np.pi * numeric(name, rows, self.start) / self.periods[name] * harmonic
            for name, harmonic in features.waves
        ]
        cyclic = [wave(angle)[:, None] for angle in waves for wave in (np.sin, np.cos)]
        standardized = (numbers(features.standardized) - self.mean) / self.scale
        products = [one_hot(names) for names in features.interactions]
        hats = [_hats(numeric(spline.of, rows, self.start), spline) for spline in features.splines]
        blocks = [*words, *cyclic, standardized, numbers(features.plain), *products, *hats]
        return np.concatenate([block.astype(np.float32) for block in blocks], axis=1)

    def save(self, path: Path) -> None:
        """Write the transformer as JSON."""
        write_json(path, self._content())

    @classmethod
    def load(cls, path: Path) -> "Transformer":
        """Read a transformer that :meth:`save` wrote with this version of bikefit."""
        try:
            text = path.read_text(encoding="utf-8")
            content: dict[str, Any] = json.loads(text)
            features = validate("features", Features, content["features"])
            mean = tuple(content["mean"][name] for name in features.standardized)
            scale = tuple(content["scale"][name] for name in features.standardized)
            start = content["start"] and np.datetime64(content["start"], "D")
            categories = {name: tuple(words) for name, words in content["categories"].items()}
            transformer = cls(features, categories, content["periods"], start, mean, scale)
            same = to_json(transformer._content()) == text
        except (OSError, KeyError, TypeError, ValueError, DataError) as error:
            raise DataError(f"{path} cannot be read: run `dvc repro featurize` ({error})") from None
        if not same:
            raise DataError(f"{path} is of another version of bikefit: run `dvc repro featurize`")
        return transformer

    def _content(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "features": self.features.model_dump(),
            "feature_names": self.names,
            "categories": self.categories,
            "periods": self.periods,
            "start": self.start and str(self.start),
            "mean": dict(zip(self.features.standardized, self.mean, strict=True)),
            "scale": dict(zip(self.features.standardized, self.scale, strict=True)),
        }


def _statistics(
    features: Features, rows: pd.DataFrame
) -> tuple[np.datetime64 | None, tuple[float, ...], tuple[float, ...]]:
    """Return start, mean and scale of a transformer."""
    start = first_date(rows)
    if not features.standardized:
        return start, (), ()
    from sklearn.preprocessing import StandardScaler  # slow to import

    values = np.column_stack([numeric(name, rows, start) for name in features.standardized])
    scaler = StandardScaler().fit(values)
    return start, tuple(scaler.mean_.tolist()), tuple(scaler.scale_.tolist())


def _hats(values: np.ndarray, spline: Spline) -> np.ndarray:
    """Return the hat function of each knot: (N,) → (N, K)."""
    inside = values[:, None].clip(spline.knots[0], spline.knots[-1])
    return np.maximum(0, 1 - np.abs(inside - spline.knots) / spline.every)
