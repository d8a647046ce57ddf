"""Networks of runs predict as they did after training; weeks and responses of a sweep."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest

import bikefit
from bikefit.comparison.predictions import (
    fixed_values,
    made_up_rows,
    select_week,
    typical_weeks,
    week_chart,
)
from bikefit.comparison.ranking import highlighted_runs
from bikefit.comparison.report import render_report
from bikefit.comparison.result import Comparison
from bikefit.data.table import Table, read_table
from bikefit.errors import BikefitError, DataError
from bikefit.tracking import connection, reading
from bikefit.tracking.connection import TrackingError
from bikefit.trained import TrainedNetwork, load
from stores import add, result, settings
from synthetic import clean_hours

BIKES = Table("full", Path(), (), (), {}, "days", 0, "", "rentals", "bikes/hour", "bikes", True)
PARTS = ["train", "validation", "train", "train", "validation", "train", "train"]


@pytest.fixture(scope="module")
def hours() -> pd.DataFrame:
    """Clean rows of four weeks, the third with one test day and the second with more validation."""
    rows = clean_hours(31).iloc[48:]  # from Monday 2011-01-03
    parts = [*PARTS, "validation", *PARTS[1:], "test", *PARTS[1:], *PARTS]
    rows = rows.assign(part=np.repeat([*parts, "train"], 24))
    return rows[rows["part"] != "test"].reset_index(drop=True)


def test_weeks_with_the_proportions_of_all_days_come_first(hours: pd.DataFrame) -> None:
    """Errors in the weeks of the 17th and the 24th have the proportions of all days."""
    table = hours[["timestamp", "part", "rentals"]].copy()
    training, day = table["part"] == "train", table["timestamp"].dt.day
    for name, scale in (("good", 10.0), ("overfitted", 20.0)):
        error = np.where(training, 30.0 / scale, scale)
        error[day.between(3, 9) & training] *= scale / 10  # other proportions
        error[day.between(10, 16) & ~training] /= scale / 10
        error[day.between(24, 30)] *= 3.0  # a difficult week with the same proportions
        table[name] = table["rentals"] + error
    days = [f"{week:%d}" for week in typical_weeks(table)]
    assert set(days[:2]) == {"17", "24"}
    assert set(days[2:]) == {"03", "10"}  # without the incomplete week
    short = table[table["timestamp"] < "2011-01-06"]
    assert [f"{week:%d}" for week in typical_weeks(short)] == ["03"]


def test_a_week_without_a_row_is_refused(hours: pd.DataFrame) -> None:
    with pytest.raises(DataError, match="week from 2013-01-07: they are from 2011-01-03"):
        select_week(hours, pd.Timestamp("2013-01-07"))
    with pytest.raises(DataError, match="no time, so there is no week"):
        select_week(hours.drop(columns="timestamp"))


def test_rows_of_a_month_have_no_typical_week(hours: pd.DataFrame) -> None:
    table = hours[["timestamp", "part", "rentals"]].iloc[[0, 200, 400]].assign(winner=1.0)
    assert typical_weeks(table) == []
    with pytest.raises(DataError, match="no week of this table has two rows"):
        select_week(table)
    week = select_week(table, table["timestamp"].iloc[0])
    line = week_chart(week, "bikes/hour").axes[0].lines[1]
    assert line.get_ydata().tolist() == [1.0]


def test_lines_of_a_week_stop_at_gaps_and_average_rows_of_a_time() -> None:
    times = pd.to_datetime([f"2011-01-03 {clock}" for clock in ("00:00", "01:10", "02:10")])
    times = times.append(pd.to_datetime(["2011-01-04 00:00", "2011-01-04 00:00"]))
    table = pd.DataFrame({"timestamp": times, "part": "train", "rentals": range(5)})
    line = week_chart(table.assign(winner=[1, 2, 3, 4, 6]), "bikes/hour").axes[0].lines[1]
    assert np.array_equal(line.get_ydata(), [1, 2, 3, np.nan, 5], equal_nan=True)


def network_of(hours: pd.DataFrame) -> TrainedNetwork:
    """A network that is not used, on these rows."""
    rows = hours.assign(unit=0)
    return TrainedNetwork(Mock(), Mock(), rows, BIKES)


@pytest.mark.parametrize("column", ["hour", "temperature", "humidity", "windspeed"])
def test_made_up_rows_differ_in_one_column(hours: pd.DataFrame, column: str) -> None:
    rows = made_up_rows(network_of(hours), column)
    training = hours[hours["part"] == "train"]
    changed = {name for name in rows if rows[name].nunique() > 1}
    if column == "hour":
        assert changed == {"timestamp", "hour"}
        assert rows["hour"].tolist() == list(range(24))
    else:
        assert (
            {column} <= changed - {"humidity_fraction"} <= {column, "feels_like", "windspeed_calm"}
        )
        assert rows[column].iloc[[0, -1]].tolist() == [
            training[column].min(),
            training[column].max(),
        ]
    if column != "humidity":
        assert rows["humidity"].unique() == training["humidity"].median()
    difference = rows["feels_like"] - rows["temperature"]
    assert np.allclose(difference, difference[0])
    assert set(rows["timestamp"].dt.date.astype(str)) == {"2011-06-01"}
    assert set(rows["weekday"]) == {"wednesday"}
    assert fixed_values(rows, column).startswith("Wednesday 2011-06-01")


def test_a_sunday_is_no_working_day(hours: pd.DataFrame) -> None:
    rows = made_up_rows(network_of(hours), "hour", pd.Timestamp("2011-06-05"))
    assert not rows["working_day"].any()


def test_a_column_without_a_response_is_refused(hours: pd.DataFrame) -> None:
    with pytest.raises(DataError, match="column season: must be one of temperature, hour"):
        made_up_rows(network_of(hours), "season")


@pytest.fixture
def compared(refitted: Path) -> Comparison:
    """A comparison of four runs whose weights are in the store."""
    return bikefit.compare()


def _parameters(run: str) -> int:
    return int(reading.read_run(run)["parameters"].item())


@pytest.mark.slow(seconds=15)
def test_a_week_and_a_response_are_those_of_the_networks(compared: Comparison) -> None:
    week = compared.week("2011-01-08")
    best = highlighted_runs(compared.ranked_runs, compared.ranking)["winner"]["run_id"]
    stored = reading.read_predictions(best)
    assert stored is not None
    both = week.merge(stored, on="timestamp")
    assert len(both) == (week["part"] == "validation").sum() > 0
    assert np.allclose(both["winner"], both["predicted"], rtol=1e-4)
    assert (both["rentals"] == both["target"]).all()
    table = read_table(Path("data/features/full"))
    assert not set(week["timestamp"]) & set(pd.Series(table.read("test").keys))
    response = compared.response("temperature")
    winners = response[response["role"] == "winner"]
    assert winners["network"].nunique() == 2
    network = load(best)
    first = winners[winners["network"] == 0]
    assert np.array_equal(network.predict(first), first["predicted"])
    assert network.module.training is False
    assert sum(p.numel() for p in bikefit.load(best).module.parameters()) == _parameters(best)
    assert len(compared.week_figure().axes) == week.columns.size - 3
    assert "Predicted rentals by hour" in compared.response_figure("hour").axes[0].get_title("left")
    assert "The week from 2011-" in render_report(compared)


def test_a_run_without_weights_cannot_predict(workplace: Path) -> None:
    from bikefit.tracking import writing

    sweep = writing.start_sweep("full", "bare", [])
    run = add(sweep, settings(), result(2.0, 6.0))
    part = add(sweep, settings(data={"name": "full", "fraction": 0.5}), result(2.0, 6.0))
    for one in (run, part):
        version = read_table(Path("data/features/full")).data_version
        connection.client().set_tag(one, "data.version", version)
    with pytest.raises(TrackingError, match="has no weights: train with"):
        load(run)
    with pytest.raises(DataError, match="did not train on all training rows"):
        load(part)


def test_a_changed_table_is_refused(refitted: Path) -> None:
    run = str(reading.read_runs(reading.latest_sweep())["run_id"][0])
    version = reading.read_run(run)["tags.data.version"].item()
    connection.client().set_tag(run, "data.version", "another")
    with pytest.raises(BikefitError, match="was changed since run"):
        load(run)
    connection.client().set_tag(run, "data.version", version)
