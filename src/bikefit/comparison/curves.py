"""Curves of a sweep: loss against epochs, against flexibility, and against the number of rows.

The recipe's step 6 in pictures: too little flexibility leaves both losses high (underfitting), too
much lowers the train loss alone (overfitting), and the best lies between.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter, NullLocator

from bikefit.comparison.figures import (
    GREY,
    LOGARITHMIC,
    ROLES,
    drawn,
    legend_below,
    panel,
    plain_ticks,
    title,
)
from bikefit.comparison.paths import SettingPath, find_paths
from bikefit.comparison.ranking import rank
from bikefit.comparison.runs import FRACTION, configuration_ids, loss_unit, ranking_metric
from bikefit.comparison.sentences import number, with_spread
from bikefit.comparison.verdicts import Thresholds, along
from bikefit.data.look import STYLE

LINEAR = {"dropout", "depth", "p_norm"}  # all others are logarithmic where they span enough
FEWEST = 3  # values of a key that make a curve
EACH = 2  # curves of a key: those that reach the lowest validation loss
MOST = 6  # curves in the overview
OVERLAID = 40  # faint runs behind the ones that stand out


@dataclass(frozen=True)
class Learning:
    """The losses of a run epoch by epoch; `role` is one of `figures.ROLES`, or None if faint."""

    label: str
    train: Sequence[float]
    validation: Sequence[float]
    selected: float
    role: str | None = None


@dataclass(frozen=True)
class Series:
    """A path with what was measured along it.

    ``table`` is the ranking of its configurations in the order of ``value``, with ``rows``, the
    number of training rows, ``run_id``, a run of one seed, and what
    :func:`bikefit.comparison.verdicts.along` says of each: ``region``, ``difference_se`` and
    ``within_noise``.
    """

    path: SettingPath
    table: pd.DataFrame

    @property
    def key(self) -> str:
        """The setting that varies."""
        return self.path.key

    @property
    def direction(self) -> int:
        """+1 if more of it is more flexible, -1 if less, 0 if that cannot be said."""
        return self.path.direction


def highlighted_runs(table: pd.DataFrame, ranking: pd.DataFrame) -> dict[str, pd.Series]:
    """Choose the runs that stand out: the winner's, an underfitting and an overfitting one.

    Args:
        table: of :func:`bikefit.comparison.ranking.comparison`.
        ranking: of :func:`bikefit.comparison.ranking.rank`; a column ``verdict`` is respected.

    Returns:
        A row of `table` for each role: of its configuration the run with the lowest validation
        loss. The underfitting configuration has the highest train loss, the overfitting one the
        widest gap; a role that nobody else can take is left out.
    """
    by, train = f"val_{ranking_metric(ranking)}", f"train_{ranking_metric(ranking)}"
    found = ranking.dropna(subset=[by])
    roles = {"winner": found.index[0]} if len(found) else {}
    for role, column in (("underfitting", found[train]), ("overfitting", found[by] - found[train])):
        others = column.drop(list(roles.values()))
        if "verdict" in found:
            others = others[found["verdict"].reindex(others.index) == role]
        others = others[others > column.loc[roles["winner"]]] if roles else others
        if len(others):
            roles[role] = others.idxmax()
    runs = {role: table[table["configuration_id"] == found["configuration_id"][i]]
            for role, i in roles.items()}  # fmt: skip
    return {role: rows.loc[rows[by].idxmin()] for role, rows in runs.items()}


def learning(curves: Sequence[Learning], scale: str) -> Figure:
    """Draw loss against epoch: train dashed, validation solid, the selected epoch marked.

    Args:
        curves: of those without a role only the validation loss is drawn, faintly.
        scale: unit of the loss.
    """
    shown = [curve for curve in curves if curve.role]
    with panel(height=4.1 if len(shown) > 1 else 3.3) as axes:
        for curve in curves:
            name = f"{curve.role}: {curve.label}" if len(shown) > 1 else "validation"
            _learning_curve(axes, curve, name)
        _logarithmic_if_wide(axes, [v for c in curves for v in (*c.train, *c.validation)])
        axes.set(xlabel="epoch", ylabel=f"loss ({scale})")
        axes.plot([], [], color=GREY, linestyle="--", label="train")
        axes.plot([], [], color=GREY, marker="o", linestyle="", label="selected epoch")
        legend_below(axes, columns=1 if len(shown) > 1 else 3)
        several = f"Learning curves: {len(curves)} runs, those that stand out in colour"
        title(axes, several if len(shown) > 1 else _learning_title(shown[0]))
    return drawn(axes)


def _learning_title(curve: Learning) -> str:
    gap = curve.validation[-1] - curve.train[-1]
    return (
        f"{str(curve.role).capitalize()}: selected epoch {curve.selected:.0f} of "
        f"{len(curve.validation)}, gap at the end {number(gap, curve.validation[-1])}"
    )


def _learning_curve(axes: Axes, curve: Learning, name: str) -> None:
    epochs = np.arange(1, len(curve.validation) + 1)
    if curve.role is None:
        axes.plot(epochs, curve.validation, color=GREY, alpha=0.25, linewidth=0.7, zorder=1)
        return
    shade = ROLES[curve.role]
    axes.plot(epochs[: len(curve.train)], curve.train, color=shade, linestyle="--", linewidth=1.3)
    axes.plot(epochs, curve.validation, color=shade, linewidth=1.8, label=name)
    at = min(max(round(curve.selected), 1), len(epochs))
    axes.plot([at], [curve.validation[at - 1]], color=shade, marker="o", markersize=7,
              markeredgecolor="white", zorder=4)  # fmt: skip


def _logarithmic_if_wide(axes: Axes, values: Sequence[float]) -> None:
    positive = [value for value in values if value > 0]
    if len(positive) == len(values) and values and max(values) / min(values) > LOGARITHMIC:
        axes.set_yscale("log")
        plain_ticks(axes.yaxis)


def find_series(runs: pd.DataFrame, thresholds: Thresholds | None = None) -> list[Series]:
    """Find the curves of every setting: all other settings equal, at most two of a setting.

    Args:
        runs: as :func:`bikefit.tracking.reading.read_runs` gives them.
        thresholds: of the verdicts, whose evidence the curves show; the defaults if None.
    """
    kept: list[SettingPath] = []
    for path in find_paths(runs):
        fewest = 2 if path.key == FRACTION else FEWEST
        same = sum(other.key == path.key for other in kept)
        if len(path.values) >= fewest and same < EACH:
            kept.append(path)
    if not kept:
        return []
    told, names = along(runs, kept, thresholds), configuration_ids(runs)
    ranking = rank(runs).drop(columns=["difference_se", "within_noise"])
    ranking = ranking.set_index("configuration_id", drop=False).rename_axis(None)
    return [
        Series(p, _measured(runs, names, ranking, p).join(t, on="configuration_id"))
        for p, t in zip(kept, told, strict=True)
    ]


def _measured(
    runs: pd.DataFrame, names: pd.Series, ranking: pd.DataFrame, path: SettingPath
) -> pd.DataFrame:
    """The ranks of the configurations of a path in the order of its values."""
    own = runs[names.isin(path.configurations)]
    rows = pd.to_numeric(own.get("tags.train_rows", pd.Series(np.nan, own.index)))
    known = pd.DataFrame({"value": path.values}, index=pd.Index(path.configurations))
    known["rows"] = rows.groupby(names[own.index]).mean()
    known["run_id"] = _of_one_seed(own, names[own.index])
    return ranking.loc[list(path.configurations)].join(known).reset_index(drop=True)


def _of_one_seed(runs: pd.DataFrame, configuration: pd.Series) -> pd.Series:
    """A run id of each configuration, of a seed that all have where there is one."""
    wide = runs.groupby([configuration, "seed"])["run_id"].first().unstack()
    common = wide.dropna(axis=1)
    return (wide if common.empty else common).bfill(axis=1).iloc[:, 0].rename("run_id")


def flexibility(series: Series) -> Figure:
    """Draw train and validation loss along a setting, with what the path says of each value.

    The band is ± a standard deviation over seeds or folds. Shaded are the values from which a step
    towards more flexibility (underfitting) or less (overfitting) clearly lowers the validation
    loss, and those with such a verdict that the curve does not speak against.
    """
    with panel() as axes:
        _flexibility(axes, series)
        axes.set_ylabel(f"loss ({loss_unit(series.table)})")
        axes.legend(fontsize=7.5)
        title(axes, headline(series))
    return drawn(axes)


def _flexibility(axes: Axes, series: Series, mirrored: bool = False) -> None:
    places, logarithmic = positions(series)
    if logarithmic:
        axes.set_xscale("log")
    _two_losses(axes, series.table, places)
    _value_ticks(axes, places, series.table["value"], logarithmic)
    _regions(axes, series, places, logarithmic, mirrored)
    axes.set_xlabel(series.path.axis_label)


def overview(found: Sequence[Series]) -> Figure:
    """Draw the curves of flexibility side by side, from little to much of it, on one scale.

    Args:
        found: series; the longest of each setting is drawn, and none that has no direction.

    Returns:
        A figure that says so where there is no such curve.
    """
    shown: dict[str, Series] = {}
    for one in (one for one in found if one.direction):
        shown[one.key] = max(shown.get(one.key, one), one, key=lambda series: len(series.table))
    shown_last = sorted(shown.values(), key=lambda one: -one.direction)[:MOST]
    if not shown_last:
        with panel() as axes:
            axes.set_axis_off()
            title(axes, "No setting has three values with all others equal: no curve to draw")
        return drawn(axes)
    columns = min(3, len(shown_last))
    rows = -(-len(shown_last) // columns)
    with rc_context(STYLE):
        figure = Figure(figsize=(3.3 * columns, 2.9 * rows + 0.4), dpi=110, layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
        for axes, series in zip(panels.ravel(), shown_last, strict=False):
            mirrored = series.direction < 0  # flexibility grows to the right in every panel
            _flexibility(axes, series, mirrored)
            axes.set_title(headline(series).split(":")[0])
            axes.tick_params(axis="x", labelsize=7)
            if mirrored:
                axes.invert_xaxis()
        for axes in panels.ravel()[len(shown_last) :]:
            axes.set_visible(False)
        for axes in panels[:, 0]:
            axes.set_ylabel("loss")
        handles, labels = panels[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper right", ncols=2, fontsize=8)
        figure.suptitle(
            f"Too rigid ← flexibility → too flexible · {loss_unit(shown_last[0].table)}",
            fontsize=11, fontweight="bold", x=0.01, ha="left",
        )  # fmt: skip
    return figure


def positions(series: Series) -> tuple[np.ndarray, bool]:
    """Return where the values stand on the axis, and whether that is logarithmic.

    On a logarithmic axis 0 stands one step of the grid, at least a factor of 3, before the rest.
    """
    values = series.table["value"].to_numpy(dtype=float)
    positive = values[values > 0]
    wide = len(positive) > 1 and positive[-1] / positive[0] > LOGARITHMIC
    if series.path.last in LINEAR or not wide or values[0] < 0:
        return values, False
    step = max(3.0, positive[1] / positive[0])
    return np.where(values > 0, values, positive[0] / step), True


def _two_losses(axes: Axes, table: pd.DataFrame, places: np.ndarray) -> None:
    name = ranking_metric(table)
    for part, words, shade, style in (
        ("train", "train", GREY, "--"), ("val", "validation", "#222222", "-"),
    ):  # fmt: skip
        mean = table[f"{part}_{name}"].to_numpy(dtype=float)
        spread = table[f"{part}_{name}_std"].fillna(0).to_numpy(dtype=float)
        axes.plot(places, mean, color=shade, linestyle=style, marker="o", markersize=4,
                  linewidth=1.6, label=words, zorder=3)  # fmt: skip
        axes.fill_between(places, mean - spread, mean + spread, color=shade, alpha=0.2, zorder=2)
    _logarithmic_if_wide(axes, table[[f"train_{name}", f"val_{name}"]].to_numpy().ravel().tolist())


def _value_ticks(axes: Axes, places: np.ndarray, values: pd.Series, logarithmic: bool) -> None:
    """A tick at every value of a logarithmic axis, 0 included; linear axes have their own."""
    if (values % 1 == 0).all():
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if logarithmic:
        every = math.ceil(len(places) / 10)
        axes.set_xticks(places[::every], [f"{value:g}" for value in values[::every]])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_minor_formatter(NullFormatter())


def _regions(
    axes: Axes, series: Series, places: np.ndarray, logarithmic: bool, mirrored: bool
) -> None:
    """Shade the values from which more, or less, flexibility is better (:func:`verdicts.along`)."""
    table = series.table
    best = places[int(table[f"val_{ranking_metric(table)}"].to_numpy().argmin())]
    axes.axvline(best, color=ROLES["winner"], linewidth=1, linestyle=":", zorder=1)
    left, right = axes.get_xlim()
    middle = np.sqrt(places[1:] * places[:-1]) if logarithmic else (places[1:] + places[:-1]) / 2
    borders = [left, *middle, right]
    for side, values in groupby(range(len(table)), key=lambda place: table["region"][place]):
        if not side:
            continue
        place = list(values)
        start, end = borders[place[0]], borders[place[-1] + 1]
        axes.axvspan(start, end, color=ROLES[side], alpha=0.1, linewidth=0, zorder=0)
        first = place[0] < len(table) / 2
        at_left = first != mirrored
        axes.annotate(
            side, (start if first else end, 0.98), xycoords=("data", "axes fraction"),
            xytext=(4 if at_left else -4, 0), textcoords="offset points", va="top",
            ha="left" if at_left else "right", color=ROLES[side], style="italic",
        )  # fmt: skip
    axes.set_xlim(left, right)


def headline(series: Series) -> str:
    """Say where the validation loss is lowest."""
    loss = series.table[f"val_{ranking_metric(series.table)}"].to_numpy()
    lowest = series.table["value"].iloc[int(loss.argmin())]
    return f"{series.path.label}: validation {ranking_metric(series.table)} is lowest at {lowest:g}"


def flexibility_sentence(series: Series) -> str:
    """Say how low the validation loss is, what is as good, and whether to go on."""
    table = series.table
    by = f"val_{ranking_metric(table)}"
    best = int(table[by].to_numpy().argmin())
    at = table.iloc[best]
    parts = [f"Lowest: {with_spread(at, by, at[by])} at {at['value']:g}"]
    near = table.loc[table["within_noise"].fillna(False).astype(bool), "value"]
    if len(near):
        parts.append(f"within the noise of it: {', '.join(f'{value:g}' for value in near)}")
    if best in (0, len(table) - 1) and at["value"] != 0:
        parts.append(f"this is the {'smallest' if best == 0 else 'largest'} value tried: go on")
    if series.path.fixed:
        parts.append(f"with {series.path.fixed}")
    return "; ".join(parts) + "."


def data_size(series: Series) -> Figure:
    """Draw train and validation loss against the number of training rows, and answer step 8."""
    table = series.table
    known = table["rows"].notna().all()
    with panel() as axes:
        _two_losses(axes, table, table["rows" if known else "value"].to_numpy(dtype=float))
        axes.set_xlabel("training rows" if known else "share of the training rows")
        axes.set_ylabel(f"loss ({loss_unit(table)})")
        axes.legend(fontsize=7.5)
        title(axes, "Would more data help? " + more_data(series).split(":")[0])
    return drawn(axes)


def more_data(series: Series) -> str:
    """Answer the recipe's step 8 from the last step of a data-size curve against its noise."""
    table = series.table
    by = f"val_{ranking_metric(table)}"
    before, last = table.iloc[-2], table.iloc[-1]
    names = [f"{row['rows']:,.0f}" for row in (before, last)]
    if table["rows"].isna().any():
        names = [f"{row['value']:.0%} of the" for row in (before, last)]
    fall = float(before[by] - last[by])
    step = f"from {names[0]} to {names[1]} rows the validation {ranking_metric(table)}"
    moved = f"{step} {'fell' if fall >= 0 else 'rose'} by {number(abs(fall), last[by])}"
    # Both numbers of the ranking are about the lowest; where that is not the last, nothing is won.
    if last[by] > table[by].min():
        return f"Not by this sweep: {moved}, and fewer rows reached {number(table[by].min(), 1)}."
    error = float(before["difference_se"])
    if math.isnan(error) or table["seeds"].max() == 1:
        return f"Unknown: {moved}, but one seed tells nothing from noise (seed=0,1,2 would)."
    told = f"{moved} ± {number(error, last[by])} (standard error)"
    if before["within_noise"]:
        return f"Not visibly: {told}, which is within the noise."
    doublings = math.log2(last["value"] / before["value"])
    gain, its = (number(one / doublings, last[by]) for one in (fall, error))
    pace = f"at that pace twice the rows would bring {gain} ± {its}, and less as it slows down"
    return f"Yes: {told}, more than the noise; {pace}."
