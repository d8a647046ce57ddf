"""Charts of single runs: learning curves and errors of predictions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from bikefit.comparison.charts import (
    GREY,
    ROLES,
    add_title_and_legend,
    axis_label,
    new_figure,
    scale_axes,
)
from bikefit.data.features import WEEKDAYS

# Keys by which errors are grouped, as functions of the timestamps.
CONDITIONS: dict[str, Callable[[pd.Series], pd.Series]] = {
    "hour": lambda time: time.dt.hour,
    "weekday": lambda time: time.dt.day_of_week,
}


@dataclass(frozen=True)
class LearningCurve:
    """Losses of a run by epoch; `role` is a key of `charts.ROLES`, or None for a grey curve."""

    label: str
    train: Sequence[float]
    validation: Sequence[float]
    selected: float
    role: str | None = None


def learning_chart(curves: Sequence[LearningCurve], unit: str) -> Figure:
    """Return a chart of loss by epoch: train dashed, validation solid, a point at the selected.

    A curve without a role shows only the validation loss, in grey.
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


def predictions_chart(predictions: pd.DataFrame, role: str, label: str, unit: str) -> Figure:
    """Return a chart of predicted against true target of the validation rows of a run.

    ``label`` is the name of the target with its unit.
    """
    true, predicted = predictions["target"], predictions["predicted"]
    top = max(float(values.quantile(0.999)) for values in (true, predicted))
    low = min(0.0, *(float(values.quantile(0.001)) for values in (true, predicted)))
    top = top if top > low else low + 1
    rmse = float(np.sqrt(((predicted - true) ** 2).mean()))
    with new_figure(4.7, 4.1) as figure:
        axes = figure.subplots()
        axes.scatter(true, predicted, 5, ROLES[role], alpha=0.25, linewidth=0, rasterized=True)
        axes.plot([low, top], [low, top], color=GREY, linewidth=1, label="without an error")
        axes.set(xlim=(low, top), ylim=(low, top), aspect="equal")
        axes.set_xlabel(f"true {label}")
        axes.set_ylabel(f"predicted {label}")
        size = f"{rmse:.1f}" if rmse >= 1 else f"{rmse:.2g}"
        title = f"{role.capitalize()}: RMSE {size} {unit}"
        add_title_and_legend(figure, title.strip())
    return figure


def errors_chart(name: str, predictions: Mapping[str, pd.DataFrame], unit: str) -> Figure:
    """Return a chart of RMSE (solid) and mean error (dashed) by a key of `CONDITIONS`.

    ``predictions`` has results of :func:`bikefit.tracking.reading.read_predictions` by role.
    """
    with new_figure() as figure:
        axes = figure.subplots()
        axes.axhline(0, color=GREY, linewidth=0.9)
        for role, table in predictions.items():
            errors = group_errors(table, name)
            axes.plot(errors["rmse"], ".-", color=ROLES[role], label=role)
            axes.plot(errors["mean"], "--", color=ROLES[role], linewidth=1.1)
        axes.plot([], [], color=GREY, label="RMSE")
        axes.plot([], [], color=GREY, linestyle="--", label="predicted - true, mean")
        if name == "weekday":
            axes.set_xticks(range(7), [weekday[:3] for weekday in WEEKDAYS])
        axes.set(xlabel=name, ylabel=axis_label("error", unit))
        add_title_and_legend(figure, f"Errors by {name}")
    return figure


def group_errors(predictions: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return ``rmse`` and ``mean`` of predicted - true by a key of `CONDITIONS`."""
    error = predictions["predicted"] - predictions["target"]
    groups = CONDITIONS[name](predictions["timestamp"])
    means = pd.DataFrame({"rmse": error**2, "mean": error}).groupby(groups.to_numpy()).mean()
    return means.assign(rmse=np.sqrt(means["rmse"]))
