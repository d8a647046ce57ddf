from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer

from bikefit.comparison.charts import (
    KIND_COLOURS,
    errors_chart,
    group_errors,
    kind_colour,
    learning_chart,
    plane_chart,
    predictions_chart,
    save,
    svg,
)
from bikefit.comparison.ranking import rank
from made_runs import make_run, make_sweep, make_table


def draw(runs: pd.DataFrame) -> Axes:
    return plane_chart(runs, rank(runs)).axes[0]


def points(axes: Axes) -> list[tuple[float, float]]:
    """Return the points with error bars, sorted."""
    bars = [c for c in axes.containers if isinstance(c, ErrorbarContainer)]
    return sorted((float(x), float(y)) for c in bars for x, y in c[0].get_xydata())


def test_a_sweep_is_drawn_with_a_point_for_each_configuration_and_run() -> None:
    runs, ranking = make_sweep(), rank(make_sweep())
    figure = plane_chart(runs, ranking)
    (axes,) = figure.axes
    losses = zip(ranking["train_loss"], ranking["val_loss"], strict=True)
    assert points(axes) == sorted(losses)
    faint = [c.get_offsets() for c in axes.collections if c.get_alpha() == 0.3]
    assert sum(map(len, faint)) == 78  # type: ignore[arg-type]
    texts = {text.get_text() for text in axes.texts}
    assert {"1", "2", "26", "overfitting", "underfitting"} <= texts
    unit = "loss (half Poisson deviance, bikes/hour)"
    assert (axes.get_xlabel(), axes.get_ylabel()) == (f"train {unit}", f"validation {unit}")
    assert axes.xaxis_inverted()  # underfitting is on the left
    texts = {text.get_text() for text in figure.legends[0].get_texts()}
    assert {"dropout", "batch norm", "combined", "mlp 1024×1024", "linear"} <= texts


def test_the_axes_are_logarithmic_only_for_a_wide_range() -> None:
    assert draw(make_sweep()).get_yscale() == "log"
    narrow = [make_run(val=7.0), make_run("l2 λ=1", val=8.0), make_run("l1 λ=9", failure="x")]
    axes = draw(make_table(narrow))
    assert axes.get_yscale() == "linear"
    assert len(points(axes)) == 2  # without the failed one


def test_combinations_share_a_colour() -> None:
    assert kind_colour("l2 + dropout") == kind_colour("l1 + dropout") == KIND_COLOURS["combined"]
    assert kind_colour("l2") != kind_colour("dropout")


def test_the_legend_names_only_what_differs() -> None:
    def names(*runs: dict[str, Any]) -> list[str]:
        table = make_table(runs)
        (legend,) = plane_chart(table, rank(table)).legends
        return [text.get_text() for text in legend.get_texts()]

    one, other = make_run("l2 λ=1"), make_run("l2 λ=1 + dropout p=0.1", val=8.0)
    assert names(one, other) == ["l2", "combined"]
    assert names(one, make_run("l2 λ=1", "[4]", val=9.0)) == ["mlp 256×256", "mlp 4"]
    assert names(make_run("an experiment"), make_run("an experiment", lr=3, val=9.0)) == []


@pytest.mark.parametrize("losses", [(5.0, 7.0), (8.0, 7.0)], ids=["overfitted", "val below train"])
def test_a_single_run_is_drawn(losses: tuple[float, float]) -> None:
    axes = draw(make_table([make_run(train=losses[0], val=losses[1])]))
    assert points(axes) == [losses]
    low, high = axes.get_ylim()
    assert low < 7.0 < high


def test_the_same_runs_give_the_same_files(tmp_path: Path) -> None:
    runs = make_sweep().head(6)
    figures = [plane_chart(runs, rank(runs)) for _ in range(2)]
    for name, figure in zip(("one.png", "two.png"), figures, strict=True):
        save(figure, tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    one, two = map(svg, figures)
    assert one == two
    assert "<text" in one


def test_learning_curves_mark_the_selected_epoch() -> None:
    losses = {
        ("winner", "train"): [4, 3, 2, 1],
        ("winner", "validation"): [5, 4, 3, 3.5],
        ("another", "validation"): [9, 8, 7],
    }
    rows = [(*key, e, loss) for key, of in losses.items() for e, loss in enumerate(of, start=1)]
    curves = pd.DataFrame(rows, columns=["name", "part", "epoch", "loss"])
    winner = pd.Series({"configuration": "a", "best_epoch": 3.0})
    figure = learning_chart(curves, {"winner": winner}, "bikes/hour")
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
