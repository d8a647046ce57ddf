"""Figures of single runs: learning curves, errors of predictions, and weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from bikefit.comparison.charts import (
    GREY,
    ROLES,
    figure_of,
    legend_below,
    new_axes,
    round_ticks,
    set_title,
    spans_decades,
)
from bikefit.comparison.sentences import number
from bikefit.data.columns import WEATHER, WEEKDAYS

HOURS = Path("data/clean/hours.parquet")
# Columns by which errors are grouped, and how the title names the worst group.
ERROR_COLUMNS = {
    "hour": "at hour {}",
    "weekday": "on {}s",
    "weather": "in weather: {}",
    "working_day": "on {}s",
}
FEWEST = 5  # hours in a group; the error of fewer is not shown
BINS = 60


@dataclass(frozen=True)
class LearningCurve:
    """The losses of a run by epoch; `role` is a key of `charts.ROLES`, or None for grey curves."""

    label: str
    train: Sequence[float]
    validation: Sequence[float]
    selected: float
    role: str | None = None


def learning_chart(curves: Sequence[LearningCurve], unit: str) -> Figure:
    """Draw loss against epoch: train dashed, validation solid, the selected epoch marked.

    Args:
        curves: Curves; of those without a role only the validation loss is drawn, in grey.
        unit: Unit of the loss.
    """
    coloured = [curve for curve in curves if curve.role]
    several = len(coloured) > 1
    with new_axes(height=4.1 if several else 3.3) as axes:
        for curve in curves:
            epochs = np.arange(1, len(curve.validation) + 1)
            if curve.role is None:
                axes.plot(epochs, curve.validation, color=GREY, alpha=0.25, linewidth=0.7, zorder=1)
                continue
            label = f"{curve.role}: {curve.label}" if several else "validation"
            shade = ROLES[curve.role]
            train = epochs[: len(curve.train)]
            axes.plot(train, curve.train, color=shade, linestyle="--", linewidth=1.3)
            axes.plot(epochs, curve.validation, color=shade, linewidth=1.8, label=label)
            at = min(max(round(curve.selected), 1), len(epochs))
            marker: dict[str, Any] = {"marker": "o", "markersize": 7, "markeredgecolor": "white"}
            axes.plot([at], [curve.validation[at - 1]], color=shade, zorder=4, **marker)
        if spans_decades([v for curve in curves for v in (*curve.train, *curve.validation)]):
            axes.set_yscale("log")
            round_ticks(axes.yaxis)
        axes.set(xlabel="epoch", ylabel=f"loss ({unit})")
        axes.plot([], [], color=GREY, linestyle="--", label="train")
        axes.plot([], [], color=GREY, marker="o", linestyle="", label="selected epoch")
        legend_below(axes, columns=1 if several else 3)
        title = f"Learning curves: {len(curves)} runs, three of them in colour"
        set_title(axes, title if several else _learning_title(coloured[0]))
    return figure_of(axes)


def _learning_title(curve: LearningCurve) -> str:
    last = curve.validation[-1]
    return (
        f"{str(curve.role).capitalize()}: selected epoch {curve.selected:.0f} of "
        f"{len(curve.validation)}, gap at the end {number(last - curve.train[-1], last)}"
    )


def with_conditions(predictions: pd.DataFrame, hours: Path = HOURS) -> pd.DataFrame:
    """Add the columns of `ERROR_COLUMNS` to predictions.

    Args:
        predictions: of :func:`bikefit.tracking.reading.read_predictions`.
        hours: Clean table; if the file does not exist, only hour and weekday are added.
    """
    time = predictions["timestamp"]
    weekday = time.dt.day_of_week.map(dict(enumerate(WEEKDAYS)))
    table = predictions.assign(hour=time.dt.hour, weekday=weekday)
    if not hours.exists():
        return table
    conditions = pd.read_parquet(hours, columns=["timestamp", "weather", "working_day"])
    table = table.merge(conditions, on="timestamp", how="left")
    day = table["working_day"].map({True: "working day", False: "free day"})
    return table.assign(working_day=day, weather=table["weather"].astype(object))


def predictions_chart(predictions: pd.DataFrame, role: str) -> Figure:
    """Draw predicted against true rentals of every validation row."""
    true, predicted = predictions["rentals"], predictions["predicted"]
    top = max(1.0, *(float(values.quantile(0.999)) for values in (true, predicted)))
    rmse = float(np.sqrt(((predicted - true) ** 2).mean()))
    with new_axes(4.7, 4.1) as axes:
        points: dict[str, Any] = {"s": 5, "alpha": 0.25, "linewidth": 0, "rasterized": True}
        axes.scatter(true, predicted, color=ROLES[role], **points)
        axes.plot([0, top], [0, top], color=GREY, linewidth=1)
        axes.set(xlim=(0, top), ylim=(0, top), aspect="equal")
        axes.set_xlabel("true rentals (bikes/hour)")
        axes.set_ylabel("predicted rentals (bikes/hour)")
        set_title(axes, f"{role.capitalize()}: RMSE {rmse:.1f} bikes/hour")
    return figure_of(axes)


def errors_chart(column: str, predictions: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw RMSE (solid) and mean error (dashed) by a column of `ERROR_COLUMNS`.

    Args:
        column: Name of the column.
        predictions: of :func:`with_conditions`, by role.
    """
    tables = {role: group_errors(table, column) for role, table in predictions.items()}
    groups = _sorted_groups({group for table in tables.values() for group in table.index})
    with new_axes() as axes:
        axes.axhline(0, color=GREY, linewidth=0.9)
        for role, table in tables.items():
            x = [i for i, group in enumerate(groups) if group in table.index]
            rmse, mean = table.loc[[groups[i] for i in x], ["rmse", "mean"]].to_numpy().T
            axes.plot(x, rmse, color=ROLES[role], marker="o", markersize=4, label=role)
            axes.plot(x, mean, color=ROLES[role], linestyle="--", linewidth=1.1)
        axes.plot([], [], color=GREY, label="RMSE")
        axes.plot([], [], color=GREY, linestyle="--", label="predicted - true, mean")
        names = [str(g)[:3] if g in WEEKDAYS else str(g).replace("_", "\n") for g in groups]
        every = 3 if len(groups) > 12 else 1
        axes.set_xticks(range(0, len(groups), every), names[::every])
        axes.set(xlabel=column.replace("_", " "), ylabel="error (bikes/hour)")
        legend_below(axes)
        role, table = next(iter(tables.items()))
        worst = str(table["rmse"].idxmax()).replace("_", " ")
        set_title(axes, f"Largest error of the {role}: {ERROR_COLUMNS[column].format(worst)}")
    return figure_of(axes)


