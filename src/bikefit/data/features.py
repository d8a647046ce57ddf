"""Features: categories, numbers, cycles and splines, and the derived columns they are made of.

A `Features` lists the features of a table, in the order one-hot, cyclic, standardized, plain,
interactions, splines.
"""

import itertools
from collections.abc import Callable, Collection
from typing import Annotated, Final

import numpy as np
import pandas as pd
from pydantic import AfterValidator, Field, PositiveInt, model_validator

from bikefit.data import columns
from bikefit.data.calendar import OCCASIONS, commuting, occasion
from bikefit.data.columns import BOOLEANS, NO_YES
from bikefit.data.params import StrictModel
from bikefit.errors import DataError

DAYS_SINCE_START: Final = "days_since_start"

Derive = Callable[[pd.DataFrame, np.datetime64], pd.Series]

DERIVED: Final[dict[str, Derive]] = {
    # Relative humidity as a fraction: of order 1 without statistics of the rows.
    "humidity_fraction": lambda hours, start: hours["humidity"] / 100,
    # 1 on the first of January.
    "day_of_year": lambda hours, start: hours["timestamp"].dt.day_of_year,
    # Whole days since the first training day: the trend of a growing system.
    DAYS_SINCE_START: lambda hours, start: (hours["timestamp"].dt.normalize() - start).dt.days,
    # 0 on Monday to 6 on Sunday.
    "day_of_week": lambda hours, start: hours["timestamp"].dt.day_of_week,
    "commuting": lambda hours, start: commuting(hours),
    "occasion": lambda hours, start: occasion(hours),
}
"""Columns computed from a clean row and the first training day."""

CATEGORIES: Final = {**columns.CATEGORIES, "commuting": NO_YES, "occasion": OCCASIONS}
"""Every value that a categorical column can have."""

NUMBERS: Final = (
    *("temperature", "feels_like", "humidity", "windspeed", "year", "month", "hour"),
    *BOOLEANS,
    *(name for name in DERIVED if name != "occasion"),
)
"""Columns that are numbers; yes is 1, no is 0."""

PERIODS: Final = {"hour": 24.0, "day_of_week": 7.0, "month": 12.0, "day_of_year": 365.25}
"""Period of each cyclic number, in its unit."""


def column(name: str, hours: pd.DataFrame, start: np.datetime64) -> pd.Series:
    """Return a column of clean rows or a derived one; `start` is the first training day."""
    return DERIVED[name](hours, start) if name in DERIVED else hours[name]


def number(name: str, hours: pd.DataFrame, start: np.datetime64) -> np.ndarray:
    """Return a number of each row, (N,) float64; `start` is the first training day."""
    return column(name, hours, start).to_numpy("float64")


def first_day(hours: pd.DataFrame) -> np.datetime64:
    """Return the first day of clean rows, from which `days_since_start` counts."""
    return hours["timestamp"].min().to_datetime64().astype("datetime64[D]")


def codes(name: str, hours: pd.DataFrame) -> np.ndarray:
    """Return the position of each row's category in :data:`CATEGORIES`, (N,) int64."""
    values, declared = column(name, hours, np.datetime64("NaT")), CATEGORIES[name]
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


# rentals, and casual and registered, which add up to it, are no columns for features
Category = Annotated[str, _one_of(CATEGORIES)]
Cyclic = Annotated[str, _one_of(PERIODS)]
Number = Annotated[str, _one_of(NUMBERS)]
Product = Annotated[tuple[Category, ...], Field(min_length=2)]


class Spline(StrictModel):
    """A number as hat functions: each is 1 at its knot and falls to 0 at the neighbouring knots.

    Their weighted sum is a spline of degree 1. Beyond the outer knots it is constant.
    """

    of: Number
    first: float  # outermost knots, in the number's unit
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
        """Return the names of the hats, like `temperature~5/2` for the knot 2 of those every 5."""
        return [f"{self.of}~{self.every:g}/{knot:g}" for knot in self.knots]


class Features(StrictModel):
    """The features of a table by kind."""

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
        names = [word for name in self.one_hot for word in _words([name])[first:]]
        names += [
            f"{name}_{part}{'' if harmonic == 1 else harmonic}"
            for name, harmonic in self.waves
            for part in ("sin", "cos")
        ]
        names += [*self.standardized, *self.plain]
        names += [word for product in self.interactions for word in _words(product)]
        return names + [name for spline in self.splines for name in spline.names]

    @property
    def waves(self) -> list[tuple[str, int]]:
        """Return each cyclic number with each of its harmonics, in periods per cycle."""
        return [(n, k) for n in self.cyclic for k in range(1, self.harmonics.get(n, 1) + 1)]


def _words(names: Collection[str]) -> list[str]:
    """Return the combinations of the categories of columns."""
    categories = [[f"{name}={word}" for word in CATEGORIES[name]] for name in names]
    return [",".join(combination) for combination in itertools.product(*categories)]
