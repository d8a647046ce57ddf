"""Curves of a sweep: loss against epochs, against flexibility, and against the number of rows.

The recipe's step 6 in pictures: too little flexibility leaves both losses high (underfitting), too
much lowers the train loss alone (overfitting), and the best lies between.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
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
from bikefit.comparison.ranking import (
    NOISE,
    comparison,
    measure,
    number,
    rank,
    settings,
    unit,
    with_spread,
)

# The last part of a swept key: its name, its unit, and whether more of it makes a network more (+1)
# or less (-1) flexible; all others are drawn without regions.
KEYS: dict[str, tuple[str, str, int]] = {
    "l1": ("l1 λ", "", -1), "l2": ("l2 λ", "", -1), "lp": ("lp λ", "", -1),
    "weight_decay": ("weight decay λ", "", -1), "dropout": ("dropout p", "", -1),
    "width": ("width", "units a layer", 1), "depth": ("depth", "hidden layers", 1),
    "epochs": ("epochs", "", 1), "patience": ("patience", "epochs", 1),
    "lr": ("learning rate", "", 0), "batch_size": ("batch size", "rows", 0), "p_norm": ("p", "", 0),
}  # fmt: skip
FRACTION = "data.fraction"
LINEAR = {"dropout", "depth", "p_norm"}  # all others are logarithmic where they span enough
FEWEST = 3  # values of a key that make a curve
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
    """Configurations that differ in one setting alone.

    ``table`` is their ranking in the order of ``value``, with ``rows``, the number of training
    rows, and ``run_id``, a run of one seed; ``fixed`` says what else is set where there are
    several series of the same key.
    """

    key: str
    table: pd.DataFrame
    fixed: str = ""

    @property
    def last(self) -> str:
        """The key without its group."""
        return self.key.rsplit(".", 1)[-1]

    @property
    def label(self) -> str:
        """What the setting is called."""
        name = KEYS[self.last][0] if self.last in KEYS else self.last.replace("_", " ")
        layer = self.key.removeprefix("regularization.layers.")
        return name if layer == self.key else f"{layer.split('.')[0]} {name}"

    @property
    def axis(self) -> str:
        """The label with its unit."""
        unit = KEYS[self.last][1] if self.last in KEYS else ""
        return f"{self.label} ({unit})" if unit else self.label

    @property
    def direction(self) -> int:
        """+1 if more of it is more flexible, -1 if less, 0 if that cannot be said."""
        return KEYS[self.last][2] if self.last in KEYS else 0


def cast(table: pd.DataFrame, ranking: pd.DataFrame) -> dict[str, pd.Series]:
    """Choose the runs that stand out: the winner's, an underfitting and an overfitting one.

    Args:
        table: of :func:`bikefit.comparison.ranking.comparison`.
        ranking: of :func:`bikefit.comparison.ranking.rank`; a column ``verdict`` is respected.

    Returns:
        A row of `table` for each role: of its configuration the run with the lowest validation
        loss. The underfitting configuration has the highest train loss, the overfitting one the
        widest gap; a role that nobody else can take is left out.
    """
    by, train = f"val_{measure(ranking)}", f"train_{measure(ranking)}"
    found = ranking.dropna(subset=[by])
    roles = {"winner": found.index[0]} if len(found) else {}
    for role, column in (("underfitting", found[train]), ("overfitting", found[by] - found[train])):
        others = column.drop(list(roles.values()))
        if "verdict" in found:
            others = others[found["verdict"].reindex(others.index) == role]
        others = others[others > column.loc[roles["winner"]]] if roles else others
        if len(others):
            roles[role] = others.idxmax()
    runs = {role: table[table["configuration"] == found["configuration"][i]]
            for role, i in roles.items()}  # fmt: skip
    return {role: rows.loc[rows[by].idxmin()] for role, rows in runs.items()}


def learning(curves: Sequence[Learning], unit: str) -> Figure:
    """Draw loss against epoch: train dashed, validation solid, the selected epoch marked.

    Args:
        curves: of those without a role only the validation loss is drawn, faintly.
        unit: of the loss.
    """
    shown = [curve for curve in curves if curve.role]
    with panel(height=4.1 if len(shown) > 1 else 3.3) as axes:
        for curve in curves:
            name = f"{curve.role}: {curve.label}" if len(shown) > 1 else "validation"
            _learning_curve(axes, curve, name)
        _logarithmic_if_wide(axes, [v for c in curves for v in (*c.train, *c.validation)])
        axes.set(xlabel="epoch", ylabel=f"loss ({unit})")
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


def find_series(runs: pd.DataFrame, each: int = 2) -> list[Series]:
    """Find every setting of which a sweep has a curve: all other settings equal.

    Widths and depths are read from networks whose layers are equally wide.

    Args:
        runs: as :func:`bikefit.tracking.read_runs` gives them.
        each: series of the same key to keep, those that reach the lowest validation loss.
    """
    if runs.empty or "loss" not in runs:
        return []
    table = comparison(runs)
    frame = _numbered(runs)
    loss = table[f"val_{measure(table)}"]
    found: list[Series] = []
    for key in [k for k in frame if pd.api.types.is_numeric_dtype(frame[k])]:
        fewest = 2 if key == FRACTION else FEWEST
        others = [other for other in frame if other != key]
        finished = frame[loss.notna() & frame[key].notna()]
        if finished[key].nunique() < fewest:
            continue
        groups = [
            group.index
            for _, group in finished.groupby(others, dropna=False, sort=False)
            if group[key].nunique() >= fewest
        ]
        groups.sort(key=lambda group: loss[group].min())
        firsts = frame[frame.index.isin([group[0] for group in groups])]
        apart = [str(other) for other in others if firsts[other].nunique() > 1]
        for group in groups[:each]:
            fixed = ", ".join(_setting(other, firsts[other][group[0]]) for other in apart)
            found.append(Series(str(key), _along(runs.loc[group], frame[key]), fixed))
    return found


def _numbered(runs: pd.DataFrame) -> pd.DataFrame:
    """The settings, widths and depth in the place of the list of widths, truths as text."""
    frame = runs[settings(runs)].copy()
    hidden = frame.pop("network.hidden") if "network.hidden" in frame else pd.Series("", runs.index)
    widths = hidden.astype(object).fillna("").astype(str).str.strip("[]")
    lists = widths.str.split(",")
    even = lists.map(lambda width: len(set(width)) == 1)
    frame["network.width"] = pd.to_numeric(lists.str[0].where(even), errors="coerce")
    frame["network.depth"] = lists.map(len).where(widths != "", 0)
    frame["network.shape"] = widths.mask(even, "")
    truths = frame.select_dtypes("bool")
    return frame.assign(**{str(key): truths[key].astype(str) for key in truths})


def _setting(key: str, value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return f"{key.rsplit('.', 1)[-1].replace('_', ' ')} {text or 'none'}"


def _along(runs: pd.DataFrame, values: pd.Series) -> pd.DataFrame:
    """The ranking of runs that differ in one setting, in the order of its values."""
    frame = pd.DataFrame(
        {
            "configuration": comparison(runs)["configuration"],
            "value": values[runs.index].astype(float),
            "rows": pd.to_numeric(runs.get("tags.train_rows", pd.Series(np.nan, runs.index))),
        }
    )
    known = frame.groupby("configuration").mean().join(_of_one_seed(runs, frame["configuration"]))
    return rank(runs).join(known, on="configuration").sort_values("value").reset_index(drop=True)


def _of_one_seed(runs: pd.DataFrame, configuration: pd.Series) -> pd.Series:
    """A run id of each configuration, of a seed that all have where there is one."""
    wide = runs.groupby([configuration, "seed"])["run_id"].first().unstack()
    common = wide.dropna(axis=1)
    return (wide if common.empty else common).bfill(axis=1).iloc[:, 0].rename("run_id")


def flexibility(series: Series) -> Figure:
    """Draw train and validation loss along a setting, with the regions beside the minimum.

    The band is ± a standard deviation over seeds or folds. Outside the values that lie within
    the noise of the minimum, the side of more flexibility is shaded as overfitting, that of less
    as underfitting.
    """
    places, logarithmic = positions(series)
    with panel() as axes:
        if logarithmic:
            axes.set_xscale("log")
        _two_losses(axes, series.table, places)
        _value_ticks(axes, places, series.table["value"], logarithmic)
        _regions(axes, series, places, logarithmic)
        axes.set(xlabel=series.axis, ylabel=f"loss ({unit(series.table)})")
        axes.legend(fontsize=7.5)
        title(axes, headline(series))
    return drawn(axes)


def positions(series: Series) -> tuple[np.ndarray, bool]:
    """Return where the values stand on the axis, and whether that is logarithmic.

    On a logarithmic axis 0 stands one step of the grid, at least a factor of 3, before the rest.
    """
    values = series.table["value"].to_numpy(dtype=float)
    positive = values[values > 0]
    wide = len(positive) > 1 and positive[-1] / positive[0] > LOGARITHMIC
    if series.last in LINEAR or not wide or values[0] < 0:
        return values, False
    step = max(3.0, positive[1] / positive[0])
    return np.where(values > 0, values, positive[0] / step), True


def _two_losses(axes: Axes, table: pd.DataFrame, places: np.ndarray) -> None:
    name = measure(table)
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


def good(series: Series) -> tuple[int, int]:
    """Return the first and the last place around the minimum that lie within the noise of it."""
    table = series.table
    best = int(table[f"val_{measure(table)}"].to_numpy().argmin())
    near = table["within_noise"].fillna(False).astype(bool).tolist()
    first = last = best
    while first > 0 and near[first - 1]:
        first -= 1
    while last < len(near) - 1 and near[last + 1]:
        last += 1
    return first, last


def _regions(axes: Axes, series: Series, places: np.ndarray, logarithmic: bool) -> None:
    """Shade what lies beyond the good fits, on the side of more and of less flexibility."""
    first, last = good(series)
    best = places[int(series.table[f"val_{measure(series.table)}"].to_numpy().argmin())]
    axes.axvline(best, color=ROLES["winner"], linewidth=1, linestyle=":", zorder=1)
    if not series.direction:
        return

    def between(one: float, other: float) -> float:
        return math.sqrt(one * other) if logarithmic else (one + other) / 2

    left, right = axes.get_xlim()
    sides = ["underfitting", "overfitting"][:: series.direction]
    edges = (
        (left, between(places[first - 1], places[first]) if first > 0 else None),
        (between(places[last], places[last + 1]) if last + 1 < len(places) else None, right),
    )
    for side, (start, end), align in zip(sides, edges, ("left", "right"), strict=True):
        if start is None or end is None:
            continue
        axes.axvspan(start, end, color=ROLES[side], alpha=0.1, linewidth=0, zorder=0)
        axes.annotate(
            side, (start if align == "left" else end, 0.98), xycoords=("data", "axes fraction"),
            xytext=(4 if align == "left" else -4, 0), textcoords="offset points", va="top",
            ha=align, color=ROLES[side], style="italic",
        )  # fmt: skip
    axes.set_xlim(left, right)


def headline(series: Series) -> str:
    """Say where the validation loss is lowest."""
    loss = series.table[f"val_{measure(series.table)}"].to_numpy()
    lowest = series.table["value"].iloc[int(loss.argmin())]
    return f"{series.label}: validation {measure(series.table)} is lowest at {lowest:g}"


def flexibility_sentence(series: Series) -> str:
    """Say how low the validation loss is, what is as good, and whether to go on."""
    table, (first, last) = series.table, good(series)
    by = f"val_{measure(table)}"
    best = int(table[by].to_numpy().argmin())
    at = table.iloc[best]
    parts = [f"Lowest: {with_spread(at, by, at[by])} at {at['value']:g}"]
    if first < last:
        ends = f"{table['value'][first]:g} to {table['value'][last]:g}"
        parts.append(f"{ends} lie within the noise of it")
    if best in (0, len(table) - 1) and at["value"] != 0:
        parts.append(f"this is the {'smallest' if best == 0 else 'largest'} value tried: go on")
    if series.fixed:
        parts.append(f"with {series.fixed}")
    return "; ".join(parts) + "."


def data_size(series: Series) -> Figure:
    """Draw train and validation loss against the number of training rows, and answer step 8."""
    table = series.table
    known = table["rows"].notna().all()
    with panel() as axes:
        _two_losses(axes, table, table["rows" if known else "value"].to_numpy(dtype=float))
        axes.set_xlabel("training rows" if known else "share of the training rows")
        axes.set_ylabel(f"loss ({unit(table)})")
        axes.legend(fontsize=7.5)
        title(axes, "Would more data help? " + more_data(series).split(":")[0])
    return drawn(axes)


def more_data(series: Series) -> str:
    """Answer the recipe's step 8 from the last step of a data-size curve against its noise."""
    table = series.table
    by = f"val_{measure(table)}"
    before, last = table.iloc[-2], table.iloc[-1]
    names = [f"{row['rows']:,.0f}" for row in (before, last)]
    if table["rows"].isna().any():
        names = [f"{row['value']:.0%} of the" for row in (before, last)]
    fall = float(before[by] - last[by])
    step = f"from {names[0]} to {names[1]} rows the validation {measure(table)}"
    moved = f"{step} {'fell' if fall >= 0 else 'rose'} by {number(abs(fall), last[by])}"
    # Both numbers of the ranking are about the lowest; where that is not the last, nothing is won.
    if last[by] > table[by].min():
        return f"Not by this sweep: {moved}, and fewer rows reached {number(table[by].min(), 1)}."
    error = float(before["difference_se"])
    if math.isnan(error):
        return f"Unknown: {moved}, but one seed tells nothing from noise (seed=0,1,2 would)."
    told = f"{moved} ± {number(error, last[by])} (standard error)"
    if fall <= NOISE * error:
        return f"Not visibly: {told}, which is within the noise."
    doubling = fall / math.log2(last["value"] / before["value"])
    pace = f"at this pace, twice the rows would bring about {number(doubling, last[by])}"
    return f"Yes: {told}, more than the noise; {pace}."
