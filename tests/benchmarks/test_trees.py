"""Boosted trees of the benchmark are tuned on validation rows and fitted on both parts."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
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
def test_the_size_with_the_lowest_validation_loss_is_used(
    peer: str, parts: list[pd.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    library, _ = trees.PEERS[peer]

    def predict(*sizes: int) -> np.ndarray:
        few = (replace(library, sizes=sizes), ("hour", "temperature"))
        monkeypatch.setitem(trees.PEERS, peer, few)
        return trees.predict(peer, *parts)

    small, large = predict(2), predict(31)
    assert not np.array_equal(small, large)
    both = predict(2, 31)
    assert np.array_equal(both, predict(31, 2))
    assert any(np.array_equal(both, values) for values in (small, large))


@pytest.mark.slow
@pytest.mark.parametrize("peer", PEERS)
def test_trees_are_fitted_on_validation_rows_as_well(peer: str, parts: list[pd.DataFrame]) -> None:
    train, validation, test = parts
    rates = trees.predict(peer, train, validation, test)
    assert (rates > 0).all()
    assert champion.score(test, rates)["rmse"] < 0.7 * test["rentals"].std()
    changed = trees.predict(peer, train, validation.assign(rentals=1), test)
    assert changed.mean() < rates.mean()
