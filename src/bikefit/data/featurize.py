"""The stage `python -m bikefit.data.featurize`: tables of features, divided into parts.

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

from bikefit.data.bikes.columns import TARGET, read_clean
from bikefit.data.features import Features
from bikefit.data.files import atomic_write, sha256, write_json
from bikefit.data.params import StrictModel, read_section
from bikefit.data.splits import PARTS, Kind, split
from bikefit.data.transformer import Transformer
from bikefit.errors import DataError, run_command

FOLDER = Path("data/features")


class SplitParams(StrictModel):
    """Settings of a split; fractions are of rows, or of days for the kind `days`."""

    kind: Kind
    seed: int = Field(ge=0, lt=2**32)
    validation: float = Field(ge=0, lt=1)
    test: float = Field(ge=0, lt=1)

    def parts(self, hours: pd.DataFrame) -> np.ndarray:
        """Return `train`, `validation` or `test` for each row, (N,); see :func:`split`."""
        return split(hours["timestamp"].to_numpy(), **self.model_dump())


class TableParams(Features):
    """Settings of a table; by default it has all rows and the split of the section."""

    rows: int | None = Field(default=None, ge=1)
    split: SplitParams | None = None


Name = Annotated[str, StringConstraints(pattern="^[a-z][a-z0-9_]*$")]


class FeaturizeParams(StrictModel):
    """The section `featurize` of `params.yaml`."""

    split: SplitParams
    tables: dict[Name, TableParams] = Field(min_length=1)


def write_table(
    folder: Path,
    hours: pd.DataFrame,
    names: Sequence[str],
    matrix: np.ndarray,
    standardized: Sequence[str],
    split_params: SplitParams,
    transformer: Transformer | None = None,
) -> dict[str, int]:
    """Write the folder of a table atomically, and return the number of rows of each part.

    The table has the name of the folder. `hours` has `timestamp` and `rentals` (bikes/hour),
    `matrix` the features of its rows, (N, D) float32.
    """
    labels = split_params.parts(hours)
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
        description = {
            "name": folder.name,
            "rows": rows,
            "feature_names": list(names),
            "standardized": list(standardized),
            "split": split_params.model_dump(),
            "data_version": data_version(temporary),
        }
        write_json(temporary / "table.json", description)
    return rows


def data_version(folder: Path) -> str:
    """Return a hash of the files of a table except `table.json`, 16 hexadecimal digits."""
    files = sorted(file for file in folder.iterdir() if file.name != "table.json")
    content = "".join(f"{file.name} {sha256(file)}\n" for file in files)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def write_custom_table(
    folder: Path,
    hours: pd.DataFrame,
    columns: Sequence[str],
    standardized: Sequence[str],
    split_params: SplitParams,
) -> None:
    """Write a table whose features are any numeric columns of `hours`, for use in sweeps.

    `refit` and `predict` do not support such tables. `hours` has `timestamp`, `rentals`
    (bikes/hour) and the feature columns. Those in `standardized` get mean 0 and standard deviation
    1 on the training rows. Do not write to `data/features`, where `dvc repro` deletes tables.
    """
    numbers = hours[list(columns)].astype("float64")
    wrong = [name for name in columns if not np.isfinite(numbers[name]).all()]
    if wrong:
        raise DataError(f"column {', '.join(wrong)}: must be a finite number in every row")
    training = numbers.loc[split_params.parts(hours) == "train", list(standardized)]
    deviation = training.std(ddof=0).replace(0, 1)
    numbers[list(standardized)] = (numbers[list(standardized)] - training.mean()) / deviation
    write_table(folder, hours, columns, numbers.to_numpy("float32"), standardized, split_params)


def main() -> None:
    """Run the stage in the current folder, the project's root."""
    params = read_section("featurize", FeaturizeParams)
    clean_hours = read_clean()
    for name, table in params.tables.items():
        hours, split_params = clean_hours.iloc[: table.rows], table.split or params.split
        features = Features(**table.model_dump(include=set(Features.model_fields)))
        transformer = Transformer.fit(features, hours[split_params.parts(hours) == "train"])
        names, matrix = features.names, transformer.transform(hours)
        arguments = (names, matrix, features.standardized, split_params, transformer)
        rows = write_table(FOLDER / name, hours, *arguments)
        sizes = ", ".join(f"{part} {count:,}" for part, count in rows.items())
        print(f"featurize: {FOLDER / name}: {len(names)} features; rows: {sizes}")


if __name__ == "__main__":
    sys.exit(run_command(main))
