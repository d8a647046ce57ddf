"""Schemas of the raw and of the clean table."""

from collections.abc import Callable
from typing import Final

import pandas as pd
import pandera.pandas as pa

from bikefit.data.columns import BOOLEANS, CATEGORIES, CLEAN, SCALES, SEASON_MONTHS
from bikefit.errors import DataError

SHOWN: Final = 8
"""Number of wrong values that an error message shows; the others are counted."""


def _column(allowed: str, valid: Callable[[pd.Series], pd.Series]) -> pa.Column:
    """Return a raw column of numbers or dates, where NaN or NaT is text that cannot be parsed."""
    check = pa.Check(valid, error=f"must be {allowed}", ignore_na=False)
    return pa.Column(checks=check, nullable=True)


def _whole(low: int, high: int | None = None) -> pa.Column:
    allowed = f"a whole number from {low} to {high}" if high else f"a whole number, {low} or more"
    limit = high or 2**53  # larger floats do not represent every whole number
    return _column(allowed, lambda values: values.between(low, limit) & (values % 1 == 0))


def _fraction() -> pa.Column:
    return _column("a number from 0 to 1", lambda values: values.between(0, 1))


def _year_fits(raw: pd.DataFrame) -> pd.Series:
    first = raw["dteday"].dt.year - raw["yr"]
    return first == first.mode().iloc[0]


def _working_day_fits(raw: pd.DataFrame) -> pd.Series:
    return raw["workingday"] == (raw["weekday"].between(1, 5) & (raw["holiday"] == 0))


def _season_fits(raw: pd.DataFrame) -> pd.Series:
    pairs = [season * 100 + month for season, months in SEASON_MONTHS.items() for month in months]
    return (raw["season"] * 100 + raw["mnth"]).isin(pairs)


def _rule(column: str, holds: Callable[[pd.DataFrame], pd.Series], allowed: str) -> pa.Check:
    """Return a condition on several columns of a row; errors name `column`."""
    return pa.Check(holds, name=column, error=allowed)


RAW_SCHEMA = pa.DataFrameSchema(
    {
        "instant": _whole(0),
        "dteday": _column("a date like 2011-01-31", lambda dates: dates.notna()),
        "season": _whole(1, 4),
        "yr": _whole(0),
        "mnth": _whole(1, 12),
        "hr": _whole(0, 23),
        "holiday": _whole(0, 1),
        "weekday": _whole(0, 6),
        "workingday": _whole(0, 1),
        "weathersit": _whole(1, 4),
        "temp": _fraction(),
        "atemp": _fraction(),
        "hum": _fraction(),
        "windspeed": _fraction(),
        "casual": _whole(0),
        "registered": _whole(0),
        "cnt": _whole(0),
    },
    checks=[
        _rule(
            "cnt",
            lambda raw: raw["casual"] + raw["registered"] == raw["cnt"],
            "must be casual + registered",
        ),
        _rule(
            "weekday",
            lambda raw: raw["weekday"] == (raw["dteday"].dt.day_of_week + 1) % 7,
            "must be the weekday of dteday (0 is sunday)",
        ),
        _rule(
            "mnth",
            lambda raw: raw["mnth"] == raw["dteday"].dt.month,
            "must be the month of dteday",
        ),
        _rule(
            "yr", _year_fits, "must be the year of dteday, counted from the same year in all rows"
        ),
        _rule(
            "workingday",
            _working_day_fits,
            "must be 1 from monday to friday except on holidays, otherwise 0",
        ),
        _rule(
            "season",
            _season_fits,
            "must be the season of its month (1 is winter, from december to march)",
        ),
        _rule(
            "hr",
            lambda raw: ~raw.duplicated(["dteday", "hr"]),
            "this hour of this day is in the table twice",
        ),
    ],
    strict=True,
)
"""The published table, one row per hour."""


def _clean_column(name: str) -> pa.Column:
    if name == "timestamp":
        return pa.Column("datetime64[us]", unique=True)
    if name in SCALES:
        low, high = SCALES[name][1:]
        return pa.Column("float64", pa.Check.in_range(low, high))
    if name in BOOLEANS:
        return pa.Column("bool")
    if name in ("season", "weekday", "weather"):
        return pa.Column(pa.Category(list(CATEGORIES[name]), ordered=False))
    return pa.Column("int64", pa.Check.ge(0))


CLEAN_SCHEMA = pa.DataFrameSchema(
    {name: _clean_column(name) for name in CLEAN}, strict=True, ordered=True
)
"""One row per hour, in the names, units and categories of :mod:`bikefit.data.columns`."""


def check_raw(raw: pd.DataFrame, text: pd.DataFrame, source: str) -> None:
    """Check the values of a raw table, and if they are valid, whether those of each row agree.

    Args:
        raw: Parsed values; the index is the line in the file.
        text: The values as they are written in the file, for the message.
        source: Name of the table, for the message.

    Raises:
        DataError: Values are wrong. The message counts them and names line, column, value and what
            is allowed for the first ones.
    """
    try:
        RAW_SCHEMA.validate(raw, lazy=True)
        return
    except pa.errors.SchemaErrors as errors:
        cases = errors.failure_cases
    in_columns = cases["schema_context"] == "Column"
    if in_columns.any():
        cases = cases[in_columns]
    else:  # pandera lists every column of a row that breaks a rule
        named = {check.error: check.name for check in RAW_SCHEMA.checks}
        cases = cases[cases["column"] == cases["check"].map(named)]
    cases = cases.sort_values(["index", "column"])
    count = "1 wrong value" if len(cases) == 1 else f"{len(cases)} wrong values"
    lines = [
        f"  line {case['index']}, {case['column']} = "
        f"{text.at[case['index'], case['column']]!r}: {case['check']}"
        for case in cases.head(SHOWN).to_dict("records")
    ]
    more = [f"  … and {len(cases) - SHOWN} more"] if len(cases) > SHOWN else []
    raise DataError("\n".join([f"{source}: {count}", *lines, *more]))
