"""Baselines: what they predict, and that they are told nothing of the test."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bikefit.data.table import read_table
from bikefit.data.transformer import load
from bikefit.final import baselines, fits


@pytest.fixture
def parts(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, pd.DataFrame]:
    monkeypatch.setattr(baselines, "MOST_TREES", 40)
    table = read_table(Path("data/features/full"))
    return fits.parts(table, pd.read_parquet("data/clean/hours.parquet"))


def predict_all(parts: dict[str, pd.DataFrame]) -> dict[str, np.ndarray]:
    return baselines.predict_all(parts, load(Path("data/features/full/transformer.json")).features)


def test_constant_and_hourly_mean() -> None:
    rows = pd.DataFrame(
        {"working_day": [True, True, False, True], "hour": [8, 8, 8, 9], "rentals": [10, 20, 3, 7]}
    )
    asked = pd.DataFrame({"working_day": [True, False, False], "hour": [8, 8, 9]})
    assert baselines.constant(rows, asked).tolist() == [10, 10, 10]
    assert baselines.hourly_mean(rows, asked).tolist() == [15, 3, 10]  # never seen: the mean


def test_each_is_better_than_the_one_before(parts: dict[str, pd.DataFrame]) -> None:
    target = parts["test"]["rentals"]
    errors = {
        name: float(np.sqrt(((values - target) ** 2).mean()))
        for name, values in predict_all(parts).items()
    }
    assert list(errors) == [
        "constant", "hourly mean by working day", "linear Poisson regression",
        "LightGBM, plain columns", "scikit-learn trees, plain columns",
        "LightGBM, same columns", "scikit-learn trees, same columns",
    ]  # fmt: skip
    constant, hourly, linear, *trees = errors.values()
    assert linear < hourly < constant
    assert max(trees) < constant


def test_the_rentals_of_test_rows_change_nothing(parts: dict[str, pd.DataFrame]) -> None:
    first = predict_all(parts)
    second = predict_all(parts | {"test": parts["test"].assign(rentals=10**6)})
    for name, values in first.items():
        assert np.array_equal(values, second[name]), name


def test_what_this_machine_cannot_run_is_left_out(
    parts: dict[str, pd.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(baselines.LightGBM):
        def __call__(self, *_: object) -> baselines.Fitted:
            raise OSError("libgomp.so.1: cannot open shared object file")

    monkeypatch.setitem(baselines.LIBRARIES, "LightGBM", Broken())
    with pytest.warns(UserWarning, match=r"LightGBM, \w+ columns is left out: libgomp"):
        found = predict_all(parts)
    assert len(found) == 5


def test_trees_see_the_columns_that_they_are_told(parts: dict[str, pd.DataFrame]) -> None:
    start = np.datetime64("2011-01-01")
    rows = parts["train"].iloc[[30]]
    names = ("hour", "weekday", "days_since_start", "occasion", "commuting")
    found = baselines.tree_features(rows, start, names).iloc[0]
    time = rows["timestamp"].iloc[0]
    day = (time.normalize() - pd.Timestamp(start)).days
    working = float(rows["working_day"].iloc[0])
    assert found.tolist() == [time.hour, time.day_of_week, day, 0, working]
    blind = parts | {"test": parts["test"].assign(hour=0)}
    told = [
        baselines.boosted(baselines.LightGBM(), ("temperature",), *three(p)) for p in (parts, blind)
    ]
    assert np.array_equal(*told)


def three(parts: dict[str, pd.DataFrame]) -> list[pd.DataFrame]:
    return [parts[name] for name in ("train", "validation", "test")]


@pytest.mark.parametrize("library", baselines.LIBRARIES.values(), ids=baselines.LIBRARIES)
def test_of_several_sizes_of_trees_the_best_for_validation_rows_is_taken(
    parts: dict[str, pd.DataFrame], library: baselines.Library
) -> None:
    def predict(*sizes: int) -> np.ndarray:
        sized = replace(library, sizes=sizes)  # type: ignore[type-var]
        return baselines.boosted(sized, ("hour", "temperature"), *three(parts))

    alone = [predict(2), predict(31)]
    assert not np.array_equal(*alone)
    assert np.array_equal(predict(2, 31), predict(31, 2))
    assert any(np.array_equal(predict(2, 31), one) for one in alone)
