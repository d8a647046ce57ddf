"""Figures of a ranking, and the style, scales and files of all figures.

Figures are drawn without a window, and the same runs give the same bytes.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterator
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

from bikefit.comparison.ranking import winner
from bikefit.comparison.runs import loss_unit, ranking_metric
from bikefit.comparison.sentences import winner_sentence, with_spread
from bikefit.data.look import FAINT, STYLE

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
ROWS = 60  # configurations in the left panel; more would be too small to read


@contextmanager
def new_figure(width: float = 4.7, height: float = 3.3) -> Iterator[Figure]:
    """Yield a figure in the project's style; sizes in inches, by default readable on a phone."""
    with rc_context(STYLE):
        yield Figure(figsize=(width, height), dpi=110, layout="constrained")


def save(figure: Figure, path: Path) -> None:
    """Write a PNG without the version of the library in it."""
    figure.savefig(path, format="png", metadata={"Software": None})


def svg(figure: Figure) -> str:
    """Return a figure as SVG with text as text, the same for the same figure."""
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "bikefit"}):
        buffer = io.StringIO()
        metadata = {"Date": None, "Creator": None}
        figure.savefig(buffer, format="svg", metadata=metadata, transparent=True)
    return buffer.getvalue()


def add_title_and_legend(figure: Figure, title: str, columns: int = 3) -> None:
    """Set a title that fits a phone, and put the legend below, where it hides no curve."""
    figure.axes[0].set_title(textwrap.fill(title, 48))
    figure.legend(loc="outside lower left", ncols=columns, fontsize=7.5)


def spans_decades(values: Any) -> bool:
    """Return whether values span so much that a linear axis would hide most differences."""
    array = np.asarray(values, dtype=float)
    return bool(array.size and array.min() > 0 and array.max() / array.min() > 6)


def scale_axes(axes: Axes, values: Any, names: str) -> None:
    """Make the axes named "x", "y" or "xy" logarithmic if the values span decades."""
    if spans_decades(values):
        for name in names:
            axes.set(**{f"{name}scale": "log"})
            axis = axes.xaxis if name == "x" else axes.yaxis
            axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axis.set_minor_formatter(NullFormatter())


def plane_chart(table: pd.DataFrame, ranking: pd.DataFrame) -> Figure:
    """Draw validation against train loss of every configuration, readable on a phone.

    Args:
        table: of :func:`bikefit.comparison.runs.run_table`.
        ranking: of :func:`bikefit.comparison.ranking.rank`.
    """
    shown = _styled(ranking)
    with new_figure(4.9, 6.0) as figure:
        axes = figure.subplots()
        _add_legend(figure, shown, columns=3)
        _draw_plane(axes, table, shown)
    return figure


def ranking_chart(table: pd.DataFrame, ranking: pd.DataFrame) -> Figure:
    """Draw train and validation loss of every configuration, with the spread over seeds.

    Left, best first, both losses and the gap between them; right, validation against train loss.
    Underfitting is high in both, overfitting far above the diagonal. For the arguments see
    :func:`plane_chart`.
    """
    shown = _styled(ranking)
    with new_figure(12.5, max(8.0, 0.26 * min(len(shown), ROWS) + 2.2)) as figure:
        best = winner(ranking)
        if best is None:
            figure.text(0.5, 0.5, winner_sentence(ranking), ha="center", size=14)
            return figure
        panels = figure.subplot_mosaic([["rows", "plane"]], width_ratios=[1, 1.1])
        _add_legend(figure, shown, columns=8)
        _draw_rows(panels["rows"], shown.head(ROWS), len(shown))
        metric, failed = ranking_metric(ranking), ranking["failed"].sum()
        text = with_spread(best, f"val_{metric}", best[f"val_{metric}"])
        title = f"Best: {best['configuration']}: validation {metric} {text}"
        title += f", RMSE {best['val_rmse']:.1f} bikes/hour"
        title += f" (failed runs, not shown: {failed})" if failed else ""
        figure.suptitle(title, x=0.012, ha="left", size=13, weight="bold")
        _draw_plane(panels["plane"], table, shown)
    return figure


def kind_colour(kind: str) -> str:
    """Return the colour of a kind of regularization; combinations share one colour."""
    return KIND_COLOURS.get(kind, KIND_COLOURS["combined"])


def _styled(ranking: pd.DataFrame) -> pd.DataFrame:
    """Return the configurations with a result, with a colour by method, a marker by network."""
    shown = ranking.dropna(subset=[f"val_{ranking_metric(ranking)}"])
    networks = shown["network"].value_counts().index
    markers = dict(zip(networks, cycle(MARKERS), strict=False))
    colours = shown["kind"].map(kind_colour)
    return shown.assign(colour=colours, marker=shown["network"].map(markers))


