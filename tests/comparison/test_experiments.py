"""Runs that another program recorded become a run table."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest

from bikefit.comparison.experiments import ExperimentError, Metrics, experiment_table

LOSSES = Metrics("train", "val")


def frame(*rows: dict[str, Any], status: str = "FINISHED") -> pd.DataFrame:
    """Return runs as `reading.read_experiment` does; losses are 1 and 2 unless given."""
    common = {"experiment_id": "7", "status": status, "metrics.train": 1.0, "metrics.val": 2.0}
    return pd.DataFrame(
        [common | {"run_id": str(i), "name": f"run {i}"} | row for i, row in enumerate(rows)]
    )


def table(*rows: dict[str, Any], metrics: Metrics = LOSSES) -> pd.DataFrame:
    found, left_out = experiment_table(frame(*rows), "mine", metrics)
    assert not left_out
    return found


def test_parameters_that_differ_make_configurations() -> None:
    depths = [{"params.depth": depth, "params.loss": "mse"} for depth in ("3", "1", "3")]
    found = table(*depths)
    assert found["configuration"].tolist() == ["depth=3", "depth=1", "depth=3"]
    assert found["configuration_id"].nunique() == 2
    assert found["parameter.depth"].tolist() == [3, 1, 3]
    assert "parameter.loss" not in found
    assert found["seed"].tolist() == [0, 0, 1]  # equal parameters are repetitions


@pytest.mark.parametrize(
    ("name", "given"), [("random_state", None), ("seed", None), ("fold", "fold")]
)
def test_a_seed_makes_repetitions(name: str, given: str | None) -> None:
    rows = [{f"params.{name}": "5"}, {f"params.{name}": "6"}]
    found = table(*rows, metrics=Metrics("train", "val", seed=given))
    assert found["configuration"].tolist() == ["all runs", "all runs"]
    assert found["seed"].tolist() == ["5", "6"]


def test_a_parameter_of_numbers_and_words_keeps_its_numbers() -> None:
    rows = [{"params.depth": depth} for depth in ("None", "3", "5")]
    found = table(*rows, {"params.other": "x"})
    assert found["parameter.depth"].isna().tolist() == [True, False, False, True]
    assert found["configuration_id"].nunique() == 4


@pytest.mark.parametrize(
    ("scores", "losses", "unit"),
    [
        ((0.9, 0.75), (0.1, 0.25), "1 − val"),  # R² or accuracy
        ((95.0, 80.0), (5.0, 20.0), "100 − val"),  # percent
        ((-3.0, -4.0), (3.0, 4.0), "0 − val"),  # neg_mean_squared_error
    ],
)
def test_a_score_is_subtracted_from_its_bound(
    scores: tuple[float, float], losses: tuple[float, float], unit: str
) -> None:
    row = {"metrics.train": scores[0], "metrics.val": scores[1]}
    found = table(row, metrics=Metrics("train", "val", maximize=True))
    values = found.loc[0, ["train_loss", "val_loss", "gap"]].tolist()
    assert values == pytest.approx([*losses, losses[1] - losses[0]])
    assert found["unit"].tolist() == [unit]


def test_runs_that_cannot_be_judged_are_left_out_with_a_sentence() -> None:
    runs = frame({}, {"metrics.val": math.nan}, {"metrics.train": math.inf}, {"status": "FAILED"})
    found, sentences = experiment_table(runs, "mine", LOSSES)
    assert found["run_id"].tolist() == ["0"]
    assert sentences == [
        "1 of 4 runs are left out: they did not finish.",
        "1 of 4 runs are left out: they do not have train and val.",
        "1 of 4 runs are left out: they have a value that is not finite.",
    ]
    with pytest.raises(ExperimentError, match=r"no run can be compared\. 1 of 3 runs"):
        experiment_table(runs[1:], "mine", LOSSES)


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        (
            Metrics("train", "loss"),
            "no run has the metric 'loss'; there are: high, low, train, val",
        ),
        (Metrics("train", "val", seed="fold"), "no run has the parameter 'fold' of --seed"),
        (Metrics("train", "low"), "losses of 0 or more; if higher is better, add --maximize"),
        (Metrics("train", "high", maximize=True), "the highest score is 101"),
    ],
)
def test_what_cannot_be_compared_is_an_error(metrics: Metrics, message: str) -> None:
    runs = frame({"metrics.low": -1.0, "metrics.high": 101.0})
    with pytest.raises(ExperimentError, match=message):
        experiment_table(runs, "mine", metrics)
