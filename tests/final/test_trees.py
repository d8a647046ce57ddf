"""Boosted trees: tuned on validation rows, kept as text."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bikefit.data.table import read_table
from bikefit.final import fits, trees


@pytest.fixture
def parts(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, pd.DataFrame]:
    monkeypatch.setattr(trees, "MOST_TREES", 40)
    table = read_table(Path("data/features/full"))
    return fits.parts(table, pd.read_parquet("data/clean/hours.parquet"))


def test_trees_see_the_columns_that_they_are_told(parts: dict[str, pd.DataFrame]) -> None:
    start = np.datetime64("2011-01-01")
    rows = parts["train"].iloc[[30]]
    names = ("hour", "weekday", "days_since_start", "occasion", "commuting")
    found = trees.tree_features(rows, start, names).iloc[0]
    time = rows["timestamp"].iloc[0]
    day = (time.normalize() - pd.Timestamp(start)).days
    working = float(rows["working_day"].iloc[0])
    assert found.tolist() == [time.hour, time.day_of_week, day, 0, working]
    blind = parts | {"test": parts["test"].assign(hour=0)}
    told = [trees.boosted(trees.LightGBM(), ("temperature",), *three(p)) for p in (parts, blind)]
    assert np.array_equal(*told)


def three(parts: dict[str, pd.DataFrame]) -> list[pd.DataFrame]:
    return [parts[name] for name in ("train", "validation", "test")]


@pytest.mark.parametrize("library", trees.LIBRARIES.values(), ids=trees.LIBRARIES)
def test_of_several_sizes_of_trees_the_best_for_validation_rows_is_taken(
    parts: dict[str, pd.DataFrame], library: trees.Library
) -> None:
    def predict(*sizes: int) -> np.ndarray:
        sized = replace(library, sizes=sizes)  # type: ignore[type-var]
        return trees.boosted(sized, ("hour", "temperature"), *three(parts))

    alone = [predict(2), predict(31)]
    assert not np.array_equal(*alone)
    assert np.array_equal(predict(2, 31), predict(31, 2))
    assert any(np.array_equal(predict(2, 31), one) for one in alone)


def test_tuned_trees_predict_the_rows_they_were_tuned_on(parts: dict[str, pd.DataFrame]) -> None:
    train, validation, _ = three(parts)
    found = trees.tune(replace(trees.LightGBM(), sizes=(4,)), ("hour",), train, validation)
    assert (found.size, found.count) == (4, 40)
    fitted, start = found.fit(train)
    columns = trees.tree_features(validation, start, ("hour",))
    assert found.predict(train, validation) == pytest.approx(fitted.predict(columns))


def test_boosters_are_kept_as_text(parts: dict[str, pd.DataFrame]) -> None:
    train, validation, test = three(parts)
    names = ("hour", "days_since_start")
    fitted, start = trees.tune(trees.LightGBM(), names, train, validation).fit(train)
    kept = trees.Boosters(fitted.text, names, str(start))
    wanted = fitted.predict(trees.tree_features(test, start, names))
    assert kept.predict(test) == pytest.approx(wanted[None])
    assert kept.predict(test.iloc[:0]).shape == (1, 0)
