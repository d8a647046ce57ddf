"""The declared schemas of the raw and the clean table, and errors that name row and value."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd
import pandera.pandas as pa

from bikefit.data.columns import BOOLEANS, CLEAN, RAW, SCALES, SEASON_MONTHS, SEASONS, WEATHER
from bikefit.data.columns import CATEGORIES as WORDS
from bikefit.data.raw import FRACTIONS, Problem, refuse


class Agreement(NamedTuple):
    """A rule over several columns of a row; `column` is the one that an error names."""

    column: str
    holds: Callable[[pd.DataFrame], pd.Series]
    allowed: str


def _weekday_code(dates: pd.Series) -> pd.Series:
    return (dates.dt.day_of_week + 1) % 7


def _workingday(raw: pd.DataFrame) -> pd.Series:
    return (raw["weekday"].between(1, 5) & (raw["holiday"] == 0)).astype("int64")


def _season_fits(raw: pd.DataFrame) -> pd.Series:
    pairs = {(season, month) for season, months in SEASON_MONTHS.items() for month in months}
    found = raw["season"] * 100 + raw["mnth"]
    # A season or month out of range is already an error of its own column.
    known = raw["season"].isin(SEASONS) & raw["mnth"].between(1, 12)
    return found.isin([season * 100 + month for season, month in pairs]) | ~known


def _year_fits(raw: pd.DataFrame) -> pd.Series:
    first = raw["dteday"].dt.year - raw["yr"]
    return first == first.mode().iloc[0]


RAW_AGREEMENTS = (
    Agreement("cnt", lambda raw: raw["casual"] + raw["registered"] == raw["cnt"],
              "must be casual + registered"),
    Agreement("weekday", lambda raw: raw["weekday"] == _weekday_code(raw["dteday"]),
              "must be the weekday of dteday (0 is sunday)"),
    Agreement("mnth", lambda raw: raw["mnth"] == raw["dteday"].dt.month,
              "must be the month of dteday"),
    Agreement("yr", _year_fits,
              "must be the year of dteday, counted from the same year in all rows"),
    Agreement("workingday", lambda raw: raw["workingday"] == _workingday(raw),
              "must be 1 from monday to friday except on holidays, otherwise 0"),
    Agreement("season", _season_fits,
              "must be the season of its month (1 is winter, from december to march)"),
    Agreement("hr", lambda raw: ~raw.duplicated(["dteday", "hr"]),
              "this hour of this day stands in the table twice"),
)  # fmt: skip

CLEAN_AGREEMENTS = (
    Agreement("rentals", lambda rows: rows["casual"] + rows["registered"] == rows["rentals"],
              "must be casual + registered"),
    Agreement("timestamp", lambda rows: rows["timestamp"].diff().iloc[1:].gt(pd.Timedelta(0))
              .reindex(rows.index, fill_value=True), "must be later than the row before"),
    Agreement("humidity", lambda rows: rows["humidity"].gt(0) | rows["humidity_suspect"],
              "must be above 0 % unless it is flagged"),
)  # fmt: skip


def _whole(low: int, high: int | None) -> pa.Column:
    if high is None:
        return pa.Column("int64", pa.Check.ge(low, error=f"must be {low} or more"))
    text = f"must be a whole number from {low} to {high}"
    return pa.Column("int64", pa.Check.in_range(low, high, error=text))


def _between(low: float, high: float, unit: str = "") -> pa.Column:
    text = f"must be a number from {low:g} to {high:g}{unit}"
    return pa.Column("float64", pa.Check.in_range(low, high, error=text))


def _schema(columns: dict[str, pa.Column], rules: tuple[Agreement, ...]) -> pa.DataFrameSchema:
    checks = [pa.Check(rule.holds, error=rule.allowed) for rule in rules]
    return pa.DataFrameSchema(columns, checks=checks, strict=True, ordered=True)


_RAW_CODES = {
    "season": (min(SEASONS), max(SEASONS)), "yr": (0, None), "mnth": (1, 12), "hr": (0, 23),
    "holiday": (0, 1), "weekday": (0, 6), "workingday": (0, 1),
    "weathersit": (min(WEATHER), max(WEATHER)), "instant": (0, None), "casual": (0, None),
    "registered": (0, None), "cnt": (0, None),
}  # fmt: skip

RAW_SCHEMA = _schema(
    {
        name: pa.Column("datetime64[us]")
        if name == "dteday"
        else _between(0, 1)
        if name in FRACTIONS
        else _whole(*_RAW_CODES[name])
        for name in RAW
    },
    RAW_AGREEMENTS,
)
"""The published table as `read_raw` gives it."""


def _clean_column(name: str) -> pa.Column:
    if name == "timestamp":
        return pa.Column("datetime64[us]")
    if name in SCALES:
        return _between(*SCALES[name][1:])
    if name in BOOLEANS:
        return pa.Column("bool")
    if name in ("season", "weekday", "weather"):
        return pa.Column(pa.Category(list(WORDS[name]), ordered=False))
    low, high = {"month": (1, 12), "hour": (0, 23)}.get(name, (0, None))
    return _whole(low, high)


CLEAN_SCHEMA = _schema({name: _clean_column(name) for name in CLEAN}, CLEAN_AGREEMENTS)
"""One row an hour, in time order: names, units and categories as in `columns`."""


def check_raw(raw: pd.DataFrame, source: str) -> None:
    """Refuse a raw table whose values are out of range or contradict each other.

    Raises:
        DataError: naming line, column, value and what is allowed of the first few, and the count.
    """
    _check(RAW_SCHEMA, RAW_AGREEMENTS, raw, source, "line")


def check_clean(hours: pd.DataFrame, source: str) -> None:
    """Refuse a clean table that is not what `CLEAN_SCHEMA` declares; the same errors as above."""
    _check(CLEAN_SCHEMA, CLEAN_AGREEMENTS, hours, source, "row")


def _check(
    schema: pa.DataFrameSchema,
    rules: tuple[Agreement, ...],
    frame: pd.DataFrame,
    source: str,
    row: str,
) -> None:
    try:
        schema.validate(frame, lazy=True)
    except pa.errors.SchemaErrors as errors:
        named = {rule.allowed: rule.column for rule in rules}
        refuse(source, _problems(errors.failure_cases, named), row)


def _problems(cases: pd.DataFrame, named: dict[str, str]) -> list[Problem]:
    """Problems from the failures of pandera, which lists every column of a row that breaks a rule.

    Of those only the one that the rule names is kept.
    """
    found = []
    for case in cases.to_dict("records"):
        rule, column, value = str(case["check"]), str(case["column"]), case["failure_case"]
        if rule in named and column != named[rule]:
            continue
        # Faults of a whole column (its type, say) have no row.
        row = 0 if pd.isna(case["index"]) else int(case["index"])
        value = value.item() if isinstance(value, np.generic) else value
        found.append(Problem(row, column, value, rule))
    return found
