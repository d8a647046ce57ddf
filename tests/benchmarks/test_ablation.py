"""The ablation: each variant differs in one part and is compared split by split."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from conftest import ROOT

sys.path.insert(0, str(ROOT))
from benchmarks import ablation, champion


@pytest.mark.slow
def test_each_variant_differs_from_the_winner_in_one_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    of = ablation.variants()
    settings = {name: one.members(1)[0] for name, one in of.items()}
    columns = {name: one.columns() for name, one in of.items()}
    winner = settings[ablation.WINNER]
    assert winner.regularization.l2 == 0.1
    assert winner.network.hidden == (128, 128)
    made = {(tuple(columns[name].names), settings[name].model_dump_json()) for name in of}
    assert len(made) == len(of)
    same_columns = {n for n in of if columns[n] == columns[ablation.WINNER]}
    same_network = {n for n in of if settings[n] == winner}
    assert same_columns & same_network == {ablation.WINNER}
    assert same_columns | same_network == set(of)  # nothing changes both
    assert settings["no regularization"].regularization.l2 == 0


def test_what_is_left_out_is_measured_against_the_winner(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    (project / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    rows = champion.parts_of("days", 0)[1]
    errors = (0.0, 2.0)  # bikes/hour, by seed

    def predictions(recipe: champion.Recipe, seeds: int, seed: int) -> np.ndarray:
        return np.stack([rows["rentals"] + error for error in errors])

    monkeypatch.setattr(ablation, "predictions", predictions)
    monkeypatch.setattr(ablation, "mixed", lambda networks, seed: networks - 0.5)
    found = ablation.measure_variant(ablation.WINNER, champion.Recipe(), 2, 0)
    assert {name: one["rmse"] for name, one in found.items()} == pytest.approx(
        {ablation.WINNER: 1, ablation.SINGLE: 1, ablation.MIXED: 0.5}
    )
    assert set(ablation.measure_variant("another", champion.Recipe(), 2, 0)) == {"another"}


@pytest.mark.slow
def test_networks_and_trees_are_fitted_on_training_rows(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    (project / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    small = champion.Recipe(overrides=["network.hidden=[4]", "training.epochs=1"])
    found = ablation.predictions(small, 2, 0)
    rows = champion.parts_of("days", 0)[1]
    assert found.shape == (2, len(rows))
    assert not np.array_equal(found[0], found[1])
    # networks that predict nothing but 5,000 get no share
    mixed = ablation.mixed(np.full(len(rows), 5000.0), 0)
    assert champion.score(rows, mixed)["rmse"] < rows["rentals"].std()


def test_the_table_gives_paired_differences() -> None:
    def one(rmse: float, of: float) -> ablation.Scores:
        return {
            ablation.WINNER: {"rmse": of, "deviance": 2 * of},
            "without it": {"rmse": rmse, "deviance": 2 * of},
        }

    lines = ablation.report([one(11, 10), one(26, 20)]).splitlines()
    assert lines[2:] == [
        "| the winner | 15.00 | 30.000 |  |  |",
        "| without it | 18.50 | 30.000 | 20.0 ± 10.0 | 0.0 ± 0.0 |",
    ]
    assert "| without it | 11.00 | 20.000 | 10.0 | 0.0 |" in ablation.report([one(11, 10)])
