"""Synthetic raw and clean tables for tests."""

from pathlib import Path

import numpy as np
import pandas as pd

from bikefit.data.bikes.clean import clean, parse_raw
from bikefit.data.bikes.faults import CleanParams
from bikefit.data.params import read_section

SEASON_OF_MONTH = {12: 1, 1: 1, 2: 1, 3: 2, 4: 2, 5: 2, 6: 3, 7: 3, 8: 3, 9: 4, 10: 4, 11: 4}


def raw_hours(days: int, seed: int = 0, start: str = "2011-01-01") -> pd.DataFrame:
    """Return `days` days of 24 hours without faults.

    Rentals depend on hour, working day, temperature and trend. The first Monday of each month is a
    holiday.
    """
    rng = np.random.default_rng(seed)
    time = pd.Series(pd.date_range(start, periods=24 * days, freq="h"))
    day, hour = time.dt.normalize(), time.dt.hour.to_numpy()
    weekday = (time.dt.day_of_week.to_numpy() + 1) % 7
    holiday = ((weekday == 1) & (time.dt.day.to_numpy() <= 7)).astype(int)
    working = ((weekday >= 1) & (weekday <= 5) & (holiday == 0)).astype(int)
    season = np.sin(2 * np.pi * (time.dt.day_of_year.to_numpy() - 110) / 365.25)
    cycle = np.sin(2 * np.pi * (hour - 9) / 24)
    celsius = 14 + 11 * season + 4 * cycle + rng.normal(0, 1.5, len(time))
    temp = np.clip((celsius + 8) / 47, 0.02, 1).round(2)
    rush = 4 * np.exp(-((hour - 8) ** 2) / 3) + 5 * np.exp(-((hour - 17.5) ** 2) / 5)
    leisure = 4 * np.exp(-((hour - 14) ** 2) / 18)
    trend = 1 + np.arange(len(time)) / (24 * 700)
    mean = 30 * trend * (0.3 + np.where(working, rush, leisure)) * (0.4 + temp)
    casual = rng.poisson(mean * np.where(working, 0.15, 0.35))
    registered = rng.poisson(mean * np.where(working, 0.85, 0.65))
    columns = {
        "dteday": day.dt.strftime("%Y-%m-%d"),
        "season": time.dt.month.map(SEASON_OF_MONTH),
        "hr": hour,
        "holiday": holiday,
        "workingday": working,
        "weathersit": rng.choice([1, 2, 3], size=len(time), p=[0.66, 0.26, 0.08]),
        "temp": temp,
        "atemp": np.clip((celsius + 16 + rng.normal(0, 1, len(time))) / 66, 0.02, 1).round(4),
        "hum": np.clip(rng.normal(0.63, 0.15, len(time)), 0.1, 1).round(2),
        "windspeed": np.clip(rng.gamma(3, 0.06, len(time)), 0.05, 0.9).round(4),
        "casual": casual,
        "registered": registered,
        "cnt": casual + registered,
    }
    return pd.DataFrame(columns)


def clean_hours(days: int) -> pd.DataFrame:
    """Return the clean rows of :func:`raw_hours`, with the project's parameters."""
    params = read_section("clean", CleanParams, Path(__file__).parents[1] / "params.yaml")
    return clean(parse_raw(raw_hours(days).astype(str)), params)