def group_errors(predictions: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return ``rmse`` and ``mean`` of predicted - true by a column, in bikes/hour.

    Groups of fewer than five hours are left out; without the column the table is empty.
    """
    if column not in predictions:
        return pd.DataFrame({"rmse": [], "mean": []})
    error = predictions["predicted"] - predictions["rentals"]
    groups = error.groupby(predictions[column], observed=True)
    rmse = (error**2).groupby(predictions[column], observed=True).mean() ** 0.5
    return pd.DataFrame({"rmse": rmse, "mean": groups.mean()})[groups.size() >= FEWEST]


def _sorted_groups(groups: set[Any]) -> list[Any]:
    order = {name: i for i, name in enumerate((*WEEKDAYS, *WEATHER.values()))}
    return sorted(groups, key=lambda g: (order.get(str(g), -1), str(g).zfill(2)))


def weight_matrices(weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the weights of layers by layer, without biases and norms, sorted by name."""
    return {
        name.split(".")[0]: values
        for name, values in sorted(weights.items())
        if name.endswith("weight") and values.ndim > 1
    }


def weight_distribution_chart(layer: str, weights: Mapping[str, np.ndarray]) -> Figure:
    """Draw the distribution of the weights of a layer, one curve per role."""
    flat = {role: values.ravel() for role, values in weights.items()}
    reach = max(float(np.quantile(np.abs(values), 0.999)) for values in flat.values()) or 1.0
    edges = np.linspace(-reach, reach, BINS + 1)
    with new_axes() as axes:
        for role, values in flat.items():
            counts, _ = np.histogram(np.clip(values, -reach, reach), edges)
            label = f"{role} (standard deviation {values.std():.2g})"
            percent = 100 * counts / values.size
            axes.stairs(percent, edges, color=ROLES[role], linewidth=1.5, label=label)
        axes.set(xlabel=f"weight of {layer}", ylabel="weights (%)", yscale="log")
        legend_below(axes, columns=1)
        narrow = min(flat, key=lambda role: float(flat[role].std()))
        set_title(axes, f"{layer}: the smallest weights are those of the {narrow} run")
    return figure_of(axes)
