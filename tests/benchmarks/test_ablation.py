"""The ablation: each variant differs in one part and is compared split by split."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
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
    made = {(columns[name].model_dump_json(), settings[name].model_dump_json()) for name in of}
    assert len(made) == len(of)
    same_columns = {n for n in of if columns[n] == columns[ablation.WINNER]}
    same_network = {n for n in of if settings[n] == winner}
    assert same_columns & same_network == {ablation.WINNER}
    assert same_columns | same_network == set(of)  # nothing changes both
    assert settings["no regularization"].regularization.l2 == 0


@pytest.mark.slow
def test_a_variant_is_fitted_on_training_rows_and_measured_on_validation_rows(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    (project / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    small = champion.Recipe(overrides=["network.hidden=[4]", "training.epochs=1"])
    scores = ablation.measure_variant("small", small, 2, 0)
    assert (scores["variant"], scores["split"]) == ("small", 0)
    rentals = champion.parts_of("days", 0)[1]["rentals"]
    assert 0 < scores["rmse"] < 2 * rentals.std()


def test_the_table_gives_paired_differences() -> None:
    rows = [
        {"variant": name, "split": split, "rmse": rmse, "deviance": 2 * winner}
        for split, (winner, other) in enumerate(((10.0, 11.0), (20.0, 26.0)))
        for name, rmse in ((ablation.WINNER, winner), ("without it", other))
    ]
    assert ablation.report(pd.DataFrame(rows)).splitlines()[2:] == [
        "| the winner | 15.00 | 30.000 |  |  |",
        "| without it | 18.50 | 30.000 | 20.0 ± 10.0 | 0.0 ± 0.0 |",
    ]
