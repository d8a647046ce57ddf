"""The stage `python -m bikefit.data.clean`: one checked row an hour, in physical units.

Reads `data/raw/hour.csv`; writes `data/clean/hours.parquet` and `reports/data_quality.json`.
"""

from pathlib import Path

import pandas as pd

from bikefit.data import stage
from bikefit.data.columns import CLEAN, SCALES, SEASONS, WEATHER, WEEKDAYS
from bikefit.data.faults import (
    FeelsLike,
    Humidity,
    Weather,
    Windspeed,
    feels_like_suspect,
    humidity_suspect,
    mend,
    quality,
)
from bikefit.data.files import atomic_write, write_json
from bikefit.data.params import StrictModel, read_section
from bikefit.data.raw import read_raw
from bikefit.data.schema import check_clean, check_raw

RAW_FILE = Path("data/raw/hour.csv")
CLEAN_FILE = Path("data/clean/hours.parquet")
QUALITY_FILE = Path("reports/data_quality.json")


class Clean(StrictModel):
    """The section `clean` of `params.yaml`."""

    humidity: Humidity
    feels_like: FeelsLike
    windspeed: Windspeed
    weather: Weather


def decode(raw: pd.DataFrame) -> pd.DataFrame:
    """Turn codes into words and scaled numbers into °C, %, km/h; rows in time order.

    Takes a raw table that `check_raw` accepts; gives all clean columns but the flags.
    """
    scaled = {
        name: low + raw[column] * (high - low) for name, (column, low, high) in SCALES.items()
    }
    hours = pd.DataFrame(
        {
            "timestamp": raw["dteday"] + pd.to_timedelta(raw["hr"], unit="h").astype("m8[us]"),
            "season": _words(raw["season"].map(SEASONS), tuple(SEASONS.values())),
            "year": raw["dteday"].dt.year.astype("int64"),
            "month": raw["mnth"],
            "hour": raw["hr"],
            # The raw week begins with sunday = 0, ours with monday.
            "weekday": _words(raw["weekday"].map(lambda code: WEEKDAYS[code - 1]), WEEKDAYS),
            "holiday": raw["holiday"] == 1,
            "working_day": raw["workingday"] == 1,
            "weather": _words(raw["weathersit"].map(WEATHER), tuple(WEATHER.values())),
            **scaled,
            "casual": raw["casual"],
            "registered": raw["registered"],
            "rentals": raw["cnt"],
        }
    )
    return hours.sort_values("timestamp", kind="stable", ignore_index=True)


def clean(raw: pd.DataFrame, params: Clean, source: str = "raw table") -> pd.DataFrame:
    """Check a raw table, decode it, and repair or flag its known faults.

    Raises:
        DataError: if rows are out of range or contradict themselves (`source` names the table).
    """
    check_raw(raw, source)
    hours = decode(raw)
    hours["humidity_suspect"] = humidity_suspect(hours["humidity"], params.humidity)
    hours["feels_like_suspect"] = feels_like_suspect(hours, params.feels_like)
    hours["windspeed_calm"] = hours["windspeed"] <= params.windspeed.calm
    hours = mend(hours, params.humidity, params.feels_like)[list(CLEAN)]
    check_clean(hours, "cleaned table")
    return hours


def _words(values: pd.Series, words: tuple[str, ...]) -> pd.Series:
    return values.astype(pd.CategoricalDtype(list(words)))


def main() -> None:
    """Run the stage in the current folder, the project's root."""
    params = read_section("clean", Clean)
    hours = clean(read_raw(RAW_FILE), params, str(RAW_FILE))
    report = quality(
        hours, params.humidity, params.feels_like, params.windspeed, params.weather.rare
    )
    with atomic_write(CLEAN_FILE) as temporary:
        hours.to_parquet(temporary, index=False, compression="zstd")
    write_json(QUALITY_FILE, report)
    print(f"clean: {len(hours):,} hours → {CLEAN_FILE}, {QUALITY_FILE}")
    for fault in (report["absent_hours"], *report["faults"].values()):
        print(f"  {fault['sentence']}")


if __name__ == "__main__":
    stage.run(main)
