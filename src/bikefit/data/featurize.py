"""The stage `python -m bikefit.data.featurize`: the tables that networks are trained on.

Reads `data/clean/hours.parquet`; writes `data/features/<table>/` for each table of `params.yaml`:
`train.parquet`, `validation.parquet`, `test.parquet`, `transformer.json` and `table.json`.
"""

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, StringConstraints, model_validator

from bikefit.data.columns import TARGET, UNITS, read_clean
from bikefit.data.features import Features
from bikefit.data.files import atomic_write, sha256, write_json
from bikefit.data.params import StrictModel, read_section
from bikefit.data.splits import PARTS, Kind, split
from bikefit.data.transformer import Transformer
from bikefit.errors import DataError, run_command

FOLDER = Path("data/features")


class Split(StrictModel):
    """How a table is split; fractions are of rows, or of days for the kind `days`."""

    kind: Kind
    seed: int = Field(ge=0, lt=2**32)
    validation: float = Field(ge=0, lt=1)
    test: float = Field(ge=0, lt=1)

    @model_validator(mode="after")
    def _leaves_training_rows(self) -> "Split":
        if self.validation + self.test >= 1:
            raise ValueError("validation and test together must stay below 1")
        return self


class TableParams(Features):
    """A table: its features, its first rows in time (null: all), and optionally its own split."""

    rows: int | None = Field(default=None, ge=1)
    split: Split | None = None


Name = Annotated[str, StringConstraints(pattern="^[a-z][a-z0-9_]*$")]


class Featurize(StrictModel):
    """The section `featurize` of `params.yaml`."""

    split: Split
    tables: dict[Name, TableParams] = Field(min_length=1)


def _columns(hours: pd.DataFrame, names: Sequence[str], matrix: np.ndarray) -> pa.Table:
    """Return `timestamp`, `rentals` and the features (N, D) of rows as columns."""
    columns = {
        "timestamp": pa.array(hours["timestamp"].to_numpy("datetime64[us]")),
        TARGET: pa.array(hours[TARGET].to_numpy("int64")),
    }
    columns |= {name: pa.array(matrix[:, at].copy()) for at, name in enumerate(names)}
    return pa.table(columns)


def write_table(
    folder: Path,
    parts: dict[str, pa.Table],
    standardized: Sequence[str],
    cut: Split,
    transformer: Transformer | None = None,
) -> None:
    """Write the folder of a table atomically; the table has the name of the folder."""
    target = parts["train"][TARGET].to_numpy().astype(np.float64)
    with atomic_write(folder) as temporary:
        temporary.mkdir()
        for part, content in parts.items():
            pq.write_table(content, temporary / f"{part}.parquet", compression="zstd")
        if transformer is not None:
            transformer.save(temporary / "transformer.json")
        statistics = {"mean": float(target.mean()), "std": float(target.std())}
        about = {
            "name": folder.name,
            "rows": {part: parts[part].num_rows for part in PARTS},
            "feature_names": parts["train"].column_names[2:],
            "standardized": list(standardized),
            "target": {"name": TARGET, "unit": UNITS[TARGET], **statistics},
            "split": cut.model_dump(),
            "data_version": data_version(temporary),
        }
        write_json(temporary / "table.json", about)


def data_version(folder: Path) -> str:
    """Return 16 hexadecimal digits that depend on every file of a table but its `table.json`."""
    files = sorted(file for file in folder.iterdir() if file.name != "table.json")
    content = "".join(f"{file.name} {sha256(file)}\n" for file in files)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def write_own_table(
    folder: Path,
    hours: pd.DataFrame,
    columns: Sequence[str],
    standardized: Sequence[str],
    cut: Split,
) -> None:
    """Write a table of any numbers, for sweeps; `refit` and `predict` cannot compute its columns.

    Args:
        folder: Folder of the table, which has its name. `dvc repro` deletes `data/features`.
        hours: Rows with `timestamp`, `rentals` (bikes/hour) and the columns.
        columns: Columns that become features.
        standardized: Columns that get mean 0 and standard deviation 1 on the training rows.
        cut: How the rows are split.

    Raises:
        DataError: A column is not a finite number in some row.
    """
    numbers = hours[list(columns)].astype("float64")
    wrong = [name for name in columns if not np.isfinite(numbers[name]).all()]
    if wrong:
        raise DataError(f"column {', '.join(wrong)}: must be a finite number in every row")
    labels = split(hours["timestamp"].to_numpy(), **cut.model_dump())
    training = numbers.loc[labels == "train", list(standardized)]
    deviation = training.std(ddof=0).replace(0, 1)
    numbers[list(standardized)] = (numbers[list(standardized)] - training.mean()) / deviation
    matrix = numbers.to_numpy("float32")
    parts = {p: _columns(hours[labels == p], columns, matrix[labels == p]) for p in PARTS}
    write_table(folder, parts, standardized, cut)


def main() -> None:
    """Run the stage in the current folder, the project's root."""
    params = read_section("featurize", Featurize)
    every = read_clean()
    for name, table in params.tables.items():
        if table.rows is not None and table.rows > len(every):
            key = f"featurize.tables.{name}.rows"
            raise DataError(f"{key} = {table.rows}: the clean table has only {len(every)} rows")
        hours, cut = every.iloc[: table.rows], table.split or params.split
        labels = split(hours["timestamp"].to_numpy(), **cut.model_dump())
        features = Features(**table.model_dump(include=set(Features.model_fields)))
        transformer = Transformer.fit(features, hours[labels == "train"])
        parts = {}
        for part in PARTS:
            rows = hours[labels == part]
            parts[part] = _columns(rows, features.names, transformer.transform(rows))
        write_table(FOLDER / name, parts, features.standardized, cut, transformer)
        sizes = ", ".join(f"{part} {content.num_rows:,}" for part, content in parts.items())
        print(f"featurize: {FOLDER / name}: {len(features.names)} features; rows: {sizes}")


if __name__ == "__main__":
    sys.exit(run_command(main))
