"""Settings of features, and the derived columns that features can be made of.

The order of features is one-hot, cyclic, standardized, plain, interactions, splines.
"""

import itertools
from collections.abc import Callable, Collection
from typing import Annotated, Final

import numpy as np
import pandas as pd
from pydantic import AfterValidator, Field, PositiveInt, model_validator

from bikefit.data.bikes import columns
from bikefit.data.bikes.calendar import OCCASIONS, is_commuting_day, occasion
from bikefit.data.bikes.columns import BOOLEANS, NO_YES
from bikefit.data.params import StrictModel
from bikefit.errors import DataError

DAYS_SINCE_START: Final = "days_since_start"

Derive = Callable[[pd.DataFrame, np.datetime64], pd.Series]

DERIVED: Final[dict[str, Derive]] = {
    "humidity_fraction": lambda hours, start: hours["humidity"] / 100,
    "day_of_year": lambda hours, start: hours["timestamp"].dt.day_of_year,
    DAYS_SINCE_START: lambda hours, start: (hours["timestamp"].dt.normalize() - start).dt.days,
    "day_of_week": lambda hours, start: hours["timestamp"].dt.day_of_week,
    "commuting": lambda hours, start: is_commuting_day(hours),
    "occasion": lambda hours, start: occasion(hours),
}
"""Functions that compute derived columns from clean rows and the first training date.

The day of the year is 1 on January 1, the day of the week 0 on Monday.
"""

CATEGORIES: Final = {**columns.CATEGORIES, "commuting": NO_YES, "occasion": OCCASIONS}
"""Allowed values of each categorical column, derived columns included."""

NUMBERS: Final = (
    *("temperature", "feels_like", "humidity", "windspeed", "year", "month", "hour"),
    *BOOLEANS,
    *(name for name in DERIVED if name != "occasion"),
)
"""Columns that can be used as numbers; true is 1, false is 0."""

PERIODS: Final = {"hour": 24.0, "day_of_week": 7.0, "month": 12.0, "day_of_year": 365.25}
"""Period of each cyclic column, in its unit."""


def _column(name: str, hours: pd.DataFrame, start: np.datetime64) -> pd.Series:
    return DERIVED[name](hours, start) if name in DERIVED else hours[name]


def numeric(name: str, hours: pd.DataFrame, start: np.datetime64) -> np.ndarray:
    """Return a column of clean rows or a derived one, (N,) float64.

    `start` is the first training date.
    """
    return _column(name, hours, start).to_numpy("float64")


def first_date(hours: pd.DataFrame) -> np.datetime64:
    """Return the date of the earliest row; `days_since_start` is relative to that of training."""
    return hours["timestamp"].min().to_datetime64().astype("datetime64[D]")


def category_codes(name: str, hours: pd.DataFrame) -> np.ndarray:
    """Return the index of each row's category in `CATEGORIES[name]`, (N,) int64."""
    values, declared = _column(name, hours, np.datetime64("NaT")), CATEGORIES[name]
    words = values.map({False: "no", True: "yes"}) if declared == NO_YES else values.astype("str")
    positions = pd.Index(declared, dtype="str").get_indexer(pd.Index(words))
    if (positions < 0).any():
        wrong = values[positions < 0].iloc[0]
        raise DataError(f"{name} = {wrong!r}: must be one of {', '.join(declared)}")
    return positions


def _one_of(allowed: Collection[str]) -> AfterValidator:
    def check(name: str) -> str:
        if name not in allowed:
            raise ValueError(f"must be one of {', '.join(allowed)}")
        return name

    return AfterValidator(check)


# The target `rentals` and its parts `casual` and `registered` are not allowed as features.
Category = Annotated[str, _one_of(CATEGORIES)]
Cyclic = Annotated[str, _one_of(PERIODS)]
Number = Annotated[str, _one_of(NUMBERS)]
Product = Annotated[tuple[Category, ...], Field(min_length=2)]


class Spline(StrictModel):
    """A numeric column as hat functions: 1 at a knot, falling linearly to 0 at the next knots.

    A weighted sum of them is a spline of degree 1, constant beyond the outermost knots.
    """

    of: Number
    first: float  # outermost knots, in the unit of the column
    last: float
    every: float = Field(gt=0)  # distance of the knots

    @model_validator(mode="after")
    def _valid(self) -> "Spline":
        if not self.last >= self.first + self.every:
            raise ValueError("last must be at least first + every: a spline needs two knots")
        return self

    @property
    def knots(self) -> np.ndarray:
        """Return the knots, (K,) float64; the last is at or before `last`."""
        count = int((self.last - self.first) / self.every + 1e-9) + 1
        return self.first + self.every * np.arange(count)

    @property
    def names(self) -> list[str]:
        """Return the feature names, like `temperature~5/-3` for `every` 5 and the knot at -3."""
        return [f"{self.of}~{self.every:g}/{knot:g}" for knot in self.knots]


class Features(StrictModel):
    """Columns that become features, by kind of feature."""

    one_hot: tuple[Category, ...] = ()
    drop_first: bool = False  # leave out the first category of each one-hot column
    cyclic: tuple[Cyclic, ...] = ()
    harmonics: dict[Cyclic, PositiveInt] = Field(default_factory=dict)  # 1 if not named
    standardized: tuple[Number, ...] = ()
    plain: tuple[Number, ...] = ()
    interactions: tuple[Product, ...] = ()  # of one-hot columns, always with all categories
    splines: tuple[Spline, ...] = ()

    @model_validator(mode="after")
    def _valid(self) -> "Features":
        if not set(self.harmonics) <= set(self.cyclic):
            raise ValueError("harmonics must be of numbers in cyclic")
        names = self.names
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"named more than once: {', '.join(repeated)}")
        if not names:
            raise ValueError("a table needs at least one feature")
        return self

    @property
    def names(self) -> list[str]:
        """Return the names of all features in order, like `hour=8` or `hour=8,working_day=yes`."""
        first = 1 if self.drop_first else 0
        names = [word for name in self.one_hot for word in _category_names([name])[first:]]
        names += [
            f"{name}_{part}{'' if harmonic == 1 else harmonic}"
            for name, harmonic in self.waves
            for part in ("sin", "cos")
        ]
        names += [*self.standardized, *self.plain]
        names += [word for product in self.interactions for word in _category_names(product)]
        return names + [name for spline in self.splines for name in spline.names]

    @property
    def waves(self) -> list[tuple[str, int]]:
        """Return pairs of a cyclic column and k, one for each of its harmonics k = 1, 2, …"""
        return [(n, k) for n in self.cyclic for k in range(1, self.harmonics.get(n, 1) + 1)]


def _category_names(names: Collection[str]) -> list[str]:
    """Return a name per combination of the categories of columns, like `hour=8,holiday=no`."""
    categories = [[f"{name}={word}" for word in CATEGORIES[name]] for name in names]
    return [",".join(combination) for combination in itertools.product(*categories)]
