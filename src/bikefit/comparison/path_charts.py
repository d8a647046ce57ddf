"""Losses along the paths of a sweep: what a setting changes, in figures and sentences.

The recipe's step 6: too little flexibility leaves both losses high (underfitting), too much lowers
only the train loss (overfitting), and the best value lies between.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter, NullLocator

from bikefit.comparison.charts import (
    GREY,
    INK,
    ROLES,
    figure_of,
    legend_below,
    new_axes,
    new_figure,
    round_ticks,
    set_title,
    spans_decades,
)
from bikefit.comparison.paths import SettingPath, find_paths
from bikefit.comparison.ranking import rank
from bikefit.comparison.run_charts import weight_matrices
from bikefit.comparison.runs import FRACTION, column, configuration_ids, loss_unit, ranking_metric
from bikefit.comparison.sentences import number, with_spread
from bikefit.comparison.verdicts import Thresholds, along

LINEAR = {"dropout", "depth", "p_norm"}  # settings whose axis is never logarithmic
FEWEST = 3  # values of a setting that make a curve
EACH = 2  # curves of a setting: those that reach the lowest validation loss
MOST = 6  # curves in the overview
TRACED = 40  # single weights that are drawn along a strength
MORE_DATA = "Would more data help?"


@dataclass(frozen=True)
class Series:
    """A path with the losses of its configurations.

    ``table`` is the ranking of the configurations in the order of ``value``, the value of the
    setting. It has ``rows``, the number of training rows, ``run_id``, a run of one seed, and the
    columns of :func:`bikefit.comparison.verdicts.along`.
    """

    path: SettingPath
    table: pd.DataFrame

    @property
    def losses(self) -> pd.Series:
        """Mean validation loss (or deviance, if kinds of loss differ) of each value."""
        return self.table[f"val_{ranking_metric(self.table)}"]

    @property
    def about_data(self) -> bool:
        """Whether the setting is the fraction of the training rows."""
        return self.path.key == FRACTION

    @property
    def by_rows(self) -> bool:
        """Whether the axis shows the number of training rows."""
        return self.about_data and bool(self.table["rows"].notna().all())

    @property
    def title(self) -> str:
        """The result in a few words."""
        if self.about_data:
            return f"{MORE_DATA} {more_data(self).split(':')[0]}"
        lowest = self.table["value"].iloc[int(self.losses.argmin())]
        metric = ranking_metric(self.table)
        return f"{self.path.label}: validation {metric} is lowest at {lowest:g}"

    @property
    def axis_label(self) -> str:
        """The label of the horizontal axis."""
        if self.about_data:
            return "training rows" if self.by_rows else "fraction of the training rows"
        return self.path.axis_label


def find_series(runs: pd.DataFrame, thresholds: Thresholds | None = None) -> list[Series]:
    """Return the losses along every setting, at most two paths per setting.

    Args:
        runs: as returned by :func:`bikefit.tracking.reading.read_runs`.
        thresholds: Thresholds of the verdicts; the defaults if None.
    """
    chosen: list[SettingPath] = []
    for path in find_paths(runs):
        fewest = 2 if path.key == FRACTION else FEWEST
        same = sum(other.key == path.key for other in chosen)
        if len(path.values) >= fewest and same < EACH:
            chosen.append(path)
    if not chosen:
        return []
    ids = configuration_ids(runs)
    ranking = rank(runs).drop(columns=["difference_se", "within_noise"])
    ranking = ranking.set_index("configuration_id", drop=False).rename_axis(None)
    rows = pd.to_numeric(column(runs, "tags.train_rows")).groupby(ids).mean()
    series = []
    for path, evidence in zip(chosen, along(runs, chosen, thresholds), strict=True):
        table = ranking.loc[list(path.configurations)].assign(value=path.values, rows=rows)
        table["run_id"] = _runs_of_one_seed(runs[ids.isin(path.configurations)], ids)
        series.append(Series(path, table.join(evidence).reset_index(drop=True)))
    return series


def _runs_of_one_seed(runs: pd.DataFrame, ids: pd.Series) -> pd.Series:
    """Return one run id per configuration, of a seed that all have if there is one."""
    wide = runs.groupby([ids[runs.index], "seed"])["run_id"].first().unstack()
    common = wide.dropna(axis=1)
    return (wide if common.empty else common).bfill(axis=1).iloc[:, 0]


def path_chart(series: Series) -> Figure:
    """Draw train and validation loss along a setting, from underfitting to overfitting.

    The band is ± a standard deviation over seeds or folds. Regions are those of
    :func:`bikefit.comparison.verdicts.along`.
    """
    with new_axes() as axes:
        _draw_losses(axes, series)
        axes.set_ylabel(f"loss ({loss_unit(series.table)})")
        axes.legend(fontsize=7.5)
        set_title(axes, series.title)
    return figure_of(axes)


def overview_chart(series: Sequence[Series]) -> Figure:
    """Draw one panel per setting on one scale, from underfitting to overfitting.

    The longest path of each setting is shown, and no setting without a direction.
    """
    longest: dict[str, Series] = {}
    for one in series:
        if one.path.direction:
            known = longest.get(one.path.key, one)
            longest[one.path.key] = max(known, one, key=lambda series: len(series.table))
    shown = sorted(longest.values(), key=lambda one: -one.path.direction)[:MOST]
    if not shown:
        with new_axes() as axes:
            axes.set_axis_off()
            set_title(axes, "No setting has three values with all others equal: no curve to draw")
        return figure_of(axes)
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    with new_figure(3.3 * columns, 2.9 * rows + 0.4) as figure:
        panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
        for axes, one in zip(panels.ravel(), shown, strict=False):
            _draw_losses(axes, one)
            axes.set_title(one.path.label)
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


def weights_chart(series: Series, networks: Sequence[Mapping[str, np.ndarray]]) -> Figure:
    """Draw how weights change along a setting: quantiles of all, and a sample one by one.

    Args:
        series: Series with as many rows as there are networks.
        networks: Weights by name, one network per value, of equal shapes and from one seed.
    """
    weights = np.stack([
        np.concatenate([matrix.ravel() for matrix in weight_matrices(network).values()])
        for network in networks
    ])  # fmt: skip
    sample = np.linspace(0, weights.shape[1] - 1, TRACED).astype(int)
    with new_axes() as axes:
        x = _set_value_axis(axes, series)
        for low, high, label in ((0.05, 0.95, "90 % of all weights"), (0.25, 0.75, "50 %")):
            bounds = np.quantile(weights, [low, high], axis=1)
            axes.fill_between(x, *bounds, color="#0072B2", alpha=0.18, linewidth=0, label=label)
        axes.plot(x, weights[:, sample], color=GREY, alpha=0.5, linewidth=0.7)
        axes.plot([], [], color=GREY, linewidth=0.7, label=f"{TRACED} single weights")
        axes.set_ylabel("weight")
        legend_below(axes)
        label, spread = series.path.label, weights.std(axis=1)
        ends = f"{spread[0]:.2g} to {spread[-1]:.2g}"
        set_title(axes, f"Along {label}, the weights' standard deviation goes from {ends}")
    return figure_of(axes)


def _draw_losses(axes: Axes, series: Series) -> None:
    metric, table = ranking_metric(series.table), series.table
    x = _set_value_axis(axes, series)
    for part, label, shade, style in (
        ("train", "train", GREY, "--"),
        ("val", "validation", INK, "-"),
    ):
        mean = table[f"{part}_{metric}"].to_numpy(dtype=float)
        spread = table[f"{part}_{metric}_std"].fillna(0).to_numpy(dtype=float)
        line: dict[str, Any] = {
            "color": shade,
            "linestyle": style,
            "label": label,
            "linewidth": 1.6,
        }
        axes.plot(x, mean, marker="o", markersize=4, zorder=3, **line)
        axes.fill_between(x, mean - spread, mean + spread, color=shade, alpha=0.2, zorder=2)
    if spans_decades(table[[f"train_{metric}", f"val_{metric}"]].to_numpy().ravel()):
        axes.set_yscale("log")
        round_ticks(axes.yaxis)
    if not series.about_data:
        _draw_regions(axes, series, x)


def _set_value_axis(axes: Axes, series: Series) -> np.ndarray:
    """Set the horizontal axis, on which flexibility grows to the right; return the positions.

    On a logarithmic axis 0 is one step of the grid, at least a factor of 3, before the rest.
    """
    x = series.table["rows" if series.by_rows else "value"].to_numpy(dtype=float)
    axes.set_xlabel(series.axis_label)
    if series.path.direction < 0:
        axes.invert_xaxis()
    if (x % 1 == 0).all():
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    positive = x[x > 0]
    linear = series.about_data or series.path.last in LINEAR
    if linear or x[0] < 0 or len(positive) < 2 or not spans_decades(positive):
        return x
    axes.set_xscale("log")
    values, step = x, max(3.0, positive[1] / positive[0])
    x = np.where(x > 0, x, positive[0] / step)
    every = math.ceil(len(x) / 10)
    axes.set_xticks(x[::every], [f"{value:g}" for value in values[::every]])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    return x


def _draw_regions(axes: Axes, series: Series, x: np.ndarray) -> None:
    """Mark the lowest validation loss and shade the regions of underfitting and overfitting."""
    lowest = x[int(series.losses.argmin())]
    axes.axvline(lowest, color=ROLES["winner"], linewidth=1, linestyle=":", zorder=1)
    limits = axes.get_xlim()
    logarithmic = axes.get_xscale() == "log"
    middle = np.sqrt(x[1:] * x[:-1]) if logarithmic else (x[1:] + x[:-1]) / 2
    borders = [min(limits), *middle, max(limits)]
    for region, group in groupby(range(len(x)), key=lambda i: series.table["region"][i]):
        if not region:
            continue
        indices = list(group)
        start, end = borders[indices[0]], borders[indices[-1] + 1]
        axes.axvspan(start, end, color=ROLES[region], alpha=0.1, linewidth=0, zorder=0)
        at_start = indices[0] < len(x) / 2
        at_left = at_start == (limits[0] < limits[1])
        axes.annotate(
            region,
            (start if at_start else end, 0.98),
            xycoords=("data", "axes fraction"),
            xytext=(4 if at_left else -4, 0),
            textcoords="offset points",
            va="top",
            ha="left" if at_left else "right",
            color=ROLES[region],
            style="italic",
        )
    axes.set_xlim(limits)


def path_sentence(series: Series) -> str:
    """Return the lowest validation loss of a path, equally good values, and whether to go on."""
    table, losses = series.table, series.losses
    best = int(losses.argmin())
    row, value = table.iloc[best], table["value"].iloc[best]
    parts = [f"Lowest: {with_spread(row, str(losses.name), losses.min())} at {value:g}"]
    near = table.loc[table["within_noise"].fillna(False).astype(bool), "value"]
    if len(near):
        parts.append(f"not significantly worse: {', '.join(f'{value:g}' for value in near)}")
    if best in (0, len(table) - 1) and value != 0:
        extreme = "smallest" if best == 0 else "largest"
        parts.append(f"this is the {extreme} value tried: try further values")
    if series.path.fixed:
        parts.append(f"with {series.path.fixed}")
    return "; ".join(parts) + "."


def more_data(series: Series) -> str:
    """Answer the recipe's step 8 from the last step of a path of numbers of training rows."""
    table, losses = series.table, series.losses
    before, last = table.iloc[-2], table.iloc[-1]
    low = losses.iloc[-1]
    names = [f"{row['rows']:,.0f}" for row in (before, last)]
    if table["rows"].isna().any():
        names = [f"{row['value']:.0%} of the" for row in (before, last)]
    fall = float(losses.iloc[-2] - low)
    moved = (
        f"from {names[0]} to {names[1]} rows the validation {ranking_metric(table)} "
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
