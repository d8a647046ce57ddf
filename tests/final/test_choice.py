"""Which configuration is fitted again, and for how long."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bikefit.final.choice import choose, held_out, mix, select
from bikefit.final.trees import SAME, TunedTrees
from bikefit.tracking import writing
from bikefit.tracking.connection import TrackingError
from stores import add, result, settings


def sweep() -> str:
    return writing.start_sweep("full", "sweep", [])


@pytest.mark.slow
def test_the_winner_and_the_network_that_overfits_most(workplace: Path) -> None:
    parent = sweep()
    for seed in (0, 1):
        add(parent, settings(0.3, seed, hidden=16), result(3.0, 4.0 + 0.1 * seed))
        add(parent, settings(0.0, seed, hidden=16), result(1.0, 6.0))
        add(parent, settings(0.0, seed, hidden=8), result(2.0, 5.0))
    choice, plain = choose(parent, seeds=4)
    assert choice.configuration == "dropout p=0.3 · mlp 16"
    assert [m.seed for m in choice.members] == [0, 1, 2, 3]
    assert choice.weights == (1, 1, 1, 1)
    assert {m.regularization.dropout for m in choice.members} == {0.3}
    assert {m.network.hidden for m in choice.members} == {(16,)}
    assert (choice.epochs, len(choice.runs)) == ((3,), 2)
    assert "has the lowest validation loss" in choice.why
    assert "Epochs selected by its runs: 3, 3; it is fitted again for 3." in choice.why
    assert plain is not None and plain.configuration == "none · mlp 16"


def test_the_winners_network_stands_for_no_regularization(workplace: Path) -> None:
    parent, longer = sweep(), {"epochs": 60, "batch_size": 32}
    add(parent, settings(0.3, hidden=16), result(3.0, 4.0))
    add(parent, settings(hidden=16), result(2.0, 5.0))
    add(parent, settings(hidden=32), result(1.0, 6.0))
    add(parent, settings(hidden=16, training=longer), result(0.5, 9.0))
    _, plain = choose(parent, seeds=1)
    assert plain is not None and plain.configuration == "none · mlp 16"


@pytest.mark.slow
def test_the_runs_of_a_configuration_are_those_that_the_ranking_means(workplace: Path) -> None:
    """Names say what is not as in most runs, and runs on fewer rows change what most have."""
    parent = sweep()
    slow, quick = ({"name": "adam", "lr": lr} for lr in (0.001, 0.01))
    for seed in (0, 1):
        best = add(parent, settings(seed=seed, optimizer=slow), result(2.0, 3.0))
        add(parent, settings(0.3, seed, optimizer=slow), result(2.0, 3.2))
        add(parent, settings(seed=seed, optimizer=quick), result(2.0, 3.6))
        for fraction in (0.2, 0.5):
            less = {"name": "full", "fraction": fraction}
            add(parent, settings(seed=seed, optimizer=quick, data=less), result(2.0, 4.0))
    choice, _ = choose(parent, seeds=1)
    assert len(choice.runs) == 2 and best in choice.runs
    assert [member.optimizer.lr for member in choice.members] == [0.001]


def test_epochs_are_the_mean_of_what_the_seeds_selected(workplace: Path) -> None:
    parent = sweep()
    for seed, selected in enumerate((1, 2, 3, 3)):
        stopped = {"dropout": 0.3, "patience": 1, "averaged": 5}
        one = settings(seed=seed, regularization=stopped)
        add(parent, one, result(3.0, 4.0, selected=selected))
    choice, plain = choose(parent, seeds=1)
    assert choice.epochs == (2,)
    (member,) = choice.members
    assert member.regularization.patience is None  # two epochs are two epochs
    assert member.regularization.averaged == 0
    assert plain is None  # every network was regularized


@pytest.mark.slow
def test_one_standard_error_chooses_the_less_flexible(workplace: Path) -> None:
    parent = sweep()
    for seed, val in enumerate((4.0, 4.4)):
        add(parent, settings(0.1, seed), result(1.0, val))
        add(parent, settings(0.5, seed), result(3.0, val + 0.1))
    assert choose(parent, 1)[0].configuration == "dropout p=0.1 · mlp 8"
    chosen, _ = choose(parent, 1, one_standard_error=True)
    assert chosen.configuration == "dropout p=0.5 · mlp 8"
    assert "The one-standard-error rule chooses dropout p=0.5" in chosen.why


def test_a_sweep_without_results_has_no_winner(workplace: Path) -> None:
    parent = sweep()
    with pytest.raises(TrackingError, match="no run finished"):
        choose(parent, 1)
    add(parent, settings(), result(1.0, 2.0, failure="training loss became nan in epoch 1"))
    with pytest.raises(TrackingError, match="no run finished"):
        choose(parent, 1)


TIME = np.arange("2012-01-01", "2012-01-09", dtype="M8[h]")
RATE = 100 + 50 * np.sin(np.arange(len(TIME)))
KEPT = {"experiment": "full", "predictions": True, "weights": False}


def predicting(parent: str, val: float, factor: np.ndarray | float, **more: object) -> str:
    """A run that predicts a multiple of the truth."""
    given = settings(**{"tracking": KEPT, **more})  # type: ignore[arg-type]
    return add(parent, given, result(1.0, val, predictions=(TIME, RATE, factor * RATE)))


def test_networks_of_other_configurations_are_taken_where_that_helps(workplace: Path) -> None:
    parent = sweep()
    predicting(parent, 4.0, 1.2, dropout=0.3, seed=0)
    predicting(parent, 4.2, 1.3, dropout=0.3, seed=1)
    low = predicting(parent, 5.0, 0.9, hidden=16, seed=5)
    winner, _ = choose(parent, seeds=8)
    choice, held = select(winner, steps=3)
    # (1.2 + 2 × 0.9) / 3 is right
    assert choice.configuration == "ensemble of 2 networks"
    assert [(m.seed, m.regularization.dropout) for m in choice.members] == [(0, 0.3), (5, 0)]
    assert choice.weights == (1, 2)
    assert choice.runs[1] == low
    assert (
        "so 2 networks of 2 configurations are averaged: 2 × none · mlp 16, 1 × dropout p=0.3 · "
        "mlp 8." in choice.why
    )
    assert "on days that the selection has not seen, the mean Poisson deviance is" in choice.why
    assert held.mean == pytest.approx(RATE)
    assert held.target == pytest.approx(RATE)


def test_the_winner_stays_where_the_selection_is_no_better(workplace: Path) -> None:
    parent = sweep()
    even = np.where(np.arange(len(TIME)) // 24 % 2, 1.3, 0.7)
    predicting(parent, 4.0, 1.01, dropout=0.3, seed=0)
    predicting(parent, 4.2, 0.99, dropout=0.3, seed=1)
    predicting(parent, 5.0, even, hidden=16)
    winner, _ = choose(parent, seeds=8)
    choice, held = select(winner, steps=1)  # one network alone, against the mean of two
    assert choice.members == winner.members
    assert choice.why.endswith("so the winner's seeds are averaged.")
    assert "higher than that of the winner" in choice.why
    assert held.mean == pytest.approx(held_out(winner).mean)
    assert held.mean == pytest.approx(RATE)


def test_what_cannot_be_selected_from_is_refused(workplace: Path) -> None:
    parent = sweep()
    predicting(parent, 4.0, 1.2)
    alone, _ = choose(parent, 1)
    with pytest.raises(TrackingError, match="has a single run: there is nothing to"):
        select(alone, 25)
    add(parent, settings(seed=1), result(1.0, 4.0))
    with pytest.raises(TrackingError, match=r"train with tracking.predictions=true"):
        select(alone, 25)


def test_networks_of_several_tables_are_refused(workplace: Path) -> None:
    parent = sweep()
    predicting(parent, 4.0, 1.2)
    predicting(parent, 4.0, 1.1, data={"name": "rich"})
    with pytest.raises(TrackingError, match=r"several tables \(full, rich\): networks"):
        select(choose(parent, 1)[0], 25)


def test_runs_on_other_rows_are_refused(workplace: Path) -> None:
    parent = sweep()
    predicting(parent, 4.0, 1.2)
    other = (TIME + 1, RATE, RATE)
    add(parent, settings(seed=1, tracking=KEPT), result(1.0, 4.0, predictions=other))
    with pytest.raises(TrackingError, match="was validated on other rows"):
        select(choose(parent, 1)[0], 25)


def test_a_single_day_cannot_judge(workplace: Path) -> None:
    parent = sweep()
    for seed in (0, 1):
        day = (TIME[:24], RATE[:24], RATE[:24])
        add(parent, settings(seed=seed, tracking=KEPT), result(1.0, 4.0, predictions=day))
    with pytest.raises(TrackingError, match="validated on 2012-01-01 alone"):
        select(choose(parent, 1)[0], 25)


TREES = TunedTrees(SAME, leaves=15, count=7)


def test_trees_are_mixed_in_where_that_helps(workplace: Path) -> None:
    parent = sweep()
    for seed, factor in enumerate((1.3, 1.1)):
        predicting(parent, 4.0, factor, seed=seed)
    winner, _ = choose(parent, seeds=2)
    choice, held = mix(winner, held_out(winner), TREES, 0.6 * RATE)
    # 2/3 × 1.2 + 1/3 × 0.6 is right, in steps of a twentieth
    assert choice.share == pytest.approx(1 / 3, abs=0.025)
    assert choice.trees is not None and choice.members == winner.members
    assert choice.why.endswith(f"so they count {choice.share:.0%}.")
    assert held.weights == pytest.approx([(1 - choice.share) / 2] * 2 + [choice.share])
    assert held.mean == pytest.approx(RATE, rel=0.02)
    assert held.members[-1] == pytest.approx(0.6 * RATE)


def test_trees_that_do_not_help_are_left_out(workplace: Path) -> None:
    parent = sweep()
    predicting(parent, 4.0, 1.0)
    winner, _ = choose(parent, seeds=2)
    before = held_out(winner)
    choice, held = mix(winner, before, TREES, 2 * RATE)
    assert (choice.trees, choice.share) == (None, 0)
    assert choice.why.endswith("so they are not.")
    assert held is before
