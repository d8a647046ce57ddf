"""A user's rows become clean rows or errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from bikefit.data.bikes.clean import CLEAN
from bikefit.data.bikes.rows import InputStatistics, input_statistics

STATISTICS = InputStatistics("2011-01-01", "2012-12-31", calm=0.0, feels_like=(1.0, 1.0, 0.1, -0.5))
ROW = {"at": "2012-10-05T17:00", "temp": 21, "humidity": 60, "windspeed": 12, "weather": "clear"}


def parse(*changes: dict[str, Any]) -> tuple[pd.DataFrame, list[str]]:
    clean, errors = STATISTICS.parse(pd.DataFrame([ROW | change for change in changes]))
    assert clean.index.tolist() == errors.index[errors == ""].tolist()
    return clean, errors.tolist()


def test_a_row_becomes_a_clean_row() -> None:
    clean, errors = parse({}, {key: f" {value} " for key, value in ROW.items()})
    assert parse({"windspeed": 0})[0]["windspeed_calm"].tolist() == [True]
    assert errors == ["", ""]
    derived = {"humidity_fraction", "commuting", "occasion"}
    assert set(clean) == set(CLEAN) - {"casual", "registered", "rentals"} | derived
    pd.testing.assert_frame_equal(clean.iloc[[0]], clean.iloc[[1]].set_axis([0]))
    row = clean.iloc[0]
    assert row["timestamp"] == pd.Timestamp("2012-10-05 17:00")
    assert (row["season"], row["weekday"], row["hour"]) == ("autumn", "friday", 17)
    assert (row["year"], row["month"]) == (2012, 10)
    assert row["working_day"] and not row["holiday"] and not row["windspeed_calm"]
    assert row["feels_like"] == pytest.approx(1 + 21 + 6 - 6)


def test_other_forms_of_a_row_are_read() -> None:
    clean, errors = parse({}, {"at": "5.10.2012 17:30", "temp": "21,0", "weather": "Clear"})
    assert errors == ["", ""]
    pd.testing.assert_frame_equal(clean.iloc[[0]], clean.iloc[[1]].set_axis([0]))


def test_given_values_are_not_replaced() -> None:
    thanksgiving = {"at": "2012-11-22 08:00"}
    given = {"feels_like": -3.5, "holiday": "yes"}
    clean, _ = parse(given, thanksgiving, thanksgiving | {"holiday": "no"})
    assert clean["feels_like"].iloc[0] == -3.5
    assert clean["holiday"].tolist() == [True, True, False]
    assert clean["working_day"].tolist() == [False, False, True]


@pytest.mark.parametrize("values", [(1, None), (1.0, np.nan), ("yes", ""), (True, None)])
def test_a_column_of_holidays_may_have_missing_values(values: tuple[Any, Any]) -> None:
    rows = pd.DataFrame([ROW, ROW]).assign(holiday=list(values))
    clean, errors = STATISTICS.parse(rows)
    assert errors.tolist() == ["", ""]
    assert clean["holiday"].tolist() == [True, False]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temp": 60}, "temp = 60: must be a number from -8 to 39 °C"),
        ({"temp": "hot"}, "temp = hot: must be a number from -8 to 39 °C"),
        ({"temp": float("inf")}, "temp = inf: must be a number from -8 to 39 °C"),
        ({"humidity": 0}, "humidity = 0: must be a number from 1 to 100 %"),
        ({"humidity": " "}, "humidity: missing, must be a number from 1 to 100 %"),
        ({"windspeed": -1}, "windspeed = -1: must be a number from 0 to 67 km/h"),
        ({"feels_like": 99}, "feels_like = 99: must be a number from -16 to 50 °C"),
        ({"holiday": "maybe"}, "holiday = maybe: must be one of yes, true, 1, no, false, 0"),
        ({"weather": "sunny"}, "weather = sunny: must be one of clear, mist, light_precipitation"),
        ({"at": "17:00"}, "at = 17:00: must be a local time like 2012-10-05T17:00"),
        ({"at": "2012-10-05"}, "at = 2012-10-05: must be a local time like 2012-10-05T17:00"),
        ({"at": "2012-10-05T17:00Z"}, "at = 2012-10-05T17:00Z: must be a local time like"),
        ({"at": "2010-12-31T23:00"}, "17:00, and from 2011-01-01 to 2014-01-01: the data end on"),
        ({"at": "2026-01-01T00:00"}, "17:00, and from 2011-01-01 to 2014-01-01: the data end on"),
    ],
)
def test_errors_name_column_value_and_what_is_allowed(change: dict, message: str) -> None:
    _, (error,) = parse(change)
    assert message in error
    assert ";" not in error


def test_errors_name_every_wrong_column() -> None:
    _, errors = parse({}, {"temp": 60, "weather": "sunny"}, {})
    assert errors[1].count(": must be") == 2
    assert errors[0] == errors[2] == ""
    rows = pd.DataFrame([ROW, ROW]).drop(columns="temp")
    assert STATISTICS.parse(rows)[1].str.startswith("temp: missing").all()
    clean, none = STATISTICS.parse(rows.iloc[:0])
    assert clean.empty and none.empty


def test_input_statistics() -> None:
    steps = np.arange(40)
    hours = pd.DataFrame({"temperature": steps % 7, "humidity": 50.0 + steps % 5})
    hours["timestamp"] = pd.date_range("2011-01-01", periods=40, freq="h")
    hours["windspeed"] = steps % 3 * 6.0
    hours["feels_like"] = 2 + 1.5 * hours["temperature"] - 0.25 * hours["windspeed"]
    hours["feels_like_suspect"] = False
    hours.loc[3, ["feels_like", "feels_like_suspect"]] = [40.0, True]
    hours["windspeed_calm"] = hours["windspeed"] <= 0
    statistics = input_statistics(hours)
    assert (statistics.first, statistics.last, statistics.calm) == ("2011-01-01", "2011-01-02", 0)
    assert statistics.feels_like == pytest.approx((2, 1.5, 0, -0.25), abs=1e-9)
