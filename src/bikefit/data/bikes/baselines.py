"""Baselines of the bike tables, which read other columns than networks."""

from typing import Final

import pandas as pd

from bikefit.data.bikes.columns import TARGET
from bikefit.data.features import DAYS_SINCE_START, Columns, categories_of, with_calendar

TREE_COLUMNS: Final = (
    *("hour", "month", "year", "holiday", "working_day", "temperature", "feels_like", "humidity"),
    *("windspeed", "windspeed_calm", "season", "weekday", "weather"),
    *(DAYS_SINCE_START, "day_of_year", "commuting", "occasion"),
)
"""Columns that trees read, from which the features of the table `rich` are derived."""

ORDINAL: Final = ("season", "weekday", "weather", "occasion")
"""Those that are categories."""


def tree_columns(rows: pd.DataFrame) -> Columns:
    """Return the columns of rows that trees read."""
    rows = with_calendar(rows)
    return {name: categories_of(rows[name]) if name in ORDINAL else None for name in TREE_COLUMNS}


def hourly_mean(hours: pd.DataFrame, test: pd.DataFrame) -> pd.Series:
    """Predict test rows by the mean of the same hour on working days or on other days."""
    keys = ["working_day", "hour"]
    hours, test = (rows.assign(hour=rows["timestamp"].dt.hour) for rows in (hours, test))
    means = hours.groupby(keys)[TARGET].mean().rename("mean")
    return test[keys].join(means, on=keys)["mean"].fillna(hours[TARGET].mean())
