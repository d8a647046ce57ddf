"""The test: baselines, the models that are compared, and the table of the report."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bikefit.data.table import read_table
from bikefit.data.transformer import Transformer
from bikefit.final import evaluate, fit
from bikefit.final.interval import Interval
from bikefit.final.model import Ensemble
from bikefit.final.trees import TunedTrees

TIME = np.arange("2012-01-01", "2012-02-01", dtype="datetime64[h]")
RENTALS = np.random.default_rng(0).poisson(100, len(TIME)).astype(float)


def test_hourly_mean() -> None:
    hours = pd.DataFrame(
        {"working_day": [True, True, False, True], "hour": [8, 8, 8, 9], "rentals": [10, 20, 3, 7]}
    )
    test = pd.DataFrame({"working_day": [True, False, False], "hour": [8, 8, 9]})
    assert evaluate.hourly_mean(hours, test).tolist() == [15, 3, 10]  # the last is the mean


@pytest.mark.slow
def test_baselines_get_better_and_do_not_read_the_rentals_of_test_rows(workplace: Path) -> None:
    parts = fit.read_parts(read_table(Path("data/features/full")))
    features = Transformer.load(Path("data/features/full/transformer.json")).features
    trees = {"trees": TunedTrees(("hour", "working_day"), leaves=15, count=40)}
    predicted = evaluate.predict_baselines(parts, features, trees)
    target = parts["test"]["rentals"]
    errors = {
        name: float(np.sqrt(((values - target) ** 2).mean())) for name, values in predicted.items()
    }
    constant, hourly, linear, boosted = errors.values()
    assert linear < hourly < constant and boosted < constant
    other = parts | {"test": parts["test"].assign(rentals=10**6)}
    for name, values in evaluate.predict_baselines(other, features, trees).items():
        assert np.array_equal(values, predicted[name]), name


class Constant(Ensemble):
    """Members that predict constants."""

    def members(self, hours: pd.DataFrame) -> np.ndarray:
        trees = [] if self.trees is None else [50.0]
        return np.array([100.0, 110.0, *trees])[:, None] * np.ones(len(hours))


def fitted(weight: float, configuration: str = "l2 · mlp 8", networks: int = 2) -> tuple[Any, Any]:
    """A plan for networks with equal weights and trees, and two networks and trees."""
    ensemble = Constant(None, [], [1.0, 1.0])  # type: ignore[arg-type]
    training = SimpleNamespace(epochs=4)
    plan: Any = SimpleNamespace(
        configuration=configuration,
        members=[SimpleNamespace(training=training)] * networks,
        reason="It is the winner.",
        trees="trees" if weight else None,
        trees_weight=weight,
    )
    return plan, ensemble.with_trees("trees", weight) if weight else ensemble  # type: ignore[arg-type]


def run_test(fitted: dict[str, tuple[Any, Any]]) -> dict[str, Any]:
    table: Any = SimpleNamespace(name="full", split_kind="days", data_version="v")
    test = pd.DataFrame({"timestamp": TIME, "rentals": RENTALS})
    baselines = {"constant": np.full(len(TIME), 80.0)}
    interval = Interval(0.05, 2.0, 0.05, 0.95)
    plans, ensembles = ({name: pair[i] for name, pair in fitted.items()} for i in (0, 1))
    return evaluate.evaluate(plans, ensembles, baselines, interval, test, table).report


def test_every_model_is_measured_against_ours() -> None:
    plans = {
        evaluate.DELIVERED: fitted(0.1, "ensemble of 2 networks"),
        evaluate.WINNER: fitted(0.0),
        evaluate.UNREGULARIZED: fitted(0.0, "none · mlp 8"),
    }
    report = run_test(plans)
    models = report["models"]
    names = [evaluate.DELIVERED, evaluate.WINNER, evaluate.UNREGULARIZED, evaluate.NETWORKS]
    assert list(models) == ["constant", *names]
    assert models["our networks alone"] == models["the comparison's winner"]
    lead = models["constant"]["deviance"] - models["our model"]["deviance"]
    assert models["constant"]["lead_deviance"] == pytest.approx(lead)
    assert 0 < models["constant"]["lead_deviance_se"] < lead
    assert "lead_deviance" not in models["our model"]
    text = evaluate.report_table(report)
    assert text.startswith("744 test rows (31 days) of table full (split: days);")
    assert "Our model is an ensemble of 2 networks and boosted trees (weight 10%). " in text
    assert "The comparison's winner is the mean of 2 networks of l2 · mlp 8. " in text
    assert f"contains {report['interval']['coverage']:.1%} of the test rows." in text
    first, *_, last = text.splitlines()[4:]
    ours = models["our model"]
    assert first.startswith(f"| **our model** | {ours['rmse']:.1f} [{ours['rmse_low']:.1f}, ")
    assert last.startswith("| constant | ")
    assert last.endswith(f" | {lead:.2f} ± {models['constant']['lead_deviance_se']:.2f} |")


def test_networks_alone_are_measured_if_trees_have_the_whole_weight() -> None:
    models = run_test({evaluate.DELIVERED: fitted(1.0)})["models"]
    alone = run_test({evaluate.DELIVERED: fitted(0.0)})["models"]
    assert models["our networks alone"]["rmse"] == alone["our model"]["rmse"] > 0
    assert models["our model"]["rmse"] == pytest.approx(np.sqrt(((RENTALS - 50) ** 2).mean()))


@pytest.mark.parametrize(
    ("networks", "description"), [(2, "the mean of 2 networks of l2 · mlp 8"), (1, "l2 · mlp 8")]
)
def test_the_paragraph_names_only_rows_of_the_table(networks: int, description: str) -> None:
    """Without a selection, the winner is our model and has no row of its own."""
    plans = {evaluate.DELIVERED: fitted(0.0, networks=networks)}
    text = evaluate.report_table(run_test(plans))
    assert f"Our model is {description}. All values" in text
    assert "winner" not in text and "unregularized" not in text
