"""Tables of one's own: a file whose columns the section of a table in `params.yaml` names."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import pooch
from pandas.api.types import is_bool_dtype

from bikefit.data.cells import lines_of, parse_numbers, parse_times, read_frame
from bikefit.data.features import CALENDAR, PERIODS, TIME, Features
from bikefit.data.files import sha256
from bikefit.data.sources import Source
from bikefit.data.table_params import SplitParams, TableParams
from bikefit.errors import DataError, hide_secrets

FOLDER: Final = Path("data/own")
"""Folder of files whose changes DVC detects."""

DOWNLOADS: Final = Path("data/raw")
RESERVED: Final = (TIME, "row", "unit", "part")
"""Columns that are added to the rows of a table."""


class OwnTable:
    """Reader of the file of a table, with checks that name column, value and line."""

    def __init__(self, name: str, params: TableParams) -> None:
        self.where = f"featurize.tables.{name}"
        self.params = params
        self.path = self._find()
        self.rows = read_frame(self.path)

    def read(self, split: SplitParams) -> Source:
        """Return the rows, with the columns that the section names.

        Raises:
            DataError: A column is missing, or a value cannot be used.
        """
        params, target = self.params, str(self.params.target)
        calendar = [n for n in CALENDAR if params.time and n not in self.rows]
        columns = [name for name in params.columns if name not in calendar]
        named = dict.fromkeys([target, params.time, split.column, *columns])
        used = [name for name in named if name is not None]
        self._check_names(used)
        if len(self.rows) < 2:
            raise self._error(f"{self.path} has {len(self.rows)} rows; a table needs two or more")
        unused = [str(name) for name in self.rows if name not in used]
        if unused:
            print(f"{self.where}: not used: column {', '.join(unused)}")
        rows = self.rows[used].copy()
        for name in used:
            if name == params.time:
                continue
            self._check(name, rows[name].isna(), "is missing: fill it, or delete the row")
            if name == target or (name in params.numbers and name in columns):
                rows[name] = self._numbers(name)
            elif rows[name].dtype == object:
                rows[name] = rows[name].astype("str")
            if rows[name].nunique() == 1:
                value = f"column {name}: the value is {rows[name].iloc[0]} in every row"
                if name == target:
                    raise self._error(f"{value}, so there is nothing to predict")
                if name == split.column:
                    raise self._error(f"{value}, so all rows are one group; use another split")
                print(f"{self.where}: warning: {value}; remove it")
        if params.time:
            times = parse_times(rows[params.time])
            self._check(params.time, times.isna(), "is no date or time")
            if params.time != split.column:
                rows = rows.drop(columns=params.time)
            rows = rows.assign(**{TIME: times}).sort_values(TIME, kind="stable")
        elif split.kind == "days":
            raise self._error(
                "the split kind days needs `time`, the column with the time; without it, give the "
                "table a split of kind random, groups or chronological"
            )
        return Source(rows, target, params.unit, params.time or TIME)

    def _find(self) -> Path:
        source, expected = self.params.source, self.params.sha256
        if "://" in source:
            if expected is None:
                raise self._error(f"source {hide_secrets(source)}: an address needs its sha256")
            pooch.get_logger().setLevel("WARNING")
            name = f"{expected[:16]}-{source.rpartition('/')[2]}"
            try:
                return Path(pooch.retrieve(source, f"sha256:{expected}", name, DOWNLOADS))
            except Exception as error:  # of the network, or of the hash
                reason = hide_secrets(str(error))
                raise self._error(f"source {hide_secrets(source)}: {reason}") from None
        path = Path(source).expanduser()
        if not path.is_file():
            raise self._error(f"source {source}: there is no such file")
        digest = sha256(path)
        if expected is None and FOLDER.resolve() not in path.resolve().parents:
            raise self._error(
                f"source {source}: a file outside {FOLDER}/ needs its sha256, which is {digest}, "
                "because DVC detects changes of files in that folder only"
            )
        if expected not in (None, digest):
            raise self._error(f"source {source}: its sha256 is {digest}, expected {expected}")
        return path

    def _check_names(self, used: Sequence[str]) -> None:
        for name in used:
            if name not in self.rows:
                calendar = f"; calendar columns ({', '.join(CALENDAR)}) need `time`"
                raise self._error(
                    f"{self.path} has no column {name!r}; its columns: "
                    f"{', '.join(map(str, self.rows))}{calendar if name in CALENDAR else ''}"
                )
            if name in RESERVED and name != self.params.time:
                raise self._error(f"column {name!r}: this name is reserved, rename the column")
        for name in self.params.cyclic:
            if name not in self.params.periods | PERIODS:
                raise self._error(f"cyclic column {name!r}: add its period to `periods`")

    def _numbers(self, name: str) -> pd.Series:
        values = self.rows[name]
        if not pd.api.types.is_numeric_dtype(values):
            numbers = parse_numbers(values.astype("str"))
            kind = "the target" if name == self.params.target else "used as a number"
            self._check(name, numbers.isna(), f"is no number, but {name} is {kind}")
            values = numbers
        self._check(name, ~np.isfinite(values.astype("float64")), "is not finite")
        yes_or_no = name == self.params.target and is_bool_dtype(values)
        return values.astype("int64") if yes_or_no else values

    def _check(self, name: str, wrong: pd.Series | np.ndarray, problem: str) -> None:
        """Raise an error that names the wrong rows of a column, if any."""
        wrong = np.asarray(wrong)
        if wrong.all():
            raise self._error(f"column {name}: every value {problem}")
        if wrong.any():
            value, lines = self.rows[name][wrong].iloc[0], lines_of(self.rows, wrong)
            shown = "" if pd.isna(value) else f" {value!r}" if type(value) is str else f" {value}"
            raise self._error(f"column {name}, {lines}: the value{shown} {problem}")

    def _error(self, text: str) -> DataError:
        return DataError(f"{self.where}: {text}")


def check_parts(name: str, features: Features, rows: pd.DataFrame, labels: np.ndarray) -> None:
    """Raise a DataError if a category occurs in validation or test rows alone."""
    training = labels == "train"
    for column in features.categorical:
        declared = column not in rows or isinstance(rows[column].dtype, pd.CategoricalDtype)
        if declared or rows[column].dtype == bool:
            continue
        unseen = ~training & ~rows[column].isin(rows.loc[training, column].unique())
        if unseen.any():
            first = unseen.idxmax()
            raise DataError(
                f"featurize.tables.{name}: column {column}, {lines_of(rows, unseen)}: the category "
                f"{rows.at[first, column]!r} is in the {labels[rows.index.get_loc(first)]} rows, "
                "but in no training row: merge it with another category, or change the split"
            )
