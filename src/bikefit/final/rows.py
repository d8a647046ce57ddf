"""From rows as people write them to clean rows: °C, %, km/h and a date; errors row by row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from bikefit.data.columns import CATEGORIES, SCALES
from bikefit.final import calendar

NUMBERS: Final = {
    "temp": ("temperature", "°C"),
    "feels_like": ("feels_like", "°C"),
    "humidity": ("humidity", "%"),
    "windspeed": ("windspeed", "km/h"),
}
"""Column of the user: clean column and unit."""

REQUIRED: Final = ("at", "temp", "humidity", "windspeed", "weather")
OPTIONAL: Final = ("feels_like", "holiday")
WORDS: Final = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
TIME = r"\d{4}-\d{2}-\d{2}[T ]\d{2}(:\d{2}(:\d{2}(\.0+)?)?)?"
TREND_REACH = pd.Timedelta(days=366)


@dataclass(frozen=True)
class Habits:
    """What reading a row must know of the data that the model was fitted on.

    Args:
        first, last: day of the first and of the last row, ISO dates.
        calm: wind (km/h) at or below which the anemometer measured nothing.
        feels_like: felt temperature as intercept (°C) and factors of temperature (°C),
            humidity (%) and wind (km/h), for rows that do not give it.
    """

    first: str
    last: str
    calm: float
    feels_like: tuple[float, float, float, float]


def learn(hours: pd.DataFrame) -> Habits:
    """Measure the habits of clean rows; the felt temperature by least squares."""
    good = hours[~hours["feels_like_suspect"]]
    design = np.column_stack(
        [np.ones(len(good)), *(good[name] for name in ("temperature", "humidity", "windspeed"))]
    )
    factors = np.linalg.lstsq(design, good["feels_like"].to_numpy(), rcond=None)[0].tolist()
    calm = hours.loc[hours["windspeed_calm"], "windspeed"]
    days = hours["timestamp"].dt.strftime("%Y-%m-%d")
    return Habits(days.min(), days.max(), float(calm.max()) if len(calm) else 0.0, tuple(factors))


def read(rows: pd.DataFrame, habits: Habits) -> tuple[pd.DataFrame, pd.Series]:
    """Turn rows of a user into clean rows.

    Args:
        rows: columns :data:`REQUIRED` and, where known, :data:`OPTIONAL`, as text or numbers. An
            absent column counts as missing in every row; other columns are not looked at.
        habits: of the model.

    Returns:
        The clean rows that are right, with the index of their rows, and for every row its error
        as text, empty where it is right. An error names each wrong column, its value and what is
        allowed.
    """
    given = rows.reindex(columns=[*REQUIRED, *OPTIONAL]).astype(object).map(_text)
    errors = pd.Series("", rows.index)
    columns: dict[str, pd.Series] = {"timestamp": _times(given["at"], habits, errors)}
    for name, (clean, unit) in NUMBERS.items():
        columns[clean] = _numbers(name, given[name], SCALES[clean][1:], unit, errors)
    columns["weather"] = _words("weather", given["weather"], CATEGORIES["weather"], errors)
    holiday = _words("holiday", given["holiday"], tuple(WORDS), errors).map(WORDS)
    right = errors == ""
    clean_rows = pd.DataFrame(columns)[right]
    return _complete(clean_rows, holiday[right], habits), errors


def _complete(rows: pd.DataFrame, holiday: pd.Series, habits: Habits) -> pd.DataFrame:
    """Add what follows from the columns that are there."""
    rows, time = rows.copy(), pd.to_datetime(rows["timestamp"])
    rows["timestamp"], rows["season"] = time, calendar.seasons(time)
    rows["year"], rows["month"], rows["hour"] = time.dt.year, time.dt.month, time.dt.hour
    rows["weekday"] = calendar.weekdays(time)
    rows["holiday"] = holiday.where(holiday.notna(), calendar.holidays(time)).astype(bool)
    rows["working_day"] = (time.dt.day_of_week < 5) & ~rows["holiday"]
    intercept, *factors = habits.feels_like
    felt = intercept + rows[["temperature", "humidity", "windspeed"]] @ np.array(factors)
    felt = felt.clip(*SCALES["feels_like"][1:])
    rows["feels_like"] = rows["feels_like"].fillna(felt)
    rows["windspeed_calm"] = rows["windspeed"] <= habits.calm
    return rows.assign(humidity_suspect=False, feels_like_suspect=False)


def _times(values: pd.Series, habits: Habits, errors: pd.Series) -> pd.Series:
    formed = values.str.fullmatch(TIME).astype(bool)
    times = pd.to_datetime(values.where(formed), format="ISO8601", errors="coerce").dt.floor("h")
    first, last = pd.Timestamp(habits.first), pd.Timestamp(habits.last) + TREND_REACH
    reached = times.between(first, last + pd.Timedelta(hours=23))
    allowed = (
        f"must be from {first:%Y-%m-%d} to {last:%Y-%m-%d}: the data end on {habits.last}, and "
        "their trend is not continued for longer than a year"
    )
    _note(errors, "at", values, times.notna() & ~reached, allowed)
    _note(errors, "at", values, times.isna(), "must be a local time like 2012-10-05T17:00")
    return times


def _numbers(
    name: str, values: pd.Series, limits: tuple[float, float], unit: str, errors: pd.Series
) -> pd.Series:
    numbers = pd.to_numeric(values, errors="coerce").astype(float)
    low, high = limits
    above = name == "humidity"  # air outdoors is never perfectly dry
    fits = numbers.between(low, high, inclusive="right" if above else "both")
    wrong = ~fits if name in REQUIRED else ~fits & (values != "")
    bounds = f"above {low:g} and at most {high:g}" if above else f"from {low:g} to {high:g}"
    _note(errors, name, values, wrong, f"must be a number {bounds} {unit}")
    return numbers


def _words(name: str, values: pd.Series, allowed: tuple[str, ...], errors: pd.Series) -> pd.Series:
    words = values.str.lower()
    wrong = ~words.isin(allowed if name in REQUIRED else (*allowed, ""))
    _note(errors, name, values, wrong, f"must be one of {', '.join(allowed)}")
    return words


def _note(errors: pd.Series, name: str, values: pd.Series, wrong: pd.Series, allowed: str) -> None:
    """Add a sentence to the errors of the wrong rows, in place."""
    for row in map(int, np.flatnonzero(wrong)):
        said = f"{name} = {values.iloc[row]}: " if values.iloc[row] else f"{name}: missing, "
        errors.iloc[row] = "; ".join(filter(None, [errors.iloc[row], said + allowed]))


def _text(value: Any) -> str:
    """A cell as text without blanks around it; empty for none."""
    return "" if pd.isna(value) else str(value).strip()
