"""The rows of a table for a refit, and what differs between the bike tables and others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from bikefit.data.bikes import baselines
from bikefit.data.bikes.rows import InputStatistics, input_statistics
from bikefit.data.features import Columns
from bikefit.data.inputs import TableInputs, table_inputs
from bikefit.data.rows import in_order, read_rows
from bikefit.data.splits import PARTS
from bikefit.data.table import PartName, Table, read_table
from bikefit.data.transformer import Transformer
from bikefit.errors import DataError


@dataclass(frozen=True, eq=False)
class RefitData:
    """Rows of a table by part, and the transformer of its training rows."""

    table: Table
    transformer: Transformer
    parts: Mapping[PartName, pd.DataFrame]

    @property
    def model_name(self) -> str:
        """Return the name of the registered model."""
        return "bikefit" if self.table.bikes else f"bikefit-{self.table.name}"

    def rows(self, *parts: PartName) -> pd.DataFrame:
        """Return the rows of parts, by default of all, in order."""
        return in_order(pd.concat([self.parts[part] for part in parts or PARTS]))

    def inputs(self) -> InputStatistics | TableInputs:
        """Return the parser of a user's rows."""
        rows = self.rows()
        if self.table.bikes:
            return input_statistics(rows)
        return table_inputs(self.transformer, rows, self.table.time_column)

    def tree_columns(self) -> Columns:
        """Return the columns that trees read: those of the features, of the bikes even more."""
        if self.table.bikes:
            return baselines.tree_columns(self.rows())
        features, categories = self.transformer.features, self.transformer.categories
        return {n: None if n in features.numbers else categories[n] for n in features.columns}

    def mean_predictions(self) -> dict[str, np.ndarray]:
        """Return predictions of the test rows by means of the other rows, ``(N,)`` by name."""
        rows, test = self.rows("train", "validation"), self.parts["test"]
        means = {"constant": np.full(len(test), rows[self.table.target].mean())}
        if self.table.bikes:
            means["hourly mean by working day"] = baselines.hourly_mean(rows, test).to_numpy()
        return means


def read_data(path: Path) -> RefitData:
    """Read the rows of a table from its folder.

    Raises:
        DataError: The rows cannot be read, or the table has no test rows.
    """
    table = read_table(path)
    parts: dict[PartName, pd.DataFrame] = {part: read_rows(table, part) for part in PARTS}
    if parts["test"].empty:
        raise DataError(
            f"table {table.name} has no test rows: set featurize.tables.{table.name}.split.test "
            "in params.yaml above 0, or choose a sweep over another table"
        )
    return RefitData(table, Transformer.load(path / "transformer.json"), parts)
