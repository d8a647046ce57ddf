"""Baselines, scores of all models, and the table of the report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bikefit.final import choose, evaluate
from bikefit.final.data import read_data
from bikefit.final.interval import CountInterval
from bikefit.final.model import Ensemble
from bikefit.final.trees import TunedTrees

RunTest = Callable[..., tuple[dict[str, Any], pd.DataFrame]]

TIME = np.arange("2012-01-01", "2012-02-01", dtype="datetime64[h]")
RENTALS = np.random.default_rng(0).poisson(100, len(TIME)).astype(float)


@pytest.mark.slow
def test_baselines_get_better_and_do_not_read_the_rentals_of_test_rows(workplace: Path) -> None:
    data = read_data(Path("data/features/full"))
    trees = TunedTrees(15, 40, "rentals", "poisson", data.tree_columns())
    plan = make_plan({choose.WINNER: [0]}, trees=trees)
    predicted, test = evaluate.predict_baselines(plan, data), data.parts["test"]
    errors = [np.sqrt(((one - test["rentals"]) ** 2).mean()) for one in predicted.values()]
    constant, hourly, linear, boosted = errors
    assert linear < hourly < constant and boosted < constant
    other = replace(data, parts={**data.parts, "test": test.assign(rentals=10**6)})
    for name, one in evaluate.predict_baselines(plan, other).items():
        assert np.array_equal(one, predicted[name]), name


def make_plan(models: dict[str, list[int]], **values: Any) -> choose.RefitPlan:
    """A plan of averages of three networks, of which the last is not regularized."""
    names = ["l2 · mlp 8", "l2 · mlp 8", "none · mlp 8"]
    networks = pd.DataFrame({"configuration": names, "configuration_id": names})
    networks["settings"] = [SimpleNamespace(loss="poisson")] * 3
    for name in (choose.OUR_MODEL, choose.WINNER, choose.UNREGULARIZED):
        networks[name] = networks.index.isin(models.get(name, []))
    empty = np.array([])
    return choose.RefitPlan("s", networks, "It is the winner.", empty, empty, **values)


class Constant(Ensemble):
    """Three networks that predict constants."""

    def predict_each(self, hours: pd.DataFrame) -> np.ndarray:
        return np.array([100.0, 110.0, 60.0])[:, None] * np.ones(len(hours))


@pytest.fixture
def run_test(monkeypatch: pytest.MonkeyPatch) -> RunTest:
    """A function that evaluates averages of the three networks, and trees with a weight."""
    baselines = {"constant": np.full(len(TIME), 80.0), "LightGBM": np.full(len(TIME), 50.0)}
    monkeypatch.setattr(evaluate, "predict_baselines", lambda plan, data: dict(baselines))
    table = SimpleNamespace(name="full", split_kind="days", data_version="v", target="rentals")
    table.unit, table.time = "bikes/hour", True
    test = pd.DataFrame({"timestamp": TIME, "rentals": RENTALS})
    data: Any = SimpleNamespace(table=table, parts={"test": test})
    fitted: Any = Constant(None, [])  # type: ignore[arg-type]
    interval = CountInterval(0.05, 2.0, 0.05, 0.95)

    def run(models: dict[str, list[int]], share: float = 0.0) -> tuple[dict[str, Any], Any]:
        return evaluate.evaluate_models(
            make_plan(models, share=share, interval=interval), data, fitted
        )

    return run


def test_the_lead_of_our_model_is_measured_over_every_model(run_test: RunTest) -> None:
    ours = {
        choose.OUR_MODEL: [0, 1, 2],
        choose.WINNER: [0, 1],
        choose.UNREGULARIZED: [2],
    }
    report, rows = run_test(ours, share=0.1)
    models = report["models"]
    predicted = rows[[*models, "predicted"]].iloc[0].to_dict()
    assert predicted == pytest.approx(
        {
            "constant": 80,
            "LightGBM": 50,
            "our model": 86,
            "our networks alone": 90,
            "the comparison's winner": 105,
            "our unregularized network": 60,
            "predicted": 86,
        }
    )
    lead = models["constant"]["deviance"] - models["our model"]["deviance"]
    assert models["constant"]["lead_deviance"] == pytest.approx(lead)
    assert 0 < models["constant"]["lead_deviance_se"] < abs(lead)
    assert "lead_deviance" not in models["our model"]
    text = evaluate.report_table(report)
    assert text.startswith("744 test rows (31 days) of table full (split: days);")
    assert "Our model is the mean of 3 networks: the winner's and the best" in text
    assert ", and boosted trees (weight 10%). " in text
    assert "The comparison's winner is the mean of 2 networks of l2 · mlp 8. " in text
    assert "Our unregularized network is none · mlp 8. " in text
    assert f"contains {report['interval_coverage']:.1%} of the test rows." in text
    first, *_, last = text.splitlines()[4:]
    figures = models["our model"]
    assert first.startswith(f"| **our model** | {figures['rmse']:.1f} [{figures['rmse_low']:.1f}, ")
    gain = models["LightGBM"]["lead_deviance"], models["LightGBM"]["lead_deviance_se"]
    assert last.startswith("| LightGBM | ") and last.endswith(f" | {gain[0]:.2f} ± {gain[1]:.2f} |")


def test_a_model_that_equals_ours_has_no_row(run_test: RunTest) -> None:
    winner = {choose.OUR_MODEL: [0, 1], choose.WINNER: [0, 1]}
    report, _ = run_test(winner)
    assert set(report["models"]) == {"constant", "LightGBM", "our model"}
    text = evaluate.report_table(report)
    assert "Our model is the mean of 2 networks of l2 · mlp 8. All values" in text
    assert "winner" not in text and "unregularized" not in text
