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

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bikefit.data.features import CALENDAR, PERIODS, TIME, Features
from bikefit.data.files import atomic_write, sha256, write_json
from bikefit.data.own import OwnTable, check_parts
from bikefit.data.params import read_section
from bikefit.data.rows import ROWS, blocks
from bikefit.data.sources import SOURCES, Source
from bikefit.data.splits import PARTS
from bikefit.data.table_params import FeaturizeParams, SplitParams, row_keys
from bikefit.data.transformer import Transformer
from bikefit.errors import DataError, run_command

FOLDER = Path("data/features")


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
    labels, key = split_params.parts(rows), row_keys(rows)
    units = split_params.units(rows)
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
        if source.time != TIME:
            description["time_column"] = source.time
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
        split_params = table.split or params.split
        if table.source in SOURCES:
            source = SOURCES[table.source]()
        else:
            source = OwnTable(name, table).read(split_params)
        rows = source.rows.iloc[: table.rows]
        features = Features(**table.model_dump(include=set(Features.model_fields)))
        check_columns(features, source, name)
        labels = split_params.parts(rows)
        check_parts(name, features, rows, labels)
        training = rows[labels == "train"]
        transformer = Transformer.fit(features, training, PERIODS | table.periods)
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
        count = len(transformer.names)
        print(f"featurize: {FOLDER / name}: {count} features; rows: {sizes}")
        if count >= len(training):
            print(
                f"featurize.tables.{name}: warning: {count} features of {len(training)} training "
                "rows: without regularization, a network fits them exactly"
            )


if __name__ == "__main__":
    sys.exit(run_command(main))
