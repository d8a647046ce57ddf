"""The stage `python -m bikefit.data.clean`: one checked row per hour, in physical units.

Reads `data/raw/hour.csv`; writes `data/clean/hours.parquet` and `reports/data_quality.json`.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pandera.pandas as pa

from bikefit.data.columns import (
    CATEGORIES,
    CLEAN_FILE,
    FLAGS,
    SCALES,
    SEASONS,
    WEATHER,
    complete_rows,
    read_cells,
)
from bikefit.data.faults import Clean, flag_and_repair, quality
from bikefit.data.files import atomic_write, write_json
from bikefit.data.params import read_section
from bikefit.errors import DataError, run_command

RAW_FILE = Path("data/raw/hour.csv")
QUALITY_FILE = Path("reports/data_quality.json")
SHOWN = 8  # wrong values in an error message; the others are counted


def _column(allowed: str, valid: Callable[[pd.Series], pd.Series]) -> pa.Column:
    """Return a raw column of numbers or dates, where NaN or NaT is text that cannot be parsed."""
    check = pa.Check(valid, error=f"must be {allowed}", ignore_na=False)
    return pa.Column(checks=check, nullable=True)


def _whole(low: int, high: int | None = None) -> pa.Column:
    allowed = f"a whole number from {low} to {high}" if high else f"a whole number, {low} or more"
    limit = high or 2**53  # larger floats do not represent every whole number
    return _column(allowed, lambda values: values.between(low, limit) & (values % 1 == 0))


FRACTION = _column("a number from 0 to 1", lambda values: values.between(0, 1))
COUNT = _whole(0)


def _year_fits(raw: pd.DataFrame) -> pd.Series:
    first = raw["dteday"].dt.year - raw["yr"]
    return first == first.mode().iloc[0]


ROW_RULES: dict[str, tuple[str, Callable[[pd.DataFrame], pd.Series]]] = {
    "cnt": (
        "must be casual + registered",
        lambda raw: raw["casual"] + raw["registered"] == raw["cnt"],
    ),
    "weekday": (
        "must be the weekday of dteday (0 is sunday)",
        lambda raw: raw["weekday"] == (raw["dteday"].dt.day_of_week + 1) % 7,
    ),
    "mnth": ("must be the month of dteday", lambda raw: raw["mnth"] == raw["dteday"].dt.month),
    "yr": ("must be the year of dteday, counted from the same year in all rows", _year_fits),
    "workingday": (
        "must be 1 from monday to friday except on holidays, otherwise 0",
        lambda raw: raw["workingday"] == (raw["weekday"].between(1, 5) & (raw["holiday"] == 0)),
    ),
    "season": (
        "must be the season of its month (1 is winter, from december to march)",
        # 3 of 12 months, and the month in which the next season begins
        lambda raw: (raw["mnth"] - 3 * (raw["season"] - 1)) % 12 <= 3,
    ),
    "hr": (
        "this hour of this day is in the table twice",
        lambda raw: ~raw.duplicated(["dteday", "hr"]),
    ),
}
"""Conditions on several columns of a row, by the column that an error names."""

RAW_SCHEMA = pa.DataFrameSchema(
    {
        "instant": COUNT,
        "dteday": _column("a date like 2011-01-31", lambda dates: dates.notna()),
        "season": _whole(1, 4),
        "yr": COUNT,
        "mnth": _whole(1, 12),
        "hr": _whole(0, 23),
        "holiday": _whole(0, 1),
        "weekday": _whole(0, 6),
        "workingday": _whole(0, 1),
        "weathersit": _whole(1, 4),
        **dict.fromkeys(("temp", "atemp", "hum", "windspeed"), FRACTION),
        **dict.fromkeys(("casual", "registered", "cnt"), COUNT),
    },
    checks=[pa.Check(holds, error=allowed) for allowed, holds in ROW_RULES.values()],
)
"""The published table, one row per hour."""
RAW = tuple(RAW_SCHEMA.columns)


def _category(name: str) -> pa.Column:
    return pa.Column(pa.Category(list(CATEGORIES[name]), ordered=False))


INTEGER = pa.Column("int64", pa.Check.ge(0))
BOOLEAN = pa.Column("bool")

CLEAN_SCHEMA = pa.DataFrameSchema(
    {
        "timestamp": pa.Column("datetime64[us]", unique=True),
        "season": _category("season"),
        **dict.fromkeys(("year", "month", "hour"), INTEGER),
        "weekday": _category("weekday"),
        **dict.fromkeys(("holiday", "working_day"), BOOLEAN),
        "weather": _category("weather"),
        **{
            name: pa.Column("float64", pa.Check.in_range(low, high))
            for name, (_, low, high) in SCALES.items()
        },
        **dict.fromkeys(("casual", "registered", "rentals"), INTEGER),
        **dict.fromkeys(FLAGS, BOOLEAN),
    },
    strict=True,
    ordered=True,
)
"""One row per hour, in the names, units and categories of :mod:`bikefit.data.columns`."""


def read_raw(path: Path) -> pd.DataFrame:
    """Read a table with the columns of the published one, in any order; see :func:`parse_raw`."""
    return parse_raw(read_cells(path), str(path))


def parse_raw(text: pd.DataFrame, source: str = "raw table") -> pd.DataFrame:
    """Convert the cells of a raw table to dates, float64 and int64, and check the values.

    Raises:
        DataError: Columns or values are wrong.
    """
    missing = [name for name in RAW if name not in text]
    unknown = [str(name) for name in text if name not in RAW]
    if missing or unknown:
        raise DataError(
            f"{source}: wrong columns (missing: {', '.join(missing) or 'none'}; "
            f"unknown: {', '.join(unknown) or 'none'}); expected: {', '.join(RAW)}"
        )
    if text.empty:
        raise DataError(f"{source}: no rows below the header")
    text = text[list(RAW)]
    raw = text.drop(columns="dteday").apply(pd.to_numeric, errors="coerce")
    dates = pd.to_datetime(text["dteday"], format="%Y-%m-%d", errors="coerce")
    raw.insert(1, "dteday", dates.astype("datetime64[us]"))
    try:
        RAW_SCHEMA.validate(raw, lazy=True)
    except pa.errors.SchemaErrors as errors:
        raise DataError(_explain(errors.failure_cases, text, source)) from None
    scales = [column for column, *_ in SCALES.values()]
    whole = raw.columns.difference(["dteday", *scales])
    return raw.astype(dict.fromkeys(whole, "int64") | dict.fromkeys(scales, "float64"))


def _explain(cases: pd.DataFrame, text: pd.DataFrame, source: str) -> str:
    """Return a message for the failures of single values, or if there are none, of rows."""
    in_columns = cases["schema_context"] == "Column"
    if in_columns.any():
        cases = cases[in_columns]
    else:  # pandera lists every column of a row that breaks a rule
        named = {allowed: column for column, (allowed, _) in ROW_RULES.items()}
        cases = cases[cases["column"] == cases["check"].map(named)]
    cases = cases.sort_values(["index", "column"])
    count = "1 wrong value" if len(cases) == 1 else f"{len(cases)} wrong values"
    shown = cases[["index", "column", "check"]].head(SHOWN)
    lines = [
        f"  line {line}, {column} = {text.at[line, column]!r}: {allowed}"
        for line, column, allowed in shown.itertuples(index=False)
    ]
    more = [f"  … and {len(cases) - SHOWN} more"] if len(cases) > SHOWN else []
    return "\n".join([f"{source}: {count}", *lines, *more])


def decode(raw: pd.DataFrame, calm: float) -> pd.DataFrame:
    """Convert a raw table to clean rows in time order; the wind is calm up to `calm` (km/h)."""
    hours = raw[["casual", "registered"]].assign(
        rentals=raw["cnt"],
        timestamp=raw["dteday"] + pd.to_timedelta(raw["hr"], unit="h").astype("m8[us]"),
        season=raw["season"].map(SEASONS),
        holiday=raw["holiday"] == 1,
        weather=raw["weathersit"].map(WEATHER),
        **{name: low + raw[column] * (high - low) for name, (column, low, high) in SCALES.items()},
    )
    hours = complete_rows(hours, calm)[list(CLEAN_SCHEMA.columns)]
    return hours.sort_values("timestamp", kind="stable", ignore_index=True)


def clean(raw: pd.DataFrame, params: Clean) -> pd.DataFrame:
    """Convert a raw table to clean rows, and flag or repair known faults.

    Raises:
        DataError: Every value of a column is faulty.
    """
    hours = decode(raw, params.windspeed.calm)
    return CLEAN_SCHEMA.validate(flag_and_repair(hours, params))


def main() -> None:
    """Run the stage in the current folder, the project's root."""
    params = read_section("clean", Clean)
    hours = clean(read_raw(RAW_FILE), params)
    report = quality(hours, params)
    with atomic_write(CLEAN_FILE) as temporary:
        hours.to_parquet(temporary, index=False, compression="zstd")
    write_json(QUALITY_FILE, report)
    print(f"clean: {len(hours):,} hours → {CLEAN_FILE}, {QUALITY_FILE}")
    for fault in (report["absent_hours"], *report["faults"].values()):
        print(f"  {fault['sentence']}")


if __name__ == "__main__":
    sys.exit(run_command(main))
