"""Models of other packages: tuned on validation rows, fitted on both parts, with equal columns."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bikefit.final import trees
from conftest import ROOT

sys.path.insert(0, str(ROOT))
from benchmarks import champion, others


@pytest.fixture
def parts(workplace: Path) -> list[pd.DataFrame]:
    return champion.parts_of("random", 0)


@pytest.mark.slow
@pytest.mark.parametrize("columns", others.COLUMNS)
def test_trees_are_fitted_on_validation_rows_as_well(
    columns: str, parts: list[pd.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trees, "MOST_TREES", 40)
    train, validation, test = parts
    rates = others.predict(f"LightGBM, {columns}", train, validation, test)
    assert (rates > 0).all()
    assert champion.score(test, rates)["rmse"] < 0.7 * test["rentals"].std()
    fewer = validation.assign(rentals=1)
    changed = others.predict(f"LightGBM, {columns}", train, fewer, test)
    assert changed.mean() < rates.mean()


def test_depth_and_number_of_trees_have_the_lowest_deviance(parts: list[pd.DataFrame]) -> None:
    train, validation, test = parts
    fits = []

    def fit(rows: others.Rows, depth: int, trees: int, held_out: others.Rows | None) -> Any:
        fits.append((len(rows[0]), depth, trees))
        mean = rows[1].mean() * (1 if depth == 6 else 2)
        return (lambda columns: np.full(len(columns), mean)), 7 if held_out else trees

    rates = others.boosted(fit)(train, validation, test, {"temperature": None})
    assert [depth for _, depth, _ in fits[:3]] == list(others.DEPTHS)
    assert fits[3:] == [(len(train) + len(validation), 6, 7)]
    assert rates == pytest.approx(pd.concat([train, validation])["rentals"].mean())


@pytest.mark.parametrize(("columns", "count"), [("same columns", 17), ("plain columns", 13)])
def test_all_parts_have_the_same_columns_and_categories(
    columns: str, count: int, parts: list[pd.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[pd.DataFrame] = []

    class Mean:
        """A model that keeps its columns and predicts the mean of its target."""

        def __init__(self, **options: Any) -> None: ...

        def fit(self, train: Any, target: Any, validation: Any, held_out: Any) -> Mean:
            given.extend([train, validation])
            self.mean = target.mean()
            return self

        def predict(self, test: pd.DataFrame) -> np.ndarray:
            given.append(test)
            return np.full(len(test), self.mean)

    monkeypatch.setitem(sys.modules, "pytabkit", SimpleNamespace(RealMLP_TD_Regressor=Mean))
    rates = others.predict(f"RealMLP, {columns}", *parts)
    assert rates.dtype == np.float64
    assert rates == pytest.approx(parts[0]["rentals"].mean(), rel=1e-5)
    assert [len(part) for part in given] == [len(part) for part in parts]
    for part in given[1:]:
        assert part.dtypes.equals(given[0].dtypes)
    categories = given[0].select_dtypes("category").columns
    assert set(categories) == {"season", "weekday", "weather", "occasion"} & set(given[0])
    assert given[0].shape[1] == count
    assert len(given[0]["weather"].cat.categories) == 4
