"""A user's rows of any table, checked and converted to rows for a transformer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import pandas as pd
from pandas.api.types import is_bool_dtype, is_integer_dtype, is_numeric_dtype

from bikefit.data.cells import parse_numbers
from bikefit.data.features import NO_YES, TIME, words_of
from bikefit.data.transformer import Transformer

YES_NO: Final = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
TIME_FORMAT = r"\d{4}-\d{2}-\d{2}([T ]\d{2}(:\d{2}(:\d{2}(\.0+)?)?)?)?"
DOTTED_DATE = r"^(\d{1,2})\.(\d{1,2})\.(\d{4})\b"  # day, month, year
TREND_LIMIT = pd.Timedelta(days=366)
MARGIN = 0.5  # allowed distance from the smallest and the largest number, in units of their range


@dataclass(frozen=True)
class InputColumn:
    """What is allowed in a column.

    Args:
        kind: ``number``, ``whole number``, ``yes or no``, ``category`` or ``time``.
        low, high: Smallest and largest number of the rows that the model was fitted on.
        categories: Allowed values; of a number, any if empty.
        first, last: First and last time, ISO dates.
    """

    kind: str
    low: float = 0.0
    high: float = 0.0
    categories: tuple[str, ...] = ()
    first: str = ""
    last: str = ""

    def parse(self, cells: pd.Series, errors: pd.Series) -> pd.Series:
        """Return the values of texts; add a sentence to the errors of wrong rows, in place."""
        if self.kind == "time":
            iso = cells.str.replace(
                DOTTED_DATE, lambda match: f"{match[3]}-{match[2]:0>2}-{match[1]:0>2}", regex=True
            )
            return parse_local_times(iso, self.first, self.last, errors)
        if self.kind == "yes or no":
            return parse_category(cells.str.lower(), list(YES_NO), errors).map(YES_NO)
        if self.kind == "category":
            return parse_category(cells, self.categories, errors)
        numbers = parse_numbers(cells).astype(float)
        if self.categories:
            wrong = ~numbers.isin([float(category) for category in self.categories])
            add_errors(errors, cells, wrong, f"must be one of {', '.join(self.categories)}")
            return numbers
        margin = MARGIN * (self.high - self.low)
        wrong = ~numbers.between(self.low - margin, self.high + margin)
        if self.kind == "whole number":
            wrong |= numbers % 1 != 0
        add_errors(
            errors,
            cells,
            wrong,
            f"must be a {self.kind} from {self.low - margin:g} to {self.high + margin:g}: the "
            f"model was fitted on values from {self.low:g} to {self.high:g}",
        )
        return numbers


@dataclass(frozen=True)
class TableInputs:
    """The columns of a user's rows that the features of a table need, by name."""

    columns: Mapping[str, InputColumn]
    optional: ClassVar[tuple[str, ...]] = ()

    @property
    def required(self) -> tuple[str, ...]:
        """Return the names of the columns."""
        return tuple(self.columns)

    @property
    def time(self) -> str:
        """Return the name of the column with the time, `timestamp` without such a column."""
        return next((name for name, column in self.columns.items() if column.kind == "time"), TIME)

    def parse(self, rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.Series]:
        """Return the rows for the transformer of valid rows, and the error of every row.

        An error names each wrong column, its value and what is allowed; it is empty if the row is
        valid.
        """
        cells = rows.reindex(columns=list(self.columns)).astype(object).map(cell_text)
        errors = pd.Series("", rows.index)
        values = {name: column.parse(cells[name], errors) for name, column in self.columns.items()}
        types = {"whole number": "int64", "yes or no": "bool"}
        kinds = {name: column.kind for name, column in self.columns.items()}
        parsed = pd.DataFrame(values, index=rows.index)[errors == ""]
        parsed = parsed.astype({n: types[kind] for n, kind in kinds.items() if kind in types})
        return parsed.rename(columns={self.time: TIME}), errors

    def example(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return the first and the last of the rows of a table as a user would give them."""
        chosen = rows.iloc[[0, -1]].reset_index(drop=True)
        chosen = chosen.rename(columns={TIME: self.time})[list(self.columns)]
        for name, column in self.columns.items():
            if column.kind == "time":
                chosen[name] = chosen[name].dt.strftime("%Y-%m-%dT%H:%M")
            elif column.kind in ("yes or no", "category"):
                chosen[name] = words_of(chosen[name])
            else:
                chosen[name] = chosen[name].astype("float")
        return chosen


def table_inputs(transformer: Transformer, rows: pd.DataFrame, time: str = TIME) -> TableInputs:
    """Return the columns that features need, with what the rows have in them.

    `time` is the name of the column with the time in the rows of a user.
    """
    features, columns = transformer.features, {}
    if any(name not in rows for name in features.columns):  # calendar columns
        first, last = (f"{end:%Y-%m-%d}" for end in (rows[TIME].min(), rows[TIME].max()))
        columns[time] = InputColumn("time", first=first, last=last)
    for name in features.columns:
        if name not in rows:
            continue
        values = rows[name]
        categories = transformer.categories[name] if name in features.categorical else ()
        if is_bool_dtype(values):
            columns[name] = InputColumn("yes or no", categories=NO_YES)
        elif is_numeric_dtype(values):
            kind = "whole number" if is_integer_dtype(values) else "number"
            low, high = float(values.min()), float(values.max())
            columns[name] = InputColumn(kind, low, high, categories)
        else:
            columns[name] = InputColumn("category", categories=categories)
    return TableInputs(columns)


def parse_local_times(
    cells: pd.Series, first: str, last: str, errors: pd.Series, pattern: str = TIME_FORMAT
) -> pd.Series:
    """Return times from the day `first` to a year after the day `last`; add errors in place."""
    valid = cells.str.fullmatch(pattern).astype(bool)
    times = pd.to_datetime(cells.where(valid), format="ISO8601", errors="coerce")
    start, end = pd.Timestamp(first), pd.Timestamp(last) + TREND_LIMIT
    outside = times.notna() & ~times.between(start, end + pd.Timedelta(days=1), inclusive="left")
    allowed = (
        f"must be from {start:%Y-%m-%d} to {end:%Y-%m-%d}: the data end on {last}, and their trend "
        "is not extrapolated for longer than a year"
    )
    add_errors(errors, cells, outside, allowed)
    add_errors(errors, cells, times.isna(), "must be a local time like 2012-10-05T17:00")
    return times


def parse_category(
    cells: pd.Series,
    allowed: tuple[str, ...] | list[str],
    errors: pd.Series,
    optional: bool = False,
) -> pd.Series:
    """Return texts; add an error to rows whose text is not allowed, in place."""
    wrong = ~cells.isin(list(allowed))
    add_errors(errors, cells, wrong, f"must be one of {', '.join(allowed)}", optional)
    return cells


def add_errors(
    errors: pd.Series, cells: pd.Series, wrong: pd.Series, allowed: str, optional: bool = False
) -> None:
    """Append a sentence to the errors of wrong rows, in place; optional cells may be empty."""
    if optional:
        wrong = wrong & (cells != "")
    for row in map(int, np.flatnonzero(wrong)):
        value = f" = {cells.iloc[row]}: " if cells.iloc[row] else ": missing, "
        error = f"{cells.name}{value}{allowed}"
        errors.iloc[row] = f"{errors.iloc[row]}; {error}".removeprefix("; ")


def cell_text(value: Any) -> str:
    """Return a cell as text without surrounding blanks, a missing value as ""."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # a column of integers with a missing value is read as floats
    return "" if pd.isna(value) else str(value).strip()
