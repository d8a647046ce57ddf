"""A user's rows (°C, %, km/h and local time), checked and converted to clean rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from bikefit.data.bikes import calendar
from bikefit.data.bikes.columns import SCALES, UNITS, WEATHER
from bikefit.data.bikes.derived import add_derived_columns

NUMBERS: Final = {"temp": "temperature"} | {
    name: name for name in ("feels_like", "humidity", "windspeed")
}  # column of the clean rows by column of the user's rows
REQUIRED: Final = ("at", "temp", "humidity", "windspeed", "weather")
OPTIONAL: Final = ("feels_like", "holiday")
YES_NO: Final = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
TIME = r"\d{4}-\d{2}-\d{2}[T ]\d{2}(:\d{2}(:\d{2}(\.0+)?)?)?"
TREND_LIMIT = pd.Timedelta(days=366)


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


def input_statistics(hours: pd.DataFrame) -> InputStatistics:
    """Return the statistics of clean rows; the felt temperature is fitted by least squares."""
    valid = hours[~hours["feels_like_suspect"]]
    weather = valid[["temperature", "humidity", "windspeed"]].to_numpy()
    features = np.column_stack([np.ones(len(valid)), weather])
    model = np.linalg.lstsq(features, valid["feels_like"].to_numpy(), rcond=None)[0].tolist()
    calm = float(hours["windspeed"].where(hours["windspeed_calm"], 0.0).max())
    days = hours["timestamp"].dt.strftime("%Y-%m-%d")
    return InputStatistics(days.min(), days.max(), calm, tuple(model))


def parse_rows(rows: pd.DataFrame, statistics: InputStatistics) -> tuple[pd.DataFrame, pd.Series]:
    """Return the clean rows of a user's valid rows, with their index, and the error of every row.

    An error names each wrong column, its value and the allowed values; it is empty if the row is
    valid.
    """
    cells = rows.reindex(columns=[*REQUIRED, *OPTIONAL]).astype(object).map(_cell_text)
    errors = pd.Series("", rows.index)
    hours = pd.DataFrame({"timestamp": _parse_times(cells["at"], statistics, errors)})
    for name, column in NUMBERS.items():
        hours[column] = _parse_numbers(cells[name], column, errors)
    hours["weather"] = _parse_category(cells["weather"], list(WEATHER.values()), errors)
    hours["holiday"] = _parse_category(cells["holiday"], list(YES_NO), errors).map(YES_NO)
    hours = hours[errors == ""].copy()
    intercept, *coefficients = statistics.feels_like
    felt = intercept + hours[["temperature", "humidity", "windspeed"]] @ np.array(coefficients)
    hours["feels_like"] = hours["feels_like"].fillna(felt.clip(*SCALES["feels_like"][1:]))
    hours["season"] = calendar.season(hours["timestamp"])
    federal = calendar.is_holiday(hours["timestamp"])
    hours["holiday"] = hours["holiday"].where(hours["holiday"].notna(), federal).astype(bool)
    return add_derived_columns(hours, statistics.calm), errors


def _parse_times(values: pd.Series, statistics: InputStatistics, errors: pd.Series) -> pd.Series:
    valid = values.str.fullmatch(TIME).astype(bool)
    times = pd.to_datetime(values.where(valid), format="ISO8601", errors="coerce").dt.floor("h")
    first, last = pd.Timestamp(statistics.first), pd.Timestamp(statistics.last) + TREND_LIMIT
    allowed = (
        f"must be from {first:%Y-%m-%d} to {last:%Y-%m-%d}: the data end on {statistics.last}, "
        "and their trend is not extrapolated for longer than a year"
    )
    outside = ~times.between(first, last + pd.Timedelta(hours=23))
    _add_errors(errors, values, times.notna() & outside, allowed)
    _add_errors(errors, values, times.isna(), "must be a local time like 2012-10-05T17:00")
    return times


def _parse_numbers(values: pd.Series, column: str, errors: pd.Series) -> pd.Series:
    numbers = pd.to_numeric(values, errors="coerce").astype(float)
    low, high = SCALES[column][1:]
    positive = column == "humidity"  # outdoor air is never perfectly dry
    wrong = ~numbers.between(low, high, inclusive="right" if positive else "both")
    bounds = f"above {low:g} and at most {high:g}" if positive else f"from {low:g} to {high:g}"
    _add_errors(errors, values, wrong, f"must be a number {bounds} {UNITS[column]}")
    return numbers


def _parse_category(values: pd.Series, allowed: list[str], errors: pd.Series) -> pd.Series:
    values = values.str.lower()
    _add_errors(errors, values, ~values.isin(allowed), f"must be one of {', '.join(allowed)}")
    return values


def _add_errors(errors: pd.Series, values: pd.Series, wrong: pd.Series, allowed: str) -> None:
    """Append a sentence to the errors of wrong rows, in place; optional values may be empty."""
    if values.name in OPTIONAL:
        wrong = wrong & (values != "")
    for row in map(int, np.flatnonzero(wrong)):
        value = f" = {values.iloc[row]}: " if values.iloc[row] else ": missing, "
        error = f"{values.name}{value}{allowed}"
        errors.iloc[row] = f"{errors.iloc[row]}; {error}".removeprefix("; ")


def _cell_text(value: Any) -> str:
    """Return a cell as text without surrounding blanks, a missing value as ""."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # a column of integers with a missing value is read as floats
    return "" if pd.isna(value) else str(value).strip()
