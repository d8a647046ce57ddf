"""Conversion of rows to features, fitted on training rows and saved as JSON.

Transforming does not need scikit-learn, whose import would dominate the time to predict one row.
"""

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from bikefit.data.features import (
    PERIODS,
    Features,
    Spline,
    categories_of,
    category_codes,
    first_date,
    with_calendar,
)
from bikefit.data.files import write_json
from bikefit.data.params import StrictModel, validate
from bikefit.errors import DataError

Block = tuple[list[str], Callable[[pd.DataFrame], np.ndarray]]
"""Names of D features, and the function of rows that computes them, (N, D)."""


class Transformer(StrictModel):
    """Features with the statistics of the training rows.

    Args:
        features: Settings of the features.
        categories: Categories of each categorical column.
        periods: Period of each cyclic column.
        start: First training date; None without time.
        mean, scale: Of each standardized column in the training rows.
    """

    format: Literal["bikefit transformer 1"] = "bikefit transformer 1"
    features: Features
    categories: dict[str, tuple[str, ...]]
    periods: dict[str, float]
    start: date | None
    mean: dict[str, float]
    scale: dict[str, float]

    @classmethod
    def fit(
        cls, features: Features, training: pd.DataFrame, periods: Mapping[str, float] = PERIODS
    ) -> "Transformer":
        """Return a transformer fitted on rows; the scale of a constant column is 1."""
        rows = with_calendar(training)
        return cls(
            features=features,
            categories={name: categories_of(rows[name]) for name in features.categorical},
            periods={name: periods[name] for name in features.cyclic},
            **_statistics(features, training),
        )

    def refit(self, rows: pd.DataFrame) -> "Transformer":
        """Return a transformer with the same features and the statistics of other rows."""
        return self.model_copy(update=_statistics(self.features, rows))

    @cached_property
    def names(self) -> list[str]:
        """Names of the features, like `hour=8` or `hour=8,working_day=yes`."""
        names = [name for block, _ in self._blocks() for name in block]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise DataError(f"features named more than once: {', '.join(repeated)}")
        return names

    def transform(self, rows: pd.DataFrame) -> np.ndarray:
        """Return the features of rows, (N, D) float32 in the order of `names`."""
        rows = with_calendar(rows, self.start)
        blocks = [compute(rows).astype(np.float32) for _, compute in self._blocks()]
        return np.concatenate(blocks, axis=1)

    def _blocks(self) -> list[Block]:
        """Return the features in order, by column or combination of columns."""
        features = self.features
        return [
            *(self._one_hot([name], int(features.drop_first)) for name in features.one_hot),
            *(self._waves(name) for name in features.cyclic),
            *(
                self._number(name, self.mean[name], self.scale[name])
                for name in features.standardized
            ),
            *(self._number(name) for name in features.plain),
            *(self._one_hot(names) for names in features.interactions),
            *(self._hats(spline) for spline in features.splines),
        ]

    def _one_hot(self, columns: Sequence[str], first: int = 0) -> Block:
        """Return a feature for each combination of categories, from number `first` on."""
        categories = [self.categories[column] for column in columns]
        pairs = list(zip(columns, categories, strict=True))
        words = [[f"{column}={category}" for category in of] for column, of in pairs]
        names = [",".join(combination) for combination in itertools.product(*words)]

        def compute(rows: pd.DataFrame) -> np.ndarray:
            codes = [category_codes(rows[column], of) for column, of in pairs]
            positions = np.ravel_multi_index(codes, [len(of) for of in categories])
            return positions[:, None] == np.arange(first, len(names))

        return names[first:], compute

    def _waves(self, column: str) -> Block:
        harmonics = range(1, self.features.harmonics.get(column, 1) + 1)
        numbers = ["" if harmonic == 1 else harmonic for harmonic in harmonics]

        def compute(rows: pd.DataFrame) -> np.ndarray:
            angle = 2 * np.pi * rows[column].to_numpy("float64") / self.periods[column]
            waves = [wave(angle * harmonic) for harmonic in harmonics for wave in (np.sin, np.cos)]
            return np.stack(waves, axis=1)

        return [f"{column}_{part}{n}" for n in numbers for part in ("sin", "cos")], compute

    def _number(self, column: str, mean: float = 0.0, scale: float = 1.0) -> Block:
        return [column], lambda rows: (rows[[column]].to_numpy("float64") - mean) / scale

    def _hats(self, spline: Spline) -> Block:
        knots = spline.knots

        def compute(rows: pd.DataFrame) -> np.ndarray:
            inside = rows[[spline.of]].to_numpy("float64").clip(knots[0], knots[-1])
            return np.maximum(0, 1 - np.abs(inside - knots) / spline.every)

        return [f"{spline.of}~{spline.every:g}/{knot:g}" for knot in knots], compute

    def save(self, path: Path) -> None:
        """Write the transformer as JSON."""
        write_json(path, self.model_dump(mode="json") | {"feature_names": self.names})

    @classmethod
    def load(cls, path: Path) -> "Transformer":
        """Read a transformer that :meth:`save` wrote with this version of bikefit."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            names = content.pop("feature_names")
            transformer = validate("transformer", cls, content)
            if transformer.names != names:
                raise ValueError("it is of another version of bikefit")
        except (OSError, KeyError, ValueError, DataError) as error:
            raise DataError(f"{path} cannot be read: run `dvc repro featurize` ({error})") from None
        return transformer


def _statistics(features: Features, rows: pd.DataFrame) -> dict[str, Any]:
    """Return start, mean and scale of a transformer."""
    start, names = first_date(rows), features.standardized
    rows = with_calendar(rows, start)
    if not names:
        return {"start": start, "mean": {}, "scale": {}}
    from sklearn.preprocessing import StandardScaler  # slow to import

    values = np.column_stack([rows[name].to_numpy("float64") for name in names])
    scaler = StandardScaler().fit(values)
    mean, scale = (
        dict(zip(names, of.tolist(), strict=True)) for of in (scaler.mean_, scaler.scale_)
    )
    return {"start": start, "mean": mean, "scale": scale}
