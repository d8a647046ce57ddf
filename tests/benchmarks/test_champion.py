"""The benchmark of the champion: its recipes, its figures, and that a stopped one goes on."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from conftest import ROOT

sys.path.insert(0, str(ROOT))
from benchmarks import champion


@pytest.fixture
def recipes(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[champion.Recipe]]:
    monkeypatch.chdir(ROOT)
    return {kind: champion.recipes(kind) for kind in champion.KINDS[1:]}


def test_the_recipes_make_columns_and_settings(recipes: dict[str, list[champion.Recipe]]) -> None:
    sizes = {kind: [len(r.columns().names) for r in of] for kind, of in recipes.items()}
    assert sizes == {"random": [1294], "chronological": [294]}
    settings = {kind: [r.settings() for r in of] for kind, of in recipes.items()}
    assert {k: [s.regularization.weight_decay for s in of] for k, of in settings.items()} == {
        "random": [0.1], "chronological": [2],
    }  # fmt: skip
    assert all(s.regularization.on == "weights" for of in settings.values() for s in of)


def test_the_pipeline_is_that_of_dvc() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    commands = [stages[name]["cmd"] for name in ("featurize", "sweep", "refit")]
    ours = ["python -m " + " ".join(step) for step in champion.STEPS]
    assert [command.replace(" --reports reports", "") for command in commands] == ours


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
    assert champion.score(rows, np.array([5.0, 13.0]))["rmse"] == pytest.approx(4)
    below = champion.score(rows, np.array([-3.0, 11.0]))
    assert below["rmse"] == pytest.approx(2**0.5)  # a negative rate counts as 1 bike/hour
    # leads of 10 % and 5 %: a standard deviation of 12.5^½, times (1/2 + 1/4)^½
    assert champion.mean_lead([9, 19], [10, 20]) == "7.5 ± 3.1"
    assert champion.with_error(np.array([10.0, 5.0])) == "7.5 ± 2.5"
    assert champion.mean_lead([9], [10]) == "10.0"


def test_of_the_pipeline_all_that_is_ours_is_measured(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = champion.parts_of("days", 20)[2]
    columns = {"timestamp": test["timestamp"], "rentals": test["rentals"]}
    one, two = test["rentals"] + 4.0, test["rentals"] + 2.0
    rows = pd.DataFrame(columns | {"predicted": two, "our model": two, "our networks alone": one})
    monkeypatch.setattr(champion, "pipeline", lambda seed: rows.iloc[::-1])  # in any order
    found = champion.ours("days", 20, 1)
    assert {name: round(of["rmse"], 6) for name, of in found.items()} == {
        "our model": 2, "our networks alone": 4, "the comparison's winner": 4,
    }  # fmt: skip
    monkeypatch.setattr(champion, "pipeline", lambda seed: rows.drop(columns="our networks alone"))
    without_trees = champion.ours("days", 20, 1)
    assert {round(of["rmse"], 6) for of in without_trees.values()} == {2}


def test_windows_of_the_future_expand(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    train, validation, test = champion.parts_of("chronological", 0)
    assert (len(train), len(validation), len(test)) == (576, 192, 192)
    assert train["timestamp"].max() < validation["timestamp"].min()
    assert validation["timestamp"].max() < test["timestamp"].min()
    assert sum(map(len, champion.parts_of("chronological", 4))) == 576


@pytest.mark.slow(seconds=10)
def test_a_stopped_benchmark_goes_on(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (workplace / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    small = champion.Recipe(overrides=["network.hidden=[4]", "training.epochs=1"])
    asked: list[int] = []

    def tree(train: pd.DataFrame, validation: pd.DataFrame, rows: pd.DataFrame) -> np.ndarray:
        asked.append(len(rows))
        return np.full(len(rows), train["rentals"].mean())

    monkeypatch.setattr(champion, "recipes", lambda kind: [small, small])
    monkeypatch.setattr(champion, "every", lambda: {"a tree": tree})
    first: dict[str, Any] = champion.measure("chronological", 0, 4)
    assert set(first["models"]) == {"a tree", "our model"}
    assert champion.measure("chronological", 0, 4) == first
    assert asked == [192]  # the kept draw is not measured again
    fewer = champion.measure("chronological", 0, 2)  # with fewer networks ours are
    assert fewer["models"]["our model"] != first["models"]["our model"]
    assert asked == [192]
    # trees that came later are added to a kept draw
    monkeypatch.setattr(champion, "every", lambda: {"a tree": tree, "another": tree})
    assert set(champion.measure("chronological", 0, 2)["models"]) == {
        "a tree", "another", "our model",
    }  # fmt: skip
    assert asked == [192] * 2
    assert champion.kept([("chronological", 0), ("chronological", 1)]) == [
        champion.measure("chronological", 0, 2)
    ]
    text = champion.report([first, first | {"seed": 1}])
    assert "**chronological**: 2 draws (seeds 0, 1), 192 test rows in the first." in text
    assert re.search(r"\| a tree \| [\d.]+ \| [\d.]+ \| -?[\d.]+ ± 0.0 \| -?[\d.]+ ± 0.0 \|", text)
