"""The networks of a refit, and the weight of trees."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bikefit.errors import DataError
from bikefit.final import choose
from bikefit.final.choose import OUR_MODEL, UNREGULARIZED, WINNER, RefitPlan
from bikefit.final.interval import ResidualInterval
from bikefit.final.trees import FittedTrees, TunedTrees
from bikefit.tracking import writing
from bikefit.tracking.connection import TrackingError
from stores import add, result, settings

TIME = np.arange("2012-01-01", "2012-01-09", dtype="M8[h]")
RATE = 100 + 50 * np.sin(np.arange(len(TIME)))
PREDICTIONS = {"experiment": "full", "predictions": True, "weights": False}


@pytest.fixture
def sweep(workplace: Path) -> str:
    return writing.start_sweep("full", "sweep", [])


def add_run(sweep: str, val: float = 4.0, factor: float = 1.0, **values: Any) -> str:
    """Add a run whose predictions of the validation rows are a multiple of the truth."""
    of = {
        "predictions": (TIME, RATE.astype(np.float32), factor * RATE),
        **values.pop("outcome", {}),
    }
    outcome = result(values.pop("train", 1.0), val, **of)
    return add(sweep, settings(**{"tracking": PREDICTIONS, **values}), outcome)


def make_plan(sweep: str, average: bool = False, one_standard_error: bool = False) -> RefitPlan:
    return choose.plan_refit(sweep, average, one_standard_error)


def runs_of(plan: RefitPlan, model: str) -> list[str]:
    return plan.networks.loc[plan.networks[model], "run_id"].tolist()


def test_the_winner_and_the_unregularized_configuration_with_its_network(sweep: str) -> None:
    best = [add_run(sweep, 4.0 + 0.1 * seed, dropout=0.3, hidden=16, seed=seed) for seed in (0, 1)]
    plain = [add_run(sweep, 6.0, hidden=16, seed=seed) for seed in (0, 1)]
    add_run(sweep, 5.0, hidden=8)
    add_run(sweep, 5.5, hidden=16, training={"epochs": 60, "batch_size": 32})
    plan = make_plan(sweep)
    assert runs_of(plan, WINNER) == runs_of(plan, OUR_MODEL) == best
    assert runs_of(plan, UNREGULARIZED) == plain
    assert len(plan.networks) == 4
    assert [one.seed for one in plan.settings(OUR_MODEL)] == [0, 1]
    assert {one.regularization.dropout for one in plan.settings(OUR_MODEL)} == {0.3}
    assert {one.network.hidden for one in plan.settings(OUR_MODEL)} == {(16,)}
    assert "dropout p=0.3 · mlp 16 has the lowest validation loss" in plan.reason
    assert plan.describe(WINNER) == "the mean of 2 networks of dropout p=0.3 · mlp 16"


def test_the_refit_trains_for_the_mean_selected_epoch_without_stopping(sweep: str) -> None:
    stopped = {"dropout": 0.3, "patience": 1, "averaged": 5}
    for seed, selected in enumerate((1, 2, 3, 3)):
        add_run(sweep, seed=seed, regularization=stopped, outcome={"selected": selected})
    plan = make_plan(sweep)
    assert {one.training.epochs for one in plan.settings(OUR_MODEL)} == {2}
    assert {one.regularization.patience for one in plan.settings(OUR_MODEL)} == {None}
    assert {one.regularization.averaged for one in plan.settings(OUR_MODEL)} == {0}
    assert runs_of(plan, UNREGULARIZED) == []


@pytest.mark.parametrize(
    ("other", "averaged"),
    [(0.8, True), (2.0, False)],  # the winner's predictions are 1.1 times the truth
)
def test_the_best_network_of_each_other_regularization_is_added_if_that_helps(
    sweep: str, other: float, averaged: bool
) -> None:
    best = [add_run(sweep, 4.0, 1.1, dropout=0.3, seed=seed) for seed in (0, 1)]
    add_run(sweep, 4.2, 1.1, dropout=0.5)
    added = add_run(sweep, 5.0, other, hidden=16)
    add_run(sweep, 5.1, other)
    plan = make_plan(sweep, average=True)
    assert runs_of(plan, WINNER) == best
    assert runs_of(plan, OUR_MODEL) == ([*best, added] if averaged else best)
    assert "the best network of each of 1 other kinds" in plan.reason
    predicted = plan.predicted[plan.networks[OUR_MODEL]]
    factors = [1.1, 1.1, other] if averaged else [1.1, 1.1]
    assert predicted == pytest.approx(np.outer(factors, RATE))
    assert plan.target == pytest.approx(RATE)
    described = plan.describe(OUR_MODEL)
    assert ("the mean of 3 networks: the winner's and the best" in described) == averaged


def test_networks_of_other_tables_are_not_added(sweep: str) -> None:
    best = add_run(sweep, 4.0, dropout=0.3)
    add_run(sweep, 5.0, 0.9, data={"name": "rich"})
    assert runs_of(make_plan(sweep, average=True), OUR_MODEL) == [best]


def test_one_standard_error_chooses_the_least_flexible(sweep: str) -> None:
    for seed, val in enumerate((4.0, 4.4)):
        add_run(sweep, val, train=1.0, dropout=0.1, seed=seed)
        add_run(sweep, val + 0.1, train=3.0, dropout=0.5, seed=seed)
    assert {one.regularization.dropout for one in make_plan(sweep).settings(OUR_MODEL)} == {0.1}
    plan = make_plan(sweep, one_standard_error=True)
    assert {one.regularization.dropout for one in plan.settings(OUR_MODEL)} == {0.5}
    assert "The one-standard-error rule chooses dropout p=0.5" in plan.reason


def test_sweeps_without_results_or_predictions_are_refused(sweep: str) -> None:
    add_run(sweep, outcome={"failure": "training loss became nan in epoch 1"})
    with pytest.raises(TrackingError, match="no run finished"):
        make_plan(sweep)
    add_run(sweep, tracking=PREDICTIONS | {"predictions": False})
    with pytest.raises(TrackingError, match="train with tracking"):
        make_plan(sweep)


class FixedTrees(TunedTrees):
    """Trees that predict 0.6 times the truth."""

    def fit(self, hours: pd.DataFrame) -> FittedTrees:
        class Fitted(FittedTrees):
            def predict(self, hours: pd.DataFrame) -> np.ndarray:
                return 0.6 * hours["rentals"].to_numpy()

        return Fitted("", None, {})


def complete(sweep: str, rentals: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> RefitPlan:
    """The plan of a sweep with trees, whose validation rows have these rentals."""
    trees = FixedTrees(15, 7, "rentals", "poisson", {})
    monkeypatch.setattr(choose, "tune", lambda *_: trees)
    rows, table = pd.DataFrame({"rentals": rentals}), SimpleNamespace(target="rentals")
    parts = {"train": rows, "validation": rows}
    data: Any = SimpleNamespace(parts=parts, table=table, tree_columns=dict)
    return choose.complete_plan(make_plan(sweep), data, average=True)


@pytest.mark.parametrize(("factor", "share"), [(1.2, 0.35), (1.0, 0.0), (0.5, 1.0)])
def test_the_weight_of_trees_has_the_lowest_deviance(
    sweep: str, factor: float, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 2/3 × 1.2 + 1/3 × 0.6 is right; the weight is a multiple of 5 %.
    add_run(sweep, factor=factor)
    plan = complete(sweep, RATE, monkeypatch)
    assert plan.share == share
    assert isinstance(plan.interval, ResidualInterval)  # the made-up rentals are no counts


def test_trees_need_the_validation_rows_of_the_table(
    sweep: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_run(sweep)
    with pytest.raises(DataError, match="--average needs a sweep with validation=holdout"):
        complete(sweep, RATE + 1, monkeypatch)
