"""The stage `python -m bikefit.data.bikes.clean`: one checked row per hour, in physical units.

Reads `data/raw/hour.csv`; writes `data/clean/hours.parquet` and `reports/data_quality.json`.
"""

import sys
from pathlib import Path
from typing import Final

import pandas as pd

from bikefit.data.bikes.columns import (
    CLEAN_FILE,
    FLAGS,
    SCALES,
    SEASONS,
    TARGET,
    WEATHER,
)
from bikefit.data.bikes.derived import add_derived_columns
from bikefit.data.bikes.faults import CleanParams, flag_and_repair, quality_report
from bikefit.data.cells import check_values, parse_numbers, parse_times, read_cells
from bikefit.data.files import atomic_write, write_json
from bikefit.data.params import naming, read_section
from bikefit.errors import DataError, run_command

RAW_FILE = Path("data/raw/hour.csv")
QUALITY_FILE = Path("reports/data_quality.json")

COUNTS: Final = ("casual", "registered", "cnt")
FRACTIONS: Final = tuple(column for column, *_ in SCALES.values())
LIMITS: Final = {
    **{"season": (1, 4), "hr": (0, 23), "holiday": (0, 1), "weathersit": (1, 4)},
    **dict.fromkeys(FRACTIONS, (0, 1)),
    **dict.fromkeys(COUNTS, (0, 10**9)),
}
"""Lowest and highest allowed value of each numeric column of the raw table."""

RAW: Final = ("dteday", *LIMITS)
"""Columns of the raw table that are read; its other columns are computed from these."""

CLEAN: Final = (
    *("timestamp", "season", "year", "month", "hour", "weekday", "holiday", "working_day"),
    *("weather", *SCALES, "casual", "registered", TARGET, *FLAGS),
)
"""Columns of the clean table."""


def read_raw(path: Path) -> pd.DataFrame:
    """Read a raw table from a CSV file with its columns in any order; see :func:`parse_raw`."""
    text = read_cells(path)
    with naming(str(path)):
        return parse_raw(text)


def parse_raw(text: pd.DataFrame) -> pd.DataFrame:
    """Convert the text cells of a raw table to dates, float64 and int64, and check the values.

    Raises:
        DataError: Columns are missing or values are wrong.
    """
    missing = [name for name in RAW if name not in text]
    if missing:
        raise DataError(f"missing columns {', '.join(missing)}")
    if text.empty:
        raise DataError("no rows below the header")
    raw = text[list(LIMITS)].apply(parse_numbers)
    raw["dteday"] = parse_times(text["dteday"]).dt.normalize()
    check_values(text["dteday"], raw["dteday"].isna(), "must be a date like 2011-01-31")
    for name, (low, high) in LIMITS.items():
        whole = name not in FRACTIONS
        wrong = ~raw[name].between(low, high) | (whole & (raw[name] % 1 != 0))
        number = "whole number" if whole else "number"
        check_values(text[name], wrong, f"must be a {number} from {low} to {high}")
    total = raw["casual"] + raw["registered"]
    check_values(text["cnt"], total != raw["cnt"], "must be casual + registered")
    # 3 of 12 months, and the month in which the next season begins
    other = (raw["dteday"].dt.month - 3 * (raw["season"] - 1)) % 12 > 3
    allowed = "must be the season of its month (1 is winter, from december to march)"
    check_values(text["season"], other, allowed)
    twice = raw.duplicated(["dteday", "hr"])
    check_values(text["hr"], twice, "is in the table twice for this day")
    return raw.astype({name: "float64" if name in FRACTIONS else "int64" for name in LIMITS})


def clean(raw: pd.DataFrame, params: CleanParams) -> pd.DataFrame:
    """Convert a raw table to clean rows in time order, with known faults flagged and repaired."""
    hours = raw[["casual", "registered"]].assign(
        rentals=raw["cnt"],
        timestamp=raw["dteday"] + pd.to_timedelta(raw["hr"], unit="h").astype("m8[us]"),
        season=raw["season"].map(SEASONS),
        holiday=raw["holiday"] == 1,
        weather=raw["weathersit"].map(WEATHER),
        **{name: low + raw[column] * (high - low) for name, (column, low, high) in SCALES.items()},
    )
    hours = add_derived_columns(hours, params.calm)[list(CLEAN)]
    hours = hours.sort_values("timestamp", kind="stable", ignore_index=True)
    return flag_and_repair(hours, params)


def main() -> None:
    """Run the stage in the current folder, the project's root."""
    params = read_section("clean", CleanParams)
    hours = clean(read_raw(RAW_FILE), params)
    report = quality_report(hours, params)
    with atomic_write(CLEAN_FILE) as temporary:
        hours.to_parquet(temporary, index=False, compression="zstd")
    write_json(QUALITY_FILE, report)
    print(f"clean: {len(hours):,} hours → {CLEAN_FILE}, {QUALITY_FILE}")
    for fault in (report["absent_hours"], *report["faults"].values()):
        print(f"  {fault['sentence']}")


if __name__ == "__main__":
    sys.exit(run_command(main))
