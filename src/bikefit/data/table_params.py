"""The section `featurize` of `params.yaml`."""

from typing import Annotated, Final

import numpy as np
import pandas as pd
from pydantic import Field, PositiveFloat, StringConstraints, model_validator

from bikefit.data.features import PERIODS, TIME, Features
from bikefit.data.params import Sha256, StrictModel
from bikefit.data.splits import Kind, split, split_units
from bikefit.errors import DataError

RESERVED: Final = (TIME, "row", "unit", "part")
"""Columns that are added to the rows of a table."""


class SplitParams(StrictModel):
    """Settings of a split; fractions are of units, see :mod:`bikefit.data.splits`."""

    kind: Kind
    column: str | None = None  # for the kind groups
    seed: int = Field(ge=0, lt=2**32)
    validation: float = Field(ge=0, lt=1)
    test: float = Field(ge=0, lt=1)

    @model_validator(mode="after")
    def _valid(self) -> "SplitParams":
        if (self.kind == "groups") != (self.column is not None):
            raise ValueError("column is the column of the kind groups, which needs it")
        return self

    @property
    def columns(self) -> list[str]:
        """Return the column of groups, if any."""
        return [self.column] if self.column else []

    def units(self, rows: pd.DataFrame) -> np.ndarray:
        """Return the unit of each row of a source, (N,) int64."""
        if self.column is not None:
            return pd.factorize(rows[self.column], sort=True)[0].astype("int64")
        if self.kind == "days" and TIME not in rows:
            raise DataError(
                "the split kind days needs `time`, the column with the time; without it, give the "
                "table a split of kind random, groups or chronological"
            )
        return split_units(row_keys(rows).to_numpy(), self.kind)

    def parts(self, units: np.ndarray) -> np.ndarray:
        """Return `train`, `validation` or `test` for each row, (N,); see :func:`split`."""
        return split(units, **self.model_dump(exclude={"column"}))


def row_keys(rows: pd.DataFrame) -> pd.Series:
    """Return what identifies the rows of a source: timestamps, or the number of the row."""
    if TIME in rows:
        return rows[TIME].astype("datetime64[us]")
    return pd.Series(np.arange(len(rows)), rows.index, name="row")


class TableParams(Features):
    """Settings of a table; by default it has all rows and the split of the section.

    The keys `sha256` to `time` are for tables of files.
    """

    source: str = "bikes"
    rows: int | None = Field(default=None, ge=1)
    split: SplitParams | None = None
    sha256: Sha256 | None = None
    target: str | None = None
    unit: str = ""
    time: str | None = None
    periods: dict[str, PositiveFloat] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _valid_columns(self) -> "TableParams":
        if self.target and self.target in (*self.columns, self.time):
            raise ValueError(f"the target {self.target!r} must not be a feature or the time")
        for name in self.cyclic:
            if name not in self.periods | PERIODS:
                raise ValueError(f"cyclic column {name!r}: add its period to `periods`")
        reserved = {self.target, *self.columns} & set(RESERVED) - {self.time}
        if reserved:
            raise ValueError(f"column {reserved.pop()!r}: this name is reserved, rename the column")
        return self


Name = Annotated[str, StringConstraints(pattern="^[a-z][a-z0-9_]*$")]


class FeaturizeParams(StrictModel):
    """The section `featurize` of `params.yaml`."""

    split: SplitParams
    tables: dict[Name, TableParams] = Field(min_length=1)
