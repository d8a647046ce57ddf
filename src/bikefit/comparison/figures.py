"""The pictures of a comparison: figures without a window, the same bytes for the same runs."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from bikefit.comparison.ranking import winner
from bikefit.comparison.runs import loss_unit, ranking_metric
from bikefit.comparison.sentences import winner_sentence, with_spread
from bikefit.data.look import FAINT, STYLE

# Of the Okabe-Ito palette, which colour-blind readers can tell apart.
COLOURS = {
    "none": "#444444", "l1": "#E69F00", "l2": "#0072B2", "lp": "#8C6D1F",
    "weight decay": "#56B4E9", "dropout": "#D55E00", "batch norm": "#009E73",
    "early stopping": "#CC79A7",
}  # fmt: skip
COMBINED = "#6A3D9A"
MARKERS = "osD^vPX*<>ph"
ROLES = {"winner": "#009E73", "underfitting": "#0072B2", "overfitting": "#D55E00"}
GREY = "#8A9096"
LOGARITHMIC = 6.0  # ratio of the largest to the smallest loss from which axes are logarithmic
COLUMNS = 3  # of the legends
ROWS = 60  # configurations in the left panel; more would be too small to read


def save(figure: Figure, path: Path) -> None:
    """Write a PNG without the version of the library in it."""
    figure.savefig(path, format="png", metadata={"Software": None})


def svg(figure: Figure) -> str:
    """Write an SVG whose text stays text, the same for the same figure."""
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "bikefit"}):
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None},
                       transparent=True)  # fmt: skip
    return buffer.getvalue()


def title(axes: Axes, text: str) -> None:
    """Set a title that breaks into lines of a panel's width."""
    axes.set_title(textwrap.fill(text, 48))


@contextmanager
def panel(width: float = 4.7, height: float = 3.3) -> Iterator[Axes]:
    """Give the axes of a figure that is readable on a phone; sizes in inches."""
    with rc_context(STYLE):
        figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
        FigureCanvasAgg(figure)
        yield figure.subplots()


