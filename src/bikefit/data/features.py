"""What can be a feature: categories, numbers, cycles and splines, the derived ones defined here.

A `Features` says which of them a table has; its features come in the order one-hot, cyclic,
standardized, plain, interactions, splines.
"""

import itertools
from collections.abc import Callable
from typing import Final

import numpy as np
import pandas as pd
from pydantic import Field, field_validator, model_validator

from bikefit.data import columns
from bikefit.data.calendar import OCCASIONS, commuting, occasion
from bikefit.data.columns import BOOLEANS, LEAKS, NO_YES
from bikefit.data.params import StrictModel
from bikefit.errors import DataError

NUMBERS: Final = (
    "temperature", "feels_like", "humidity", "windspeed", "year", "month", "hour", *BOOLEANS,
)  # fmt: skip
"""Columns of the clean table that are numbers as they stand (yes is 1, no is 0)."""

DAYS_SINCE_START: Final = "days_since_start"

Derive = Callable[[pd.DataFrame, np.datetime64], pd.Series]

DERIVED: Final[dict[str, Derive]] = {
    # Relative humidity as a fraction, so that it is of the order of 1 without any statistics.
    "humidity_fraction": lambda hours, start: hours["humidity"] / 100,
    # 1 on the first of January.
    "day_of_year": lambda hours, start: hours["timestamp"].dt.day_of_year,
    # Whole days since the first training day: the trend of a system that grows.
    DAYS_SINCE_START: lambda hours, start: (hours["timestamp"].dt.normalize() - start).dt.days,
    # 0 on Monday to 6 on Sunday.
    "day_of_week": lambda hours, start: hours["timestamp"].dt.day_of_week,
    "commuting": lambda hours, start: commuting(hours),
}
"""Numbers made of a clean row and the first training day."""

CALENDAR: Final = {"commuting": commuting, "occasion": occasion}
"""Categories made of a clean row."""

CATEGORIES: Final = {**columns.CATEGORIES, "commuting": NO_YES, "occasion": OCCASIONS}
"""Every value that a categorical feature can have."""

SOURCES: Final = {
    "humidity_fraction": ("humidity",),
    "commuting": ("timestamp", "working_day", "holiday"),
    "occasion": ("timestamp",),
}
"""The clean columns that something derived needs; what is not named needs the time alone."""

PERIODS: Final = {"hour": 24.0, "day_of_week": 7.0, "month": 12.0, "day_of_year": 365.25}
"""Cyclic numbers and after how many units each comes round."""


def number(name: str, hours: pd.DataFrame, start: np.datetime64) -> np.ndarray:
    """One number of each row, (N,) float64; `start` is the first training day."""
    values = DERIVED[name](hours, start) if name in DERIVED else hours[name]
    return values.to_numpy("float64")


def sources(name: str) -> tuple[str, ...]:
    """The columns of the clean table that a category or number is made of."""
    derived = name in DERIVED or name in CALENDAR
    return SOURCES.get(name, ("timestamp",)) if derived else (name,)


def codes(name: str, hours: pd.DataFrame) -> np.ndarray:
    """The position of each row's category among the declared ones, (N,) int64.

    Raises:
        DataError: if a row has a category that is not declared; names column, value and row.
    """
    values = CALENDAR[name](hours) if name in CALENDAR else hours[name]
    declared = CATEGORIES[name]
    if declared == NO_YES:
        position = values.map({False: 0, True: 1}).fillna(-1).to_numpy("int64")
    else:
        position = pd.Index(declared, dtype="str").get_indexer(pd.Index(values.astype("str")))
    wrong = np.flatnonzero(position < 0)
    if len(wrong):
        row, value = int(wrong[0]), values.iloc[wrong[:1]].tolist()[0]
        raise DataError(f"row {row}, {name} = {value!r}: must be one of {', '.join(declared)}")
    return position


Names = tuple[str, ...]


