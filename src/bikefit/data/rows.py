"""Reading of the rows of a table before they became features."""

import pandas as pd

from bikefit.data.features import TIME
from bikefit.data.table import PartName, Table
from bikefit.errors import DataError

ROWS = "rows"  # folder in that of a table


def read_rows(table: Table, *parts: PartName) -> pd.DataFrame:
    """Return the rows of parts, in the order of the rows of :meth:`Table.read`.

    The columns are `timestamp` or `row`, `part`, `unit` (int64; what a bootstrap may not divide:
    the group, otherwise the day, or the row where there is no time), the target under its name,
    and the columns of the source.

    Raises:
        DataError: The table is damaged.
    """
    try:
        frames = [
            pd.read_parquet(table.path / ROWS / f"{part}.parquet").assign(part=part)
            for part in parts
        ]
    except (OSError, ValueError) as error:
        reason = f"run `dvc repro featurize` ({error})"
        raise DataError(f"the rows of table {table.name} cannot be read: {reason}") from None
    return pd.concat(frames, ignore_index=True)


def in_order(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows of :func:`read_rows` in the order of time, or of the source."""
    return rows.sort_values(TIME if TIME in rows else "row", kind="stable", ignore_index=True)


def blocks(rows: pd.DataFrame) -> pd.Series:
    """Return what a bootstrap of rows or of predictions may not divide, (N,) int64.

    It is `unit` if there is such a column, otherwise the day, or the row where there is no time.
    """
    if "unit" in rows:
        return rows["unit"]
    if TIME in rows:
        return rows[TIME].astype("datetime64[s]").dt.normalize().astype("int64") // 86400
    return rows["row"]
