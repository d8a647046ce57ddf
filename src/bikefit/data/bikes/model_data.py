"""What models and baselines read of the bike tables, otherwise than of other tables."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

from bikefit.data.bikes.columns import TARGET
from bikefit.data.bikes.rows import InputStatistics, input_statistics
from bikefit.data.features import DAYS_SINCE_START, categories_of, with_calendar
from bikefit.data.model_data import Columns, ModelData
from bikefit.data.table import Table

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


class BikeData(ModelData):
    """Rows of a bike table, whose user gives the weather and whose trees read all columns."""

    model_name = "bikefit"

    def inputs(self) -> InputStatistics:
        """Return the parser of a user's rows."""
        return input_statistics(self.rows())

    def tree_columns(self) -> Columns:
        """Return the columns that boosted trees read."""
        return tree_columns(self.rows())

    def simple_predictions(self) -> dict[str, np.ndarray]:
        """Return predictions of the test rows by means of the other rows, also of each hour."""
        means = hourly_mean(self.rows("train", "validation"), self.parts["test"])
        return {**super().simple_predictions(), "hourly mean by working day": means.to_numpy()}


def read_model_data(table: Table) -> ModelData:
    """Return the rows of a table for a model and its baselines.

    Raises:
        DataError: The rows cannot be read, or the table has no test rows.
    """
    return (BikeData if table.source == "bikes" else ModelData).read(table)
