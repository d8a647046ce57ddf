"""Figures of single runs: learning curves and errors of predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from bikefit.comparison.charts import GREY, ROLES, add_title_and_legend, new_figure, scale_axes
from bikefit.data.columns import WEATHER, WEEKDAYS

HOURS = Path("data/clean/hours.parquet")
CONDITIONS = ("hour", "weekday", "weather", "working_day")  # columns by which errors are grouped
FEWEST = 5  # hours in a group; the error of fewer is not shown


@dataclass(frozen=True)
class LearningCurve:
    """The losses of a run by epoch; `role` is a key of `charts.ROLES`, or None for grey curves."""

    label: str
    train: Sequence[float]
    validation: Sequence[float]
    selected: float
    role: str | None = None


def learning_chart(curves: Sequence[LearningCurve], unit: str) -> Figure:
    """Draw loss against epoch: train dashed, validation solid, the selected epoch as a point.

    Args:
        curves: Curves; of those without a role only the validation loss is drawn, in grey.
        unit: Unit of the loss.
    """
    with new_figure(height=4.1) as figure:
        axes = figure.subplots()
        for curve in curves:
            epochs = range(1, len(curve.validation) + 1)
            if curve.role is None:
                axes.plot(epochs, curve.validation, color=GREY, alpha=0.25, linewidth=0.7, zorder=1)
                continue
            shade, selected = ROLES[curve.role], min(max(round(curve.selected), 1), len(epochs))
            label = f"{curve.role}: {curve.label}"
            axes.plot(epochs[: len(curve.train)], curve.train, color=shade, linestyle="--")
            axes.plot(epochs, curve.validation, color=shade, linewidth=1.8, label=label)
            axes.plot([selected], [curve.validation[selected - 1]], "o", color=shade, zorder=4)
        scale_axes(axes, [v for c in curves for v in (*c.train, *c.validation)], "y")
        axes.set(xlabel="epoch", ylabel=f"loss ({unit})")
        axes.plot([], [], color=GREY, linestyle="--", label="train")
        axes.plot([], [], "o", color=GREY, label="selected epoch")
        add_title_and_legend(figure, f"Learning curves of {len(curves)} runs", columns=1)
    return figure


def with_conditions(predictions: pd.DataFrame, hours: Path = HOURS) -> pd.DataFrame:
    """Add the columns of `CONDITIONS` to predictions.

    Args:
        predictions: of :func:`bikefit.tracking.reading.read_predictions`.
        hours: Clean table; if the file does not exist, only hour and weekday are added.
    """
    time = predictions["timestamp"]
    weekday = time.dt.day_of_week.map(dict(enumerate(WEEKDAYS)))
    table = predictions.assign(hour=time.dt.hour, weekday=_ordered(weekday, WEEKDAYS))
    if not hours.exists():
        return table
    conditions = pd.read_parquet(hours, columns=["timestamp", "weather", "working_day"])
    table = table.merge(conditions, on="timestamp", how="left")
    day = table["working_day"].map({True: "working day", False: "free day"})
    weather = _ordered(table["weather"], tuple(WEATHER.values()))
    return table.assign(working_day=day, weather=weather)


def _ordered(values: pd.Series, order: tuple[str, ...]) -> pd.Series:
    return values.astype(pd.CategoricalDtype(list(order), ordered=True))


def predictions_chart(predictions: pd.DataFrame, role: str) -> Figure:
    """Draw predicted against true rentals of every validation row."""
    true, predicted = predictions["rentals"], predictions["predicted"]
    top = max(1.0, *(float(values.quantile(0.999)) for values in (true, predicted)))
    rmse = float(np.sqrt(((predicted - true) ** 2).mean()))
    with new_figure(4.7, 4.1) as figure:
        axes = figure.subplots()
        axes.scatter(true, predicted, 5, ROLES[role], alpha=0.25, linewidth=0, rasterized=True)
        axes.plot([0, top], [0, top], color=GREY, linewidth=1, label="without an error")
        axes.set(xlim=(0, top), ylim=(0, top), aspect="equal")
        axes.set_xlabel("true rentals (bikes/hour)")
        axes.set_ylabel("predicted rentals (bikes/hour)")
        add_title_and_legend(figure, f"{role.capitalize()}: RMSE {rmse:.1f} bikes/hour")
    return figure


def errors_chart(column: str, predictions: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw RMSE (solid) and mean error (dashed) by a column of `CONDITIONS`.

    Args:
        column: Name of the column.
        predictions: of :func:`with_conditions`, by role.
    """
    errors = pd.concat(
        {role: group_errors(table, column) for role, table in predictions.items()}, axis=1
    ).sort_index()
    with new_figure() as figure:
        axes = figure.subplots()
        axes.axhline(0, color=GREY, linewidth=0.9)
        for role in predictions:
            axes.plot(errors[role, "rmse"].to_numpy(), ".-", color=ROLES[role], label=role)
            axes.plot(errors[role, "mean"].to_numpy(), "--", color=ROLES[role], linewidth=1.1)
        axes.plot([], [], color=GREY, label="RMSE")
        axes.plot([], [], color=GREY, linestyle="--", label="predicted - true, mean")
        names = [str(g)[:3] if g in WEEKDAYS else str(g).replace("_", "\n") for g in errors.index]
        every = 3 if len(names) > 12 else 1
        axes.set_xticks(range(0, len(names), every), names[::every])
        name = column.replace("_", " ")
        axes.set(xlabel=name, ylabel="error (bikes/hour)")
        add_title_and_legend(figure, f"Errors by {name}")
    return figure


def group_errors(predictions: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return ``rmse`` and ``mean`` of predicted - true by a column, in bikes/hour.

    Groups of fewer than five hours are left out.
    """
    error = predictions["predicted"] - predictions["rentals"]
    squares = pd.DataFrame({"rmse": error**2, "mean": error})
    groups = squares.groupby(predictions[column], observed=True)
    means = groups.mean().assign(rmse=lambda table: np.sqrt(table["rmse"]))
    return means[groups.size() >= FEWEST]
