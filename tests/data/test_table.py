"""Reading of featurized tables."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bikefit.data.table import read_table
from bikefit.errors import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A table of 2 training rows, 1 validation row and no test row."""
    path = tmp_path / "small"
    path.mkdir()
    rows = {"train": 2, "validation": 1, "test": 0}
    for part, count in rows.items():
        steps = np.arange(count)
        times = pd.date_range("2011-01-01", periods=count, freq="h", unit="us")
        hours = pd.DataFrame({"timestamp": times, "rentals": steps + 5})
        hours["hour=8"] = steps.astype("float32")
        hours["temperature"] = steps.astype("float32") / 2
        hours.to_parquet(path / f"{part}.parquet", index=False)
    about = {
        "name": "small",
        "rows": rows,
        "feature_names": ["hour=8", "temperature"],
        "standardized": ["temperature"],
        "split": {"kind": "days", "seed": 3, "validation": 0.2, "test": 0.2},
        "data_version": "0123456789abcdef",
    }
    (path / "table.json").write_text(json.dumps(about))
    return path


def test_description(folder: Path) -> None:
    table = read_table(folder)
    assert (table.name, table.path, table.data_version) == ("small", folder, "0123456789abcdef")
    assert table.feature_names == ("hour=8", "temperature")
    assert table.standardized == (1,)
    assert (table.split_kind, table.split_seed) == ("days", 3)


def test_rows(folder: Path) -> None:
    train, test = read_table(folder).read("train"), read_table(folder).read("test")
    assert train.features.tolist() == [[0.0, 0.0], [1.0, 0.5]]
    assert train.target.tolist() == [5.0, 6.0]
    assert train.features.dtype == train.target.dtype == np.float32
    assert train.features.flags.c_contiguous
    assert train.timestamps[1] == np.datetime64("2011-01-01T01:00")
    assert (test.features.shape, len(test)) == ((0, 2), 0)
    both = read_table(folder).read("train", "validation")
    assert both.target.tolist() == [5.0, 6.0, 5.0]


def test_other_parts_are_not_opened(folder: Path) -> None:
    (folder / "test.parquet").unlink()
    table = read_table(folder)
    assert (len(table.read("train")), len(table.read("validation"))) == (2, 1)
    with pytest.raises(
        DataError, match=r"cannot be read: run `dvc repro featurize` .*test.parquet"
    ):
        table.read("test")


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"name": 1, "feature_names": ["a"]}'])
def test_missing_and_damaged_tables(folder: Path, text: str) -> None:
    with pytest.raises(DataError, match=r"no table at .*none: run `dvc repro featurize`"):
        read_table(folder / "none")
    (folder / "table.json").write_text(text)
    with pytest.raises(DataError, match=r"no table at .*small: run `dvc repro featurize`"):
        read_table(folder)


def test_damaged_parts_are_refused(folder: Path) -> None:
    (folder / "train.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="cannot be read"):
        read_table(folder).read("train")
