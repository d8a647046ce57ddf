"""A user's rows of any table, checked and converted to rows for a transformer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from bikefit.data.cells import parse_numbers
from bikefit.data.features import TIME, words_of
from bikefit.data.transformer import Transformer

YES_NO: Final = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
HOUR = r"\d{4}-\d{2}-\d{2}[T ]\d{2}(:\d{2}(:\d{2}(\.0+)?)?)?"
TIMES: Final = {"hour": HOUR, "time": rf"\d{{4}}-\d{{2}}-\d{{2}}|{HOUR}"}
"""Forms of the kinds of time: with the hour, and dates too."""

DOTTED_DATE = r"^(\d{1,2})\.(\d{1,2})\.(\d{4})\b"  # day, month, year
TREND_LIMIT = pd.Timedelta(days=366)


@dataclass(frozen=True)
class InputColumn:
    """What is allowed in a column.

    Args:
        kind: ``number``, ``yes or no``, ``category``, ``time`` or ``hour``.
        low, high: Smallest and largest number of the rows that the model was fitted on.
        categories: Allowed values; of a number, any if empty.
        first, last: First and last day of these rows, ISO dates.
        margin: Allowed distance from `low` and `high`, as a share of their difference.
        unit: Unit of a number.
        optional: Whether a value may be missing.
    """

    kind: str
    low: float = 0.0
    high: float = 0.0
    categories: tuple[str, ...] = ()
    first: str = ""
    last: str = ""
    margin: float = 0.5
    unit: str = ""
    optional: bool = False

    def parse(self, cells: pd.Series) -> tuple[pd.Series, pd.Series, str]:
        """Return the values of texts, whether each is wrong, and a sentence of what is allowed."""
        if self.kind in TIMES:
            return self._parse_times(cells)
        if self.kind in ("category", "yes or no"):
            allowed = self.categories if self.kind == "category" else tuple(YES_NO)
            words = cells.where(cells.isin(allowed), cells.str.lower())
            values = words if self.kind == "category" else words.map(YES_NO)
            return values, ~words.isin(allowed), f"must be one of {', '.join(allowed)}"
        numbers = parse_numbers(cells).astype(float)
        if self.categories:
            words = numbers.map({float(category): category for category in self.categories})
            return words, words.isna(), f"must be one of {', '.join(self.categories)}"
        margin = self.margin * (self.high - self.low)
        low, high = self.low - margin, self.high + margin
        sentence = f"must be a number from {low:g} to {high:g} {self.unit}".rstrip()
        if margin:
            sentence += f": the model was fitted on values from {self.low:g} to {self.high:g}"
        return numbers, ~numbers.between(low, high), sentence

    def _parse_times(self, cells: pd.Series) -> tuple[pd.Series, pd.Series, str]:
        iso = cells.str.replace(
            DOTTED_DATE, lambda match: f"{match[3]}-{match[2]:0>2}-{match[1]:0>2}", regex=True
        )
        valid = iso.where(iso.str.fullmatch(TIMES[self.kind]).astype(bool))
        times = pd.to_datetime(valid, format="ISO8601", errors="coerce")
        start, end = pd.Timestamp(self.first), pd.Timestamp(self.last) + TREND_LIMIT
        wrong = ~times.between(start, end + pd.Timedelta(days=1), inclusive="left")
        sentence = (
            f"must be a local time like 2012-10-05T17:00, and from {start:%Y-%m-%d} to "
            f"{end:%Y-%m-%d}: the data end on {self.last}, and their trend is not extrapolated for "
            "longer than a year"
        )
        return times, wrong, sentence


def parse_columns(
    columns: Mapping[str, InputColumn], rows: pd.DataFrame
) -> tuple[pd.DataFrame, pd.Series]:
    """Return the values of valid rows, with their index, and the error of every row.

    An error names each wrong column, its value and what is allowed; it is empty if the row is
    valid.
    """
    cells = rows.reindex(columns=list(columns)).astype(object).map(_cell_text)
    errors, values = pd.Series("", rows.index), {}
    for name, column in columns.items():
        text = cells[name]
        values[name], wrong, allowed = column.parse(text)
        wrong &= (text != "") | (not column.optional)
        shown = (" = " + text + ": ").mask(text == "", ": missing, ")
        errors = errors.mask(wrong, errors + "; " + name + shown + allowed)
    errors = errors.str.removeprefix("; ")
    return pd.DataFrame(values, index=rows.index)[errors == ""], errors


def _cell_text(value: Any) -> str:
    """Return a cell as text without surrounding blanks, a missing value as ""."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # a column of integers with a missing value is read as floats
    return "" if pd.isna(value) else str(value).strip()


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
        """Return the rows for the transformer of valid rows, and errors: :func:`parse_columns`."""
        parsed, errors = parse_columns(self.columns, rows)
        yes_no = [name for name, column in self.columns.items() if column.kind == "yes or no"]
        parsed[yes_no] = parsed[yes_no].astype(bool)
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
        if name in rows:
            values, categories = rows[name], transformer.categories.get(name, ())
            if is_bool_dtype(values):
                columns[name] = InputColumn("yes or no")
            elif is_numeric_dtype(values):
                low, high = float(values.min()), float(values.max())
                columns[name] = InputColumn("number", low, high, categories)
            else:
                columns[name] = InputColumn("category", categories=categories)
    return TableInputs(columns)
