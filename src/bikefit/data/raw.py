"""Reading the published table: text to numbers, with the line of the file kept for errors."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from bikefit.data.columns import RAW
from bikefit.errors import DataError

FRACTIONS = ("temp", "atemp", "hum", "windspeed")
SHOWN = 8
"""How many problems an error shows before it only counts them."""


class Problem(NamedTuple):
    """One wrong value: where it stands and what may stand there."""

    row: object
    column: str
    value: object
    allowed: str


def refuse(what: str, problems: Iterable[Problem], row: str = "line") -> None:
    """Raise one error for all problems, showing the first few; do nothing if there are none."""
    found = sorted(problems, key=lambda p: (p.row, p.column))
    if not found:
        return
    lines = [f"  {row} {p.row}, {p.column} = {p.value!r}: {p.allowed}" for p in found[:SHOWN]]
    if len(found) > SHOWN:
        lines.append(f"  … and {len(found) - SHOWN} more")
    count = "1 wrong value" if len(found) == 1 else f"{len(found)} wrong values"
    raise DataError("\n".join([f"{what}: {count}", *lines]))


def read_raw(path: Path) -> pd.DataFrame:
    """Read a table in the columns of the published one; its index is the line in the file.

    A byte-order mark, CRLF, blank lines, blanks around values and another order of columns are
    only form. `dteday` becomes a date, the weather columns float64, all others int64.

    Raises:
        DataError: if a column is missing or unknown, a line has too few or too many values, or a
            value is not a number; names line, column and value.
    """
    text = _read_text(path)
    if text.num_rows == 0:
        raise DataError(f"{path}: no rows below the header")
    columns: dict[str, object] = {}
    problems: list[Problem] = []
    lines = text["line"].to_numpy()
    for name in RAW:
        values, wrong, allowed = _parse(name, text[name])
        columns[name] = values
        for at in np.flatnonzero(wrong):
            problems.append(Problem(int(lines[at]), name, text[name][int(at)].as_py(), allowed))
    refuse(str(path), problems)
    return pd.DataFrame(columns, index=pd.Index(lines, name="line"))


def _read_text(path: Path) -> pa.Table:
    """All values as text, trimmed, and the column `line`; checks the columns and line lengths."""
    ragged: list[str] = []

    def note(row: pa.csv.InvalidRow) -> str:
        ragged.append(f"  line {row.number}: {row.actual_columns} values, not {len(RAW)}")
        return "skip"

    try:
        table = pa.csv.read_csv(
            path,
            # Lines are numbered only when one thread reads.
            read_options=pa.csv.ReadOptions(use_threads=False),
            parse_options=pa.csv.ParseOptions(ignore_empty_lines=False, invalid_row_handler=note),
            convert_options=pa.csv.ConvertOptions(
                column_types={name: pa.string() for name in RAW}, strings_can_be_null=False
            ),
        )
    except FileNotFoundError:
        raise DataError(f"{path} not found: run `dvc repro download`") from None
    except pa.ArrowInvalid as error:
        raise DataError(f"{path} cannot be read as a CSV table: {error}") from None
    table = table.rename_columns([name.strip() for name in table.column_names])
    _check_columns(path, table.column_names)
    if ragged:
        more = [f"  … and {len(ragged) - SHOWN} more"] if len(ragged) > SHOWN else []
        raise DataError("\n".join([f"{path}: lines of wrong length", *ragged[:SHOWN], *more]))
    table = pa.table({name: pc.utf8_trim_whitespace(table[name].cast("string")) for name in RAW})
    table = table.append_column("line", pa.array(np.arange(2, table.num_rows + 2)))
    blank = pc.equal(table["instant"], "")
    for name in RAW[1:]:
        blank = pc.and_(blank, pc.equal(table[name], ""))
    return table.filter(pc.invert(blank))


def _check_columns(path: Path, names: list[str]) -> None:
    """Refuse missing, unknown and repeated columns."""
    missing = [name for name in RAW if name not in names]
    unknown = [name for name in names if name not in RAW]
    repeated = sorted({name for name in names if names.count(name) > 1})
    faults = {"missing": missing, "unknown": unknown, "repeated": repeated}
    said = [f"{kind}: {', '.join(found)}" for kind, found in faults.items() if found]
    if said:
        raise DataError(f"{path}: wrong columns ({'; '.join(said)}); expected: {', '.join(RAW)}")


def _parse(name: str, text: pa.ChunkedArray) -> tuple[object, np.ndarray, str]:
    """The values of one column, which of them are wrong, and what is allowed there."""
    if name == "dteday":
        dates = pd.to_datetime(text.to_pandas(), format="%Y-%m-%d", errors="coerce")
        return dates.to_numpy("datetime64[us]"), dates.isna().to_numpy(), "a date like 2011-01-31"
    numbers = _numbers(text)
    if name in FRACTIONS:
        return numbers, ~np.isfinite(numbers), "a number"
    # Beyond 2^53 a float no longer tells whole numbers apart.
    wrong = ~(np.abs(numbers) < 2.0**53) | (numbers != np.floor(numbers))
    return np.where(wrong, 0, numbers).astype("int64"), wrong, "a whole number"


def _numbers(text: pa.ChunkedArray) -> np.ndarray:
    """The text as float64, NaN where it is not a number."""
    try:
        return text.cast(pa.float64()).to_numpy()
    except pa.ArrowInvalid:  # slower, but says which values are wrong
        return pd.to_numeric(text.to_pandas(), errors="coerce").to_numpy("float64", na_value=np.nan)
