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
def recipes(monkeypatch: pytest.MonkeyPatch) -> dict[str, champion.Recipe]:
    monkeypatch.chdir(ROOT)
    return {kind: champion.recipe(kind) for kind in champion.KINDS}


def test_the_recipes_make_columns_and_settings(recipes: dict[str, champion.Recipe]) -> None:
    sizes = {kind: len(recipe.columns().names) for kind, recipe in recipes.items()}
    assert sizes == {"days": 380, "random": 1294, "chronological": 294}
    settings = {kind: recipe.settings() for kind, recipe in recipes.items()}
    assert {k: s.regularization.weight_decay for k, s in settings.items()} == {
        "days": 0.5, "random": 0.1, "chronological": 2,
    }  # fmt: skip
    assert all(s.regularization.on == "weights" for s in settings.values())


def test_the_future_is_told_nothing_that_happens_once(recipes: dict[str, champion.Recipe]) -> None:
    names = recipes["chronological"].columns().names
    assert not [n for n in names if n.startswith(("days_since_start", "month=", "season="))]
    assert [n for n in names if n.startswith("day_of_year")] == [
        "day_of_year_sin", "day_of_year_cos",
    ]  # fmt: skip


def test_scores_and_leads() -> None:
    rows = pd.DataFrame({"timestamp": pd.to_datetime(["2012-01-01"] * 2), "rentals": [1, 9]})
    found = champion.score(rows, np.array([-3.0, 9.0]))  # what is below 1 bike/hour counts as 1
    assert found == {"rmse": 0, "deviance": 0}
    assert champion.lead([90.0, 95.0], [100.0, 100.0]) == "7.5 ± 2.5"
    assert champion.lead([90.0], [100.0]) == "10.0"


def test_a_stopped_benchmark_goes_on(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (workplace / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    small = champion.Recipe(overrides=["network.hidden=[4]", "training.epochs=1"])
    asked: list[int] = []

    def tree(train: pd.DataFrame, validation: pd.DataFrame, rows: pd.DataFrame) -> np.ndarray:
        asked.append(len(rows))
        assert train["timestamp"].max() < validation["timestamp"].min()
        assert validation["timestamp"].max() < rows["timestamp"].min()
        return np.full(len(rows), train["rentals"].mean())

    monkeypatch.setattr(champion, "recipe", lambda kind: small)
    monkeypatch.setattr(champion, "trees", lambda: {"a tree": tree})
    first: dict[str, Any] = champion.measure("chronological", 0, 2)
    assert set(first["models"]) == {"a tree", champion.ONE, champion.OURS}
    assert champion.measure("chronological", 0, 2) == first
    assert asked == [192]  # the kept draw is not measured again
    champion.measure("chronological", 0, 1)  # another recipe is
    assert asked == [192, 192]
    text = champion.report([first, first | {"seed": 1}])
    assert "**chronological**: 2 draws (seeds 0, 1), 192 test rows" in text
    assert re.search(r"\| a tree \| [\d.]+ \| [\d.]+ \| -?[\d.]+ ± 0.0 \| -?[\d.]+ ± 0.0 \|", text)
