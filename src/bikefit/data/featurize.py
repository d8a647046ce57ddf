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
from pydantic import Field, StringConstraints

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

    def parts(self, hours: pd.DataFrame) -> np.ndarray:
        """Return `train`, `validation` or `test` for each row, (N,); see :func:`split`."""
        return split(hours["timestamp"].to_numpy(), **self.model_dump())


class TableParams(Features):
    """A table: its features, its first rows in time (null: all), and optionally its own split."""

    rows: int | None = Field(default=None, ge=1)
    split: Split | None = None


Name = Annotated[str, StringConstraints(pattern="^[a-z][a-z0-9_]*$")]


class Featurize(StrictModel):
    """The section `featurize` of `params.yaml`."""

    split: Split
    tables: dict[Name, TableParams] = Field(min_length=1)


def write_table(
    folder: Path,
    hours: pd.DataFrame,
    names: Sequence[str],
    matrix: np.ndarray,
    standardized: Sequence[str],
    cut: Split,
    transformer: Transformer | None = None,
) -> dict[str, int]:
    """Write the folder of a table atomically, and return the number of rows of each part.

    The table has the name of the folder. `hours` has `timestamp` and `rentals` (bikes/hour),
    `matrix` the features of its rows, (N, D) float32.
    """
    labels = cut.parts(hours)
    rows = {part: int((labels == part).sum()) for part in PARTS}
    with atomic_write(folder) as temporary:
        temporary.mkdir()
        for part in PARTS:
            mask = labels == part
            content = {
                "timestamp": hours["timestamp"].to_numpy("datetime64[us]")[mask],
                TARGET: hours[TARGET].to_numpy("int64")[mask],
                **{name: matrix[mask, column] for column, name in enumerate(names)},
            }
            pq.write_table(pa.table(content), temporary / f"{part}.parquet", compression="zstd")
        if transformer is not None:
            transformer.save(temporary / "transformer.json")
        target = hours[TARGET].to_numpy(np.float64)[labels == "train"]
        statistics = {"mean": float(target.mean()), "std": float(target.std())}
        about = {
            "name": folder.name,
            "rows": rows,
            "feature_names": list(names),
            "standardized": list(standardized),
            "target": {"name": TARGET, "unit": UNITS[TARGET], **statistics},
            "split": cut.model_dump(),
            "data_version": data_version(temporary),
        }
        write_json(temporary / "table.json", about)
    return rows


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

    `hours` has `timestamp`, `rentals` (bikes/hour) and the columns that become features. Those in
    `standardized` get mean 0 and standard deviation 1 on the training rows. `dvc repro` deletes
    tables in `data/features`.
    """
    numbers = hours[list(columns)].astype("float64")
    wrong = [name for name in columns if not np.isfinite(numbers[name]).all()]
    if wrong:
        raise DataError(f"column {', '.join(wrong)}: must be a finite number in every row")
    training = numbers.loc[cut.parts(hours) == "train", list(standardized)]
    deviation = training.std(ddof=0).replace(0, 1)
    numbers[list(standardized)] = (numbers[list(standardized)] - training.mean()) / deviation
    write_table(folder, hours, columns, numbers.to_numpy("float32"), standardized, cut)


def main() -> None:
    """Run the stage in the current folder, the project's root."""
    params = read_section("featurize", Featurize)
    every = read_clean()
    for name, table in params.tables.items():
        hours, cut = every.iloc[: table.rows], table.split or params.split
        features = Features(**table.model_dump(include=set(Features.model_fields)))
        transformer = Transformer.fit(features, hours[cut.parts(hours) == "train"])
        names, matrix = features.names, transformer.transform(hours)
        about = (names, matrix, features.standardized, cut, transformer)
        rows = write_table(FOLDER / name, hours, *about)
        sizes = ", ".join(f"{part} {count:,}" for part, count in rows.items())
        print(f"featurize: {FOLDER / name}: {len(names)} features; rows: {sizes}")


if __name__ == "__main__":
    sys.exit(run_command(main))
