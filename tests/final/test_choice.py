"""Which configuration is fitted again, and for how long."""

from __future__ import annotations

from pathlib import Path

import pytest

from bikefit import tracking
from bikefit.final.choice import choose
from stores import add, result, settings


def sweep() -> str:
    return tracking.start_sweep("full", "sweep", [])


def test_the_winner_and_the_network_that_overfits_most(workplace: Path) -> None:
    parent = sweep()
    for seed in (0, 1):
        add(parent, settings(0.3, seed, hidden=16), result(3.0, 4.0 + 0.1 * seed))
        add(parent, settings(0.0, seed, hidden=16), result(1.0, 6.0))
        add(parent, settings(0.0, seed, hidden=8), result(2.0, 5.0))
    choice, plain = choose(parent)
    assert choice.configuration == "dropout p=0.3 · mlp 16"
    assert choice.settings.regularization.dropout == 0.3
    assert choice.settings.network.hidden == (16,)
    assert (choice.epochs, len(choice.runs)) == (3, 2)
    assert "has the lowest validation loss" in choice.why
    assert "Epochs selected by its runs: 3, 3; it is fitted again for 3." in choice.why
    assert plain is not None and plain.configuration == "none · mlp 16"


def test_epochs_are_the_mean_of_what_the_seeds_selected(workplace: Path) -> None:
    parent = sweep()
    for seed, selected in enumerate((1, 2, 3, 3)):
        stopped = {"dropout": 0.3, "patience": 1, "averaged": 5}
        one = settings(seed=seed, regularization=stopped)
        add(parent, one, result(3.0, 4.0, selected=selected))
    choice, plain = choose(parent)
    assert choice.epochs == 2
    assert choice.settings.regularization.patience is None  # two epochs are two epochs
    assert choice.settings.regularization.averaged == 0
    assert plain is None  # every network was regularized


def test_one_standard_error_chooses_the_less_flexible(workplace: Path) -> None:
    parent = sweep()
    for seed, val in enumerate((4.0, 4.4)):
        add(parent, settings(0.1, seed), result(1.0, val))
        add(parent, settings(0.5, seed), result(3.0, val + 0.1))
    assert choose(parent)[0].configuration == "dropout p=0.1 · mlp 8"
    chosen, _ = choose(parent, one_standard_error=True)
    assert chosen.configuration == "dropout p=0.5 · mlp 8"
    assert "The one-standard-error rule chooses dropout p=0.5" in chosen.why


def test_a_sweep_without_results_has_no_winner(workplace: Path) -> None:
    parent = sweep()
    with pytest.raises(tracking.TrackingError, match="no run finished"):
        choose(parent)
    add(parent, settings(), result(1.0, 2.0, failure="training loss became nan in epoch 1"))
    with pytest.raises(tracking.TrackingError, match="no run finished"):
        choose(parent)
