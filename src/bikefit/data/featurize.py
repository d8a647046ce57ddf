"""The stage `python -m bikefit.data.featurize`: tables of features, divided into parts.

Writes `data/features/<table>/` for each table of `params.yaml`: `train.parquet`,
`validation.parquet`, `test.parquet`, the rows before they became features in `rows/`,
`transformer.json` and `table.json`.
"""

import hashlib
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from bikefit.data.cells import check_values, lines_of
from bikefit.data.features import TIME, Features
from bikefit.data.files import atomic_write, sha256, write_json
from bikefit.data.params import naming, read_section
from bikefit.data.rows import ROWS, blocks
from bikefit.data.sources import Source, read_source
from bikefit.data.splits import PARTS
from bikefit.data.table import Table, read_table
from bikefit.data.table_params import FeaturizeParams, SplitParams, row_keys
from bikefit.data.transformer import Transformer
from bikefit.errors import DataError, run_command

FOLDER = Path("data/features")


def write_table(folder: Path, source: Source, features: Features, split: SplitParams) -> Table:
    """Write the folder of a table atomically, and return the table, which has the folder's name.

    Do not write to `data/features`, where `dvc repro` deletes tables.

    Raises:
        DataError: A category occurs in validation or test rows alone, or a value is not finite.
    """
    rows, target, key = source.rows, source.target, row_keys(source.rows)
    units = split.units(rows)
    labels = split.parts(units)
    _check_categories(features, rows, labels)
    transformer = Transformer.fit(features, rows[labels == "train"], source.periods)
    matrix = transformer.transform(rows)
    before = rows.assign(**{str(key.name): key})
    columns = {str(key.name): key.to_numpy(), target: rows[target].to_numpy()}
    if split.kind == "groups":
        columns["unit"] = before["unit"] = units
    before["unit"] = blocks(before)
    columns |= {name: matrix[:, column] for column, name in enumerate(transformer.names)}
    for name in (target, *transformer.names):
        values = pd.Series(columns[name], rows.index, name=name)
        check_values(values, ~np.isfinite(values), "is not finite")
    with atomic_write(folder) as temporary:
        (temporary / ROWS).mkdir(parents=True)
        for part in PARTS:
            mask, file = labels == part, f"{part}.parquet"
            content = pa.table({name: values[mask] for name, values in columns.items()})
            pq.write_table(content, temporary / file, compression="zstd")
            before[mask].to_parquet(temporary / ROWS / file, index=False, compression="zstd")
        transformer.save(temporary / "transformer.json")
        description = {
            "name": folder.name,
            "source": source.name,
            "target": target,
            "unit": source.unit,
            "time": TIME in rows,
            "rows": {part: int((labels == part).sum()) for part in PARTS},
            "feature_names": transformer.names,
            "standardized": features.standardized,
            "split": split.model_dump(),
            "data_version": data_version(temporary),
        }
        if source.time != TIME:
            description["time_column"] = source.time
        write_json(temporary / "table.json", description)
    return read_table(folder)


def data_version(folder: Path) -> str:
    """Return a hash of the features and the transformer of a table, 16 hexadecimal digits."""
    files = [file for file in sorted(folder.iterdir()) if file.is_file()]
    names = [f"{file.name} {sha256(file)}\n" for file in files if file.name != "table.json"]
    return hashlib.sha256("".join(names).encode()).hexdigest()[:16]


def _check_categories(features: Features, rows: pd.DataFrame, labels: np.ndarray) -> None:
    training = labels == "train"
    for name in features.categorical:
        declared = name not in rows or isinstance(rows[name].dtype, pd.CategoricalDtype)
        if declared or rows[name].dtype == bool:
            continue
        unseen = ~training & ~rows[name].isin(rows.loc[training, name].unique()).to_numpy()
        if unseen.any():
            raise DataError(
                f"column {name}, {lines_of(rows, unseen)}: the category "
                f"{rows[name][unseen].iloc[0]!r} is in the {labels[unseen][0]} rows, "
                "but in no training row: merge it with another category, or change the split"
            )


def main() -> None:
    """Run the stage in the current folder, the project's root."""
    params = read_section("featurize", FeaturizeParams)
    for name, section in params.tables.items():
        split = section.split or params.split
        features = Features(**section.model_dump(include=set(Features.model_fields)))
        with naming(f"featurize.tables.{name}"):
            table = write_table(FOLDER / name, read_source(section, split), features, split)
        sizes = ", ".join(f"{part} {table.rows[part]:,}" for part in PARTS)
        count = len(table.feature_names)
        print(f"featurize: {FOLDER / name}: {count} features; rows: {sizes}")
        if count >= table.rows["train"]:
            print(
                f"featurize.tables.{name}: warning: {count} features of {table.rows['train']} "
                "training rows: without regularization, a network fits them exactly"
            )


if __name__ == "__main__":
    sys.exit(run_command(main))
