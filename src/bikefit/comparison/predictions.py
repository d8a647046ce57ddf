"""What trained networks predict: a week, and the target as a function of one column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bikefit.comparison.charts import GREY, INK, ROLES, axis_label, new_figure
from bikefit.data.bikes import calendar
from bikefit.data.bikes.columns import SCALES, UNITS
from bikefit.data.bikes.derived import add_derived_columns
from bikefit.data.features import TIME
from bikefit.errors import DataError
from bikefit.trained import TrainedNetwork, predict

ORDER = ("underfitting", "winner", "overfitting")
GAP = 1.5  # time steps without a row from which on lines are interrupted
POINTS = 60  # values of a column in a response
CATEGORIES_SHOWN = 24  # number of different values from which on a column is drawn as continuous
BIKE_RESPONSES = ("temperature", "hour", "humidity", "windspeed")
SHADES = {"train": "#E9ECEE", "validation": "#FBE3A6"}  # of the days of a part


def prediction_table(networks: Mapping[str, TrainedNetwork]) -> pd.DataFrame:
    """Return target and predictions of all training and validation rows, in the target's unit.

    Args:
        networks: Networks of one table by name.

    Returns:
        ``timestamp`` or ``row``, ``part``, the target under its name, and the prediction of each
        network under its name.
    """
    first = next(iter(networks.values()))
    key = TIME if first.table.time else "row"
    predictions = predict(list(networks.values()), first.rows)
    table = first.rows[[key, "part", first.table.target]]
    return table.assign(**dict(zip(networks, predictions, strict=True)))


def typical_weeks(table: pd.DataFrame) -> list[pd.Timestamp]:
    """Return the Mondays of the weeks, the most typical week first.

    A week is typical if the RMSEs of all networks on its training and validation days have the same
    proportions as on all days: the standard deviation of log(MSE in the week / MSE) is small.
    Only weeks with at least two training days, two validation days and six of both are returned;
    if there are none, all weeks of two or more rows. A table with a row a month has no such week.

    Args:
        table: of :func:`prediction_table`.
    """
    day = table["timestamp"].dt.normalize()
    monday = day - pd.to_timedelta(day.dt.day_of_week, unit="D")
    parts = table["part"]
    errors = table.iloc[:, 3:].sub(table.iloc[:, 2], axis=0) ** 2
    weekly = errors.groupby([parts, monday]).mean()
    ratios = weekly.div(errors.groupby(parts).mean(), level="part").apply(np.log)
    by_week = ratios.groupby(level=1)
    spread = by_week.apply(lambda week: float(week.to_numpy().std())).sort_values(kind="stable")
    days = day.groupby([monday, parts]).nunique().unstack(fill_value=0)
    full = (days.min(axis=1) >= 2) & (days.sum(axis=1) >= 6) & (days.shape[1] == 2)
    shown = full if full.any() else monday.value_counts() > 1
    return list(spread.index[shown[spread.index]])


def time_step(table: pd.DataFrame) -> pd.Timedelta:
    """Return the median time from a row to the next."""
    return pd.Timedelta(table[TIME].drop_duplicates().diff().median())


def select_week(table: pd.DataFrame, first: pd.Timestamp | None = None) -> pd.DataFrame:
    """Return the rows of :func:`prediction_table` of the seven days from ``first``.

    By default, they are the first of :func:`typical_weeks`.

    Raises:
        DataError: There is no such row, or the table has no time.
    """
    if TIME not in table:
        raise DataError("rows of this table have no time, so there is no week")
    if not (weeks := [first] if first else typical_weeks(table)):
        raise DataError("no week of this table has two rows: give the date of a week")
    time, start = table[TIME], weeks[0].normalize()
    week = table[(time >= start) & (time < start + pd.Timedelta(days=7))]
    if week.empty:
        raise DataError(
            f"no training or validation row in the week from {start:%Y-%m-%d}: they are from "
            f"{time.min():%Y-%m-%d} to {time.max():%Y-%m-%d}"
        )
    return week.reset_index(drop=True)


def response_columns(network: TrainedNetwork) -> list[str]:
    """Return the columns with a response, those first that change the prediction most."""
    if network.table.bikes:
        return list(BIKE_RESPONSES)
    columns = [name for name in network.transformer.features.columns if name in network.rows]
    columns += ["hour"] * (network.table.time and "hour" in network.transformer.features.columns)
    effects = {c: float(np.ptp(network.predict(made_up_rows(network, c)))) for c in columns}
    return sorted(effects, key=lambda column: -effects[column])


def made_up_rows(
    network: TrainedNetwork, column: str, at: pd.Timestamp | None = None
) -> pd.DataFrame:
    """Return rows that differ in one column, see :meth:`Comparison.response`.

    Args:
        network: A network of the table.
        column: A number or a category; ``hour`` of a table with times.
        at: Time of all rows; of ``hour``, only the day counts. By default the median, in the bike
            tables 17:00 on the first Wednesday of June in the last year.

    Raises:
        DataError: There is no such column.
    """
    rows, bikes = network.rows, network.table.bikes
    training = rows[rows["part"] == "train"].drop(columns=["part", "unit", network.table.target])
    if bikes:
        columns = list(BIKE_RESPONSES)
        typical: dict[Any, Any] = {"weather": "clear", **training[list(SCALES)].median()}
        june = pd.Timestamp(rows[TIME].max().year, 6, 1, 17)
        at = at or june + pd.Timedelta(days=(2 - june.day_of_week) % 7)
    else:
        columns = [str(name) for name in training if name not in (TIME, "row")]
        typical = {name: _typical(training[name]) for name in columns}
    if network.table.time:
        typical[TIME] = at or training[TIME].median()
    if column == "hour" and network.table.time:
        times = typical[TIME].normalize() + pd.to_timedelta(range(24), unit="h")
        changes: dict[str, Any] = {TIME: times, "hour": range(24)}
    elif column not in columns:
        raise DataError(f"column {column}: must be one of {', '.join(columns)}")
    elif bikes or (_is_number(training[column]) and training[column].nunique() > CATEGORIES_SHOWN):
        low, high = training[column].min(), training[column].max()
        changes = {column: np.linspace(low, high, POINTS)}
    else:
        changes = {column: sorted(training[column].dropna().unique())}
    made_up = pd.DataFrame(typical, index=range(len(changes[column]))).assign(**changes)
    if not bikes:
        categories = training.select_dtypes("category").dtypes
        return made_up.astype(categories.to_dict())
    made_up["feels_like"] += made_up["temperature"] - training["temperature"].median()
    made_up["season"] = calendar.season(made_up[TIME])
    made_up["holiday"] = calendar.is_holiday(made_up[TIME])
    return add_derived_columns(made_up, rows.loc[rows["windspeed_calm"], "windspeed"].max())


def _is_number(values: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(values) and values.dtype != bool


def _typical(values: pd.Series) -> Any:
    """Return the median of numbers, the most frequent of other values."""
    return values.median() if _is_number(values) else values.mode().iloc[0]


def response_table(
    networks: Mapping[Any, Sequence[TrainedNetwork]], rows: pd.DataFrame
) -> pd.DataFrame:
    """Return rows with ``role``, ``network`` (a number) and ``predicted`` (the target's unit).

    Args:
        networks: Networks by role.
        rows: of :func:`made_up_rows`.
    """
    predictions = iter(predict([n for several in networks.values() for n in several], rows))
    return pd.concat(
        [
            rows.assign(role=role, network=number, predicted=next(predictions))
            for role, several in networks.items()
            for number in range(len(several))
        ],
        ignore_index=True,
    )


def fixed_values(table: pd.DataFrame, column: str) -> str:
    """Return the values of the columns that a response does not change."""
    row = table.iloc[0]
    if "weather" not in row:
        words = "all other columns at the median, or at their most frequent value"
        return f"{words}; {row[TIME]:%Y-%m-%d %H:%M}" if TIME in row else words
    day, hour = f"{row['timestamp']:%A %Y-%m-%d}", f" {row['timestamp']:%H:%M}"
    time = day if column == "hour" else day + hour
    numbers = {"temperature": "", "humidity": "humidity ", "windspeed": "wind "}
    numbers = {key: words for key, words in numbers.items() if key != column}
    values = [f"{words}{row[key]:.0f} {UNITS[key]}" for key, words in numbers.items()]
    return ", ".join([time, str(row["weather"]), *values])


def week_chart(table: pd.DataFrame, unit: str) -> Figure:
    """Draw a week of :func:`select_week`: a panel per network, its days shaded by their part.

    Rows of the same time are averaged.
    """
    target, means = str(table.columns[2]), dict.fromkeys(table.columns[2:], "mean")
    hours = table.groupby(TIME).agg({"part": "first", **means})
    step = time_step(table)
    times = hours.index.to_series()
    gaps = times[times.diff() > GAP * step] - step
    hours = hours.reindex(hours.index.union(pd.Index(gaps)))  # test days are blank
    roles = [role for role in ORDER if role in hours]
    with new_figure(4.7, 1.6 * len(roles) + 1) as figure:
        panels = figure.subplots(len(roles), 1, sharex=True, sharey=True, squeeze=False)
        for axes, role in zip(panels.flat, roles, strict=True):
            for part, shade in SHADES.items():
                where = (hours["part"] == part).to_numpy()
                look: dict[str, Any] = {"step": "mid", "color": shade, "linewidth": 0}
                look |= {"transform": axes.get_xaxis_transform(), "label": f"{part} days"}
                axes.fill_between(hours.index, 0, 1, where, **look)
            axes.plot(hours[target], ".", color=INK, markersize=2.5, label=target)
            axes.plot(hours[role], color=ROLES[role], linewidth=1.4, label="predicted")
            axes.text(0.01, 0.97, role, transform=axes.transAxes, color=ROLES[role], va="top")
            axes.set_ylabel(unit)
        if hours[target].min() >= 0:
            panels[0, 0].set_ylim(bottom=0)
        handles, labels = panels[0, 0].get_legend_handles_labels()
        handles[-1] = Line2D([], [], color=GREY)
        figure.legend(handles, labels, loc="outside lower left", ncols=4, fontsize=7.5)
        panels[0, 0].set_title(f"The week from {hours.index[0]:%Y-%m-%d}")
    return figure


def response_chart(table: pd.DataFrame, column: str, target: str, unit: str) -> Figure:
    """Draw the predictions of :func:`response_table`: a panel per role, a line per network."""
    x = table[column] if pd.api.types.is_numeric_dtype(table[column]) else table[column].astype(str)
    roles = [role for role in ORDER if role in set(table["role"])]
    with new_figure(4.7, 2.7) as figure:
        panels = figure.subplots(1, len(roles), sharex=True, sharey=True, squeeze=False)
        for axes, role in zip(panels.flat, roles, strict=True):
            for _, line in table[table["role"] == role].groupby("network"):
                axes.plot(x[line.index], line["predicted"], color=ROLES[role], linewidth=0.9)
            axes.text(0.03, 1.0, role, transform=axes.transAxes, color=ROLES[role], va="top")
        low, high = table["predicted"].min(), table["predicted"].max()
        low = min(0.0, low) if low < high / 2 else low
        panels[0, 0].set_ylim(bottom=low, top=high + 0.15 * (high - low))
        panels[0, 0].set(ylabel=unit, title=f"Predicted {target} by {column}")
        panels[0, (len(roles) - 1) // 2].set_xlabel(axis_label(column, UNITS.get(column, "")))
    return figure
