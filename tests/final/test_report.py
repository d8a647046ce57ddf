"""The report of the test."""

from __future__ import annotations

import numpy as np
import pytest

from bikefit.final.report import WINNER, measure, table

TIME = np.arange("2012-01-01", "2012-02-01", dtype="datetime64[h]")


def report() -> dict:  # type: ignore[type-arg]
    draw = np.random.default_rng(0)
    target = draw.poisson(100, len(TIME)).astype(float)
    predicted = {"constant": np.full(len(TIME), 80.0), WINNER: np.full(len(TIME), 100.0)}
    return {
        "table": "full", "split": "days", "rows": len(TIME), "days": 31, "winner": "none · mlp 8",
        "epochs": 12, "seeds": 8, "interval": {"nominal": 0.9, "coverage": 0.9123},
        "models": measure(TIME, target, predicted),
    }  # fmt: skip


def test_every_model_says_how_far_the_winner_leads() -> None:
    models = report()["models"]
    gain = models["constant"]["deviance"] - models[WINNER]["deviance"]
    assert models["constant"]["lead_deviance"] == pytest.approx(gain)
    assert 0 < models["constant"]["lead_deviance_se"] < gain
    assert "lead_deviance" not in models[WINNER]


def test_the_table_names_rows_figures_and_coverage() -> None:
    text = table(report())
    assert text.startswith("744 test rows (31 days) of table full, split kind days")
    assert "none · mlp 8, the mean of 8 seeds, 12 epochs" in text
    assert "The 90% interval of `predict` holds 91.2% of the test rows." in text
    last = text.splitlines()[-1]
    figures = report()["models"][WINNER]
    assert last.startswith(f"| **our winner** | {figures['rmse']:.1f} [{figures['rmse_low']:.1f}, ")


def test_one_seed_is_no_mean() -> None:
    assert "none · mlp 8, one seed, 12 epochs" in table(report() | {"seeds": 1})
