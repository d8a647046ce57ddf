"""The stage `python -m bikefit.data.featurize`: tables of features, divided into parts.

Writes `data/features/<table>/` for each table of `params.yaml`: `train.parquet`,
`validation.parquet`, `test.parquet`, the rows before they became features in `rows/`,
`transformer.json` and `table.json`.
"""

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, StringConstraints

from bikefit.data.features import CALENDAR, TIME, Features
from bikefit.data.files import atomic_write, sha256, write_json
from bikefit.data.params import StrictModel, read_section
from bikefit.data.rows import ROWS, blocks
from bikefit.data.sources import SOURCES, Source
from bikefit.data.splits import PARTS, Kind, split, split_units
from bikefit.data.transformer import Transformer
from bikefit.errors import DataError, run_command

FOLDER = Path("data/features")


class SplitParams(StrictModel):
    """Settings of a split; fractions are of units, see :mod:`bikefit.data.splits`."""

    kind: Kind
    column: str | None = None  # for the kind groups
    seed: int = Field(ge=0, lt=2**32)
    validation: float = Field(ge=0, lt=1)
    test: float = Field(ge=0, lt=1)

    def units(self, rows: pd.DataFrame) -> np.ndarray:
        """Return the unit of each row of a source, (N,) int64."""
        if self.column is not None:
            return pd.factorize(rows[self.column], sort=True)[0].astype("int64")
        return split_units(row_keys(rows).to_numpy(), self.kind)

    def parts(self, rows: pd.DataFrame) -> np.ndarray:
        """Return `train`, `validation` or `test` for each row, (N,); see :func:`split`."""
        settings = self.model_dump(exclude={"column"})
        return split(self.units(rows), **settings)


def row_keys(rows: pd.DataFrame) -> pd.Series:
    """Return what identifies the rows of a source: timestamps, or the number of the row."""
    if TIME in rows:
        return rows[TIME].astype("datetime64[us]")
    return pd.Series(np.arange(len(rows)), rows.index, name="row")


class TableParams(Features):
    """Settings of a table; by default it has all rows and the split of the section."""

    source: str = "bikes"
    rows: int | None = Field(default=None, ge=1)
    split: SplitParams | None = None


Name = Annotated[str, StringConstraints(pattern="^[a-z][a-z0-9_]*$")]


class FeaturizeParams(StrictModel):
    """The section `featurize` of `params.yaml`."""

    split: SplitParams
    tables: dict[Name, TableParams] = Field(min_length=1)


def write_table(
    folder: Path,
    source: Source,
    names: Sequence[str],
    matrix: np.ndarray,
    standardized: Sequence[str],
    split_params: SplitParams,
    transformer: Transformer | None = None,
    source_name: str = "",
) -> dict[str, int]:
    """Write the folder of a table atomically, and return the number of rows of each part.

    The table has the name of the folder. `matrix` has the features of the rows of the source,
    (N, D) float32.
    """
    rows, target = source.rows, source.target
    labels, key, units = split_params.parts(rows), row_keys(rows), split_params.units(rows)
    counts = {part: int((labels == part).sum()) for part in PARTS}
    columns = {str(key.name): key.to_numpy(), target: rows[target].to_numpy()}
    before = rows.assign(**{str(key.name): key})
    if split_params.kind == "groups":
        columns["unit"] = before["unit"] = units
    before["unit"] = blocks(before)
    with atomic_write(folder) as temporary:
        (temporary / ROWS).mkdir(parents=True)
        for part in PARTS:
            mask = labels == part
            content = {name: values[mask] for name, values in columns.items()}
            content |= {name: matrix[mask, column] for column, name in enumerate(names)}
            pq.write_table(pa.table(content), temporary / f"{part}.parquet", compression="zstd")
            if transformer is not None:
                file = temporary / ROWS / f"{part}.parquet"
                before[mask].to_parquet(file, index=False, compression="zstd")
        if transformer is not None:
            transformer.save(temporary / "transformer.json")
        description = {
            "name": folder.name,
            "source": source_name,
            "target": target,
            "unit": source.unit,
            "time": TIME in rows,
            "rows": counts,
            "feature_names": list(names),
            "standardized": list(standardized),
            "split": split_params.model_dump(),
            "data_version": data_version(temporary),
        }
        write_json(temporary / "table.json", description)
    return counts


def data_version(folder: Path) -> str:
    """Return a hash of the features and the transformer of a table, 16 hexadecimal digits."""
    files = [file for file in sorted(folder.iterdir()) if file.is_file()]
    names = [f"{file.name} {sha256(file)}\n" for file in files if file.name != "table.json"]
    return hashlib.sha256("".join(names).encode()).hexdigest()[:16]


def write_custom_table(
    folder: Path,
    source: Source,
    columns: Sequence[str],
    standardized: Sequence[str],
    split_params: SplitParams,
) -> None:
    """Write a table whose features are any numeric columns of the rows, for use in sweeps.

    `refit` and `predict` do not support such tables. The columns in `standardized` get mean 0 and
    standard deviation 1 on the training rows. Do not write to `data/features`, where `dvc repro`
    deletes tables.
    """
    numbers = source.rows[list(columns)].astype("float64")
    wrong = [name for name in columns if not np.isfinite(numbers[name]).all()]
    if wrong:
        raise DataError(f"column {', '.join(wrong)}: must be a finite number in every row")
    training = numbers.loc[split_params.parts(source.rows) == "train", list(standardized)]
    deviation = training.std(ddof=0).replace(0, 1)
    numbers[list(standardized)] = (numbers[list(standardized)] - training.mean()) / deviation
    write_table(folder, source, columns, numbers.to_numpy("float32"), standardized, split_params)


def check_columns(features: Features, source: Source, table: str) -> None:
    """Raise a DataError if a table names a column that its source does not have."""
    allowed = [str(name) for name in source.rows if name not in (source.target, TIME)]
    allowed += [name for name in CALENDAR if TIME in source.rows and name not in allowed]
    for name in features.columns:
        if name not in allowed:
            raise DataError(
                f"featurize.tables.{table}: no column {name!r} in its source; columns: "
                f"{', '.join(allowed)}"
            )


def main() -> None:
    """Run the stage in the current folder, the project's root."""
    params = read_section("featurize", FeaturizeParams)
    for name, table in params.tables.items():
        source, split_params = SOURCES[table.source](), table.split or params.split
        rows = source.rows.iloc[: table.rows]
        features = Features(**table.model_dump(include=set(Features.model_fields)))
        check_columns(features, source, name)
        transformer = Transformer.fit(features, rows[split_params.parts(rows) == "train"])
        counts = write_table(
            FOLDER / name,
            replace(source, rows=rows),
            transformer.names,
            transformer.transform(rows),
            features.standardized,
            split_params,
            transformer,
            table.source,
        )
        sizes = ", ".join(f"{part} {count:,}" for part, count in counts.items())
        print(f"featurize: {FOLDER / name}: {len(transformer.names)} features; rows: {sizes}")


if __name__ == "__main__":
    sys.exit(run_command(main))
