"""The stage `python -m bikefit.data.look`: one picture of the data before anything is modelled.

Reads `data/clean/hours.parquet`; writes `reports/raw_data.png`.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from bikefit.data.columns import WEEKDAYS
from bikefit.data.faults import gaps
from bikefit.data.files import atomic_write
from bikefit.data.params import run_stage
from bikefit.data.pictures import STYLE
from bikefit.errors import DataError

CLEAN_FILE = Path("data/clean/hours.parquet")
FIGURE_FILE = Path("reports/raw_data.png")

# Of the Okabe-Ito palette, which colour-blind readers can tell apart.
BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#9AA0A6"

# The lightest end of the palette would vanish on white.
SHADES = ListedColormap(colormaps["Blues"](np.linspace(0.2, 1.0, 128)))


def draw(hours: pd.DataFrame) -> Figure:
    """Draw rentals (bikes/hour) against time, hour, kind of day and temperature."""
    with rc_context(STYLE):
        figure = Figure(
            figsize=(12, 8), dpi=110, layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12)
        )
        FigureCanvasAgg(figure)
        panels = figure.subplot_mosaic(
            [["time"] * 3, ["hour", "day", "temperature"]], height_ratios=[1, 1.15]
        )
        _over_time(panels["time"], hours)
        _by_hour(panels["hour"], hours)
        _by_day(panels["day"], hours)
        _by_temperature(panels["temperature"], hours)
        for axes in (panels["time"], panels["hour"], panels["day"], panels["temperature"]):
            axes.set_ylabel("rentals (bikes/hour)")
            axes.set_ylim(bottom=0)
    return figure


def _over_time(axes: Axes, hours: pd.DataFrame) -> None:
    """The mean of each day, its 4-week average, and where hours are absent."""
    daily = hours.groupby(hours["timestamp"].dt.normalize())["rentals"].mean()
    smooth = daily.rolling("28D", center=True, min_periods=7).mean()
    axes.plot(daily.index, daily, color=BLUE, alpha=0.35, linewidth=0.9, label="mean of a day")
    axes.plot(smooth.index, smooth, color=BLUE, linewidth=2.4, label="mean of four weeks")
    absent = gaps(hours["timestamp"])
    marks = np.full(len(absent), 0.025)
    label = f"absent hours ({int(absent['hours'].sum())} in all; larger: longer gap)"
    sizes = 14 + 6 * absent["hours"]
    axes.scatter(
        absent["begins"], marks, s=sizes, color=RED, alpha=0.7, linewidth=0, label=label,
        transform=axes.get_xaxis_transform(), clip_on=False, zorder=3,
    )  # fmt: skip
    locator = AutoDateLocator(minticks=6, maxticks=14)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    axes.margins(x=0.01)
    axes.set_ylim(top=1.17 * daily.max())  # room for the legend
    legend = axes.legend(loc="upper left", ncols=3)
    legend.legend_handles[-1].set_sizes([30])  # type: ignore[union-attr]
    axes.set_title(_trend(hours))


def _trend(hours: pd.DataFrame) -> str:
    """A title from the numbers: how the mean of the last year compares with the first one."""
    yearly = hours.groupby("year")["rentals"].mean()
    first, last = yearly.index[0], yearly.index[-1]
    if first == last or yearly.iloc[0] == 0:
        return "Rentals over time"
    ratio = yearly.iloc[-1] / yearly.iloc[0]
    return f"Rentals over time: {last} has {ratio:.1f} times the rentals of {first}"


def _by_hour(axes: Axes, hours: pd.DataFrame) -> None:
    """Median and middle half of each hour, for working days and for the others."""
    peaks = []
    for working, colour, label in ((True, BLUE, "working days"), (False, ORANGE, "days off")):
        of_kind = hours[hours["working_day"] == working]
        if of_kind.empty:
            continue
        of_hour = of_kind.groupby("hour")["rentals"]
        low, middle, high = (of_hour.quantile(q) for q in (0.25, 0.5, 0.75))
        axes.fill_between(low.index, low, high, color=colour, alpha=0.18, linewidth=0)
        axes.plot(middle.index, middle, color=colour, linewidth=2.2, label=label)
        peaks.append(f"{label} {middle.idxmax()}:00")
    axes.set_xticks(range(0, 24, 6), [f"{hour}:00" for hour in range(0, 24, 6)])
    axes.set_xlabel("hour of the day (median and middle half)")
    axes.legend(loc="upper left")
    axes.set_title(f"Peak: {', '.join(peaks)}")


def _by_day(axes: Axes, hours: pd.DataFrame) -> None:
    """How the means of days spread, for each weekday and for holidays."""
    by_day = hours.groupby(hours["timestamp"].dt.normalize()).agg(
        rentals=("rentals", "mean"), weekday=("weekday", "first"), holiday=("holiday", "first")
    )
    plain = by_day[~by_day["holiday"]]
    groups = {day[:3].title(): plain[plain["weekday"] == day]["rentals"] for day in WEEKDAYS}
    groups["Public\nholiday"] = by_day[by_day["holiday"]]["rentals"]
    boxes = axes.boxplot(
        [values.to_numpy() for values in groups.values()],
        tick_labels=list(groups), patch_artist=True, widths=0.62, showfliers=False,
        medianprops={"color": "#222222", "linewidth": 1.6},
        whiskerprops={"color": GREY}, capprops={"color": GREY}, boxprops={"linewidth": 0},
    )  # fmt: skip
    for box, colour in zip(boxes["boxes"], [BLUE] * 5 + [ORANGE] * 2 + [RED], strict=True):
        box.set_facecolor(colour)
        box.set_alpha(0.6)
    axes.tick_params(axis="x", length=0, labelsize=8.5)
    axes.grid(visible=False, axis="x")
    axes.set_xlabel("kind of day (middle half of daily means)")
    medians = {name: values.median() for name, values in groups.items() if len(values)}
    busiest, quietest = max(medians, key=medians.__getitem__), min(medians, key=medians.__getitem__)
    plain_name = quietest.replace("\n", " ")
    axes.set_title(f"Busiest: {busiest}, quietest: {plain_name}")


def _by_temperature(axes: Axes, hours: pd.DataFrame) -> None:
    """Every hour as a shade, and the mean of each degree range."""
    cells = axes.hexbin(
        hours["temperature"], hours["rentals"], gridsize=(34, 20), mincnt=1, cmap=SHADES,
        bins="log", linewidths=0,
    )  # fmt: skip
    degrees = (hours["temperature"] / 3).round() * 3
    means = hours.groupby(degrees)["rentals"].agg(["mean", "size"])
    means = means[means["size"] >= min(20, len(hours) // 50)]
    axes.plot(means.index, means["mean"], color=RED, linewidth=2.4, label="mean")
    bar = axes.figure.colorbar(cells, ax=axes, shrink=0.85, pad=0.02, aspect=28)
    bar.outline.set_visible(False)
    bar.set_label("number of hours")
    axes.grid(visible=False)
    axes.set_xlabel("temperature (°C)")
    axes.legend(loc="upper left")
    axes.set_title(f"Most rentals at about {means['mean'].idxmax():.0f} °C")


def main() -> None:
    """Run the stage in the current folder, the project's root."""
    if not CLEAN_FILE.exists():
        raise DataError(f"{CLEAN_FILE} not found: run `dvc repro clean`")
    figure = draw(pd.read_parquet(CLEAN_FILE))
    with atomic_write(FIGURE_FILE) as temporary:
        # Without the version of the library in it, the file is the same wherever it is drawn.
        figure.savefig(temporary, format="png", metadata={"Software": None})
    print(f"look: {FIGURE_FILE}")


if __name__ == "__main__":
    run_stage(main)
