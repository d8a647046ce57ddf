"""Settings of features, and the columns that features can be made of."""

import itertools
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Annotated, Final

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

Columns = Mapping[str, tuple[str, ...] | None]
"""Categories of each column, None for numbers."""

CALENDAR: Final = (
    *("year", "month", "hour", "weekday", "day_of_week", "day_of_year", DAYS_SINCE_START),
)
"""Columns that follow from the timestamp.

The day of the year is 1 on January 1, the day of the week 0 on Monday.
"""

PERIODS: Final = {"hour": 24.0, "day_of_week": 7.0, "month": 12.0, "day_of_year": 365.25}
"""Period of each cyclic calendar column, in its unit."""


def with_calendar(rows: pd.DataFrame, start: date | None = None) -> pd.DataFrame:
    """Return rows with the calendar columns that they lack; `start` is the first training date."""
    if TIME not in rows:
        return rows
    time, weekdays = rows[TIME].dt, rows[TIME].dt.day_of_week
    columns = {
        "year": time.year,
        "month": pd.Categorical(time.month, range(1, 13)),
        "hour": pd.Categorical(time.hour, range(24)),
        "weekday": pd.Categorical.from_codes(weekdays, pd.Index(WEEKDAYS)),
        "day_of_week": weekdays,
        "day_of_year": time.day_of_year,
        DAYS_SINCE_START: (time.normalize() - (pd.Timestamp(start) if start else pd.NaT)).dt.days,
    }
    return rows.assign(**{name: column for name, column in columns.items() if name not in rows})


def first_date(rows: pd.DataFrame) -> date | None:
    """Return the date of the earliest row, None without time.

    `days_since_start` is relative to that of training.
    """
    if TIME not in rows:
        return None
    return rows[TIME].min().date()


def categories_of(values: pd.Series) -> tuple[str, ...]:
    """Return the categories of a column: those of its categorical dtype, or the sorted values."""
    if values.dtype == bool:
        return NO_YES
    if isinstance(values.dtype, pd.CategoricalDtype):
        return tuple(str(value) for value in values.dtype.categories)
    return tuple(str(value) for value in sorted(values.unique()))


def words_of(values: pd.Series) -> pd.Series:
    """Return the values of a column as words: of a bool column, no and yes."""
    return values.map({False: "no", True: "yes"}) if values.dtype == bool else values.astype("str")


def category_codes(values: pd.Series, categories: Sequence[str]) -> np.ndarray:
    """Return the index of each row's category, (N,) int64."""
    positions = pd.Index(list(categories), dtype="str").get_indexer(pd.Index(words_of(values)))
    if (positions < 0).any():
        wrong = values[positions < 0].iloc[0]
        raise DataError(f"{values.name} = {wrong!r}: must be one of {', '.join(categories)}")
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
