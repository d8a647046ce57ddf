from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from bikefit.comparison.run_charts import (
    LearningCurve,
    errors_chart,
    group_errors,
    learning_chart,
    predictions_chart,
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
        {"timestamp": time, "target": true, "predicted": true + error * (time.dt.hour == 17)}
    )


def test_errors_by_hour_and_weekday() -> None:
    runs = {"winner": predictions(10.0), "underfitting": predictions(-30.0)}
    table = group_errors(runs["underfitting"], "hour")
    assert (table["rmse"][17], table["mean"][17], table["rmse"][3]) == (30, -30, 0)
    axes = errors_chart("hour", runs, "bikes/hour").axes[0]
    assert axes.lines[1].get_ydata()[17] == 10
    assert axes.get_title(loc="left") == "Errors by hour"
    assert axes.get_ylabel() == "error (bikes/hour)"
    axes = errors_chart("weekday", runs, "bikes/hour").axes[0]
    labels = [tick.get_text() for tick in axes.get_xticklabels()]
    assert labels == ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
    assert list(axes.lines[2].get_ydata()) == pytest.approx([10 / 24] * 7)


def test_predicted_against_true_has_every_row() -> None:
    figure = predictions_chart(predictions(24**0.5), "winner", "rentals (bikes/hour)", "bikes/hour")
    (points,) = figure.axes[0].collections
    assert len(np.asarray(points.get_offsets())) == 24 * 14
    assert figure.axes[0].get_title(loc="left") == "Winner: RMSE 1.0 bikes/hour"
