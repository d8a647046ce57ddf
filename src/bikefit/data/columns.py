"""Columns, units and categories of the raw and the clean table, and the making of clean rows.

Source: the data dictionary of the "Bike Sharing" data set (H. Fanaee-T, J. Gama, 2013). If it
contradicts the numbers, the numbers are right: season code 1 is the season of January, so it is
winter, and temperatures are scaled between their lowest and highest possible value.
"""

import warnings
from pathlib import Path
from typing import Final

import pandas as pd

from bikefit.errors import DataError

RAW: Final = (
    "instant", "dteday", "season", "yr", "mnth", "hr", "holiday", "weekday", "workingday",
    "weathersit", "temp", "atemp", "hum", "windspeed", "casual", "registered", "cnt",
)  # fmt: skip
"""Columns of the published table, in order."""

SEASONS: Final = {1: "winter", 2: "spring", 3: "summer", 4: "autumn"}
WEATHER: Final = {1: "clear", 2: "mist", 3: "light_precipitation", 4: "heavy_precipitation"}
WEEKDAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
NO_YES: Final = ("no", "yes")

SEASON_MONTHS: Final = {
    1: (12, 1, 2, 3),
    2: (3, 4, 5, 6),
    3: (6, 7, 8, 9),
    4: (9, 10, 11, 12),
}
"""Months of each season's code (seasons change on the 20th to 23rd of a month)."""

SCALES: Final = {
    "temperature": ("temp", -8.0, 39.0),
    "feels_like": ("atemp", -16.0, 50.0),
    "humidity": ("hum", 0.0, 100.0),
    "windspeed": ("windspeed", 0.0, 67.0),
}
"""Clean column: raw column, and the values (°C, °C, %, km/h) of raw 0 and raw 1."""

UNITS: Final = {
    "temperature": "°C",
    "feels_like": "°C",
    "humidity": "%",
    "windspeed": "km/h",
    "rentals": "bikes/hour",
    "casual": "bikes/hour",
    "registered": "bikes/hour",
}

FLAGS: Final = ("humidity_suspect", "feels_like_suspect", "windspeed_calm")
"""True if the rule of a known fault applies, whether the value was repaired or not."""

BOOLEANS: Final = ("holiday", "working_day", *FLAGS)

CATEGORIES: Final[dict[str, tuple[str, ...]]] = {
    "season": tuple(SEASONS.values()),
    "month": tuple(str(month) for month in range(1, 13)),
    "hour": tuple(str(hour) for hour in range(24)),
    "weekday": WEEKDAYS,
    "weather": tuple(WEATHER.values()),
    **dict.fromkeys(BOOLEANS, NO_YES),
}
"""Every value that a categorical column can have."""

CLEAN: Final = (
    "timestamp", "season", "year", "month", "hour", "weekday", "holiday", "working_day", "weather",
    "temperature", "feels_like", "humidity", "windspeed", "casual", "registered", "rentals", *FLAGS,
)  # fmt: skip
"""Columns of the clean table, in order."""

TARGET: Final = "rentals"
LEAKS: Final = ("casual", "registered", TARGET)
"""The target and its two parts, which are known only after the hour."""


def read_cells(path: Path) -> pd.DataFrame:
    """Return the cells of a CSV file as text without surrounding blanks, without blank lines.

    The index is the line of each row in the file.

    Raises:
        DataError: The file is missing or is not a CSV table.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # a line longer than the header
            cells = pd.read_csv(
                path,
                dtype=str,
                encoding="utf-8-sig",
                index_col=False,
                keep_default_na=False,
                skip_blank_lines=False,
            )
    except (OSError, ValueError, pd.errors.ParserWarning) as error:
        raise DataError(f"{path} cannot be read as a CSV table: {error}") from None
    cells = cells.rename(columns=str.strip).fillna("").apply(lambda column: column.str.strip())
    cells = cells.set_index(pd.RangeIndex(2, len(cells) + 2, name="line"))
    return cells[(cells != "").any(axis=1)]


def complete_rows(hours: pd.DataFrame, calm: float) -> pd.DataFrame:
    """Add the columns of a clean row that follow from its other columns.

    Args:
        hours: Columns `timestamp`, `season`, `holiday`, `weather`, `temperature`, `feels_like`,
            `humidity` and `windspeed`, in the units of the clean table; others are kept.
        calm: Largest wind speed (km/h) that the anemometer does not measure.

    Returns:
        The rows, not yet flagged as suspect.
    """
    time = hours["timestamp"].dt
    return hours.assign(
        season=_categorical(hours["season"], "season"),
        year=time.year.astype("int64"),
        month=time.month.astype("int64"),
        hour=time.hour.astype("int64"),
        weekday=_categorical(time.day_of_week.map(dict(enumerate(WEEKDAYS))), "weekday"),
        working_day=(time.day_of_week < 5) & ~hours["holiday"],
        weather=_categorical(hours["weather"], "weather"),
        humidity_suspect=False,
        feels_like_suspect=False,
        windspeed_calm=hours["windspeed"] <= calm,
    )


def _categorical(values: pd.Series, name: str) -> pd.Series:
    return values.astype(pd.CategoricalDtype(list(CATEGORIES[name])))
