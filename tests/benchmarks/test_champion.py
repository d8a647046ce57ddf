"""The benchmark of the champion: its recipes, its figures, and that a stopped one goes on."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from conftest import ROOT

sys.path.insert(0, str(ROOT))
from benchmarks import champion


@pytest.fixture
def recipes(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[champion.Recipe]]:
    monkeypatch.chdir(ROOT)
    return {kind: champion.recipes(kind) for kind in champion.KINDS}


def test_the_recipes_make_columns_and_settings(recipes: dict[str, list[champion.Recipe]]) -> None:
    sizes = {kind: [len(r.columns().names) for r in of] for kind, of in recipes.items()}
    assert sizes == {"days": [380, 339], "random": [1294], "chronological": [294]}
    settings = {kind: [r.settings() for r in of] for kind, of in recipes.items()}
    assert {k: [s.regularization.weight_decay for s in of] for k, of in settings.items()} == {
        "days": [0.5, 1], "random": [0.1], "chronological": [2],
    }  # fmt: skip
    assert all(s.regularization.on == "weights" for of in settings.values() for s in of)


def test_the_future_is_told_nothing_that_happens_once(
    recipes: dict[str, list[champion.Recipe]],
) -> None:
    names = recipes["chronological"][0].columns().names
    assert not [n for n in names if n.startswith(("days_since_start", "month=", "season="))]
    assert [n for n in names if n.startswith("day_of_year")] == [
        "day_of_year_sin", "day_of_year_cos",
    ]  # fmt: skip


def test_scores_and_leads() -> None:
    time = pd.to_datetime(["2012-01-01", "2012-01-02"])
    rows = pd.DataFrame({"timestamp": time, "rentals": [1, 9]})
    predicted = {"trees": np.array([5.0, 13.0]), champion.OURS: np.array([3.0, 11.0])}
    found = champion.scores(rows, predicted)
    assert found["trees"]["rmse"] == pytest.approx(4)
    assert found["trees"]["lead_rmse"] == pytest.approx(50)
    assert found["trees"]["lead_rmse_se"] == pytest.approx(0)  # every day has the same errors
    assert found[champion.OURS]["lead_deviance"] == 0
    below = champion.scores(rows, {champion.OURS: np.array([-3.0, 11.0])})[champion.OURS]
    assert below["rmse"] == pytest.approx(2**0.5)  # a negative rate counts as 1 bike/hour
    draws = [{"lead_rmse": 10.0, "lead_rmse_se": 3.0}, {"lead_rmse": 5.0, "lead_rmse_se": 1.0}]
    assert champion.mean_lead(draws, "rmse") == "7.5 ± 2.5"
    assert champion.mean_lead(draws[:1], "rmse") == "10.0 ± 3.0"


def test_a_stopped_benchmark_goes_on(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (workplace / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    small = champion.Recipe(overrides=["network.hidden=[4]", "training.epochs=1"])
    asked: list[int] = []

    def tree(train: pd.DataFrame, validation: pd.DataFrame, rows: pd.DataFrame) -> np.ndarray:
        asked.append(len(rows))
        assert train["timestamp"].max() < validation["timestamp"].min()
        assert validation["timestamp"].max() < rows["timestamp"].min()
        return np.full(len(rows), train["rentals"].mean())

    monkeypatch.setattr(champion, "recipes", lambda kind: [small, small])
    monkeypatch.setattr(champion, "trees", lambda: {"a tree": tree})
    first: dict[str, Any] = champion.measure("chronological", 0, 4)
    assert [n for n in first["models"] if n.startswith("network ")] == [
        "network 1", "network 2", "network 3", "network 4",
    ]  # fmt: skip
    assert champion.measure("chronological", 0, 4) == first
    assert asked == [192]  # the kept draw is not measured again
    champion.measure("chronological", 0, 2)  # with fewer networks it is
    assert asked == [192, 192]
    text = champion.report([first, first | {"seed": 1}])
    assert "**chronological**: 2 draws (seeds 0, 1), 192 test rows in the first; 2 networks" in text
    assert re.search(r"\| a tree \| [\d.]+ \| [\d.]+ \| -?[\d.]+ ± 0.0 \| -?[\d.]+ ± 0.0 \|", text)
