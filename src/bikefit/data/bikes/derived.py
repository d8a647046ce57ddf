"""Columns that are computed from others, and the rows of the bike tables."""

from typing import Final

import pandas as pd

from bikefit.data.bikes.calendar import OCCASIONS, is_commuting_day, occasion
from bikefit.data.bikes.columns import SEASONS, WEATHER, read_clean
from bikefit.data.features import WEEKDAYS

WORDS: Final = {
    "season": list(SEASONS.values()),
    "weekday": list(WEEKDAYS),
    "weather": list(WEATHER.values()),
}
"""Categories of the columns of words."""

NO_FEATURES: Final = ["casual", "registered", "year", "month", "hour", "weekday"]
"""Parts of the target, and columns that are a function of the timestamp."""


def add_derived_columns(hours: pd.DataFrame, calm: float) -> pd.DataFrame:
    """Add the columns that are computed from the others, such as `weekday` and `working_day`.

    `windspeed_calm` is true up to `calm` (km/h); the flags of suspect values are false.
    """
    time = hours["timestamp"].dt
    hours = hours.assign(
        year=time.year.astype("int64"),
        month=time.month.astype("int64"),
        hour=time.hour.astype("int64"),
        weekday=time.day_of_week.map(dict(enumerate(WEEKDAYS))),
        working_day=(time.day_of_week < 5) & ~hours["holiday"],
        humidity_suspect=False,
        feels_like_suspect=False,
        windspeed_calm=hours["windspeed"] <= calm,
    )
    hours = hours.astype({name: pd.CategoricalDtype(words) for name, words in WORDS.items()})
    return _add_feature_columns(hours)


def read_hours() -> pd.DataFrame:
    """Return the rows of the bike tables."""
    return table_rows(read_clean())


def table_rows(hours: pd.DataFrame) -> pd.DataFrame:
    """Return clean rows with all columns that can be features."""
    return _add_feature_columns(hours).drop(columns=NO_FEATURES)


def _add_feature_columns(hours: pd.DataFrame) -> pd.DataFrame:
    """Add columns that are only used as features."""
    return hours.assign(
        humidity_fraction=hours["humidity"] / 100,
        commuting=is_commuting_day(hours),
        occasion=pd.Categorical(occasion(hours), list(OCCASIONS)),
    )