class Spline(StrictModel):
    """A number as hat functions: each is 1 at its knot and falls to 0 at the neighbouring knots.

    Their weighted sum bends at the knots alone (a spline of degree 1), so the knots say how fine
    a shape can be fitted. Beyond the outer knots it stays constant.
    """

    of: str  # the number
    first: float  # outermost knots, in the number's unit
    last: float
    every: float = Field(gt=0)  # distance of the knots

    @field_validator("of")
    @classmethod
    def _number(cls, name: str) -> str:
        return _known((name,), (*NUMBERS, *DERIVED))[0]

    @model_validator(mode="after")
    def _two_knots(self) -> "Spline":
        if not self.last >= self.first + self.every:
            raise ValueError("last must be at least first + every: a spline needs two knots")
        return self

    @property
    def knots(self) -> np.ndarray:
        """Where the hats stand, (K,) float64; the last at or before `last`."""
        count = int((self.last - self.first) / self.every + 1e-9) + 1
        return self.first + self.every * np.arange(count)

    @property
    def names(self) -> list[str]:
        """The names of the hats, like `temperature~5/2` for the one at 2 of those every 5."""
        return [f"{self.of}~{self.every:g}/{knot:g}" for knot in self.knots]


class Features(StrictModel):
    """Which columns become features, and how."""

    one_hot: Names = ()
    drop_first: bool = False  # leave out the first category of each one-hot column
    cyclic: Names = ()
    harmonics: dict[str, int] = Field(default_factory=dict)  # of a cyclic number; 1 if not named
    standardized: Names = ()
    plain: Names = ()
    interactions: tuple[Names, ...] = ()  # products of one-hot columns, always with all categories
    splines: tuple[Spline, ...] = ()

    @field_validator("one_hot")
    @classmethod
    def _categories(cls, names: Names) -> Names:
        return _known(names, tuple(CATEGORIES))

    @field_validator("cyclic")
    @classmethod
    def _cycles(cls, names: Names) -> Names:
        return _known(names, tuple(PERIODS))

    @field_validator("standardized", "plain")
    @classmethod
    def _numbers(cls, names: Names) -> Names:
        return _known(names, (*NUMBERS, *DERIVED))

    @field_validator("interactions")
    @classmethod
    def _products(cls, products: tuple[Names, ...]) -> tuple[Names, ...]:
        for names in products:
            _known(names, tuple(CATEGORIES))
            if len(names) < 2 or len(set(names)) < len(names):
                raise ValueError(
                    f"an interaction needs two or more different columns, not {list(names)}"
                )
        return products

    @model_validator(mode="after")
    def _harmonics_of_cycles(self) -> "Features":
        for name, count in self.harmonics.items():
            if name not in self.cyclic or count < 1:
                raise ValueError(
                    f"harmonics.{name} = {count}: must be 1 or more, of a number in cyclic"
                )
        return self

    @model_validator(mode="after")
    def _different_names(self) -> "Features":
        names = self.names
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"named more than once: {', '.join(repeated)}")
        if not names:
            raise ValueError("a table needs at least one feature")
        return self

    @property
    def names(self) -> list[str]:
        """The names of all features in their order, like `hour=8` or `hour=8,working_day=yes`."""
        first = 1 if self.drop_first else 0
        names = [f"{name}={word}" for name in self.one_hot for word in CATEGORIES[name][first:]]
        names += [
            f"{name}_{part}{'' if harmonic == 1 else harmonic}"
            for name, harmonic in self.waves
            for part in ("sin", "cos")
        ]
        names += [*self.standardized, *self.plain]
        for product in self.interactions:
            words = ([f"{name}={word}" for word in CATEGORIES[name]] for name in product)
            names += [",".join(pair) for pair in itertools.product(*words)]
        return names + [name for spline in self.splines for name in spline.names]

    @property
    def waves(self) -> list[tuple[str, int]]:
        """Each cyclic number with each of its harmonics: 1 goes round once a period, 2 twice."""
        return [(n, k) for n in self.cyclic for k in range(1, self.harmonics.get(n, 1) + 1)]


def _known(names: Names, allowed: Names) -> Names:
    """Refuse names that are not allowed, and say why if they would give the answer away."""
    leaks = [name for name in names if name in LEAKS]
    if leaks:
        raise ValueError(
            f"{' and '.join(leaks)} cannot be a feature: casual and registered add up to the "
            "target rentals, so they would leak it"
        )
    unknown = [name for name in names if name not in allowed]
    if unknown:
        raise ValueError(f"unknown column {', '.join(unknown)}; allowed: {', '.join(allowed)}")
    return names
