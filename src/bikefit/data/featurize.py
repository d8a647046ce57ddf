"""The stage `python -m bikefit.data.featurize`: the tables that networks are trained on.

Reads `data/clean/hours.parquet`; writes `data/features/<table>/` for each table of `params.yaml`:
`train.parquet`, `validation.parquet`, `test.parquet`, `transformer.json` and `table.json`.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, StringConstraints, model_validator

from bikefit.data.columns import TARGET, UNITS
from bikefit.data.features import Features
from bikefit.data.files import atomic_folder, sha256, write_json
from bikefit.data.params import StrictModel, read_section, run_stage
from bikefit.data.splits import PARTS, Kind, split
from bikefit.data.transformer import Transformer, apply, fit, save
from bikefit.errors import DataError

CLEAN_FILE = Path("data/clean/hours.parquet")
FOLDER = Path("data/features")


class Split(StrictModel):
    """How a table is split; fractions are of rows, or of days for the kind `days`."""

    kind: Kind
    seed: int = Field(ge=0, lt=2**32)
    validation: float = Field(ge=0, lt=1)
    test: float = Field(ge=0, lt=1)

    @model_validator(mode="after")
    def _leaves_some(self) -> "Split":
        if self.validation + self.test >= 1:
            raise ValueError("validation and test together must stay below 1")
        return self


class TableParams(Features):
    """One table: its features, its first rows in time (null: all) and a split of its own."""

    rows: int | None = Field(default=None, ge=1)
    split: Split | None = None


class Featurize(StrictModel):
    """The section `featurize` of `params.yaml`."""

    split: Split
    tables: dict[Annotated[str, StringConstraints(pattern="^[a-z][a-z0-9_]*$")], TableParams] = (
        Field(min_length=1)
    )


def first_rows(hours: pd.DataFrame, name: str, rows: int | None) -> pd.DataFrame:
    """The first rows in time order, all of them for None.

    Raises:
        DataError: if there are fewer than asked for.
    """
    if rows is not None and rows > len(hours):
        key = f"featurize.tables.{name}.rows"
        raise DataError(f"{key} = {rows}: the clean table has only {len(hours)} rows")
    return hours.sort_values("timestamp", kind="stable", ignore_index=True).iloc[:rows]


def build(
    hours: pd.DataFrame, features: Features, cut: Split
) -> tuple[Transformer, dict[str, pa.Table]]:
    """Split clean rows, fit the features on the training rows, and apply them to every part."""
    labels = split(hours["timestamp"].to_numpy(), cut.kind, cut.seed, cut.validation, cut.test)
    return assemble(hours, features, labels)


def assemble(
    hours: pd.DataFrame, features: Features, labels: np.ndarray
) -> tuple[Transformer, dict[str, pa.Table]]:
    """Fit the features on the rows labelled `train` and apply them to every part."""
    transformer = fit(features, hours[labels == "train"])
    parts = {part: _part(transformer, hours[labels == part]) for part in PARTS}
    return transformer, parts


def _part(transformer: Transformer, hours: pd.DataFrame) -> pa.Table:
    return _columns(hours, transformer.features.names, apply(transformer, hours))


def _columns(hours: pd.DataFrame, names: Sequence[str], matrix: np.ndarray) -> pa.Table:
    """`timestamp`, `rentals` and the float32 features of some rows."""
    columns = {
        "timestamp": pa.array(hours["timestamp"].to_numpy("datetime64[us]")),
        TARGET: pa.array(hours[TARGET].to_numpy("int64")),
    }
    columns |= {name: pa.array(matrix[:, at].copy()) for at, name in enumerate(names)}
    return pa.table(columns)


def describe(
    name: str, names: Sequence[str], standardized: Sequence[str], parts: dict[str, pa.Table],
    cut: Split,
) -> dict[str, Any]:  # fmt: skip
    """What training must know of a table, without its data version."""
    target = parts["train"][TARGET].to_numpy().astype(np.float64)
    return {
        "name": name,
        "rows": {part: parts[part].num_rows for part in PARTS},
        "feature_names": list(names),
        "standardized": list(standardized),
        "target": {
            "name": TARGET,
            "unit": UNITS[TARGET],
            "mean": float(target.mean()),
            "std": float(target.std()),
        },
        "split": cut.model_dump(),
    }


def data_version(folder: Path) -> str:
    """16 hexadecimal digits that change with any file of a table but its `table.json`."""
    files = sorted(file for file in folder.iterdir() if file.name != "table.json")
    content = "".join(f"{file.name} {sha256(file)}\n" for file in files)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def write_table(
    folder: Path, transformer: Transformer | None, parts: dict[str, pa.Table],
    about: dict[str, Any],
) -> None:  # fmt: skip
    """Write a table's folder, whole or not at all."""
    with atomic_folder(folder) as temporary:
        for part, content in parts.items():
            pq.write_table(content, temporary / f"{part}.parquet", compression="zstd")
        if transformer is not None:
            save(transformer, temporary / "transformer.json")
        version = data_version(temporary)
        write_json(temporary / "table.json", about | {"data_version": version})


def write_own_table(
    folder: Path, hours: pd.DataFrame, columns: Sequence[str], standardized: Sequence[str],
    cut: Split,
) -> None:  # fmt: skip
    """Write a table of any numbers, for sweeps; `refit` and `predict` cannot make its columns.

    Args:
        folder: of the table, which is called by its last part. Not in `data/features`, which the
            stage empties.
        hours: rows with `timestamp`, `rentals` (bikes/hour) and the columns.
        columns: that become features, as they stand.
        standardized: those of them that get mean 0 and standard deviation 1 on the training rows.
        cut: how the rows are split.

    Raises:
        DataError: a column is no number in some row.
    """
    names, scaled = list(columns), list(standardized)
    wrong = [name for name in names if not np.isfinite(hours[name].to_numpy("float64")).all()]
    if wrong:
        raise DataError(f"column {', '.join(wrong)}: must be a finite number in every row")
    labels = split(hours["timestamp"].to_numpy(), cut.kind, cut.seed, cut.validation, cut.test)
    numbers = hours[names].astype("float64")
    known = numbers.loc[labels == "train", scaled]
    deviation = known.std(ddof=0)
    numbers[scaled] = (numbers[scaled] - known.mean()) / deviation.where(deviation > 0, 1.0)
    matrix = numbers.to_numpy("float32")
    parts = {p: _columns(hours[labels == p], names, matrix[labels == p]) for p in PARTS}
    write_table(folder, None, parts, describe(folder.name, names, scaled, parts, cut))


def main() -> None:
    """Run the stage in the current folder, the project's root."""
    params = read_section("featurize", Featurize)
    if not CLEAN_FILE.exists():
        raise DataError(f"{CLEAN_FILE} not found: run `dvc repro clean`")
    hours = pd.read_parquet(CLEAN_FILE)
    for name, table in params.tables.items():
        cut = table.split or params.split
        features = Features(**table.model_dump(include=set(Features.model_fields)))
        transformer, parts = build(first_rows(hours, name, table.rows), features, cut)
        about = describe(name, features.names, features.standardized, parts, cut)
        write_table(FOLDER / name, transformer, parts, about)
        sizes = ", ".join(f"{part} {count:,}" for part, count in about["rows"].items())
        print(f"featurize: {FOLDER / name}: {len(features.names)} features; rows: {sizes}")


if __name__ == "__main__":
    run_stage(main)
