"""Boosted trees of the benchmark are tuned on validation rows and fitted on both parts."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import pytest

from conftest import ROOT

sys.path.insert(0, str(ROOT))
from benchmarks import champion, trees

PEERS = ("LightGBM, same columns", "LightGBM, plain columns")


@pytest.fixture
def parts(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> list[pd.DataFrame]:
    monkeypatch.setattr(trees, "MOST_TREES", 40)
    return champion.parts_of("random", 0)


@pytest.mark.slow
@pytest.mark.parametrize("peer", PEERS)
def test_trees_are_fitted_on_validation_rows_as_well(peer: str, parts: list[pd.DataFrame]) -> None:
    train, validation, test = parts
    rates = trees.predict(peer, train, validation, test)
    assert (rates > 0).all()
    assert champion.score(test, rates)["rmse"] < 0.7 * test["rentals"].std()
    changed = trees.predict(peer, train, validation.assign(rentals=1), test)
    assert changed.mean() < rates.mean()
