"""Reading of table files as they are published: separators, encodings, compression and dates."""

import csv
import gzip
import io
import zlib
from collections import Counter
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from bikefit.errors import DataError

MISSING: Final = ("", "na", "n/a", "nan", "null", "none", "?")
"""Cells without a value, in lower case."""

SEPARATORS: Final = (",", ";", "\t", "|")
REFUSED: Final = {
    b"PK\x03\x04": "a zip archive or an Excel workbook: unpack it, or save the sheet as CSV",
    b"\xd0\xcf\x11\xe0": "an Excel workbook: save the sheet as CSV",
    b"version https://git-lfs": "a pointer of Git LFS: run `git lfs pull`",
    b"<!doctype": "a web page: download the file that it links to",
    b"<html": "a web page: download the file that it links to",
    b"{": "JSON: convert it to CSV",
    b"%PDF": "a PDF document: it needs to be CSV",
}
"""Kinds of files that are not read, by their first bytes."""

BYTE_ORDER_MARKS: Final = {
    b"\xef\xbb\xbf": "utf-8-sig",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
DATES: Final = ("%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%Y/%m/%d", "%Y%m%d", "%d-%m-%Y")
CLOCKS: Final = ("", " %H:%M", " %H:%M:%S", " %H")
THOUSANDS: Final = r"[+-]?[1-9]\d{0,2}(,\d{3})+"


def read_cells(path: Path) -> pd.DataFrame:
    """Return the rows of a text table as text; blank lines are left out, cells are stripped.

    Separator, encoding and compression are detected. Columns without a name, such as the index that
    other programs write, are left out. The index is the line number of each row in the file.

    Raises:
        DataError: The file is not a table; the message says what it is.
    """
    try:
        return _parse(_decode(_unpack(path.read_bytes())))
    except (OSError, ValueError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read as a CSV table: {error}") from None


def read_frame(path: Path) -> pd.DataFrame:
    """Return the rows of a table with typed columns: of a Parquet file, or :func:`typed` cells."""
    try:
        with path.open("rb") as file:
            if file.read(4) == b"PAR1":
                rows = pd.read_parquet(file)
                return rows.set_index(pd.RangeIndex(1, len(rows) + 1, name="row"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    return read_cells(path).apply(typed)


def _unpack(content: bytes) -> bytes:
    """Return the content of a table, which may be gzipped; refuse what is no text."""
    if content.startswith(b"\x1f\x8b"):
        content = gzip.decompress(content)
    for start, kind in REFUSED.items():
        if content[:200].lstrip().lower().startswith(start.lower()):
            raise ValueError(f"it is {kind}")
    return content


def _decode(content: bytes) -> str:
    for mark, encoding in BYTE_ORDER_MARKS.items():
        if content.startswith(mark):
            return content.decode(encoding)
    if b"\0" in content:
        raise ValueError("it is no text: it has zero bytes")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _parse(text: str) -> pd.DataFrame:
    text = text.replace("\r\r\n", "\n").replace("\r\n", "\n").replace("\r", "\n")
    separator = _separator(text)
    lines = csv.reader(io.StringIO(text), delimiter=separator, skipinitialspace=True, strict=True)
    records, numbers = [], []
    end = 0
    try:
        for record in lines:
            start, end = end + 1, lines.line_num
            cells = [cell.strip() for cell in record]
            if any(cells):
                records.append(cells)
                numbers.append(start)
    except csv.Error as error:
        raise ValueError(f"the quotes of line {end + 1} do not match: {error}") from None
    if not records:
        raise ValueError("it is empty")
    header, rows = [name.strip("'\"") for name in records[0]], records[1:]
    lengths = Counter(map(len, rows))
    if lengths.keys() == {len(header) + 1}:
        header.insert(0, "")  # R writes row names without a name
    for number, row in zip(numbers[1:], rows, strict=True):
        if len(row) > len(header):
            raise ValueError(
                f"line {number} has {len(row)} cells, but the header has {len(header)} names"
            )
        row.extend([""] * (len(header) - len(row)))
    repeated = [name for name, count in Counter(header).items() if name and count > 1]
    if repeated:
        raise ValueError(f"the name {repeated[0]} occurs twice in the header: rename a column")
    if rows and pd.to_numeric(pd.Series(header), errors="coerce").notna().all():
        raise ValueError("its first line has numbers, no names: add a header")
    index = pd.Index(numbers[1:], name="line", dtype="int64")
    table = pd.DataFrame(rows, index, columns=header, dtype=str)
    return table.loc[:, [name != "" for name in header]]


def _separator(text: str) -> str:
    """Return the separator that gives the first lines the most cells, the same number in each."""
    lines = [line for line in text[:100_000].split("\n") if line.strip()][:20]
    lines = lines[:-1] if len(lines) > 2 else lines  # the last may be cut

    def score(separator: str) -> tuple[bool, int]:
        widths = [len(record) for record in csv.reader(lines, delimiter=separator)] or [0]
        return len(set(widths[1:])) <= 1 and widths[0] > 1, widths[0]

    return max(SEPARATORS, key=score)


def typed(cells: pd.Series) -> pd.Series:
    """Return text cells as numbers, as bool (true, false, yes, no), or as words if they are mixed.

    Numbers may have a decimal comma; with zeros before the digits, they are words. Cells without a
    value are missing.
    """
    values = cells.mask(cells.str.lower().isin(MISSING))
    valid = values.dropna()
    if len(valid) == len(values) and set(valid.str.lower()) <= {"true", "false", "yes", "no"}:
        return values.str.lower().isin(["true", "yes"])
    if valid.str.fullmatch(r"0\d+").any():  # codes, such as those of places
        return values
    numbers = parse_numbers(values)
    return numbers if len(valid) and numbers[valid.index].notna().all() else values


def parse_numbers(values: pd.Series) -> pd.Series:
    """Return text as numbers, those with a decimal comma too; what is no number is missing.

    If all commas may separate thousands, as in 1,234, text with a comma is no number.
    """
    numbers = pd.to_numeric(values, errors="coerce")
    with_comma = values[values.str.contains(",", na=False)]
    if with_comma.str.fullmatch(THOUSANDS).all():
        return numbers
    commas = pd.to_numeric(values.str.replace(",", ".", n=1, regex=False), errors="coerce")
    return commas if commas.notna().sum() > numbers.notna().sum() else numbers


def parse_times(values: pd.Series) -> pd.Series:
    """Return dates or times as datetime64[us]; what is none is missing.

    Formats are ISO 8601, and dates like 31.1.2011, 1/31/2011, 31/1/2011, 2011/1/31, 20110131 and
    31-1-2011, with or without a time of day. Among formats that fit equally many values, the one
    with the shortest range of time is taken: 1/2/2011 is a day after 1/1/2011, not a month.
    """
    if pd.api.types.is_datetime64_any_dtype(values):
        return values.dt.tz_localize(None).astype("datetime64[us]")
    text = values.astype("str").str.strip()
    times = pd.to_datetime(text.where(text.str.contains("-")), format="ISO8601", errors="coerce")
    if not pd.api.types.is_datetime64_any_dtype(times):  # of several time zones
        times = pd.Series(pd.NaT, text.index)
    candidates = [times.dt.tz_localize(None)]
    if times.isna().any():
        candidates += [
            pd.to_datetime(text, format=date + clock, errors="coerce")
            for date in DATES
            for clock in CLOCKS
        ]
    most = max(candidate.notna().sum() for candidate in candidates)
    best = [candidate for candidate in candidates if candidate.notna().sum() == most]
    shortest = min(best, key=lambda c: c.max() - c.min() if most else pd.Timedelta(0))
    return shortest.astype("datetime64[us]")


def lines_of(rows: pd.DataFrame | pd.Series, wrong: pd.Series | np.ndarray) -> str:
    """Return the lines of wrong rows as text: "line 5", "lines 5, 9, 12 and 40 more"."""
    numbers, name = rows.index[np.asarray(wrong)], rows.index.name or "row"
    if len(numbers) == len(rows) > 1:
        return f"every {name}"
    shown = ", ".join(map(str, numbers[:3]))
    more = f" and {len(numbers) - 3:,} more" if len(numbers) > 3 else ""
    return f"{name}{'s' if len(numbers) > 1 else ''} {shown}{more}"


def check_values(values: pd.Series, wrong: pd.Series | np.ndarray, problem: str) -> None:
    """Raise a DataError that names the column, the wrong rows and the first wrong value, if any."""
    if np.any(wrong):
        value = values[np.asarray(wrong)].iloc[0]
        shown = "" if pd.isna(value) else f" {value!r}" if type(value) is str else f" {value}"
        lines = lines_of(values, wrong)
        raise DataError(f"column {values.name}, {lines}: the value{shown} {problem}")
