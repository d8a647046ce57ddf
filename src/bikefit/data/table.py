"""Reading a featurized table: all that training needs to know of the data.

Light to import, and reading one part never opens another.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow.parquet as pq

from bikefit.errors import DataError

PartName = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Part:
    """Rows of one part, in time order.

    features: (N, D) float32, C-contiguous; target: (N,) float32, bikes/hour; timestamps: (N,)
    datetime64[us], local time.
    """

    features: np.ndarray
    target: np.ndarray
    timestamps: np.ndarray

    def __len__(self) -> int:
        return len(self.target)


@dataclass(frozen=True)
class Table:
    """What stands beside the features.

    `standardized` are the positions of the columns that were scaled by statistics of the training
    rows; `rows` are the sizes of the parts.
    """

    name: str
    path: Path
    feature_names: tuple[str, ...]
    standardized: tuple[int, ...]
    rows: dict[str, int]
    split_kind: Literal["random", "days", "chronological"]
    split_seed: int
    data_version: str

    def read(self, part: PartName, into: np.ndarray | None = None) -> Part:
        """Read one part; no file of another part is opened.

        Args:
            part: which one.
            into: (N, D) float32 that receives the features; None for a new array.

        Raises:
            DataError: if the file is missing or has other columns or rows than `table.json` says.
        """
        path = self.path / f"{part}.parquet"
        try:
            with pq.ParquetFile(path) as file:
                names = ["timestamp", "rentals", *self.feature_names]
                found, rows = file.schema_arrow.names, file.metadata.num_rows
                if found != names or rows != self.rows[part]:
                    raise DataError(
                        f"{path} does not belong to its table.json: run `dvc repro featurize`"
                    )
                if into is None:
                    into = np.empty((rows, len(self.feature_names)), dtype=np.float32)
                for position, name in enumerate(self.feature_names):  # no second copy of all
                    into[:, position] = file.read([name])[name].to_numpy()
                others = file.read(["timestamp", "rentals"])
        except (OSError, ValueError) as error:
            raise DataError(f"{path} cannot be read: run `dvc repro featurize` ({error})") from None
        target = others["rentals"].to_numpy().astype(np.float32)
        return Part(into, target, others["timestamp"].to_numpy())


def read_table(path: Path) -> Table:
    """Read `table.json` of a folder that `featurize` wrote, such as `data/features/full`.

    Raises:
        DataError: if the folder or the file is missing or not what featurize writes.
    """
    file = Path(path) / "table.json"
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
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
        )
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"no table at {path}: run `dvc repro featurize`") from None
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{file} is damaged: run `dvc repro featurize` ({error!r})") from None
