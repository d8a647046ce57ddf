"""The report of the test."""

from __future__ import annotations

import numpy as np
import pytest

from bikefit.final.report import DELIVERED, measure, table

TIME = np.arange("2012-01-01", "2012-02-01", dtype="datetime64[h]")


def report() -> dict:  # type: ignore[type-arg]
    draw = np.random.default_rng(0)
    target = draw.poisson(100, len(TIME)).astype(float)
    predicted = {"constant": np.full(len(TIME), 80.0), DELIVERED: np.full(len(TIME), 100.0)}
    return {
        "table": "full", "split": "days", "rows": len(TIME), "days": 31, "winner": "l2 · mlp 8",
        "unregularized": "none · mlp 8", "seeds": 4, "networks": 8, "share_of_trees": 0.3,
        "delivered": "ensemble of 8 networks",
        "interval": {"nominal": 0.9, "coverage": 0.9123},
        "models": measure(TIME, target, predicted),
    }  # fmt: skip


def test_every_model_says_how_far_the_winner_leads() -> None:
    models = report()["models"]
    gain = models["constant"]["deviance"] - models[DELIVERED]["deviance"]
    assert models["constant"]["lead_deviance"] == pytest.approx(gain)
    assert 0 < models["constant"]["lead_deviance_se"] < gain
    assert "lead_deviance" not in models[DELIVERED]


def test_the_table_names_rows_figures_and_coverage() -> None:
    text = table(report())
    assert text.startswith("744 test rows (31 days) of table full, split kind days")
    assert (
        "Our model is the mean of 8 networks and, for 30%, of boosted trees (ensemble of 8 "
        "networks)" in text
    )
    assert (
        "; the comparison's winner is the mean of 4 networks of l2 · mlp 8; "
        "our unregularized network is the mean of 4 networks of none · mlp 8. " in text
    )
    assert "unregularized" not in table(report() | {"unregularized": None})
    assert "The 90% interval of `predict` holds 91.2% of the test rows." in text
    *_, first, last = text.splitlines()
    figures = report()["models"][DELIVERED]
    assert first.startswith(f"| **our model** | {figures['rmse']:.1f} [{figures['rmse_low']:.1f}, ")
    assert last.startswith("| constant |")


def test_one_network_is_no_mean() -> None:
    assert "Our model is one network (" in table(report() | {"networks": 1, "share_of_trees": 0.0})
