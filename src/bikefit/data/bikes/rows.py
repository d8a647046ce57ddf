"""A user's rows (°C, %, km/h and local time), checked and converted to clean rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Final

import numpy as np
import pandas as pd

from bikefit.data.bikes import calendar
from bikefit.data.bikes.columns import SCALES, UNITS, WEATHER
from bikefit.data.bikes.derived import add_derived_columns
from bikefit.data.inputs import InputColumn, parse_columns


def _number(column: str, optional: bool = False) -> InputColumn:
    _, low, high = SCALES[column]
    return InputColumn("number", low, high, margin=0, unit=UNITS[column], optional=optional)


COLUMNS: Final = {
    "at": InputColumn("hour"),
    "temp": _number("temperature"),
    "humidity": replace(_number("humidity"), low=1.0),  # outdoor air is never perfectly dry
    "windspeed": _number("windspeed"),
    "weather": InputColumn("category", categories=tuple(WEATHER.values())),
    "feels_like": _number("feels_like", optional=True),
    "holiday": InputColumn("yes or no", optional=True),
}
REQUIRED: Final = tuple(name for name, column in COLUMNS.items() if not column.optional)
OPTIONAL: Final = tuple(name for name, column in COLUMNS.items() if column.optional)
EXAMPLE = pd.DataFrame(
    [
        ("2012-10-05T17:00", 21.0, 60.0, 12.0, "clear", 21.5, "no"),
        ("2012-12-25T03:00", 4.5, 81.0, 0.0, "mist", 2.0, "yes"),
    ],
    columns=list(COLUMNS),
)


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
        time = InputColumn("hour", first=self.first, last=self.last)
        parsed, errors = parse_columns(COLUMNS | {"at": time}, rows)
        hours = parsed.rename(columns={"at": "timestamp", "temp": "temperature"})
        hours["timestamp"] = hours["timestamp"].dt.floor("h")
        intercept, *coefficients = self.feels_like
        felt = intercept + hours[["temperature", "humidity", "windspeed"]] @ np.array(coefficients)
        hours["feels_like"] = hours["feels_like"].fillna(felt.clip(*SCALES["feels_like"][1:]))
        hours["season"] = calendar.season(hours["timestamp"])
        federal = calendar.is_holiday(hours["timestamp"])
        hours["holiday"] = hours["holiday"].where(hours["holiday"].notna(), federal).astype(bool)
        return add_derived_columns(hours, self.calm), errors

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
