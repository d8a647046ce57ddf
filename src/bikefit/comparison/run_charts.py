"""Figures of single runs: learning curves, errors of predictions, and weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from bikefit.comparison.charts import GREY, ROLES, add_title_and_legend, new_figure, scale_axes
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
    coloured = [curve for curve in curves if curve.role]
    several = len(coloured) > 1
    with new_figure(height=4.1 if several else 3.3) as figure:
        axes = figure.subplots()
        for curve in curves:
            epochs = range(1, len(curve.validation) + 1)
            if curve.role is None:
                axes.plot(epochs, curve.validation, color=GREY, alpha=0.25, linewidth=0.7, zorder=1)
                continue
            label = f"{curve.role}: {curve.label}" if several else "validation"
            shade, selected = ROLES[curve.role], min(max(round(curve.selected), 1), len(epochs))
            axes.plot(epochs[: len(curve.train)], curve.train, color=shade, linestyle="--")
            axes.plot(epochs, curve.validation, color=shade, linewidth=1.8, label=label)
            axes.plot([selected], [curve.validation[selected - 1]], "o", color=shade, zorder=4)
        scale_axes(axes, [v for c in curves for v in (*c.train, *c.validation)], "y")
        axes.set(xlabel="epoch", ylabel=f"loss ({unit})")
        axes.plot([], [], color=GREY, linestyle="--", label="train")
        axes.plot([], [], "o", color=GREY, label="selected epoch")
        title = f"Learning curves: {len(curves)} runs, three of them in colour"
        if not several:
            (curve,), last = coloured, coloured[0].validation[-1]
            title = f"{str(curve.role).capitalize()}: selected epoch {curve.selected:.0f} of "
            title += (
                f"{len(curve.validation)}, gap at the end {number(last - curve.train[-1], last)}"
            )
        add_title_and_legend(figure, title, columns=1 if several else 3)
    return figure


def with_conditions(predictions: pd.DataFrame, hours: Path = HOURS) -> pd.DataFrame:
    """Add the columns of `ERROR_COLUMNS` to predictions.

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
    """Draw RMSE (solid) and mean error (dashed) by a column of `ERROR_COLUMNS`.

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
        axes.set(xlabel=column.replace("_", " "), ylabel="error (bikes/hour)")
        role = next(iter(predictions))
        worst = ERROR_COLUMNS[column].format(str(errors[role, "rmse"].idxmax()).replace("_", " "))
        add_title_and_legend(figure, f"Largest error of the {role}: {worst}")
    return figure


def group_errors(predictions: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return ``rmse`` and ``mean`` of predicted - true by a column, in bikes/hour.

    Groups of fewer than five hours are left out; without the column the table is empty.
    """
    if column not in predictions:
        return pd.DataFrame({"rmse": [], "mean": []})
    error = predictions["predicted"] - predictions["rentals"]
    squares = pd.DataFrame({"rmse": error**2, "mean": error})
    groups = squares.groupby(predictions[column], observed=True)
    means = groups.mean().assign(rmse=lambda table: np.sqrt(table["rmse"]))
    return means[groups.size() >= FEWEST]


def weight_matrices(weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the weights of layers by layer, without biases and norms, sorted by name."""
    return {
        name.split(".")[0]: values
        for name, values in sorted(weights.items())
        if name.endswith("weight") and values.ndim > 1
    }


def weight_distribution_chart(layer: str, weights: Mapping[str, np.ndarray]) -> Figure:
    """Draw the distribution of the weights of a layer, one curve per role."""
    reach = max(float(np.quantile(np.abs(values), 0.999)) for values in weights.values()) or 1.0
    with new_figure() as figure:
        axes = figure.subplots()
        for role, values in weights.items():
            counts, edges = np.histogram(np.clip(values, -reach, reach), 60, (-reach, reach))
            label = f"{role} (standard deviation {values.std():.2g})"
            percent = 100 * counts / values.size
            axes.stairs(percent, edges, color=ROLES[role], linewidth=1.5, label=label)
        axes.set(xlabel=f"weight of {layer}", ylabel="weights (%)", yscale="log")
        narrow = min(weights, key=lambda role: float(weights[role].std()))
        title = f"{layer}: the smallest weights are those of the {narrow} run"
        add_title_and_legend(figure, title, columns=1)
    return figure
