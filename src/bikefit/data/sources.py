"""Sources of the rows of tables."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import pandas as pd

from bikefit.data.bikes.columns import TARGET, UNITS
from bikefit.data.bikes.derived import read_hours
from bikefit.data.bikes.known import KNOWN, with_known_rate
from bikefit.data.features import TIME


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
    """

    rows: pd.DataFrame
    target: str
    unit: str = ""
    time: str = TIME


SOURCES: Final[dict[str, Callable[[], Source]]] = {
    "bikes": lambda: Source(read_hours(), TARGET, UNITS[TARGET]),
    KNOWN: lambda: Source(with_known_rate(read_hours()), TARGET, UNITS[TARGET]),
}
"""Functions that read the sources that `source` of a table can name."""
