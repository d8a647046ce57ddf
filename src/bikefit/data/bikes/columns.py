"""Columns, units and categories of the clean table, and its reading.

Source: the data dictionary of the "Bike Sharing" data set (H. Fanaee-T, J. Gama, 2013). If it
contradicts the numbers, the numbers are right: season code 1 is the season of January, so it is
winter, and temperatures are scaled between their lowest and highest possible value.
"""

from pathlib import Path
from typing import Final

import pandas as pd

from bikefit.errors import DataError

SEASONS: Final = {1: "winter", 2: "spring", 3: "summer", 4: "autumn"}
WEATHER: Final = {1: "clear", 2: "mist", 3: "light_precipitation", 4: "heavy_precipitation"}

SCALES: Final = {
    "temperature": ("temp", -8.0, 39.0),
    "feels_like": ("atemp", -16.0, 50.0),
    "humidity": ("hum", 0.0, 100.0),
    "windspeed": ("windspeed", 0.0, 67.0),
}
"""Clean column: raw column, and the values (°C, °C, %, km/h) of raw 0 and raw 1."""

CLEAN_FILE = Path("data/clean/hours.parquet")

UNITS: Final = {
    "temperature": "°C",
    "feels_like": "°C",
    "humidity": "%",
    "windspeed": "km/h",
    "rentals": "bikes/hour",
}

FLAGS: Final = ("humidity_suspect", "feels_like_suspect", "windspeed_calm")
"""Columns that are true if a known fault was detected, whether it was repaired or not."""

TARGET: Final = "rentals"


def read_clean() -> pd.DataFrame:
    """Read the clean table; a missing file raises a DataError."""
    if not CLEAN_FILE.exists():
        raise DataError(f"{CLEAN_FILE} not found: run `dvc repro clean`")
    return pd.read_parquet(CLEAN_FILE)
