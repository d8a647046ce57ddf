"""Boosted trees of the benchmark: the size with the lowest validation loss is used."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bikefit.data.table import read_table
from bikefit.final import fits
from conftest import ROOT

sys.path.insert(0, str(ROOT))
from benchmarks import trees


@pytest.fixture
def parts(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> list[pd.DataFrame]:
    monkeypatch.setattr(trees, "MOST_TREES", 40)
    table = read_table(Path("data/features/full"))
    return list(fits.parts(table, pd.read_parquet("data/clean/hours.parquet")).values())


@pytest.mark.parametrize("name", ["LightGBM", "scikit-learn trees"])
def test_the_size_with_the_lowest_validation_loss_is_used(
    parts: list[pd.DataFrame], name: str
) -> None:
    def predict(*sizes: int) -> np.ndarray:
        library = replace(trees.LIBRARIES[name], sizes=sizes)  # type: ignore[type-var]
        return trees.predict(library, ("hour", "temperature"), *parts)

    alone = [predict(2), predict(31)]
    assert not np.array_equal(*alone)
    assert np.array_equal(predict(2, 31), predict(31, 2))
    assert any(np.array_equal(predict(2, 31), values) for values in alone)


def test_every_library_has_both_choices_of_columns() -> None:
    assert len(trees.every()) == 2 * len(trees.LIBRARIES)
