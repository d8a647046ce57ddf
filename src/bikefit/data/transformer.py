"""Conversion of clean rows to features, fitted on training rows and saved as JSON.

Transforming does not need scikit-learn, whose import would dominate the time to predict one row.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bikefit.data.features import (
    CATEGORIES,
    PERIODS,
    Features,
    Spline,
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
    """Features with the statistics of the training rows."""

    features: Features
    start: np.datetime64  # first training date
    mean: tuple[float, ...]  # of each standardized feature in the training rows, as the scale
    scale: tuple[float, ...]

    @classmethod
    def fit(cls, features: Features, training: pd.DataFrame) -> "Transformer":
        """Return a transformer fitted on clean rows; the scale of a constant column is 1."""
        start = first_date(training)
        if not features.standardized:
            return cls(features, start, (), ())
        from sklearn.preprocessing import StandardScaler  # slow to import

        values = np.column_stack([numeric(name, training, start) for name in features.standardized])
        scaler = StandardScaler().fit(values)
        return cls(features, start, tuple(scaler.mean_.tolist()), tuple(scaler.scale_.tolist()))

    def transform(self, hours: pd.DataFrame) -> np.ndarray:
        """Return the features of clean rows, (N, D) float32 in the order of `features.names`."""
        features = self.features

        def numbers(names: Sequence[str]) -> np.ndarray:
            columns = [numeric(name, hours, self.start) for name in names]
            return np.stack(columns, axis=1) if columns else np.empty((len(hours), 0))

        first = 1 if features.drop_first else 0
        words = [_one_hot([name], hours)[:, first:] for name in features.one_hot]
        waves = [
            2 * np.pi * numeric(name, hours, self.start) / PERIODS[name] * harmonic
            for name, harmonic in features.waves
        ]
        cyclic = [wave(angle)[:, None] for angle in waves for wave in (np.sin, np.cos)]
        standardized = (numbers(features.standardized) - self.mean) / self.scale
        products = [_one_hot(names, hours) for names in features.interactions]
        hats = [_hats(numeric(spline.of, hours, self.start), spline) for spline in features.splines]
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
            transformer = cls(features, np.datetime64(content["start"], "D"), mean, scale)
        except (OSError, KeyError, TypeError, ValueError, DataError) as error:
            raise DataError(f"{path} cannot be read: run `dvc repro featurize` ({error})") from None
        if to_json(transformer._content()) != text:
            raise DataError(f"{path} is of another version of bikefit: run `dvc repro featurize`")
        return transformer

    def _content(self) -> dict[str, Any]:
        features = self.features
        categorical = {*features.one_hot, *(n for names in features.interactions for n in names)}
        return {
            "format": FORMAT,
            "features": features.model_dump(),
            "feature_names": features.names,
            "categories": {name: CATEGORIES[name] for name in categorical},
            "periods": {name: PERIODS[name] for name in features.cyclic},
            "start": str(self.start),
            "mean": dict(zip(features.standardized, self.mean, strict=True)),
            "scale": dict(zip(features.standardized, self.scale, strict=True)),
        }


def _one_hot(names: Sequence[str], hours: pd.DataFrame) -> np.ndarray:
    """Return whether each row has each combination of the columns' categories, (N, C) bool."""
    positions, sizes = (
        [category_codes(n, hours) for n in names],
        [len(CATEGORIES[n]) for n in names],
    )
    return np.ravel_multi_index(positions, sizes)[:, None] == np.arange(np.prod(sizes))


def _hats(values: np.ndarray, spline: Spline) -> np.ndarray:
    """Return the hat function of each knot: (N,) → (N, K)."""
    inside = values[:, None].clip(spline.knots[0], spline.knots[-1])
    return np.maximum(0, 1 - np.abs(inside - spline.knots) / spline.every)
