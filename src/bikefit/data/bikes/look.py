"""Plots of the clean bike data."""

import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bikefit.data.bikes.faults import gaps
from bikefit.data.features import WEEKDAYS
from bikefit.data.style import BLUE, ORANGE, RED, STYLE


def draw(hours: pd.DataFrame) -> Figure:
    """Plot rentals (bikes/hour) against time, hour, kind of day and temperature."""
    with rc_context(STYLE):
        figure = Figure(figsize=(12, 8), dpi=110, layout="constrained")
        panels = figure.subplot_mosaic(
            [["time"] * 3, ["hour", "day", "temperature"]], height_ratios=[1, 1.15]
        )
        _plot_time(panels["time"], hours)
        _plot_hours(panels["hour"], hours)
        _plot_days(panels["day"], hours)
        _plot_temperature(panels["temperature"], hours)
        for axes in panels.values():
            axes.set_ylabel("rentals (bikes/hour)")
            axes.set_ylim(bottom=0)
    return figure


def _plot_time(axes: Axes, hours: pd.DataFrame) -> None:
    daily = hours.groupby(hours["timestamp"].dt.normalize())["rentals"].mean()
    smooth = daily.rolling("28D", center=True, min_periods=7).mean()
    axes.plot(daily.index, daily, color=BLUE, alpha=0.35, linewidth=0.9, label="mean of a day")
    axes.plot(smooth.index, smooth, color=BLUE, linewidth=2.4, label="mean of four weeks")
    absent = gaps(hours["timestamp"])
    label = f"absent hours ({absent['hours'].sum()} in total)"
    bottom = absent["hours"] * 0 + 0.01 * daily.max()
    axes.scatter(absent["begins"], bottom, s=14 + 6 * absent["hours"], color=RED, label=label)
    axes.set_ylim(top=1.17 * daily.max())  # room for the legend
    axes.legend(loc="upper left", ncols=3)
    axes.set_title("Rentals over time")


def _plot_hours(axes: Axes, hours: pd.DataFrame) -> None:
    for working, colour, label in ((True, BLUE, "working days"), (False, ORANGE, "days off")):
        rentals = hours[hours["working_day"] == working].groupby("hour")["rentals"]
        low, median, high = (rentals.quantile(q) for q in (0.25, 0.5, 0.75))
        axes.fill_between(low.index, low, high, color=colour, alpha=0.18, linewidth=0)
        axes.plot(median.index, median, color=colour, linewidth=2.2, label=label)
    axes.set_xticks(range(0, 24, 6), [f"{hour}:00" for hour in range(0, 24, 6)])
    axes.set_xlabel("hour of the day")
    axes.legend(loc="upper left")
    axes.set_title("Hours of the day (median and quartiles)")


def _plot_days(axes: Axes, hours: pd.DataFrame) -> None:
    days = hours.groupby(hours["timestamp"].dt.normalize()).agg(
        rentals=("rentals", "mean"), weekday=("weekday", "first"), holiday=("holiday", "first")
    )
    groups = {
        name[:3].title(): days["rentals"][(days["weekday"] == name) & ~days["holiday"]]
        for name in WEEKDAYS
    }
    groups["Hol."] = days["rentals"][days["holiday"]]
    boxes = axes.boxplot(
        list(groups.values()),
        tick_labels=list(groups),
        patch_artist=True,
        showfliers=False,
        medianprops={"color": "black"},
    )
    for box, colour in zip(boxes["boxes"], [BLUE] * 5 + [ORANGE] * 2 + [RED], strict=True):
        box.set(facecolor=colour, alpha=0.6)
    axes.set_xlabel("weekday or public holiday")
    axes.set_title("Means of days")


def _plot_temperature(axes: Axes, hours: pd.DataFrame) -> None:
    cells = axes.hexbin(
        hours["temperature"], hours["rentals"], gridsize=34, mincnt=1, bins="log", cmap="Blues"
    )
    means = hours["rentals"].groupby((hours["temperature"] / 3).round() * 3).agg(["mean", "size"])
    means = means[means["size"] >= min(20, len(hours) // 50)]
    axes.plot(means.index, means["mean"], color=RED, linewidth=2.4, label="mean")
    axes.figure.colorbar(cells, ax=axes, label="number of hours")
    axes.set_xlabel("temperature (°C)")
    axes.legend(loc="upper left")
    axes.set_title(f"Most rentals at about {means['mean'].idxmax():.0f} °C")
