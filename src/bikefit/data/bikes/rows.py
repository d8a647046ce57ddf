"""A user's rows (°C, %, km/h and local time), checked and converted to clean rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
import pandas as pd

from bikefit.data.bikes import calendar
from bikefit.data.bikes.columns import SCALES, UNITS, WEATHER
from bikefit.data.bikes.derived import add_derived_columns
from bikefit.data.inputs import YES_NO, add_errors, cell_text, parse_category, parse_local_times

NUMBERS: Final = {"temp": "temperature"} | {
    name: name for name in ("feels_like", "humidity", "windspeed")
}  # column of the clean rows by column of the user's rows
REQUIRED: Final = ("at", "temp", "humidity", "windspeed", "weather")
OPTIONAL: Final = ("feels_like", "holiday")
EXAMPLE = pd.DataFrame(
    [
        ("2012-10-05T17:00", 21.0, 60.0, 12.0, "clear", 21.5, "no"),
        ("2012-12-25T03:00", 4.5, 81.0, 0.0, "mist", 2.0, "yes"),
    ],
    columns=[*REQUIRED, *OPTIONAL],
)
TIME = r"\d{4}-\d{2}-\d{2}[T ]\d{2}(:\d{2}(:\d{2}(\.0+)?)?)?"


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
        """Return the clean rows of valid rows, with their index, and the error of every row.

        An error names each wrong column, its value and what is allowed; it is empty if the row is
        valid.
        """
        cells = rows.reindex(columns=[*REQUIRED, *OPTIONAL]).astype(object).map(cell_text)
        errors = pd.Series("", rows.index)
        times = parse_local_times(cells["at"], self.first, self.last, errors, TIME)
        hours = pd.DataFrame({"timestamp": times.dt.floor("h")})
        for name, column in NUMBERS.items():
            hours[column] = _parse_numbers(cells[name], column, errors)
        weather, holiday = cells["weather"].str.lower(), cells["holiday"].str.lower()
        hours["weather"] = parse_category(weather, list(WEATHER.values()), errors)
        hours["holiday"] = parse_category(holiday, list(YES_NO), errors, optional=True).map(YES_NO)
        hours = hours[errors == ""].copy()
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


def _parse_numbers(values: pd.Series, column: str, errors: pd.Series) -> pd.Series:
    numbers = pd.to_numeric(values, errors="coerce").astype(float)
    low, high = SCALES[column][1:]
    positive = column == "humidity"  # outdoor air is never perfectly dry
    wrong = ~numbers.between(low, high, inclusive="right" if positive else "both")
    bounds = f"above {low:g} and at most {high:g}" if positive else f"from {low:g} to {high:g}"
    allowed = f"must be a number {bounds} {UNITS[column]}"
    add_errors(errors, values, wrong, allowed, optional=values.name in OPTIONAL)
    return numbers
