from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from bikefit.comparison.run_charts import (
    LearningCurve,
    errors_chart,
    group_errors,
    learning_chart,
    predictions_chart,
    with_conditions,
)


def test_learning_curves_mark_the_selected_epoch() -> None:
    winner = LearningCurve("a", [4, 3, 2, 1], [5, 4, 3, 3.5], 3, "winner")
    other = LearningCurve("b", [], [9, 8, 7], 3)
    figure = learning_chart([winner, other], "bikes/hour")
    axes = figure.axes[0]
    drawn = [(list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines]
    assert ([1, 2, 3, 4], [4, 3, 2, 1]) in drawn
    assert ([1, 2, 3, 4], [5, 4, 3, 3.5]) in drawn
    assert ([3], [3]) in drawn
    assert ([1, 2, 3], [9, 8, 7]) in drawn
    assert axes.get_title(loc="left") == "Learning curves of 2 runs"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("epoch", "loss (bikes/hour)")
    assert axes.get_yscale() == "log"


def predictions(error: float) -> pd.DataFrame:
    """Two weeks of hours; at 17 o'clock everything is off by `error`."""
    time = pd.Series(pd.date_range("2011-01-03", periods=24 * 14, freq="h"))
    true = pd.Series(100.0, index=time.index)
    return pd.DataFrame(
        {"timestamp": time, "rentals": true, "predicted": true + error * (time.dt.hour == 17)}
    )


def test_errors_by_hour(tmp_path: Path) -> None:
    errors = {"winner": 10.0, "underfitting": -30.0}
    absent = tmp_path / "absent.parquet"
    runs = {role: with_conditions(predictions(error), absent) for role, error in errors.items()}
    assert "weather" not in runs["winner"]
    table = group_errors(runs["underfitting"], "hour")
    assert (table["rmse"][17], table["mean"][17], table["rmse"][3]) == (30, -30, 0)
    figure = errors_chart("hour", runs)
    assert figure.axes[0].lines[1].get_ydata()[17] == 10
    assert figure.axes[0].get_title(loc="left") == "Errors by hour"
    assert figure.axes[0].get_ylabel() == "error (bikes/hour)"


def test_weather_is_joined_by_the_timestamp(tmp_path: Path) -> None:
    table = predictions(5.0)
    hours = table[["timestamp"]][::-1].assign(weather=["mist"] * 24 + ["clear"] * 312)
    hours["working_day"] = hours["weather"] == "mist"
    hours.to_parquet(tmp_path / "hours.parquet")
    joined = with_conditions(table, tmp_path / "hours.parquet")
    assert joined["weather"].tolist() == ["clear"] * 312 + ["mist"] * 24
    assert set(joined["working_day"][-24:]) == {"working day"}
    figure = errors_chart("weekday", {"winner": joined})
    labels = [tick.get_text() for tick in figure.axes[0].get_xticklabels()]
    assert labels == ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


def test_predicted_against_true_has_every_row() -> None:
    figure = predictions_chart(predictions(24**0.5), "winner")
    (points,) = figure.axes[0].collections
    assert len(np.asarray(points.get_offsets())) == 24 * 14
    assert figure.axes[0].get_title(loc="left") == "Winner: RMSE 1.0 bikes/hour"