def drawn(axes: Axes) -> Figure:
    """Return the figure that axes belong to."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    return figure


def legend_below(axes: Axes, columns: int = 3) -> None:
    """Put the legend where it hides no curve."""
    drawn(axes).legend(loc="outside lower left", ncols=columns, fontsize=7.5)


def plane(table: pd.DataFrame, ranking: pd.DataFrame) -> Figure:
    """Draw validation against train loss of every configuration, small enough for a phone."""
    shown = ranking.dropna(subset=[f"val_{ranking_metric(ranking)}"])
    markers = _markers(shown)
    with rc_context(STYLE):
        figure = Figure(figsize=(4.9, 6.0), dpi=110, layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplot_mosaic([["plane"], ["legend"]], height_ratios=[4.4, 2])
        _plane(panels["plane"], table, shown, markers)
        _legend(panels["legend"], shown, markers)
    return figure


def train_against_validation(table: pd.DataFrame, ranking: pd.DataFrame) -> Figure:
    """Draw train and validation loss of every configuration, with the spread over seeds.

    Left, best first, both losses and the gap between them; right, validation against train loss.
    Underfitting is high in both, overfitting far above the diagonal.

    Args:
        table: of :func:`bikefit.comparison.ranking.comparison`: each seed.
        ranking: of :func:`bikefit.comparison.ranking.rank`: means and spread.
    """
    shown = ranking.dropna(subset=[f"val_{ranking_metric(ranking)}"])
    markers = _markers(shown)
    entries = (min(shown["kind"].nunique(), len(COLOURS) + 1), min(len(markers), len(MARKERS)))
    legend_height = 0.9 + 0.2 * sum(math.ceil(count / COLUMNS) for count in entries)  # in
    with rc_context(STYLE):
        height = max(8.0, 0.26 * min(len(shown), ROWS) + 2.2)
        figure = Figure(figsize=(12.5, height), dpi=110, layout="constrained")
        FigureCanvasAgg(figure)
        if winner(ranking) is None:
            figure.text(0.5, 0.5, winner_sentence(ranking), ha="center", size=14)
            return figure
        panels = figure.subplot_mosaic(
            [["rows", "plane"], ["rows", "legend"]], width_ratios=[1, 1.1],
            height_ratios=[height - legend_height, legend_height],
        )  # fmt: skip
        _rows(panels["rows"], shown.head(ROWS), len(shown), markers)
        _plane(panels["plane"], table, shown, markers)
        _legend(panels["legend"], shown, markers)
        figure.suptitle(_headline(ranking), x=0.012, ha="left", size=13, weight="bold")
    return figure


def _headline(ranking: pd.DataFrame) -> str:
    best, name = ranking.iloc[0], ranking_metric(ranking)
    loss = with_spread(best, f"val_{name}", best[f"val_{name}"])
    rmse = f"RMSE {best['val_rmse']:.1f} bikes/hour"
    text = f"Best: {best['configuration']}: validation {name} {loss}, {rmse}"
    failed = ranking["failed"].sum()
    return text + (f" (failed runs, not shown: {failed})" if failed else "")


def colour(kind: str) -> str:
    """Return the colour of a kind of regularization; combinations share one."""
    return COLOURS.get(kind, COMBINED)


def _markers(ranking: pd.DataFrame) -> dict[str, str]:
    """Give each network a marker, the most frequent one first."""
    counts = ranking["network"].value_counts()
    networks = sorted(counts.index, key=lambda network: (-counts[network], network))
    return {network: MARKERS[i % len(MARKERS)] for i, network in enumerate(networks)}


def _looks(
    ranking: pd.DataFrame, markers: dict[str, str]
) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """Configurations that look the same: drawing them at once is quicker than one by one."""
    for (kind, network), group in ranking.groupby(["kind", "network"], sort=False):
        style: dict[str, Any] = {
            "color": colour(str(kind)),
            "marker": markers[str(network)],
            "linestyle": "none",
        }
        yield style, group


def _logarithmic(ranking: pd.DataFrame) -> bool:
    """Whether the losses span so much that a linear axis would press most of them together."""
    name = ranking_metric(ranking)
    losses = ranking[[f"train_{name}", f"val_{name}"]].to_numpy()
    return bool(losses.min() > 0 and losses.max() / losses.min() > LOGARITHMIC)


def plain_ticks(axis: Axis) -> None:
    """Round numbers on a logarithmic axis, as many as there is room for."""
    low, high = axis.get_view_interval()
    subs = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0) if high / low < 30 else (1.0, 2.0, 5.0)
    axis.set_major_locator(LogLocator(subs=subs if high / low < 1000 else (1.0,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _rows(axes: Axes, ranking: pd.DataFrame, total: int, markers: dict[str, str]) -> None:
    """One row a configuration: a hollow mark for train loss, a full one for validation loss."""
    name = ranking_metric(ranking)
    if _logarithmic(ranking):
        axes.set_xscale("log")
    best = ranking[f"val_{name}"].iloc[0]
    axes.axvline(best, color=GREY, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    axes.axhspan(-0.5, 0.5, color=FAINT, zorder=0)
    train, val = f"train_{name}", f"val_{name}"
    places = pd.Series(range(len(ranking)), ranking.index)
    shades = ranking["kind"].map(colour)
    axes.hlines(places, ranking[train], ranking[val], color=shades, alpha=0.35, linewidth=3,
                zorder=2)  # fmt: skip
    for style, group in _looks(ranking, markers):
        for column, fill in ((train, "white"), (val, style["color"])):
            axes.errorbar(
                group[column], places[group.index], xerr=group[f"{column}_std"].fillna(0),
                markerfacecolor=fill, markersize=6.5, elinewidth=1.3, capsize=2.5, zorder=3,
                **style,
            )  # fmt: skip
    if _logarithmic(ranking):
        plain_ticks(axes.xaxis)
    labels = [f"{c}   {i}" for i, c in enumerate(ranking["configuration"], start=1)]
    axes.set_yticks(places, labels)
    bold = ranking["within_noise"].fillna(False).astype(bool) | (ranking.index == 0)
    for label, close in zip(axes.get_yticklabels(), bold, strict=True):
        label.set(color="#222222", fontweight="bold" if close else "normal")
    axes.set_ylim(max(len(ranking), 8) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(f"{name} ({loss_unit(ranking)})")
    which = f"the best {len(ranking)} of {total}" if total > len(ranking) else "best first"
    axes.set_title(f"○ train and ● validation {name}, {which}")


def _plane(axes: Axes, table: pd.DataFrame, ranking: pd.DataFrame, markers: dict[str, str]) -> None:
    """Validation against train loss: one point a configuration, a faint one for each seed."""
    name = ranking_metric(ranking)
    x, y = f"train_{name}", f"val_{name}"
    if _logarithmic(ranking):
        axes.set(xscale="log", yscale="log")
    for kind, seeds in table.dropna(subset=[y]).groupby("kind"):
        axes.scatter(seeds[x], seeds[y], s=9, color=colour(str(kind)), alpha=0.3, linewidth=0)
    for style, group in _looks(ranking, markers):
        axes.errorbar(
            group[x], group[y], xerr=group[f"{x}_std"].fillna(0), yerr=group[f"{y}_std"].fillna(0),
            elinewidth=0.9, markersize=7, markeredgecolor="white", markeredgewidth=0.6, zorder=3,
            **style,
        )  # fmt: skip
    _guides(axes, ranking, x, y)
    if _logarithmic(ranking):
        plain_ticks(axes.xaxis)
        plain_ticks(axes.yaxis)
    _number_points(axes, list(zip(ranking[x], ranking[y], strict=True)))
    axes.set_xlabel(f"train {name} ({loss_unit(ranking)})")
    axes.set_ylabel(f"validation {name} ({loss_unit(ranking)})")
    axes.set_title("Good fits lie low and near the diagonal")


def _guides(axes: Axes, ranking: pd.DataFrame, x: str, y: str) -> None:
    """The diagonal without a gap, lines of equal gap, and what the corners mean."""
    logarithmic = axes.get_xscale() == "log"
    left, right = _limits(ranking, x, logarithmic)
    bottom, top = _limits(ranking, y, logarithmic)
    right = max(right, bottom + 0.15 * (top - bottom))  # a piece of the diagonal is always seen
    axes.set(xlim=(left, right), ylim=(bottom, top))
    line = np.linspace(left, right, 400)
    axes.fill_between(line, line, bottom, where=(line > bottom).tolist(), color=FAINT, zorder=0)
    axes.plot(line, line, color=GREY, linewidth=1, zorder=1)
    widest = float((ranking[y] - ranking[x]).max())
    height = (bottom * top) ** 0.5 if logarithmic else (bottom + top) / 2
    for gap in {float(f"{widest * share:.1g}") for share in (0.4, 1)} if widest > 0 else ():
        axes.plot(line, line + gap, color=GREY, linewidth=0.8, linestyle=":", zorder=1)
        if left < height - gap < right:
            axes.text(
                height - gap, height, f"gap {gap:g}", color=GREY, size=7.5, ha="center",
                va="center", bbox={"color": "white", "pad": 1}, zorder=1.5,
            )  # fmt: skip
    words: dict[str, Any] = {
        "color": GREY,
        "size": 11,
        "style": "italic",
        "transform": axes.transAxes,
    }
    axes.text(0.02, 0.98, "overfitting", va="top", **words)
    axes.text(0.86, 0.98, "underfitting", va="top", ha="right", **words)


def _limits(ranking: pd.DataFrame, name: str, logarithmic: bool) -> tuple[float, float]:
    """The range of the error bars with a margin; a single point gets some room around it."""
    spread = ranking[f"{name}_std"].fillna(0)
    low, high = float((ranking[name] - spread).min()), float((ranking[name] + spread).max())
    if logarithmic:
        low = max(low, float(ranking[name].min()) / 2)
        margin = (high / low) ** 0.08
        return low / margin, high * margin
    margin = 0.08 * (high - low) or 0.1 * abs(high) or 1.0
    return low - margin, high + margin


def _number_points(axes: Axes, points: list[tuple[float, float]]) -> None:
    """Write each configuration's place beside its point, the best first, where there is room."""
    figure = drawn(axes)
    figure.draw_without_rendering()  # the layout decides where points are in pixels
    pixels = axes.transData.transform(points)
    taken = list(pixels)
    for place, (point, pixel) in enumerate(zip(points[:ROWS], pixels, strict=False), start=1):
        for angle in np.radians([45, 135, -45, -135, 90, 0, 180, -90]):
            offset = 9 * np.array([math.cos(angle), math.sin(angle)])
            spot = pixel + offset * figure.dpi / 72
            if all(np.hypot(*(spot - other)) > 12 for other in taken if other is not pixel):
                axes.annotate(
                    str(place), point, xytext=tuple(offset), textcoords="offset points",
                    ha="center", va="center", size=7.5, zorder=4,
                )  # fmt: skip
                taken.append(spot)
                break


def _legend(axes: Axes, ranking: pd.DataFrame, markers: dict[str, str]) -> None:
    """Colours of the kinds of regularization, markers of the networks."""
    axes.set_axis_off()
    kinds = [k for k in COLOURS if k in set(ranking["kind"])]
    handles = [Line2D([], [], color=COLOURS[k], linewidth=5, label=k) for k in kinds]
    if not set(ranking["kind"]) <= set(COLOURS):
        handles.append(Line2D([], [], color=COMBINED, linewidth=5, label="combined"))
    shapes = [
        Line2D([], [], color="#444444", linestyle="", marker=marker, label=network)
        for network, marker in markers.items()
    ]
    style: dict[str, Any] = {"alignment": "left", "borderaxespad": 0, "columnspacing": 1.4,
                             "handlelength": 1.4}  # fmt: skip
    kinds_legend = axes.legend(
        handles=handles, title="regularization", loc="upper left", ncols=COLUMNS, **style
    )
    axes.add_artist(kinds_legend)
    axes.legend(
        handles=shapes[: len(MARKERS)], title="network", loc="lower left", ncols=COLUMNS, **style
    )
