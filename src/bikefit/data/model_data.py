"""Rows of a table for a model and its baselines, and what these read of the rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bikefit.data.inputs import table_inputs
from bikefit.data.rows import in_order, read_rows
from bikefit.data.splits import PARTS
from bikefit.data.table import PartName, Table
from bikefit.data.transformer import Transformer
from bikefit.errors import DataError

Columns = Mapping[str, tuple[str, ...] | None]
"""Categories of each column, None for numbers."""


@dataclass(frozen=True, eq=False)
class ModelData:
    """Rows of a table by part, and the transformer of its training rows."""

    table: Table
    transformer: Transformer
    parts: Mapping[PartName, pd.DataFrame]

    @classmethod
    def read(cls, table: Table) -> ModelData:
        """Read the rows of a table.

        Raises:
            DataError: The rows cannot be read, or the table has no test rows.
        """
        parts: dict[PartName, pd.DataFrame] = {part: read_rows(table, part) for part in PARTS}
        if parts["test"].empty:
            raise DataError(
                f"table {table.name} has no test rows: set featurize.tables.{table.name}.split.test"
                " in params.yaml above 0, or choose a sweep over another table"
            )
        return cls(table, Transformer.load(table.path / "transformer.json"), parts)

    def rows(self, *parts: PartName) -> pd.DataFrame:
        """Return the rows of parts, by default of all, in order."""
        return in_order(pd.concat([self.parts[part] for part in parts or PARTS]))

    @property
    def model_name(self) -> str:
        """Return the name of the registered model."""
        return f"bikefit-{self.table.name}"

    def inputs(self) -> Any:
        """Return the parser of a user's rows."""
        return table_inputs(self.transformer, self.rows(), self.table.time_column)

    def tree_columns(self) -> Columns:
        """Return the columns that boosted trees read: those of the features."""
        features, categories = self.transformer.features, self.transformer.categories
        return {n: None if n in features.numbers else categories[n] for n in features.columns}

    def simple_predictions(self) -> dict[str, np.ndarray]:
        """Return predictions of the test rows by baselines that are means of the other rows."""
        mean = self.rows("train", "validation")[self.table.target].mean()
        return {"constant": np.full(len(self.parts["test"]), mean)}