def _add_legend(figure: Figure, shown: pd.DataFrame, columns: int) -> None:
    kinds = shown["kind"].where(shown["kind"].isin(list(KIND_COLOURS)), "combined").unique()
    networks = shown.drop_duplicates("network").head(len(MARKERS))
    handles = [Line2D([], [], color=kind_colour(kind), linewidth=5, label=kind) for kind in kinds]
    handles += [
        Line2D([], [], color=KIND_COLOURS["none"], linestyle="", marker=marker, label=network)
        for network, marker in zip(networks["network"], networks["marker"], strict=True)
    ]
    figure.legend(handles=handles, loc="outside lower left", ncols=columns)


def _draw_rows(axes: Axes, shown: pd.DataFrame, total: int) -> None:
    """Draw one row per configuration: train loss hollow, validation loss filled."""
    metric = ranking_metric(shown)
    train, val = f"train_{metric}", f"val_{metric}"
    y = pd.Series(range(len(shown)), shown.index)
    axes.axvline(shown[val].iloc[0], color=GREY, linewidth=0.9, linestyle="--", zorder=1)
    axes.axhspan(-0.5, 0.5, color=FAINT, zorder=0)
    axes.hlines(y, shown[train], shown[val], colors=list(shown["colour"]), alpha=0.35, linewidth=3)
    for (colour, marker), group in shown.groupby(["colour", "marker"], sort=False):
        look: dict[str, Any] = {"color": colour, "fmt": marker, "capsize": 2.5, "zorder": 3}
        for name, fill in ((train, "white"), (val, colour)):
            spread = group[f"{name}_std"].fillna(0)
            axes.errorbar(group[name], y[group.index], xerr=spread, markerfacecolor=fill, **look)
    scale_axes(axes, shown[[train, val]], "x")
    labels = [f"{name}   {i}" for i, name in enumerate(shown["configuration"], start=1)]
    axes.set_yticks(y, labels, color=INK)
    bold = shown["within_noise"].fillna(False).astype(bool) | (shown.index == 0)
    for label, is_bold in zip(axes.get_yticklabels(), bold, strict=True):
        label.set_fontweight("bold" if is_bold else "normal")
    axes.set_ylim(max(len(shown), 8) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(f"{metric} ({loss_unit(shown)})")
    which = f"the best {len(shown)} of {total}" if total > len(shown) else "best first"
    axes.set_title(f"○ train and ● validation {metric}, {which}")


def _draw_plane(axes: Axes, table: pd.DataFrame, shown: pd.DataFrame) -> None:
    """Draw validation against train loss: one point per configuration, a faint one per run."""
    metric = ranking_metric(shown)
    x, y = f"train_{metric}", f"val_{metric}"
    runs = table.dropna(subset=[y])
    axes.scatter(runs[x], runs[y], s=9, c=runs["kind"].map(kind_colour), alpha=0.3, linewidth=0)
    for (colour, marker), group in shown.groupby(["colour", "marker"], sort=False):
        spread = group[[f"{x}_std", f"{y}_std"]].fillna(0).to_numpy().T
        look: dict[str, Any] = {"color": colour, "fmt": marker, "markeredgecolor": "white"}
        axes.errorbar(group[x], group[y], spread[1], spread[0], zorder=3, **look)
    scale_axes(axes, shown[[x, y]], "xy")
    bottom, top = axes.get_ylim()
    axes.set_xlim(right=max(axes.get_xlim()[1], bottom + 0.15 * (top - bottom)))
    axes.axline((bottom, bottom), (top, top), color=GREY, linewidth=1)  # no gap
    corner: dict[str, Any] = {"color": GREY, "size": 11, "style": "italic", "va": "top"}
    axes.text(0.02, 0.98, "overfitting", transform=axes.transAxes, **corner)
    axes.text(0.86, 0.98, "underfitting", transform=axes.transAxes, ha="right", **corner)
    axes.set_xlabel(f"train {metric} ({loss_unit(shown)})")
    axes.set_ylabel(f"validation {metric} ({loss_unit(shown)})")
    axes.set_title("Good fits lie low and near the diagonal")
    _number_points(axes, shown[[x, y]].to_numpy())


def _number_points(axes: Axes, points: np.ndarray) -> None:
    """Write each configuration's rank beside its point, the best first, where there is room."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()  # the layout decides where points are in pixels
    pixels = axes.transData.transform(points)
    occupied = list(pixels)
    text: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "va": "center"}
    for rank, (point, pixel) in enumerate(zip(points[:ROWS], pixels, strict=False), start=1):
        for angle in np.radians([45, 135, -45, -135, 90, 0, 180, -90]):
            offset = 9 * np.array([np.cos(angle), np.sin(angle)])
            spot = pixel + offset * figure.dpi / 72
            if all(np.hypot(*(spot - other)) > 12 for other in occupied if other is not pixel):
                axes.annotate(str(rank), point, xytext=tuple(offset), size=7.5, zorder=4, **text)
                occupied.append(spot)
                break
