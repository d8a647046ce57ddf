"""The stage `python -m bikefit.data.bikes.clean`: one checked row per hour, in physical units.

Reads `data/raw/hour.csv`; writes `data/clean/hours.parquet` and `reports/data_quality.json`.
"""

import sys
from collections.abc import Iterator
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
from bikefit.data.cells import parse_numbers, parse_times, read_cells
from bikefit.data.files import atomic_write, write_json
from bikefit.data.params import read_section
from bikefit.errors import DataError, run_command

RAW_FILE = Path("data/raw/hour.csv")
QUALITY_FILE = Path("reports/data_quality.json")
SHOWN = 8  # largest number of wrong values that an error message lists

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

Rule = tuple[str, str, pd.Series]
"""A column, what is allowed in it, and whether each row satisfies this, (N,) bool."""


def _value_rules(raw: pd.DataFrame) -> Iterator[Rule]:
    yield "dteday", "must be a date like 2011-01-31", raw["dteday"].notna()
    for column, (low, high) in LIMITS.items():
        values = raw[column]
        whole = column not in FRACTIONS
        number = "whole number" if whole else "number"
        valid = values.between(low, high) & ((values % 1 == 0) | (not whole))
        yield column, f"must be a {number} from {low} to {high}", valid


def _row_rules(raw: pd.DataFrame) -> Iterator[Rule]:
    total = raw["casual"] + raw["registered"]
    yield "cnt", "must be casual + registered", total == raw["cnt"]
    # 3 of 12 months, and the month in which the next season begins
    fits = (raw["dteday"].dt.month - 3 * (raw["season"] - 1)) % 12 <= 3
    yield "season", "must be the season of its month (1 is winter, from december to march)", fits
    yield "hr", "this hour of this day is in the table twice", ~raw.duplicated(["dteday", "hr"])


def read_raw(path: Path) -> pd.DataFrame:
    """Read a raw table from a CSV file with its columns in any order; see :func:`parse_raw`."""
    return parse_raw(read_cells(path), str(path))


def parse_raw(text: pd.DataFrame, source: str = "raw table") -> pd.DataFrame:
    """Convert the text cells of a raw table to dates, float64 and int64, and check the values.

    Raises:
        DataError: Columns are missing or values are wrong.
    """
    missing = [name for name in RAW if name not in text]
    if missing:
        raise DataError(f"{source}: missing columns {', '.join(missing)}")
    if text.empty:
        raise DataError(f"{source}: no rows below the header")
    raw = text[list(LIMITS)].apply(parse_numbers)
    raw["dteday"] = parse_times(text["dteday"]).dt.normalize()
    for rules in (_value_rules, _row_rules):
        wrong, count = [], 0
        for column, allowed, valid in rules(raw):
            lines = raw.index[~valid]
            everywhere = len(lines) == len(raw) > 1
            count += len(lines)
            wrong += [
                (line, f"{'every line, like ' if everywhere else ''}line {line}", column, allowed)
                for line in lines[: 1 if everywhere else None]
            ]
        if wrong:
            shown = [
                f"  {where}, {column} = {text.at[line, column]!r}: {allowed}"
                for line, where, column, allowed in sorted(wrong)[:SHOWN]
            ]
            raise DataError("\n".join([f"{source}: number of wrong values: {count:,}", *shown]))
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
