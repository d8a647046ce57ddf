"""A user's rows (°C, %, km/h and local time), checked and converted to clean rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
import pandas as pd

from bikefit.data.bikes import calendar
from bikefit.data.bikes.columns import SCALES, UNITS, WEATHER
from bikefit.data.bikes.derived import add_derived_columns
from bikefit.data.inputs import InputColumn, parse_columns

REQUIRED: Final = ("at", "temp", "humidity", "windspeed", "weather")
OPTIONAL: Final = ("feels_like", "holiday")
EXAMPLE = pd.DataFrame(
    [
        ("2012-10-05T17:00", 21.0, 60.0, 12.0, "clear", 21.5, "no"),
        ("2012-12-25T03:00", 4.5, 81.0, 0.0, "mist", 2.0, "yes"),
    ],
    columns=[*REQUIRED, *OPTIONAL],
)
NAMES: Final = {"at": "timestamp", "temp": "temperature"}
"""Columns of clean rows by the names that a user gives them, if they differ."""

DRIEST = 1.0  # %; outdoor air is never perfectly dry


@dataclass(frozen=True)
class InputStatistics:
    """Statistics of the training rows that are needed to parse a user's rows.

    Args:
        first, last: First and last day, ISO dates.
        calm: Largest wind speed (km/h) that the anemometer does not measure.
        feels_like: Linear model of missing felt temperatures: intercept (°C) and coefficients of
            temperature (°C), humidity (%) and wind speed (km/h).
    """

    first: str
    last: str
    calm: float
    feels_like: tuple[float, float, float, float]
    required: ClassVar = REQUIRED
    optional: ClassVar = OPTIONAL

    def parse(self, rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.Series]:
        """Return the clean rows of valid rows, and errors: :func:`parse_columns`."""
        columns = {name: self._column(name) for name in (*REQUIRED, *OPTIONAL)}
        parsed, errors = parse_columns(columns, rows)
        hours = parsed.rename(columns=NAMES)
        hours["timestamp"] = hours["timestamp"].dt.floor("h")
        intercept, *coefficients = self.feels_like
        felt = intercept + hours[["temperature", "humidity", "windspeed"]] @ np.array(coefficients)
        hours["feels_like"] = hours["feels_like"].fillna(felt.clip(*SCALES["feels_like"][1:]))
        hours["season"] = calendar.season(hours["timestamp"])
        federal = calendar.is_holiday(hours["timestamp"])
        hours["holiday"] = hours["holiday"].where(hours["holiday"].notna(), federal).astype(bool)
        return add_derived_columns(hours, self.calm), errors

    def _column(self, name: str) -> InputColumn:
        if name == "at":
            return InputColumn("hour", first=self.first, last=self.last)
        if name == "weather":
            return InputColumn("category", categories=tuple(WEATHER.values()))
        if name == "holiday":
            return InputColumn("yes or no", optional=True)
        of = NAMES.get(name, name)
        low, high = SCALES[of][1:]
        low = max(low, DRIEST) if of == "humidity" else low
        return InputColumn("number", low, high, margin=0, unit=UNITS[of], optional=name in OPTIONAL)

    def example(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return two rows as a user would give them."""
        return EXAMPLE


def input_statistics(hours: pd.DataFrame) -> InputStatistics:
    """Return the statistics of clean rows; the felt temperature is fitted by least squares."""
    valid = hours[~hours["feels_like_suspect"]]
    weather = valid[["temperature", "humidity", "windspeed"]].to_numpy()
    features = np.column_stack([np.ones(len(valid)), weather])
    model = np.linalg.lstsq(features, valid["feels_like"].to_numpy(), rcond=None)[0].tolist()
    calm = float(hours["windspeed"].where(hours["windspeed_calm"], 0.0).max())
    days = hours["timestamp"].dt.strftime("%Y-%m-%d")
    return InputStatistics(days.min(), days.max(), calm, tuple(model))
