"""Charts of all configurations and of single runs; style, scales and files of all figures.

Equal runs give files with equal bytes.
"""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from bikefit.comparison.runs import loss_unit, ranking_metric
from bikefit.data.features import WEEKDAYS
from bikefit.data.style import STYLE

# Okabe-Ito palette, distinguishable for colour-blind readers.
ROLES = {"winner": "#009E73", "underfitting": "#0072B2", "overfitting": "#D55E00"}
KIND_COLOURS = {
    "none": "#444444",
    "l1": "#E69F00",
    "l2": "#0072B2",
    "lp": "#8C6D1F",
    "weight decay": "#56B4E9",
    "dropout": "#D55E00",
    "batch norm": "#009E73",
    "early stopping": "#CC79A7",
    "combined": "#6A3D9A",
}
GREY = "#8A9096"
INK = "#222222"
MARKERS = "osD^vPX*<>ph"
NUMBERED = 60  # configurations whose rank is written beside their point
# Keys by which errors are grouped, as functions of the timestamps.
CONDITIONS: dict[str, Callable[[pd.Series], pd.Series]] = {
    "hour": lambda time: time.dt.hour,
    "weekday": lambda time: time.dt.day_of_week,
}


@contextmanager
def new_figure(width: float = 4.7, height: float = 3.3) -> Iterator[Figure]:
    """Yield an empty figure in the project's style; by default, it is readable on a phone.

    Width and height are in inches.
    """
    with rc_context(STYLE):
        yield Figure(figsize=(width, height), dpi=110, layout="constrained")


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, without the version of matplotlib."""
    figure.savefig(path, format="png", metadata={"Software": None})


def svg(figure: Figure) -> str:
    """Return a figure as SVG, without date and random ids; text is not converted to paths."""
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "bikefit"}):
        buffer = io.StringIO()
        metadata = {"Date": None, "Creator": None}
        figure.savefig(buffer, format="svg", metadata=metadata, transparent=True)
    return buffer.getvalue()


def axis_label(name: str, unit: str) -> str:
    """Return a name with its unit: "temperature (°C)"."""
    return f"{name} ({unit})" if unit else name


def add_title_and_legend(figure: Figure, title: str, columns: int = 3) -> None:
    """Set a title that is wrapped to the width of a phone, and add a legend below the axes."""
    figure.axes[0].set_title(textwrap.fill(title, 48))
    figure.legend(loc="outside lower left", ncols=columns, fontsize=7.5)


def needs_log_axis(values: Any) -> bool:
    """Return whether values are positive and the largest is more than 6 times the smallest."""
    array = np.asarray(values, dtype=float)
    return bool(array.size and array.min() > 0 and array.max() / array.min() > 6)


def scale_axes(axes: Axes, values: Any, names: str) -> None:
    """Make the axes "x", "y" or both ("xy") logarithmic if :func:`needs_log_axis`."""
    if needs_log_axis(values):
        for name in names:
            axes.set(**{f"{name}scale": "log"})
            axis = axes.xaxis if name == "x" else axes.yaxis
            axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axis.set_minor_formatter(NullFormatter())


def kind_colour(kind: str) -> str:
    """Return the colour of a kind of regularization; combinations share one colour."""
    return KIND_COLOURS.get(kind, KIND_COLOURS["combined"])


def plane_chart(table: pd.DataFrame, ranking: pd.DataFrame) -> Figure:
    """Return a chart of validation against train loss of configurations and (faint) of runs.

    Underfitting is high in both, at the left; overfitting is far above the diagonal, at the right.
    Bars are ± a standard deviation, numbers are ranks. Colours stand for methods, markers for
    networks. The arguments are those of :func:`bikefit.comparison.ranking.rank` and its result.
    """
    shown, runs = ranking.dropna(subset=["val_loss"]), table.dropna(subset=["val_loss"])
    networks = shown["network"].value_counts().index
    markers = dict(zip(networks, cycle(MARKERS), strict=False))
    with new_figure(4.9, 6.0) as figure:
        axes = figure.subplots()
        colours = runs["kind"].map(kind_colour)
        axes.scatter(runs["train_loss"], runs["val_loss"], s=9, c=colours, alpha=0.3, linewidth=0)
        for (kind, network), group in shown.groupby(["kind", "network"], sort=False):
            spread = group[["train_loss_std", "val_loss_std"]].fillna(0).to_numpy().T
            look: dict[str, Any] = {"color": kind_colour(str(kind)), "fmt": markers[network]}
            look |= {"markeredgecolor": "white", "zorder": 3}
            axes.errorbar(group["train_loss"], group["val_loss"], spread[1], spread[0], **look)
        scale_axes(axes, shown[["train_loss", "val_loss"]], "xy")
        bottom, top = axes.get_ylim()
        low, high = axes.get_xlim()
        axes.set_xlim(max(high, bottom + 0.15 * (top - bottom)), low)  # flexibility to the right
        axes.axline((bottom, bottom), (top, top), color=GREY, linewidth=1)  # no gap
        corner: dict[str, Any] = {"color": GREY, "size": 11, "style": "italic", "va": "top"}
        axes.text(0.14, 0.98, "underfitting", transform=axes.transAxes, **corner)
        axes.text(0.98, 0.98, "overfitting", transform=axes.transAxes, ha="right", **corner)
        label = f"{ranking_metric(ranking)} ({loss_unit(ranking)})"
        axes.set(xlabel=f"train {label}", ylabel=f"validation {label}")
        axes.set_title("Good fits lie low and near the diagonal")
        figure.legend(handles=_legend(shown["kind"], markers), loc="outside lower left", ncols=3)
        _number_points(axes, shown[["train_loss", "val_loss"]].to_numpy())
    return figure


def _legend(kinds: pd.Series, markers: dict[str, str]) -> list[Line2D]:
    """Return the colours of methods and the markers of networks; no entry if all are equal."""
    names = kinds.where(kinds.isin(list(KIND_COLOURS)), "combined").unique()
    colours = [Line2D([], [], color=kind_colour(k), linewidth=5, label=k) for k in names]
    shapes = [
        Line2D([], [], color=INK, linestyle="", marker=marker, label=network)
        for network, marker in list(markers.items())[: len(MARKERS)]
    ]
    return colours * (len(names) > 1) + shapes * (len(shapes) > 1)


def _number_points(axes: Axes, points: np.ndarray) -> None:
    """Write ranks beside the points, best first; a rank without free space is left out."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()  # the layout decides where points are in pixels
    pixels = axes.transData.transform(points)
    occupied = list(pixels)
    text: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "va": "center"}
    for rank, (point, pixel) in enumerate(zip(points[:NUMBERED], pixels, strict=False), start=1):
        for angle in np.radians([45, 135, -45, -135, 90, 0, 180, -90]):
            offset = 9 * np.array([np.cos(angle), np.sin(angle)])
            spot = pixel + offset * figure.dpi / 72
            if all(np.hypot(*(spot - other)) > 12 for other in occupied if other is not pixel):
                axes.annotate(str(rank), point, xytext=tuple(offset), size=7.5, zorder=4, **text)
                occupied.append(spot)
                break


