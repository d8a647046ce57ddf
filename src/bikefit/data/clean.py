"""The stage `python -m bikefit.data.clean`: one checked row an hour, in physical units.

Reads `data/raw/hour.csv`; writes `data/clean/hours.parquet` and `reports/data_quality.json`.
"""

from pathlib import Path

import pandas as pd

from bikefit.data.columns import CLEAN, SCALES, SEASONS, WEATHER, complete_rows
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
from bikefit.data.params import StrictModel, read_section, run_stage
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


def decode(raw: pd.DataFrame, calm: float) -> pd.DataFrame:
    """Convert a checked raw table to clean rows in time order, not yet flagged as suspect."""
    scaled = {
        name: low + raw[column] * (high - low) for name, (column, low, high) in SCALES.items()
    }
    hours = pd.DataFrame(
        {
            "timestamp": raw["dteday"] + pd.to_timedelta(raw["hr"], unit="h").astype("m8[us]"),
            "season": raw["season"].map(SEASONS),
            "holiday": raw["holiday"] == 1,
            "weather": raw["weathersit"].map(WEATHER),
            **scaled,
            "casual": raw["casual"],
            "registered": raw["registered"],
            "rentals": raw["cnt"],
        }
    )
    hours = complete_rows(hours, calm)
    return hours.sort_values("timestamp", kind="stable", ignore_index=True)


def clean(raw: pd.DataFrame, params: Clean, source: str = "raw table") -> pd.DataFrame:
    """Check a raw table, decode it, and repair or flag its known faults.

    Raises:
        DataError: if rows are out of range or contradict themselves (`source` names the table).
    """
    check_raw(raw, source)
    hours = decode(raw, params.windspeed.calm)
    hours["humidity_suspect"] = humidity_suspect(hours["humidity"], params.humidity)
    hours["feels_like_suspect"] = feels_like_suspect(hours, params.feels_like)
    hours = mend(hours, params.humidity, params.feels_like)[list(CLEAN)]
    check_clean(hours, "cleaned table")
    return hours


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
    run_stage(main)
