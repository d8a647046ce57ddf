"""Networks of pytabkit get the columns of the trees, with the same categories in every part."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from conftest import ROOT

sys.path.insert(0, str(ROOT))
from benchmarks import champion, tabular


class Mean:
    """A model that keeps its rows and predicts the mean of their target."""

    def __init__(self, *parts: tabular.Part) -> None:
        self.parts = parts

    def predict(self, columns: pd.DataFrame) -> np.ndarray:
        self.predicted = columns
        return np.full(len(columns), self.parts[0][1].mean())


@pytest.mark.parametrize(("kind", "columns"), [("same columns", 17), ("plain columns", 13)])
def test_all_parts_have_the_same_columns_and_categories(
    kind: str, columns: int, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models: list[Mean] = []

    def fit(*parts: tabular.Part) -> Mean:
        models.append(Mean(*parts))
        return models[-1]

    peer = f"RealMLP, {kind}"
    monkeypatch.setitem(tabular.PEERS, peer, (fit, tabular.PEERS[peer][1]))
    train, validation, test = champion.parts_of("days", 0)
    rates = tabular.predict(peer, train, validation, test)
    assert rates.dtype == np.float64 and rates == pytest.approx(train["rentals"].mean(), rel=1e-5)
    (model,) = models
    features = [*(part for part, _ in model.parts), model.predicted]
    assert [len(part) for part in features] == [len(train), len(validation), len(test)]
    for part in features[1:]:
        assert part.dtypes.equals(features[0].dtypes)
    categories = features[0].select_dtypes("category").columns
    assert set(categories) == {"season", "weekday", "weather", "occasion"} & set(features[0])
    assert features[0].shape[1] == columns
    assert len(features[0]["weather"].cat.categories) == 4