def learning_chart(curves: pd.DataFrame, runs: Mapping[str, pd.Series], unit: str) -> Figure:
    """Return a chart of loss by epoch: train dashed, validation solid, a point at the selected.

    Args:
        curves: of :func:`bikefit.comparison.losses.loss_curves`, by the names of `runs`, and of
            other runs, whose validation losses are grey.
        runs: Rows of a run table by role.
        unit: Unit of the losses.
    """
    with new_figure(height=4.1) as figure:
        axes = figure.subplots()
        for name, curve in curves.groupby("name", sort=False):
            losses = {part: rows.set_index("epoch")["loss"] for part, rows in curve.groupby("part")}
            validation = losses["validation"]
            if name not in runs:
                axes.plot(validation, color=GREY, alpha=0.25, linewidth=0.7, zorder=1)
                continue
            shade, selected = ROLES[str(name)], runs[str(name)]["best_epoch"]
            label = f"{name}: {runs[str(name)]['configuration']}"
            axes.plot(losses["train"], color=shade, linestyle="--")
            axes.plot(validation, color=shade, linewidth=1.8, label=label)
            selected = round(validation.index[-1] if math.isnan(selected) else selected)
            selected = min(max(selected, 1), len(validation))
            axes.plot([selected], [validation[selected]], "o", color=shade, zorder=4)
        scale_axes(axes, curves["loss"], "y")
        axes.set(xlabel="epoch", ylabel=f"loss ({unit})")
        axes.plot([], [], color=GREY, linestyle="--", label="train")
        axes.plot([], [], "o", color=GREY, label="selected epoch")
        title = f"Learning curves of {curves['name'].nunique()} runs"
        add_title_and_legend(figure, title, columns=1)
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
