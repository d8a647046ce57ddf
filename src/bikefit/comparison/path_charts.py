"""Losses along the paths of a sweep, in figures and sentences.

Too little flexibility leaves both losses high (underfitting), too much lowers only the train loss
(overfitting), and the best value lies between (step 6 of the recipe).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from bikefit.comparison.charts import (
    GREY,
    INK,
    ROLES,
    add_title_and_legend,
    needs_log_axis,
    new_figure,
    scale_axes,
)
from bikefit.comparison.noise import differences
from bikefit.comparison.paths import SettingPath, find_paths
from bikefit.comparison.ranking import rank
from bikefit.comparison.runs import FRACTION, loss_unit, ranking_metric
from bikefit.comparison.sentences import number, with_spread
from bikefit.comparison.verdicts import CHANGES, contradicting_paths

LINEAR = {"dropout", "depth", "p_norm", "fraction"}  # settings whose axis is never logarithmic
MIN_VALUES = 3  # smallest number of values of a path; 2 for the fraction of the training rows
PATHS_PER_SETTING = 2  # largest number, those with the lowest validation losses
MAX_PANELS = 6  # of the overview
MORE_DATA = "Would more data help?"


@dataclass(frozen=True)
class Series:
    """A path with the losses of its configurations.

    ``table`` has the rows of the ranking in the order of the path, and ``value``, the value of the
    setting. ``difference_se`` and ``within_noise`` compare with the lowest loss on the path, see
    :func:`bikefit.comparison.noise.differences`. ``region`` is the verdict if it is underfitting or
    overfitting and the path does not contradict it, otherwise "".
    """

    path: SettingPath
    table: pd.DataFrame

    @property
    def about_data(self) -> bool:
        """Whether the setting is the fraction of the training rows."""
        return self.path.key == FRACTION


def find_series(runs: pd.DataFrame) -> list[Series]:
    """Return the losses along the best paths of every setting in a run table with verdicts."""
    chosen: list[SettingPath] = []
    for path in find_paths(runs):
        fewest = 2 if path.key == FRACTION else MIN_VALUES
        same = sum(other.key == path.key for other in chosen)
        if len(path.values) >= fewest and same < PATHS_PER_SETTING:
            chosen.append(path)
    ranking = rank(runs).set_index("configuration_id")
    return [
        _series(path, ranking, runs.dropna(subset=["train_loss", "val_loss"])) for path in chosen
    ]


def _series(path: SettingPath, ranking: pd.DataFrame, runs: pd.DataFrame) -> Series:
    table = ranking.loc[list(path.configurations)].assign(value=path.values)
    runs = runs[runs["configuration_id"].isin(path.configurations)]
    noise = differences(runs, "val_loss", str(table["val_loss"].idxmin()))
    regions = {
        name: verdict
        for name, verdict in zip(runs["configuration_id"], runs["verdict"], strict=True)
        if verdict in CHANGES and not contradicting_paths(name, verdict, [path], table["val_loss"])
    }
    table["region"] = [regions.get(name, "") for name in path.configurations]
    return Series(path, table.assign(**noise[["difference_se", "within_noise"]]))


def path_chart(series: Series) -> Figure:
    """Return a chart of train and validation loss along a path, with shaded verdicts.

    Bands are ± a standard deviation over seeds, folds or training sets.
    """
    table = series.table.set_index("value")
    title = f"{series.path.label}: validation {ranking_metric(table)} is lowest at "
    title += f"{table['val_loss'].idxmin():g}"
    if series.about_data:
        title = f"{MORE_DATA} {more_data(series).split(':')[0]}"
    with new_figure() as figure:
        axes = figure.subplots()
        _draw_losses(axes, series)
        axes.set_ylabel(f"loss ({loss_unit(table)})")
        add_title_and_legend(figure, title)
    return figure


def longest_paths(series: Sequence[Series]) -> list[Series]:
    """Return the longest path of each setting that changes flexibility, at most MAX_PANELS."""
    directed = [losses for losses in series if losses.path.direction]
    longest = {losses.path.key: losses for losses in sorted(directed, key=lambda s: len(s.table))}
    shown = [losses for losses in directed if losses is longest[losses.path.key]]
    return sorted(shown, key=lambda losses: -losses.path.direction)[:MAX_PANELS]


def overview_chart(series: Sequence[Series]) -> Figure:
    """Return a chart of the losses along each of :func:`longest_paths`."""
    return panel_chart(longest_paths(series), _draw_losses)


def panel_chart(shown: Sequence[Series], draw: Callable[[Axes, Series], None]) -> Figure:
    """Return a chart with a panel for each path, drawn by a function, with one scale of losses."""
    columns = min(3, max(1, len(shown)))
    rows = max(1, math.ceil(len(shown) / columns))
    with new_figure(max(4.7, 3.3 * columns), 2.9 * rows + 0.4) as figure:
        if not shown:
            message = "No setting has three values\nwith all others equal: no curve to draw"
            figure.text(0.5, 0.5, message, ha="center")
            return figure
        panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
        for axes, losses in zip(panels.flat, shown, strict=False):
            draw(axes, losses)
            axes.set_title(losses.path.label)
            axes.tick_params(axis="x", labelsize=7)
        for axes in panels.ravel()[len(shown) :]:
            axes.set_visible(False)
        for axes in panels[:, 0]:
            axes.set_ylabel("loss")
        handles, labels = panels[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper right", ncols=2, fontsize=8)
        heading = f"Underfitting ← flexibility → overfitting · {loss_unit(shown[0].table)}"
        figure.suptitle(heading, fontsize=11, fontweight="bold", x=0.01, ha="left")
    return figure


def _draw_losses(axes: Axes, series: Series) -> None:
    table, x = series.table, set_value_axis(axes, series)
    styles = (("train", "train", "o--", GREY), ("val", "validation", "o-", INK))
    for part, label, style, shade in styles:
        mean, spread = table[f"{part}_loss"], table[f"{part}_loss_std"].fillna(0)
        axes.plot(x, mean, style, color=shade, label=label, linewidth=1.6, markersize=4, zorder=3)
        axes.fill_between(x, mean - spread, mean + spread, color=shade, alpha=0.2, zorder=2)
    scale_axes(axes, table[["train_loss", "val_loss"]], "y")
    if not series.about_data:
        _draw_regions(axes, series, x)


def set_value_axis(axes: Axes, series: Series) -> np.ndarray:
    """Set up the horizontal axis; return the position of each value.

    Flexibility grows to the right. On a logarithmic axis, 0 is drawn one step of the grid, at least
    a factor of 3, below the smallest positive value.
    """
    by_rows = series.about_data and bool(series.table["train_rows"].notna().all())
    x = series.table["train_rows" if by_rows else "value"].to_numpy(dtype=float)
    axes.set_xlabel("training rows" if by_rows else series.path.axis_label)
    if series.path.direction < 0:
        axes.invert_xaxis()
    if (x % 1 == 0).all():
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    positive = x[x > 0]
    linear = series.path.last in LINEAR or x[0] < 0
    if linear or len(positive) < 2 or not needs_log_axis(positive):
        return x
    axes.set_xscale("log")
    values, step = x, max(3.0, positive[1] / positive[0])
    x = np.where(x > 0, x, positive[0] / step)
    every = math.ceil(len(x) / 10)
    axes.set_xticks(x[::every], [f"{value:g}" for value in values[::every]])
    axes.xaxis.set_minor_locator(NullLocator())
    return x


def _draw_regions(axes: Axes, series: Series, x: np.ndarray) -> None:
    """Draw a line at the lowest validation loss; shade the regions of under- and overfitting."""
    lowest = x[int(series.table["val_loss"].argmin())]
    axes.axvline(lowest, color=ROLES["winner"], linewidth=1, linestyle=":", zorder=1)
    limits = axes.get_xlim()
    logarithmic = axes.get_xscale() == "log"
    middle = np.sqrt(x[1:] * x[:-1]) if logarithmic else (x[1:] + x[:-1]) / 2
    borders = [min(limits), *middle, max(limits)]
    regions = list(series.table["region"])
    for region, group in groupby(range(len(x)), key=lambda i: regions[i]):
        if region:
            start, *_, end = [borders[i + step] for i in group for step in (0, 1)]
            axes.axvspan(start, end, color=ROLES[region], alpha=0.1, linewidth=0, zorder=0)
            left = region == "underfitting"
            style: dict[str, Any] = {"ha": "left" if left else "right", "va": "top"}
            style |= {"color": ROLES[region], "style": "italic", "transform": axes.transAxes}
            axes.text(0.02 if left else 0.98, 0.98, region, **style)
    axes.set_xlim(limits)


def path_sentence(series: Series) -> str:
    """Return a sentence with the lowest validation loss of a path and its value of the setting.

    It names values that are not significantly worse, and advises further values if the best is the
    smallest or largest.
    """
    table, values = series.table, list(series.table["value"])
    position = int(table["val_loss"].argmin())
    row, best = table.iloc[position], values[position]
    parts = [f"Lowest: {with_spread(row, 'val_loss', row['val_loss'])} at {best:g}"]
    near = table.loc[table["within_noise"].fillna(False).astype(bool), "value"]
    if len(near):
        parts.append(f"not significantly worse: {', '.join(f'{value:g}' for value in near)}")
    if best in (values[0], values[-1]) and best != 0:
        extreme = "smallest" if best == values[0] else "largest"
        parts.append(f"this is the {extreme} value tried: try further values")
    if series.path.fixed:
        parts.append(f"with {series.path.fixed}")
    return "; ".join(parts) + "."


def more_data(series: Series) -> str:
    """Return a sentence on whether more training rows would help, from the last step of a path."""
    table, losses = series.table, series.table["val_loss"]
    before, last = table.iloc[-2], table.iloc[-1]
    start, end = (f"{row['train_rows']:,.0f}" for row in (before, last))
    if table["train_rows"].isna().any():
        start, end = (f"{row['value']:.0%} of the" for row in (before, last))
    low, fall = float(last["val_loss"]), float(before["val_loss"] - last["val_loss"])
    moved = (
        f"from {start} to {end} rows the validation {ranking_metric(table)} "
        f"{'fell' if fall >= 0 else 'rose'} by {number(abs(fall), low)}"
    )
    # `difference_se` and `within_noise` refer to the lowest loss, so they fit the last step only if
    # the last loss is the lowest.
    if low > losses.min():
        return f"Not by this sweep: {moved}, and fewer rows reached {number(losses.min(), 1)}."
    error = float(before["difference_se"])
    if math.isnan(error) or table["seeds"].max() == 1:
        return f"Unknown: {moved}, but one seed does not show the noise (run seed=0,1,2)."
    moved = f"{moved} ± {number(error, low)} (standard error)"
    if before["within_noise"]:
        return f"Not visibly: {moved}, which is not significant."
    doublings = math.log2(last["value"] / before["value"])
    gain, noise = (number(value / doublings, low) for value in (fall, error))
    return (
        f"Yes: {moved}, which is significant; at this rate twice the rows would lower it by "
        f"{gain} ± {noise}, or less if the gain slows down."
    )
