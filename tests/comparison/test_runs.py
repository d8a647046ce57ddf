from __future__ import annotations

import numpy as np

from bikefit.comparison.ranking import rank
from made_runs import make_run, make_table


def test_labels_leave_out_the_values_that_most_runs_have() -> None:
    epochs = [(0, 30), (1, 30), (2, 30), (0, 60), (1, 8)]
    runs = [make_run(seed=s, **{"training.epochs": e}) for s, e in epochs]
    assert make_table(runs)["configuration"].tolist() == [
        *["none · mlp 256×256"] * 3,
        "none · mlp 256×256 · training.epochs=60",
        "none · mlp 256×256 · training.epochs=8",
    ]
    assert make_table([runs[0], runs[3]])["configuration"].tolist() == [
        "none · mlp 256×256 · training.epochs=30",
        "none · mlp 256×256 · training.epochs=60",
    ]


def test_labels_leave_out_a_fraction_of_all_rows_even_if_most_runs_have_another() -> None:
    runs = make_table(
        [make_run(seed=s, **{"data.fraction": f}) for s, f in [(0, 0.1), (1, 0.1), (0, 1.0)]]
    )
    assert runs["configuration"].tolist() == [
        *["none · mlp 256×256 · data.fraction=0.1"] * 2,
        "none · mlp 256×256",
    ]


def test_configurations_that_differ_in_an_extra_layer_stay_apart() -> None:
    """Most runs have the dropout layer, so the label of the others says that they lack it."""
    layer = {"network.layers.hidden1.drop.p": 0.5}
    plain = {"tags.configuration.id": "a", "best/val/loss": 6.0}
    dropout = layer | {"tags.configuration.id": "b"}
    rows = [make_run(**plain), *(make_run(seed=s, run_id=str(s), **dropout) for s in (0, 1))]
    ranking = rank(make_table(rows))
    assert ranking["configuration_id"].tolist() == ["a", "b"]
    assert ranking["configuration"].tolist() == [
        "none · mlp 256×256 · no network.layers.hidden1.drop.p",
        "none · mlp 256×256",
    ]


def test_configurations_with_equal_settings_are_labelled_with_their_ids() -> None:
    rows = [
        make_run(seed=seed, **{"tags.configuration.id": id_}) for id_ in "ab" for seed in (0, 1)
    ]
    ranking = rank(make_table(rows))
    assert ranking["seeds"].tolist() == [2, 2]
    assert ranking["configuration"].tolist() == [
        "none · mlp 256×256 · configuration a",
        "none · mlp 256×256 · configuration b",
    ]


def test_runs_without_tags_are_told_apart_by_their_settings() -> None:
    runs = make_table(
        {
            "method": "l2",
            "regularization.l2": [0.1, 0.2, 0.1],
            "regularization.patience": [np.nan, np.nan, np.nan],
            "seed": [0, 0, 1],
        }
    )
    first, other, second_seed = runs["configuration_id"]
    assert first == second_seed != other
