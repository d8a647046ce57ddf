"""Where networks are wrong: their predictions of the validation rows, seen from several sides."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bikefit.comparison.figures import GREY, ROLES, drawn, legend_below, panel, title
from bikefit.data.columns import WEATHER, WEEKDAYS

HOURS = Path("data/clean/hours.parquet")
WHERE = {"hour": "at hour {}", "weekday": "on {}s", "weather": "in weather: {}",
         "working_day": "on {}s"}  # fmt: skip
FEWEST = 5  # hours in a group; the error of fewer is chance


def with_conditions(predictions: pd.DataFrame, hours: Path = HOURS) -> pd.DataFrame:
    """Add hour and weekday from the timestamp, and weather and working day where they are known.

    Args:
        predictions: of :func:`bikefit.tracking.reading.read_predictions`.
        hours: the clean table; without the file its columns are absent.
    """
    time = predictions["timestamp"]
    weekday = time.dt.day_of_week.map(dict(enumerate(WEEKDAYS)))
    table = predictions.assign(hour=time.dt.hour, weekday=weekday)
    if not hours.exists():
        return table
    known = pd.read_parquet(hours, columns=["timestamp", "weather", "working_day"])
    table = table.merge(known, on="timestamp", how="left")
    day = table["working_day"].map({True: "working day", False: "free day"})
    return table.assign(working_day=day, weather=table["weather"].astype(object))


def predicted_against_true(predictions: pd.DataFrame, role: str) -> Figure:
    """Draw every validation row: predicted against true rentals, the diagonal is right."""
    true, predicted = predictions["rentals"], predictions["predicted"]
    top = max(1.0, *(float(values.quantile(0.999)) for values in (true, predicted)))
    rmse = float(np.sqrt(((predicted - true) ** 2).mean()))
    with panel(4.7, 4.1) as axes:
        axes.scatter(true, predicted, s=5, color=ROLES[role], alpha=0.25, linewidth=0,
                     rasterized=True)  # fmt: skip
        axes.plot([0, top], [0, top], color=GREY, linewidth=1)
        axes.set(xlim=(0, top), ylim=(0, top), aspect="equal")
        axes.set_xlabel("true rentals (bikes/hour)")
        axes.set_ylabel("predicted rentals (bikes/hour)")
        title(axes, f"{role.capitalize()}: RMSE {rmse:.1f} bikes/hour")
    return drawn(axes)


def error_by(column: str, runs: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw RMSE (solid) and mean error (dashed) by hour, weekday, weather or working day.

    Args:
        column: of :func:`with_conditions`.
        runs: the predictions of each role.
    """
    tables = {role: errors(table, column) for role, table in runs.items()}
    groups = _in_order({group for table in tables.values() for group in table.index})
    with panel() as axes:
        axes.axhline(0, color=GREY, linewidth=0.9)
        for role, table in tables.items():
            known = [group for group in groups if group in table.index]
            places = [groups.index(group) for group in known]
            rmse, mean = table["rmse"][known], table["mean"][known]
            axes.plot(places, rmse, color=ROLES[role], marker="o", markersize=4, label=role)
            axes.plot(places, mean, color=ROLES[role], linestyle="--", linewidth=1.1)
        axes.plot([], [], color=GREY, label="RMSE")
        axes.plot([], [], color=GREY, linestyle="--", label="predicted - true, mean")
        _names(axes, groups)
        axes.set(xlabel=column.replace("_", " "), ylabel="error (bikes/hour)")
        legend_below(axes)
        worst = tables[next(iter(tables))]["rmse"].idxmax()
        group = str(worst).replace("_", " ")
        title(axes, f"The {next(iter(runs))} is most wrong {WHERE[column].format(group)}")
    return drawn(axes)


def tells(predictions: pd.DataFrame, column: str) -> bool:
    """Say whether a column is there and some group of it has enough rows to speak of an error."""
    return column in predictions and not errors(predictions, column).empty


def errors(predictions: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return ``rmse`` and ``mean`` of predicted - true by a column, in bikes/hour."""
    error = predictions["predicted"] - predictions["rentals"]
    groups = error.groupby(predictions[column], observed=True)
    table = pd.DataFrame({"rmse": (error**2).groupby(predictions[column]).mean() ** 0.5,
                          "mean": groups.mean()})  # fmt: skip
    return table[groups.size() >= FEWEST]


def _in_order(groups: set[Any]) -> list[Any]:
    order = {name: i for i, name in enumerate((*WEEKDAYS, *WEATHER.values()))}
    return sorted(groups, key=lambda g: (order.get(str(g), -1), str(g).zfill(2)))


def _names(axes: Axes, groups: list[Any]) -> None:
    """Name the places 0, 1, …: days shortened, of very many every third."""
    names = [str(g)[:3] if g in WEEKDAYS else str(g).replace("_", "\n") for g in groups]
    every = 3 if len(groups) > 12 else 1
    axes.set_xticks(range(0, len(groups), every), names[::every])
