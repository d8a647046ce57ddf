"""Reading of table files."""

import warnings
from pathlib import Path

import pandas as pd

from bikefit.errors import DataError


def read_cells(path: Path) -> pd.DataFrame:
    """Return the rows of a CSV file as text; blank lines are left out, cells are stripped.

    The index is the line number of each row in the file.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # a line longer than the header
            cells = pd.read_csv(
                path,
                dtype=str,
                encoding="utf-8-sig",
                index_col=False,
                keep_default_na=False,
                skip_blank_lines=False,
            )
    except (OSError, ValueError, pd.errors.ParserWarning) as error:
        raise DataError(f"{path} cannot be read as a CSV table: {error}") from None
    cells = cells.rename(columns=str.strip).fillna("").apply(lambda column: column.str.strip())
    cells = cells.set_index(pd.RangeIndex(2, len(cells) + 2, name="line"))
    return cells[(cells != "").any(axis=1)]
