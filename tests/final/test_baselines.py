"""Baselines: what they predict, and that they are told nothing of the test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bikefit.data.table import read_table
from bikefit.data.transformer import Transformer
from bikefit.final import baselines, fits
from bikefit.final.trees import TunedTrees


@pytest.fixture
def parts(workplace: Path) -> dict[str, pd.DataFrame]:
    table = read_table(Path("data/features/full"))
    return fits.parts(table, pd.read_parquet("data/clean/hours.parquet"))


def predict_all(parts: dict[str, pd.DataFrame]) -> dict[str, np.ndarray]:
    features = Transformer.load(Path("data/features/full/transformer.json")).features
    trees = {"trees": TunedTrees(("hour", "working_day"), leaves=15, count=40)}
    return baselines.predict_all(parts, features, trees)


def test_constant_and_hourly_mean() -> None:
    rows = pd.DataFrame(
        {"working_day": [True, True, False, True], "hour": [8, 8, 8, 9], "rentals": [10, 20, 3, 7]}
    )
    asked = pd.DataFrame({"working_day": [True, False, False], "hour": [8, 8, 9]})
    assert baselines.constant(rows, asked).tolist() == [10, 10, 10]
    assert baselines.hourly_mean(rows, asked).tolist() == [15, 3, 10]  # never seen: the mean


@pytest.mark.slow
def test_each_is_better_than_the_one_before(parts: dict[str, pd.DataFrame]) -> None:
    target = parts["test"]["rentals"]
    errors = {
        name: float(np.sqrt(((values - target) ** 2).mean()))
        for name, values in predict_all(parts).items()
    }
    constant, hourly, linear, trees = errors.values()
    assert linear < hourly < constant
    assert trees < constant


@pytest.mark.slow
def test_the_rentals_of_test_rows_change_nothing(parts: dict[str, pd.DataFrame]) -> None:
    first = predict_all(parts)
    second = predict_all(parts | {"test": parts["test"].assign(rentals=10**6)})
    for name, values in first.items():
        assert np.array_equal(values, second[name]), name
