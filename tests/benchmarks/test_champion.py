"""The comparison with boosted trees: recipes, scores and leads."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bikefit.data.transformer import Transformer
from conftest import ROOT

sys.path.insert(0, str(ROOT))
from benchmarks import champion


def test_recipes_give_columns_and_settings(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hours = champion.parts_of("days", 0)[0]
    monkeypatch.chdir(ROOT)
    recipes = {kind: champion.recipe(kind) for kind in ("random", "chronological")}
    columns = {k: Transformer.fit(one.columns(), hours).names for k, one in recipes.items()}
    sizes = {kind: len(names) for kind, names in columns.items()}
    assert sizes == {"random": 1294, "chronological": 294}
    settings = {kind: one.members(2) for kind, one in recipes.items()}
    assert {k: [s.regularization.weight_decay for s in of] for k, of in settings.items()} == {
        "random": [0.1, 0.1],
        "chronological": [2, 2],
    }
    assert [one.seed for one in settings["random"]] == [0, 1]
    # the future has no column for anything that occurs only once
    names = columns["chronological"]
    assert not [n for n in names if n.startswith(("days_since_start", "month=", "season="))]
    days = [n for n in names if n.startswith("day_of_year")]
    assert days == ["day_of_year_sin", "day_of_year_cos"]


def test_scores_and_leads() -> None:
    time = pd.to_datetime(["2012-01-01", "2012-01-02"])
    rows = pd.DataFrame({"timestamp": time, "rentals": [1, 9]})
    assert champion.score(rows, np.array([5.0, 13.0]))["rmse"] == pytest.approx(4)
    negative = champion.score(rows, np.array([-3.0, 11.0]))
    assert negative["rmse"] == pytest.approx(2**0.5)  # a negative rate counts as 1 bike/hour
    ours, theirs = (pd.DataFrame({"rmse": values}) for values in ([9, 19], [10, 20]))
    assert champion.lead(ours, theirs, "rmse") == "7.5 ± 3.1"


def test_all_models_of_the_pipeline_are_measured(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = champion.parts_of("days", 20)[2]
    columns = {"timestamp": test["timestamp"], "rentals": test["rentals"]}
    one, two = test["rentals"] + 4.0, test["rentals"] + 2.0
    rows = pd.DataFrame(columns | {"our model": two, "our networks alone": one})
    monkeypatch.setattr(champion, "pipeline", lambda seed: rows.iloc[::-1])  # in any order
    scores = champion.ours("days", 20, 1)
    assert {name: round(of["rmse"], 6) for name, of in scores.items()} == {
        "our model": 2,
        "our networks alone": 4,
        "the comparison's winner": 4,
    }
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


def test_the_kept_splits_give_the_tables_of_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    options = argparse.Namespace(kinds=list(champion.SEEDS), kept=True)
    tables = champion.measure(options)["champion"]
    assert tables in (ROOT / champion.PAGE).read_text()


def test_a_peer_of_some_splits_is_compared_on_these() -> None:
    head = ["kind", "seed", "test_rows", "model", "rmse", "deviance", "seconds"]
    rows = [
        ["days", 20, 10, champion.OURS, 9.0, 4.0, np.nan],
        ["days", 21, 10, champion.OURS, 30.0, 8.0, np.nan],
        ["days", 20, 10, "RealMLP, same columns", 10.0, 5.0, 164.2],
    ]
    table = champion.section("days", pd.DataFrame(rows, columns=head)).splitlines()
    assert table[-2:] == [
        "| RealMLP, same columns (of seed 20) | 10.00 | 5.000 | 10.0 | 20.0 | 164 |",
        "| our model | 19.50 | 6.000 |  |  |  |",
    ]
