import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bikefit.data.table import read_table
from bikefit.errors import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A table of 2 training rows, 1 validation row and no test row, written by hand."""
    path = tmp_path / "small"
    path.mkdir()
    first = np.datetime64("2011-01-01", "us")
    for part, rows in (("train", 2), ("validation", 1), ("test", 0)):
        columns = {
            "timestamp": pa.array(first + np.arange(rows) * np.timedelta64(1, "h")),
            "rentals": pa.array(np.arange(rows) + 5),
            "hour=8": pa.array(np.arange(rows, dtype=np.float32)),
            "temperature": pa.array(np.arange(rows, dtype=np.float32) / 2),
        }
        pq.write_table(pa.table(columns), path / f"{part}.parquet")
    about = {
        "name": "small",
        "rows": {"train": 2, "validation": 1, "test": 0},
        "feature_names": ["hour=8", "temperature"],
        "standardized": ["temperature"],
        "target": {"name": "rentals", "unit": "bikes/hour", "mean": 5.5, "std": 0.5},
        "split": {"kind": "days", "seed": 3, "validation": 0.2, "test": 0.2},
        "data_version": "0123456789abcdef",
    }
    (path / "table.json").write_text(json.dumps(about))
    return path


def test_what_stands_beside_the_features(folder: Path) -> None:
    table = read_table(folder)
    assert (table.name, table.path, table.data_version) == ("small", folder, "0123456789abcdef")
    assert table.feature_names == ("hour=8", "temperature")
    assert table.standardized == (1,)
    assert (table.split_kind, table.split_seed) == ("days", 3)


def test_parts(folder: Path) -> None:
    train = read_table(folder).read("train")
    assert train.features.tolist() == [[0.0, 0.0], [1.0, 0.5]]
    assert train.features.dtype == np.float32
    assert train.features.flags.c_contiguous
    assert train.target.tolist() == [5.0, 6.0]
    assert train.target.dtype == np.float32
    assert train.timestamps[1] == np.datetime64("2011-01-01T01:00")
    test = read_table(folder).read("test")
    assert test.features.shape == (0, 2)
    assert len(test) == 0


def test_reading_train_and_validation_never_opens_test(folder: Path) -> None:
    (folder / "test.parquet").unlink()
    table = read_table(folder)
    assert len(table.read("train")) == 2
    assert len(table.read("validation")) == 1
    with pytest.raises(DataError, match=r"test.parquet cannot be read: run `dvc repro featurize`"):
        table.read("test")


def test_no_table(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no table at .*none: run `dvc repro featurize`"):
        read_table(tmp_path / "none")


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"name": 1, "feature_names": ["a"]}'])
def test_damaged_table(folder: Path, text: str) -> None:
    (folder / "table.json").write_text(text)
    with pytest.raises(DataError, match=r"table.json is damaged"):
        read_table(folder)


def test_parts_of_another_table_are_refused(folder: Path) -> None:
    (folder / "train.parquet").write_bytes((folder / "validation.parquet").read_bytes())
    with pytest.raises(DataError, match=r"does not belong to its table.json"):
        read_table(folder).read("train")
    (folder / "train.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="cannot be read"):
        read_table(folder).read("train")


@pytest.mark.process
def test_light_to_import() -> None:
    heavy = "{'pandas', 'sklearn', 'torch', 'matplotlib', 'pandera', 'pydantic'}"
    code = f"import sys, bikefit.data.table; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    )  # fmt: skip
    assert done.stdout == "[]\n"
