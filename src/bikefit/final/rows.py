"""Rows that users write (°C, %, km/h and a date), checked and converted to clean rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from bikefit.data import calendar
from bikefit.data.columns import SCALES, UNITS, WEATHER, add_derived_columns

NUMBERS: Final = {"temp": "temperature"} | {
    name: name for name in ("feels_like", "humidity", "windspeed")
}
"""Column of the clean rows by column of the user's rows."""

REQUIRED: Final = ("at", "temp", "humidity", "windspeed", "weather")
OPTIONAL: Final = ("feels_like", "holiday")
YES_NO: Final = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
TIME = r"\d{4}-\d{2}-\d{2}[T ]\d{2}(:\d{2}(:\d{2}(\.0+)?)?)?"
TREND_LIMIT = pd.Timedelta(days=366)


@dataclass(frozen=True)
class InputStatistics:
    """Statistics of the training rows that are needed to parse a user's rows."""

    first: str  # first and last day, ISO dates
    last: str
    calm: float  # largest wind speed (km/h) that the anemometer does not measure
    # Linear model of the felt temperature: intercept (°C), and the coefficients of temperature
    # (°C), humidity (%) and wind speed (km/h). It fills rows without a felt temperature.
    feels_like: tuple[float, float, float, float]


def input_statistics(hours: pd.DataFrame) -> InputStatistics:
    """Return the statistics of clean rows; the felt temperature is fitted by least squares."""
    valid = hours[~hours["feels_like_suspect"]]
    weather = valid[["temperature", "humidity", "windspeed"]].to_numpy()
    features = np.column_stack([np.ones(len(valid)), weather])
    model = np.linalg.lstsq(features, valid["feels_like"].to_numpy(), rcond=None)[0].tolist()
    calm = hours.loc[hours["windspeed_calm"], "windspeed"]
    days = hours["timestamp"].dt.strftime("%Y-%m-%d")
    largest = float(calm.max()) if len(calm) else 0.0
    return InputStatistics(days.min(), days.max(), largest, tuple(model))


def parse_rows(rows: pd.DataFrame, statistics: InputStatistics) -> tuple[pd.DataFrame, pd.Series]:
    """Convert a user's rows, in the units of :mod:`bikefit.final.rows`, to clean rows.

    Returns:
        The clean rows of the valid rows, with their index, and the error of every row as text,
        empty if it is valid. An error names each wrong column, its value and what is allowed.
    """
    given = rows.reindex(columns=[*REQUIRED, *OPTIONAL]).astype(object).map(_text)
    errors = pd.Series("", rows.index)
    hours = pd.DataFrame({"timestamp": _times(given["at"], statistics, errors)})
    for name, column in NUMBERS.items():
        hours[column] = _numbers(name, given[name], column, errors)
    hours["weather"] = _words("weather", given["weather"], tuple(WEATHER.values()), errors)
    hours["holiday"] = _words("holiday", given["holiday"], tuple(YES_NO), errors).map(YES_NO)
    hours = hours[errors == ""].copy()
    intercept, *coefficients = statistics.feels_like
    felt = intercept + hours[["temperature", "humidity", "windspeed"]] @ np.array(coefficients)
    hours["feels_like"] = hours["feels_like"].fillna(felt.clip(*SCALES["feels_like"][1:]))
    hours["season"] = calendar.season(hours["timestamp"])
    federal = calendar.is_holiday(hours["timestamp"])
    hours["holiday"] = hours["holiday"].where(hours["holiday"].notna(), federal).astype(bool)
    return add_derived_columns(hours, statistics.calm), errors


def _times(values: pd.Series, statistics: InputStatistics, errors: pd.Series) -> pd.Series:
    formed = values.str.fullmatch(TIME).astype(bool)
    times = pd.to_datetime(values.where(formed), format="ISO8601", errors="coerce").dt.floor("h")
    first, last = pd.Timestamp(statistics.first), pd.Timestamp(statistics.last) + TREND_LIMIT
    allowed = (
        f"must be from {first:%Y-%m-%d} to {last:%Y-%m-%d}: the data end on {statistics.last}, "
        "and their trend is not extrapolated for longer than a year"
    )
    outside = ~times.between(first, last + pd.Timedelta(hours=23))
    _add_error(errors, values, times.notna() & outside, "at", allowed)
    _add_error(errors, values, times.isna(), "at", "must be a local time like 2012-10-05T17:00")
    return times


def _numbers(name: str, values: pd.Series, column: str, errors: pd.Series) -> pd.Series:
    numbers = pd.to_numeric(values, errors="coerce").astype(float)
    low, high = SCALES[column][1:]
    positive = name == "humidity"  # outdoor air is never perfectly dry
    wrong = ~numbers.between(low, high, inclusive="right" if positive else "both")
    bounds = f"above {low:g} and at most {high:g}" if positive else f"from {low:g} to {high:g}"
    _add_error(errors, values, wrong, name, f"must be a number {bounds} {UNITS[column]}")
    return numbers


def _words(name: str, values: pd.Series, allowed: tuple[str, ...], errors: pd.Series) -> pd.Series:
    words = values.str.lower()
    _add_error(errors, values, ~words.isin(allowed), name, f"must be one of {', '.join(allowed)}")
    return words


def _add_error(
    errors: pd.Series, values: pd.Series, wrong: pd.Series, name: str, allowed: str
) -> None:
    """Append a sentence to the errors of the wrong rows, in place; optional values may be empty."""
    if name in OPTIONAL:
        wrong = wrong & (values != "")
    for row in map(int, np.flatnonzero(wrong)):
        problem = f"{name} = {values.iloc[row]}: " if values.iloc[row] else f"{name}: missing, "
        errors.iloc[row] = "; ".join(filter(None, [errors.iloc[row], problem + allowed]))


def _text(value: Any) -> str:
    """Return a cell as text without surrounding blanks, a missing value as ""."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # a column of integers with a missing value is read as floats
    return "" if pd.isna(value) else str(value).strip()
