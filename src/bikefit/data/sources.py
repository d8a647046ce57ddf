"""Reading of the rows of tables: the bike data, or a file that `params.yaml` names."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import pooch
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from bikefit.data.bikes.columns import TARGET, UNITS
from bikefit.data.bikes.derived import read_hours
from bikefit.data.bikes.known import KNOWN, with_known_rate
from bikefit.data.cells import check_values, parse_numbers, parse_times, read_frame
from bikefit.data.features import CALENDAR, PERIODS, TIME
from bikefit.data.files import sha256
from bikefit.data.table_params import SplitParams, TableParams
from bikefit.errors import DataError, hide_secrets

FOLDER: Final = Path("data/own")
"""Folder of files whose changes DVC detects."""

DOWNLOADS: Final = Path("data/raw")

BIKES: Final[dict[str, Callable[[], pd.DataFrame]]] = {
    "bikes": read_hours,
    KNOWN: lambda: with_known_rate(read_hours()),
}
"""Functions that read the bike data, by the `source` of a table."""


@dataclass(frozen=True)
class Source:
    """Rows with their target.

    Args:
        rows: The target, the columns that features can be made of and, if rows have a time,
            `timestamp` (datetime64[us], in ascending order). The categories of a column are those
            of its categorical dtype; no and yes of a bool column; otherwise all training values.
        target: Name of the target.
        unit: Unit of the target, "" if it has none.
        time: Name of the time in the file, which is `timestamp` in the rows.
        name: `source` of the table in `params.yaml`.
        periods: Period of each cyclic column, in its unit.
    """

    rows: pd.DataFrame
    target: str
    unit: str = ""
    time: str = TIME
    name: str = ""
    periods: Mapping[str, float] = field(default_factory=lambda: PERIODS)


def read_source(params: TableParams, split: SplitParams) -> Source:
    """Return the rows of a table of `params.yaml`.

    Raises:
        DataError: The section does not suit the source, or a value cannot be used; the message
            names the column, and the value with its line.
    """
    if params.source not in BIKES:
        return _read_file(params, split)
    if params.target or params.unit or params.time or params.sha256:
        raise DataError(f"target, unit, time and sha256 are not for the source {params.source!r}")
    rows = BIKES[params.source]()
    allowed = [*rows.columns.drop([TARGET, TIME]), *CALENDAR]
    _check_names([*params.columns, *split.columns], allowed, params.source)
    periods = PERIODS | params.periods
    return Source(rows[: params.rows], TARGET, UNITS[TARGET], name=params.source, periods=periods)


def _read_file(params: TableParams, split: SplitParams) -> Source:
    target, time = params.target, params.time
    if target is None:
        bikes = ", ".join(BIKES)
        raise DataError(f"source {params.source!r} is a file (not {bikes}) and needs a target")
    path = _find(params.source, params.sha256)
    rows = read_frame(path)
    names = [target, *split.columns, *params.columns]
    calendar = CALENDAR if time else ()
    _check_names([*names, *([time] if time else [])], [*rows, *calendar], str(path))
    if len(rows) < 2:
        raise DataError(f"{path} has {len(rows)} rows; a table needs two or more")
    used = [name for name in dict.fromkeys(names) if name in rows]
    unused = [str(name) for name in rows if name not in (*used, time)]
    if unused:
        print(f"{path}: not used: column {', '.join(unused)}")
    columns = {name: _check_column(rows[name], params, split, path) for name in used}
    if time:
        columns[TIME] = parse_times(rows[time])
        check_values(rows[time], columns[TIME].isna(), "is no date or time")
    rows = pd.DataFrame(columns)
    if time:
        rows = rows.sort_values(TIME, kind="stable")
    periods = PERIODS | params.periods
    return Source(rows[: params.rows], target, params.unit, time or TIME, params.source, periods)


def _check_names(names: Iterable[str], allowed: Sequence[str], where: str) -> None:
    for name in names:
        if name not in allowed:
            calendar = f"; calendar columns ({', '.join(CALENDAR)}) need `time`"
            raise DataError(
                f"{where} has no column {name!r}; its columns: "
                f"{', '.join(map(str, allowed))}{calendar if name in CALENDAR else ''}"
            )


def _check_column(
    values: pd.Series, params: TableParams, split: SplitParams, path: Path
) -> pd.Series:
    """Return the values of a column that the section names: numbers, bool or words."""
    name, is_target = values.name, values.name == params.target
    check_values(values, values.isna(), "is missing: fill it, or delete the row")
    if is_target or name in params.numbers:
        numbers = values
        if not is_numeric_dtype(values):
            numbers = parse_numbers(values.astype("str"))
            kind = "the target" if is_target else "used as a number"
            check_values(values, numbers.isna(), f"is no number, but {name} is {kind}")
        check_values(values, ~np.isfinite(numbers.astype("float64")), "is not finite")
        values = numbers.astype("int64") if is_target and is_bool_dtype(numbers) else numbers
    elif values.dtype == object:
        values = values.astype("str")
    if values.nunique() == 1:
        constant = f"column {name}: the value is {values.iloc[0]} in every row"
        if is_target:
            raise DataError(f"{constant}, so there is nothing to predict")
        if name in split.columns:
            raise DataError(f"{constant}, so all rows are one group; use another split")
        print(f"{path}: warning: {constant}; remove it")
    return values


def _find(source: str, expected: str | None) -> Path:
    """Return the path of a file, which is downloaded if `source` is an address."""
    if "://" in source:
        shown = hide_secrets(source)
        if expected is None:
            raise DataError(f"source {shown}: an address needs its sha256")
        pooch.get_logger().setLevel("WARNING")
        name = f"{expected[:16]}-{source.rpartition('/')[2]}"
        try:
            return Path(pooch.retrieve(source, f"sha256:{expected}", name, DOWNLOADS))
        except Exception as error:  # of the network, or of the hash
            raise DataError(f"source {shown}: {hide_secrets(str(error))}") from None
    path = Path(source).expanduser()
    if not path.is_file():
        raise DataError(f"source {source}: there is no such file")
    digest = sha256(path)
    if expected is None and FOLDER.resolve() not in path.resolve().parents:
        raise DataError(
            f"source {source}: a file outside {FOLDER}/ needs its sha256, which is {digest}, "
            "because DVC detects changes of files in that folder only"
        )
    if expected not in (None, digest):
        raise DataError(f"source {source}: its sha256 is {digest}, expected {expected}")
    return path
