"""Plans: the winner, selected networks, and boosted trees, each used only if it is better."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bikefit.errors import DataError
from bikefit.final.choose import (
    RefitPlan,
    add_trees,
    choose,
    evaluate_selection,
    select_ensemble,
    select_greedily,
)
from bikefit.final.trees import SAME, FittedTrees, TunedTrees
from bikefit.tracking import writing
from bikefit.tracking.connection import TrackingError
from stores import add, result, settings

TIME = np.arange("2012-01-01", "2012-01-09", dtype="M8[h]")
RATE = 100 + 50 * np.sin(np.arange(len(TIME)))
PREDICTIONS = {"experiment": "full", "predictions": True, "weights": False}


@pytest.fixture
def sweep(workplace: Path) -> str:
    return writing.start_sweep("full", "sweep", [])


def add_run(sweep: str, val: float = 4.0, factor: Any = 1.0, **values: Any) -> str:
    """Add a run whose predictions of the validation rows are a multiple of the truth."""
    of = {"predictions": (TIME, RATE, factor * RATE), **values.pop("outcome", {})}
    outcome = result(values.pop("train", 1.0), val, **of)
    return add(sweep, settings(**{"tracking": PREDICTIONS, **values}), outcome)


def test_the_winner_and_the_unregularized_configuration_with_its_network(sweep: str) -> None:
    longer = {"epochs": 60, "batch_size": 32}
    for seed in (0, 1):
        add_run(sweep, 4.0 + 0.1 * seed, dropout=0.3, hidden=16, seed=seed)
        add_run(sweep, 6.0, hidden=16, seed=seed)
    add_run(sweep, 5.0, train=0.1, hidden=8)
    add_run(sweep, 9.0, train=0.5, hidden=16, training=longer)
    plan, plain = choose(sweep, seeds=4)
    assert plan.configuration == "dropout p=0.3 · mlp 16"
    assert [member.seed for member in plan.members] == [0, 1, 2, 3]
    assert plan.weights == (1, 1, 1, 1)
    assert {member.regularization.dropout for member in plan.members} == {0.3}
    assert {member.network.hidden for member in plan.members} == {(16,)}
    assert len(plan.runs) == 2
    assert "has the lowest validation loss" in plan.reason
    assert plan.reason.endswith("Its runs selected the epochs 3, 3; the refit trains for 3.")
    assert plain is not None and plain.configuration == "none · mlp 16"


@pytest.mark.slow
def test_runs_on_fewer_rows_do_not_change_the_runs_of_the_winner(sweep: str) -> None:
    """They change which settings most runs have, and so the names of configurations."""
    slow, quick = ({"name": "adam", "lr": lr} for lr in (0.001, 0.01))
    for seed in (0, 1):
        best = add_run(sweep, 3.0, seed=seed, optimizer=slow)
        add_run(sweep, 3.2, dropout=0.3, seed=seed, optimizer=slow)
        add_run(sweep, 3.6, seed=seed, optimizer=quick)
        for fraction in (0.2, 0.5):
            less = {"name": "full", "fraction": fraction}
            add_run(sweep, 4.0, seed=seed, optimizer=quick, data=less)
    plan, _ = choose(sweep, seeds=1)
    assert len(plan.runs) == 2 and best in plan.runs
    assert [member.optimizer.lr for member in plan.members] == [0.001]


def test_the_refit_trains_for_the_mean_selected_epoch_without_stopping(sweep: str) -> None:
    stopped = {"dropout": 0.3, "patience": 1, "averaged": 5}
    for seed, selected in enumerate((1, 2, 3, 3)):
        add_run(sweep, seed=seed, regularization=stopped, outcome={"selected": selected})
    plan, plain = choose(sweep, seeds=1)
    (member,) = plan.members
    assert member.training.epochs == 2
    assert member.regularization.patience is None
    assert member.regularization.averaged == 0
    assert plain is None  # every network was regularized


@pytest.mark.slow
def test_one_standard_error_chooses_the_least_flexible(sweep: str) -> None:
    for seed, val in enumerate((4.0, 4.4)):
        add_run(sweep, val, train=1.0, dropout=0.1, seed=seed)
        add_run(sweep, val + 0.1, train=3.0, dropout=0.5, seed=seed)
    assert choose(sweep, 1)[0].configuration == "dropout p=0.1 · mlp 8"
    plan, _ = choose(sweep, 1, one_standard_error=True)
    assert plan.configuration == "dropout p=0.5 · mlp 8"
    assert "The one-standard-error rule chooses dropout p=0.5" in plan.reason


def test_a_sweep_without_results_has_no_winner(sweep: str) -> None:
    with pytest.raises(TrackingError, match="no run finished"):
        choose(sweep, 1)
    add_run(sweep, outcome={"failure": "training loss became nan in epoch 1"})
    with pytest.raises(TrackingError, match="no run finished"):
        choose(sweep, 1)


def test_networks_of_other_configurations_are_selected_if_they_help(sweep: str) -> None:
    add_run(sweep, 4.0, 1.2, dropout=0.3, seed=0)
    add_run(sweep, 4.2, 1.3, dropout=0.3, seed=1)
    low = add_run(sweep, 5.0, 0.9, hidden=16, seed=5)
    plan = select_ensemble(choose(sweep, seeds=8)[0], steps=3)
    # (1.2 + 2 × 0.9) / 3 is right
    assert plan.configuration == "ensemble of 2 networks"
    assert [(m.seed, m.regularization.dropout) for m in plan.members] == [(0, 0.3), (5, 0)]
    assert plan.weights == (1, 2)
    assert plan.runs[1] == low
    averaged = "2 networks of 2 configurations are averaged: 2 × none · mlp 16, 1 × dropout p=0.3"
    assert averaged in plan.reason
    assert plan.held_out.mean == pytest.approx(RATE)
    assert plan.held_out.target == pytest.approx(RATE)
    assert plan.held_out.members == pytest.approx(np.stack([1.2 * RATE, 0.9 * RATE]))


def test_the_winner_stays_if_the_selection_is_not_better(sweep: str) -> None:
    even = np.where(np.arange(len(TIME)) // 24 % 2, 1.3, 0.7)
    add_run(sweep, 4.0, 1.01, dropout=0.3, seed=0)
    add_run(sweep, 4.2, 0.99, dropout=0.3, seed=1)
    add_run(sweep, 5.0, even, hidden=16)
    winner, _ = choose(sweep, seeds=8)
    plan = select_ensemble(winner, steps=1)  # a single network, against the mean of two
    assert plan.members == winner.members
    assert plan.reason.endswith("so the seeds of the winner are averaged.")
    assert "higher than that of the winner" in plan.reason
    assert plan.held_out is winner.held_out
    assert plan.held_out.mean == pytest.approx(RATE)


WITHOUT = {"experiment": "full", "predictions": False, "weights": False}


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"seed": 1, "tracking": WITHOUT}, "train with tracking.predictions=true"),
        ({"seed": 1, "data": {"name": "rich"}}, r"several tables \(full, rich\)"),
        ({"outcome": {"predictions": (TIME + 1, RATE, RATE)}}, "different validation rows"),
    ],
)
def test_runs_that_cannot_be_averaged(sweep: str, second: dict[str, Any], message: str) -> None:
    add_run(sweep)
    plan, _ = choose(sweep, 1)
    with pytest.raises(TrackingError, match=r"has a single run: refit without --ensemble"):
        select_ensemble(plan, 25)
    add_run(sweep, **second)
    with pytest.raises(TrackingError, match=message):
        select_ensemble(plan, 25)


class FixedTrees(TunedTrees):
    """Trees that predict 0.6 times the truth."""

    def fit(self, hours: pd.DataFrame) -> FittedTrees:
        class Fitted(FittedTrees):
            def predict(self, hours: pd.DataFrame) -> np.ndarray:
                return 0.6 * hours["rentals"].to_numpy()

        return Fitted("", (), "")


def with_trees(plan: RefitPlan) -> RefitPlan:
    validation = pd.DataFrame({"rentals": RATE})
    return add_trees(plan, FixedTrees(SAME, 15, 7), {"train": validation, "validation": validation})


def test_trees_are_added_if_they_help(sweep: str) -> None:
    for seed, factor in enumerate((1.3, 1.1)):
        add_run(sweep, factor=factor, seed=seed)
    winner, _ = choose(sweep, seeds=2)
    plan = with_trees(winner)
    # 2/3 × 1.2 + 1/3 × 0.6 is right; the weight is a multiple of 1/20
    assert plan.trees_weight == pytest.approx(1 / 3, abs=0.025)
    assert plan.trees is not None and plan.members == winner.members
    assert plan.reason.endswith(f"so trees have a weight of {plan.trees_weight:.0%}.")
    networks = (1 - plan.trees_weight) / 2
    assert plan.held_out.weights == pytest.approx([networks, networks, plan.trees_weight])
    assert plan.held_out.mean == pytest.approx(RATE, rel=0.02)
    assert plan.held_out.members[-1] == pytest.approx(0.6 * RATE)


def test_trees_that_do_not_help_are_not_added(sweep: str) -> None:
    add_run(sweep)
    winner, _ = choose(sweep, seeds=2)
    plan = with_trees(winner)
    assert (plan.trees, plan.trees_weight) == (None, 0)
    assert plan.held_out is winner.held_out


@pytest.mark.parametrize(
    ("predictions", "error", "message"),
    [
        ((TIME, RATE + 1, RATE), DataError, "--trees needs a sweep with validation=holdout"),
        ((TIME[:24], RATE[:24], RATE[:24]), TrackingError, "validation rows are of 2012-01-01"),
    ],
)
def test_predictions_that_select_nothing_are_refused(
    sweep: str, predictions: Any, error: type[Exception], message: str
) -> None:
    add_run(sweep, outcome={"predictions": predictions})
    with pytest.raises(error, match=message):
        with_trees(choose(sweep, seeds=2)[0])


DAYS = np.repeat(np.arange("2012-01-01", "2012-01-05", dtype="M8[D]"), 2)


def deviance(target: float, predicted: float) -> float:
    return 2 * (target * np.log(target / predicted) - target + predicted)


@pytest.mark.parametrize(
    ("predicted", "target", "steps", "counts"),
    [
        # 3 is nearer to 5 than 9 is (deviance 1.1 against 2.1), (3 + 9) / 2 = 6 than 3 (0.2), and
        # (3 + 9 + 3) / 3 is 5 itself.
        ([[3, 3], [9, 9]], [5, 5], 2, [1, 1]),
        ([[3, 3], [9, 9]], [5, 5], 3, [2, 1]),
        # Ties go to the first network. The mean of the first two is right.
        ([[2, 6], [6, 2], [2, 6]], [4, 4], 3, [2, 1, 0]),
        # Networks that are better together replace the best one.
        ([[5, 5], [1.5, 6.5], [6.5, 1.5]], [4, 4], 25, [3, 11, 11]),
    ],
)
def test_greedy_selection(
    predicted: list[list[float]], target: list[float], steps: int, counts: list[int]
) -> None:
    selected = select_greedily(np.array(predicted, float), np.array(target, float), steps)
    assert selected.tolist() == counts


def test_the_lead_over_the_reference() -> None:
    target = np.full(8, 10.0)
    predicted = np.array([np.full(8, 12.0), np.full(8, 10.0)])
    score = evaluate_selection(predicted, target, DAYS, np.array([1.0, 0.0]), steps=5)
    assert score.lead == pytest.approx(deviance(10, 12))
    assert score.error == pytest.approx(0)  # every day gives the same lead
    assert score.mean.tolist() == target.tolist()


def test_a_network_that_is_good_on_the_selecting_days_only_has_no_lead() -> None:
    # Each of two networks is right on one of two days.
    target = np.full(2, 10.0)
    days = np.array(["2012-01-01", "2012-01-02"], "M8[D]")
    predicted = np.array([[10.0, 20.0], [20.0, 10.0]])
    score = evaluate_selection(predicted, target, days, np.ones(2), steps=1)
    assert score.mean.tolist() == [20, 20]
    assert score.lead == pytest.approx(deviance(10, 15) - deviance(10, 20))
    assert score.lead < 0


def test_the_score_is_repeatable_and_its_error_includes_shared_days() -> None:
    random = np.random.default_rng(0)
    target = random.poisson(50, 8).astype(float)
    predicted = 50 * np.exp(0.2 * random.standard_normal((6, 8)))
    first, second = (
        evaluate_selection(predicted, target, DAYS, np.ones(6), steps=3) for _ in range(2)
    )
    assert (first.lead, first.error) == (second.lead, second.error)
    assert first.error == pytest.approx(1.003, abs=1e-3)
