"""What trained networks predict: a week of hours, and rentals as a function of one column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bikefit.comparison.charts import GREY, INK, ROLES, new_figure
from bikefit.data.bikes import calendar
from bikefit.data.bikes.columns import SCALES, UNITS
from bikefit.data.bikes.derived import add_derived_columns
from bikefit.errors import DataError
from bikefit.trained import TrainedNetwork

ORDER = ("underfitting", "winner", "overfitting")
POINTS = 60  # values of a column in a response
SHADES = {"train": "#E9ECEE", "validation": "#FBE3A6"}  # of the days of a part


def prediction_table(networks: Mapping[str, TrainedNetwork], hours: pd.DataFrame) -> pd.DataFrame:
    """Return rentals and predictions (bikes/hour) of all training and validation rows.

    Args:
        networks: Networks by name.
        hours: Clean rows with ``part``.

    Returns:
        ``timestamp``, ``part``, ``rentals`` and the prediction of each network under its name.
    """
    predictions = {name: network.predict(hours) for name, network in networks.items()}
    return hours[["timestamp", "part", "rentals"]].assign(**predictions)


def typical_weeks(table: pd.DataFrame) -> list[pd.Timestamp]:
    """Return the Mondays of the weeks, the most typical week first.

    A week is typical if the RMSEs of all networks on its training and validation days have the same
    proportions as on all days: the standard deviation of log(MSE in the week / MSE) is small.
    Only weeks with at least two training days, two validation days and six of both are returned;
    if there are none, all weeks.

    Args:
        table: of :func:`prediction_table`.
    """
    day = table["timestamp"].dt.normalize()
    monday = day - pd.to_timedelta(day.dt.day_of_week, unit="D")
    parts = table["part"]
    errors = table.drop(columns=["timestamp", "part"])
    errors = errors.drop(columns="rentals").sub(errors["rentals"], axis=0) ** 2
    weekly = errors.groupby([parts, monday]).mean()
    ratios = weekly.div(errors.groupby(parts).mean(), level="part").apply(np.log)
    by_week = ratios.groupby(level=1)
    spread = by_week.apply(lambda week: float(week.to_numpy().std())).sort_values(kind="stable")
    days = day.groupby([monday, parts]).nunique().unstack(fill_value=0)
    full = (days.min(axis=1) >= 2) & (days.sum(axis=1) >= 6) & (days.shape[1] == 2)
    return list(spread.index[full[spread.index]] if full.any() else spread.index)


def select_week(table: pd.DataFrame, first: pd.Timestamp) -> pd.DataFrame:
    """Return the rows of :func:`prediction_table` of the seven days from ``first``.

    Raises:
        DataError: There is no such row.
    """
    time, start = table["timestamp"], first.normalize()
    week = table[(time >= start) & (time < start + pd.Timedelta(days=7))]
    if week.empty:
        raise DataError(
            f"no training or validation hour in the week from {start:%Y-%m-%d}: they are from "
            f"{time.min():%Y-%m-%d} to {time.max():%Y-%m-%d}"
        )
    return week.reset_index(drop=True)


def made_up_hours(hours: pd.DataFrame, column: str, at: pd.Timestamp | None = None) -> pd.DataFrame:
    """Return clean rows that differ in one column.

    Weather is clear; temperature, humidity and wind speed are medians of the training rows. The
    felt temperature changes with the temperature.

    Args:
        hours: Clean rows with ``part``.
        column: ``hour``, ``temperature``, ``humidity`` or ``windspeed``.
        at: Time of all rows; of ``hour``, only the day counts. By default 17:00 on the first
            Wednesday of June in the last year.
    """
    training = hours[hours["part"] == "train"]
    if at is None:
        june = pd.Timestamp(hours["timestamp"].max().year, 6, 1, 17)
        at = june + pd.Timedelta(days=(2 - june.day_of_week) % 7)
    rows = pd.DataFrame({"timestamp": [at] * POINTS, "weather": "clear"})
    rows = rows.assign(**training[list(SCALES)].median())
    if column == "hour":
        rows = rows.head(24).assign(timestamp=at.normalize() + pd.to_timedelta(range(24), unit="h"))
    elif column in ("temperature", "humidity", "windspeed"):
        rows[column] = np.linspace(training[column].min(), training[column].max(), POINTS)
    else:
        raise DataError(f"column {column}: must be hour, temperature, humidity or windspeed")
    rows["feels_like"] += rows["temperature"] - training["temperature"].median()
    rows["season"] = calendar.season(rows["timestamp"])
    rows["holiday"] = calendar.is_holiday(rows["timestamp"])
    return add_derived_columns(rows, hours.loc[hours["windspeed_calm"], "windspeed"].max())


def response_table(
    networks: Mapping[str, Sequence[TrainedNetwork]], rows: pd.DataFrame
) -> pd.DataFrame:
    """Return clean rows with ``role``, ``network`` (a number) and ``predicted`` (bikes/hour).

    Args:
        networks: Networks by role.
        rows: of :func:`made_up_hours`.
    """
    return pd.concat(
        [
            rows.assign(role=role, network=number, predicted=network.predict(rows))
            for role, several in networks.items()
            for number, network in enumerate(several)
        ],
        ignore_index=True,
    )


def axis_label(column: str) -> str:
    """Return the name of a column with its unit."""
    return f"{column} ({UNITS[column]})" if column in UNITS else column


def fixed_values(table: pd.DataFrame, column: str) -> str:
    """Return the values of the columns that a response does not change."""
    row = table.iloc[0]
    day, hour = f"{row['timestamp']:%A %Y-%m-%d}", f" {row['timestamp']:%H:%M}"
    time = day if column == "hour" else day + hour
    numbers = {"temperature": "", "humidity": "humidity ", "windspeed": "wind "}
    numbers = {key: words for key, words in numbers.items() if key != column}
    values = [f"{words}{row[key]:.0f} {UNITS[key]}" for key, words in numbers.items()]
    return ", ".join([time, str(row["weather"]), *values])


def week_chart(table: pd.DataFrame) -> Figure:
    """Draw a week of :func:`select_week`: a panel per network, its days shaded by their part."""
    hours = table.set_index("timestamp").asfreq("h")  # test days are gaps
    roles = [role for role in ORDER if role in hours]
    with new_figure(4.7, 1.6 * len(roles) + 1) as figure:
        panels = figure.subplots(len(roles), 1, sharex=True, sharey=True, squeeze=False)
        for axes, role in zip(panels.flat, roles, strict=True):
            for part, shade in SHADES.items():
                where = (hours["part"] == part).to_numpy()
                look: dict[str, Any] = {"step": "mid", "color": shade, "linewidth": 0}
                look |= {"transform": axes.get_xaxis_transform(), "label": f"{part} days"}
                axes.fill_between(hours.index, 0, 1, where, **look)
            axes.plot(hours["rentals"], ".", color=INK, markersize=2.5, label="rentals")
            axes.plot(hours[role], color=ROLES[role], linewidth=1.4, label="predicted")
            axes.text(0.01, 0.97, role, transform=axes.transAxes, color=ROLES[role], va="top")
            axes.set_ylabel("bikes/hour")
        panels[0, 0].set_ylim(bottom=0)
        handles, labels = panels[0, 0].get_legend_handles_labels()
        handles[-1] = Line2D([], [], color=GREY)
        figure.legend(handles, labels, loc="outside lower left", ncols=4, fontsize=7.5)
        panels[0, 0].set_title(f"The week from {hours.index[0]:%Y-%m-%d}")
    return figure


def response_chart(table: pd.DataFrame, column: str) -> Figure:
    """Draw the predictions of :func:`response_table`: a panel per role, a line per network."""
    x = table["timestamp"].dt.hour if column == "hour" else table[column]
    roles = [role for role in ORDER if role in set(table["role"])]
    with new_figure(4.7, 2.7) as figure:
        panels = figure.subplots(1, len(roles), sharex=True, sharey=True, squeeze=False)
        for axes, role in zip(panels.flat, roles, strict=True):
            for _, line in table[table["role"] == role].groupby("network"):
                axes.plot(x[line.index], line["predicted"], color=ROLES[role], linewidth=0.9)
            axes.text(0.03, 1.0, role, transform=axes.transAxes, color=ROLES[role], va="top")
        panels[0, 0].set_ylim(bottom=0, top=1.15 * table["predicted"].max())
        panels[0, 0].set(ylabel="bikes/hour", title=f"Predicted rentals by {column}")
        panels[0, (len(roles) - 1) // 2].set_xlabel(axis_label(column))
    return figure
