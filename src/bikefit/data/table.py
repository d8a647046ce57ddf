"""Reading of featurized tables. Quick to import: numpy and pyarrow only."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bikefit.data.splits import Kind, split_units
from bikefit.errors import DataError

PartName = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class SplitRows:
    """Rows of one or more parts of a table."""

    features: np.ndarray  # (N, D) float32
    target: np.ndarray  # (N,) float32
    keys: np.ndarray  # (N,) datetime64[us], local time; without time int64, row of the source
    units: np.ndarray  # (N,) int64, what a split, fold or subset does not divide

    def __len__(self) -> int:
        return len(self.target)


@dataclass(frozen=True)
class Table:
    """Description of a featurized table; :meth:`read` reads its rows."""

    name: str
    path: Path
    feature_names: tuple[str, ...]
    standardized: tuple[int, ...]  # positions of the standardized features
    rows: dict[str, int]  # number of rows of each part
    split_kind: Kind
    split_seed: int
    data_version: str
    target: str  # name of the column
    unit: str  # of the target, "" without a unit
    source: str
    time: bool  # whether rows have timestamps
    time_column: str = "timestamp"  # name of the time in the file

    @property
    def bikes(self) -> bool:
        """Whether the rows are those of the bike data."""
        return self.source == "bikes"

    @property
    def tags(self) -> dict[str, str]:
        """Name and unit of the target, as tags of runs."""
        return {"data.target": self.target, "data.unit": self.unit}

    def read(self, *parts: PartName) -> SplitRows:
        """Read and concatenate the rows of parts; files of other parts are not opened."""
        try:
            files = (self.path / f"{part}.parquet" for part in parts)
            content = pa.concat_tables(pq.ParquetFile(file).read() for file in files)
            features = np.empty((len(content), len(self.feature_names)), dtype=np.float32)
            for position, name in enumerate(self.feature_names):
                features[:, position] = content[name].to_numpy()
        except (OSError, KeyError, ValueError) as error:
            reason = f"run `dvc repro featurize` ({error})"
            raise DataError(f"{self.path} cannot be read: {reason}") from None
        target = content[self.target].to_numpy().astype(np.float32)
        keys = content["timestamp" if self.time else "row"].to_numpy()
        grouped = self.split_kind == "groups"
        units = content["unit"].to_numpy() if grouped else split_units(keys, self.split_kind)
        return SplitRows(features, target, keys, units)


def read_table(path: Path) -> Table:
    """Read the description of a table from its folder, such as `data/features/full`."""
    try:
        content = json.loads((Path(path) / "table.json").read_text(encoding="utf-8"))
        names = content["feature_names"]
        return Table(
            name=content["name"],
            path=Path(path),
            feature_names=tuple(names),
            standardized=tuple(names.index(name) for name in content["standardized"]),
            rows=content["rows"],
            split_kind=content["split"]["kind"],
            split_seed=content["split"]["seed"],
            data_version=content["data_version"],
            target=content["target"],
            unit=content["unit"],
            source=content["source"],
            time=content["time"],
            time_column=content.get("time_column", "timestamp"),
        )
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"no table at {path}: run `dvc repro featurize` ({error!r})") from None
