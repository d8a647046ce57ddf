"""Boosted trees: tuned on the validation rows, stored as text."""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bikefit.data.bikes.baselines import tree_columns
from bikefit.data.table import PartName
from bikefit.final import trees
from bikefit.final.data import read_data

Parts = Mapping[PartName, pd.DataFrame]


@pytest.fixture
def parts(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Parts:
    monkeypatch.setattr(trees, "MOST_TREES", 40)
    return read_data(Path("data/features/full")).parts


def tune(parts: Parts) -> trees.TunedTrees | None:
    columns = tree_columns(parts["train"])
    return trees.tune(parts["train"], parts["validation"], "rentals", "poisson", columns)


def test_tree_features_are_numbers_and_positions(parts: Parts) -> None:
    start = date(2011, 1, 1)
    rows = parts["train"].iloc[[30]]
    names = ["hour", "weekday", "days_since_start", "occasion", "commuting"]
    features = trees.tree_features(rows, start, tree_columns(rows))[names].iloc[0]
    time = rows["timestamp"].iloc[0]
    day = (time.normalize() - pd.Timestamp(start)).days
    working = float(rows["working_day"].iloc[0])
    assert features.tolist() == [time.hour, time.day_of_week, day, 0, working]


def test_the_size_with_the_lowest_validation_loss_is_chosen(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tuned(*leaves: int) -> trees.TunedTrees | None:
        monkeypatch.setattr(trees, "LEAVES", leaves)
        return tune(parts)

    assert tuned(2, 31) == tuned(31, 2)
    assert tuned(2, 31) in (tuned(2), tuned(31))
    best = tuned(31)
    assert best is not None and (best.leaves, best.trees) == (31, 40)


def test_without_a_library_of_lightgbm_there_are_no_trees(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(name: str, *more: Any) -> Any:
        if name == "lightgbm":
            raise OSError("libgomp.so.1: cannot open shared object file")
        return original(name, *more)

    original = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", broken)
    with pytest.warns(UserWarning, match=r"LightGBM cannot be loaded: libgomp"):
        assert tune(parts) is None


def test_fitted_trees_do_not_depend_on_the_rentals(parts: Parts) -> None:
    columns = tree_columns(parts["train"])
    fitted = trees.TunedTrees(31, 40, "rentals", "poisson", columns).fit(parts["train"])
    assert fitted.start == date(2011, 1, 1)
    test = parts["test"]
    predicted = fitted.predict(test)
    assert np.corrcoef(predicted, test["rentals"])[0, 1] > 0.7
    assert np.array_equal(fitted.predict(test.assign(rentals=0)), predicted)
    assert not np.array_equal(fitted.predict(test.assign(hour=0)), predicted)
