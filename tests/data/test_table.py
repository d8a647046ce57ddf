"""Reading of featurized tables."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bikefit.data.features import Features
from bikefit.data.featurize import write_table
from bikefit.data.sources import Source
from bikefit.data.table import read_table
from bikefit.data.table_params import SplitParams
from bikefit.errors import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A table of two training rows, a validation row and a test row."""
    hours = pd.DataFrame({"rentals": [5, 6, 7, 8], "a": [0, 1, 2, 3], "b": [0, 4, 8, 12]})
    hours["timestamp"] = pd.date_range("2011-01-01", periods=4, freq="h")
    split = SplitParams(kind="chronological", seed=3, validation=0.25, test=0.25)
    features = Features(plain=("a",), standardized=("b",))
    write_table(tmp_path / "small", Source(hours, "rentals", "bikes"), features, split)
    return tmp_path / "small"


def test_description_and_rows(folder: Path) -> None:
    table = read_table(folder)
    assert (table.name, table.path, table.feature_names) == ("small", folder, ("b", "a"))
    assert (table.standardized, table.split_kind, table.split_seed) == ((0,), "chronological", 3)
    assert (table.target, table.unit, table.time) == ("rentals", "bikes", True)
    both = table.read("train", "validation")
    assert both.features.tolist() == [[-1, 0], [1, 1], [3, 2]]
    assert both.features.dtype == both.target.dtype == np.float32
    assert both.features.flags.c_contiguous
    assert both.target.tolist() == [5, 6, 7]
    assert both.keys[1] == np.datetime64("2011-01-01T01:00")


def test_other_parts_are_not_opened(folder: Path) -> None:
    (folder / "test.parquet").unlink()
    (folder / "validation.parquet").write_bytes(b"PAR1")
    table = read_table(folder)
    assert len(table.read("train")) == 2
    for part in ("test", "validation"):
        with pytest.raises(DataError, match="cannot be read: run `dvc repro featurize`"):
            table.read(part)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"name": 1, "feature_names": ["a"]}'])
def test_missing_and_damaged_tables_are_refused(folder: Path, text: str) -> None:
    with pytest.raises(DataError, match=r"no table at .*none: run `dvc repro featurize`"):
        read_table(folder / "none")
    (folder / "table.json").write_text(text)
    with pytest.raises(DataError, match=r"no table at .*small: run `dvc repro featurize`"):
        read_table(folder)
