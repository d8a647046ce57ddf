"""Figures of a ranking: train and validation loss of every configuration."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bikefit.comparison.charts import GREY, INK, figure_of, new_figure, round_ticks, spans_decades
from bikefit.comparison.ranking import winner
from bikefit.comparison.runs import loss_unit, ranking_metric
from bikefit.comparison.sentences import winner_sentence, with_spread
from bikefit.data.look import FAINT

KIND_COLOURS = {
    "none": "#444444",
    "l1": "#E69F00",
    "l2": "#0072B2",
    "lp": "#8C6D1F",
    "weight decay": "#56B4E9",
    "dropout": "#D55E00",
    "batch norm": "#009E73",
    "early stopping": "#CC79A7",
}
COMBINED = "#6A3D9A"  # of all combinations of methods
MARKERS = "osD^vPX*<>ph"
LEGEND_COLUMNS = 3
ROWS = 60  # configurations in the left panel; more would be too small to read


def plane_chart(table: pd.DataFrame, ranking: pd.DataFrame) -> Figure:
    """Draw validation against train loss of every configuration, readable on a phone.

    Args:
        table: of :func:`bikefit.comparison.runs.run_table`.
        ranking: of :func:`bikefit.comparison.ranking.rank`.
    """
    shown = ranking.dropna(subset=[f"val_{ranking_metric(ranking)}"])
    markers = _markers(shown)
    with new_figure(4.9, 6.0) as figure:
        panels = figure.subplot_mosaic([["plane"], ["legend"]], height_ratios=[4.4, 2])
        _draw_plane(panels["plane"], table, shown, markers)
        _draw_legend(panels["legend"], shown, markers)
    return figure


def ranking_chart(table: pd.DataFrame, ranking: pd.DataFrame) -> Figure:
    """Draw train and validation loss of every configuration, with the spread over seeds.

    Left, best first, both losses and the gap between them; right, validation against train loss.
    Underfitting is high in both, overfitting far above the diagonal.

    Args:
        table: of :func:`bikefit.comparison.runs.run_table`.
        ranking: of :func:`bikefit.comparison.ranking.rank`.
    """
    shown = ranking.dropna(subset=[f"val_{ranking_metric(ranking)}"])
    markers = _markers(shown)
    entries = (min(shown["kind"].nunique(), len(KIND_COLOURS) + 1), min(len(markers), len(MARKERS)))
    legend = 0.9 + 0.2 * sum(math.ceil(count / LEGEND_COLUMNS) for count in entries)  # inches
    height = max(8.0, 0.26 * min(len(shown), ROWS) + 2.2)
    with new_figure(12.5, height) as figure:
        if winner(ranking) is None:
            figure.text(0.5, 0.5, winner_sentence(ranking), ha="center", size=14)
            return figure
        panels = figure.subplot_mosaic(
            [["rows", "plane"], ["rows", "legend"]],
            width_ratios=[1, 1.1],
            height_ratios=[height - legend, legend],
        )
        _draw_rows(panels["rows"], shown.head(ROWS), len(shown), markers)
        _draw_plane(panels["plane"], table, shown, markers)
        _draw_legend(panels["legend"], shown, markers)
        figure.suptitle(_headline(ranking), x=0.012, ha="left", size=13, weight="bold")
    return figure


def _headline(ranking: pd.DataFrame) -> str:
    best, by = ranking.iloc[0], f"val_{ranking_metric(ranking)}"
    loss = f"validation {ranking_metric(ranking)} {with_spread(best, by, best[by])}"
    text = f"Best: {best['configuration']}: {loss}, RMSE {best['val_rmse']:.1f} bikes/hour"
    failed = ranking["failed"].sum()
    return text + (f" (failed runs, not shown: {failed})" if failed else "")


def kind_colour(kind: str) -> str:
    """Return the colour of a kind of regularization; combinations share one colour."""
    return KIND_COLOURS.get(kind, COMBINED)


def _markers(ranking: pd.DataFrame) -> dict[str, str]:
    """Return a marker for each network, the most frequent network first."""
    counts = ranking["network"].value_counts()
    networks = sorted(counts.index, key=lambda network: (-counts[network], network))
    return {network: MARKERS[i % len(MARKERS)] for i, network in enumerate(networks)}


def _styles(
    ranking: pd.DataFrame, markers: Mapping[str, str]
) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """Yield the configurations of each style, which are drawn together."""
    for (kind, network), group in ranking.groupby(["kind", "network"], sort=False):
        marker = markers[str(network)]
        yield {"color": kind_colour(str(kind)), "marker": marker, "linestyle": "none"}, group


def _is_logarithmic(ranking: pd.DataFrame) -> bool:
    metric = ranking_metric(ranking)
    return spans_decades(ranking[[f"train_{metric}", f"val_{metric}"]].to_numpy().ravel())


def _draw_rows(axes: Axes, ranking: pd.DataFrame, total: int, markers: Mapping[str, str]) -> None:
    """Draw one row per configuration: train loss hollow, validation loss filled."""
    metric = ranking_metric(ranking)
    train, val = f"train_{metric}", f"val_{metric}"
    logarithmic = _is_logarithmic(ranking)
    if logarithmic:
        axes.set_xscale("log")
    best = ranking[val].iloc[0]
    axes.axvline(best, color=GREY, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    axes.axhspan(-0.5, 0.5, color=FAINT, zorder=0)
    y = pd.Series(range(len(ranking)), ranking.index)
    colours = ranking["kind"].map(kind_colour)
    gap: dict[str, Any] = {"alpha": 0.35, "linewidth": 3, "zorder": 2}
    axes.hlines(y, ranking[train], ranking[val], color=colours, **gap)
    bars: dict[str, Any] = {"markersize": 6.5, "elinewidth": 1.3, "capsize": 2.5, "zorder": 3}
    for style, group in _styles(ranking, markers):
        for name, fill in ((train, "white"), (val, style["color"])):
            spread = group[f"{name}_std"].fillna(0)
            look = bars | style | {"markerfacecolor": fill}
            axes.errorbar(group[name], y[group.index], xerr=spread, **look)
    if logarithmic:
        round_ticks(axes.xaxis)
    labels = [f"{name}   {i}" for i, name in enumerate(ranking["configuration"], start=1)]
    axes.set_yticks(y, labels)
    bold = ranking["within_noise"].fillna(False).astype(bool) | (ranking.index == 0)
    for label, is_bold in zip(axes.get_yticklabels(), bold, strict=True):
        label.set(color=INK, fontweight="bold" if is_bold else "normal")
    axes.set_ylim(max(len(ranking), 8) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(f"{metric} ({loss_unit(ranking)})")
    which = f"the best {len(ranking)} of {total}" if total > len(ranking) else "best first"
    axes.set_title(f"○ train and ● validation {metric}, {which}")


def _draw_plane(
    axes: Axes, table: pd.DataFrame, ranking: pd.DataFrame, markers: Mapping[str, str]
) -> None:
    """Draw validation against train loss: one point per configuration, a faint one per run."""
    metric = ranking_metric(ranking)
    x, y = f"train_{metric}", f"val_{metric}"
    logarithmic = _is_logarithmic(ranking)
    if logarithmic:
        axes.set(xscale="log", yscale="log")
    for kind, runs in table.dropna(subset=[y]).groupby("kind"):
        axes.scatter(runs[x], runs[y], s=9, color=kind_colour(str(kind)), alpha=0.3, linewidth=0)
    look: dict[str, Any] = {
        "elinewidth": 0.9,
        "markersize": 7,
        "markeredgecolor": "white",
        "zorder": 3,
    }
    for style, group in _styles(ranking, markers):
        errors: dict[str, Any] = {
            "xerr": group[f"{x}_std"].fillna(0),
            "yerr": group[f"{y}_std"].fillna(0),
        }
        axes.errorbar(group[x], group[y], markeredgewidth=0.6, **errors, **look, **style)
    _draw_guides(axes, ranking, x, y)
    if logarithmic:
        round_ticks(axes.xaxis)
        round_ticks(axes.yaxis)
    _number_points(axes, ranking[[x, y]].to_numpy())
    axes.set_xlabel(f"train {metric} ({loss_unit(ranking)})")
    axes.set_ylabel(f"validation {metric} ({loss_unit(ranking)})")
    axes.set_title("Good fits lie low and near the diagonal")


def _draw_guides(axes: Axes, ranking: pd.DataFrame, x: str, y: str) -> None:
    """Draw the diagonal without a gap, lines of equal gap, and the names of the corners."""
    logarithmic = axes.get_xscale() == "log"
    left, right = _limits(ranking, x, logarithmic)
    bottom, top = _limits(ranking, y, logarithmic)
    right = max(right, bottom + 0.15 * (top - bottom))  # part of the diagonal is always visible
    axes.set(xlim=(left, right), ylim=(bottom, top))
    line = np.linspace(left, right, 400)
    axes.fill_between(line, line, bottom, where=(line > bottom).tolist(), color=FAINT, zorder=0)
    axes.plot(line, line, color=GREY, linewidth=1, zorder=1)
    widest = float((ranking[y] - ranking[x]).max())
    height = (bottom * top) ** 0.5 if logarithmic else (bottom + top) / 2
    text: dict[str, Any] = {"color": GREY, "ha": "center", "va": "center", "size": 7.5}
    for gap in {float(f"{widest * part:.1g}") for part in (0.4, 1)} if widest > 0 else ():
        axes.plot(line, line + gap, color=GREY, linewidth=0.8, linestyle=":", zorder=1)
        if left < height - gap < right:
            box: dict[str, Any] = {"color": "white", "pad": 1}
            axes.text(height - gap, height, f"gap {gap:g}", bbox=box, zorder=1.5, **text)
    corner: dict[str, Any] = {"color": GREY, "size": 11, "style": "italic", "va": "top"}
    axes.text(0.02, 0.98, "overfitting", transform=axes.transAxes, **corner)
    axes.text(0.86, 0.98, "underfitting", transform=axes.transAxes, ha="right", **corner)


def _limits(ranking: pd.DataFrame, name: str, logarithmic: bool) -> tuple[float, float]:
    """Return the range of the error bars with a margin."""
    spread = ranking[f"{name}_std"].fillna(0)
    low, high = float((ranking[name] - spread).min()), float((ranking[name] + spread).max())
    if logarithmic:
        low = max(low, float(ranking[name].min()) / 2)
        margin = (high / low) ** 0.08
        return low / margin, high * margin
    margin = 0.08 * (high - low) or 0.1 * abs(high) or 1.0
    return low - margin, high + margin


def _number_points(axes: Axes, points: np.ndarray) -> None:
    """Write each configuration's rank beside its point, the best first, where there is room."""
    figure = figure_of(axes)
    figure.draw_without_rendering()  # the layout decides where points are in pixels
    pixels = axes.transData.transform(points)
    occupied = list(pixels)
    text: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "va": "center"}
    for rank, (point, pixel) in enumerate(zip(points[:ROWS], pixels, strict=False), start=1):
        for angle in np.radians([45, 135, -45, -135, 90, 0, 180, -90]):
            offset = 9 * np.array([math.cos(angle), math.sin(angle)])
            spot = pixel + offset * figure.dpi / 72
            if all(np.hypot(*(spot - other)) > 12 for other in occupied if other is not pixel):
                axes.annotate(str(rank), point, xytext=tuple(offset), size=7.5, zorder=4, **text)
                occupied.append(spot)
                break


def _draw_legend(axes: Axes, ranking: pd.DataFrame, markers: Mapping[str, str]) -> None:
    """Draw the colours of the kinds of regularization and the markers of the networks."""
    axes.set_axis_off()
    kinds = {kind: colour for kind, colour in KIND_COLOURS.items() if kind in set(ranking["kind"])}
    if not set(ranking["kind"]) <= set(KIND_COLOURS):
        kinds["combined"] = COMBINED
    lines = [
        Line2D([], [], color=colour, linewidth=5, label=kind) for kind, colour in kinds.items()
    ]
    points = [
        Line2D([], [], color="#444444", linestyle="", marker=marker, label=network)
        for network, marker in markers.items()
    ][: len(MARKERS)]
    style: dict[str, Any] = {
        "ncols": LEGEND_COLUMNS,
        "alignment": "left",
        "borderaxespad": 0,
        "columnspacing": 1.4,
        "handlelength": 1.4,
    }
    axes.add_artist(axes.legend(handles=lines, title="regularization", loc="upper left", **style))
    axes.legend(handles=points, title="network", loc="lower left", **style)
