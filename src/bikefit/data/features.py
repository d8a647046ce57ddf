"""Settings of features, and the columns that features can be made of."""

import itertools
from collections.abc import Callable, Sequence
from datetime import date
from typing import Annotated, Any, Final

import numpy as np
import pandas as pd
from pydantic import Field, PositiveInt, model_validator

from bikefit.data.params import StrictModel
from bikefit.errors import DataError

TIME: Final = "timestamp"
"""Column of the timestamps of rows, from which calendar columns are derived."""

WEEKDAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
NO_YES: Final = ("no", "yes")
DAYS_SINCE_START: Final = "days_since_start"

CALENDAR: Final[dict[str, Callable[[pd.Series, Any], pd.Series]]] = {
    "year": lambda time, start: time.dt.year,
    "month": lambda time, start: time.dt.month,
    "hour": lambda time, start: time.dt.hour,
    "weekday": lambda time, start: time.dt.day_of_week.map(dict(enumerate(WEEKDAYS))),
    "day_of_week": lambda time, start: time.dt.day_of_week,
    "day_of_year": lambda time, start: time.dt.day_of_year,
    DAYS_SINCE_START: lambda time, start: (time.dt.normalize() - pd.Timestamp(start)).dt.days,
}
"""Functions that compute calendar columns from timestamps and the first training date.

The day of the year is 1 on January 1, the day of the week 0 on Monday.
"""

CATEGORIES: Final = {
    "month": tuple(str(month) for month in range(1, 13)),
    "hour": tuple(str(hour) for hour in range(24)),
    "weekday": WEEKDAYS,
}
"""Categories of calendar columns."""

PERIODS: Final = {"hour": 24.0, "day_of_week": 7.0, "month": 12.0, "day_of_year": 365.25}
"""Period of each cyclic calendar column, in its unit."""


def column(name: str, rows: pd.DataFrame, start: date | None = None) -> pd.Series:
    """Return a column of rows, or a calendar column, (N,); `start` is the first training date."""
    return rows[name] if name in rows else CALENDAR[name](rows[TIME], start)


def numeric(name: str, rows: pd.DataFrame, start: date | None) -> np.ndarray:
    """Return a column as numbers, (N,) float64; true is 1."""
    return column(name, rows, start).to_numpy("float64")


def first_date(rows: pd.DataFrame) -> date | None:
    """Return the date of the earliest row, None without time.

    `days_since_start` is relative to that of training.
    """
    if TIME not in rows:
        return None
    return rows[TIME].min().date()


def categories_of(name: str, rows: pd.DataFrame) -> tuple[str, ...]:
    """Return the categories of a column in order.

    They are those of a calendar column or of a categorical dtype, otherwise the sorted values.
    """
    if name not in rows:
        return CATEGORIES[name]
    values = column(name, rows)
    if values.dtype == bool:
        return NO_YES
    if isinstance(values.dtype, pd.CategoricalDtype):
        return tuple(values.dtype.categories)
    return tuple(str(value) for value in sorted(values.unique()))


def words_of(values: pd.Series) -> pd.Series:
    """Return the values of a column as words: of a bool column, no and yes."""
    return values.map({False: "no", True: "yes"}) if values.dtype == bool else values.astype("str")


def category_codes(name: str, rows: pd.DataFrame, categories: Sequence[str]) -> np.ndarray:
    """Return the index of each row's category, (N,) int64."""
    values = column(name, rows)
    positions = pd.Index(list(categories), dtype="str").get_indexer(pd.Index(words_of(values)))
    if (positions < 0).any():
        wrong = values[positions < 0].iloc[0]
        raise DataError(f"{name} = {wrong!r}: must be one of {', '.join(categories)}")
    return positions


Product = Annotated[tuple[str, ...], Field(min_length=2)]


class Spline(StrictModel):
    """A numeric column as hat functions: 1 at a knot, falling linearly to 0 at the next knots.

    A weighted sum of them is a spline of degree 1, constant beyond the outermost knots.
    """

    of: str
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


class Features(StrictModel):
    """Columns that become features, by kind of feature."""

    one_hot: tuple[str, ...] = ()
    drop_first: bool = False  # leave out the first category of each one-hot column
    cyclic: tuple[str, ...] = ()
    harmonics: dict[str, PositiveInt] = Field(default_factory=dict)  # 1 if not named
    standardized: tuple[str, ...] = ()
    plain: tuple[str, ...] = ()
    interactions: tuple[Product, ...] = ()  # of one-hot columns, always with all categories
    splines: tuple[Spline, ...] = ()

    @model_validator(mode="after")
    def _valid(self) -> "Features":
        if not set(self.harmonics) <= set(self.cyclic):
            raise ValueError("harmonics must be of numbers in cyclic")
        if not self.columns:
            raise ValueError("a table needs at least one feature")
        return self

    @property
    def categorical(self) -> list[str]:
        """Return the columns of categories."""
        return list(dict.fromkeys([*self.one_hot, *itertools.chain(*self.interactions)]))

    @property
    def numbers(self) -> list[str]:
        """Return the columns of numbers."""
        splines = (spline.of for spline in self.splines)
        return list(dict.fromkeys([*self.cyclic, *self.standardized, *self.plain, *splines]))

    @property
    def columns(self) -> list[str]:
        """Return all columns."""
        return list(dict.fromkeys([*self.categorical, *self.numbers]))
