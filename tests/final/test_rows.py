"""Rows as people write them."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from bikefit.data.columns import CLEAN, LEAKS
from bikefit.final.rows import Habits, learn, read

HABITS = Habits("2011-01-01", "2012-12-31", calm=0.0, feels_like=(1.0, 1.0, 0.1, -0.5))
ROW = {"at": "2012-10-05T17:00", "temp": 21, "humidity": 60, "windspeed": 12, "weather": "clear"}


def error_of(**changed: Any) -> str:
    clean, errors = read(pd.DataFrame([ROW | changed]), HABITS)
    assert clean.empty == bool(errors[0])
    return str(errors[0])


def test_a_row_becomes_a_clean_row() -> None:
    clean, errors = read(pd.DataFrame([ROW]), HABITS)
    assert errors.tolist() == [""]
    assert set(clean) == set(CLEAN) - set(LEAKS)
    found = clean.iloc[0]
    assert found["timestamp"] == pd.Timestamp("2012-10-05 17:00")
    assert (found["season"], found["weekday"], found["hour"]) == ("autumn", "friday", 17)
    assert (found["year"], found["month"]) == (2012, 10)
    assert found["working_day"] and not found["holiday"] and not found["windspeed_calm"]
    assert found["feels_like"] == pytest.approx(1 + 21 + 6 - 6)


def test_what_is_given_is_not_filled() -> None:
    rows = pd.DataFrame([ROW | {"feels_like": -3.5, "holiday": "yes"}])
    found = read(rows, HABITS)[0].iloc[0]
    assert found["feels_like"] == -3.5
    assert found["holiday"] and not found["working_day"]


def test_the_calendar_knows_thanksgiving_unless_told_otherwise() -> None:
    day = ROW | {"at": "2012-11-22 08:00"}
    rows = pd.DataFrame([day, day | {"holiday": "no"}])
    clean = read(rows, HABITS)[0]
    assert clean["holiday"].tolist() == [True, False]
    assert clean["working_day"].tolist() == [False, True]


def test_text_and_numbers_mean_the_same() -> None:
    text = {key: f" {value} " for key, value in ROW.items()}
    one, other = (read(pd.DataFrame([row]), HABITS)[0] for row in (ROW, text))
    pd.testing.assert_frame_equal(one, other)


def test_calm_is_what_the_anemometer_called_calm() -> None:
    rows = pd.DataFrame([ROW | {"windspeed": wind} for wind in (0, 0.1)])
    assert read(rows, HABITS)[0]["windspeed_calm"].tolist() == [True, False]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"temp": 60}, "temp = 60: must be a number from -8 to 39 °C"),
        ({"temp": "hot"}, "temp = hot: must be a number from -8 to 39 °C"),
        ({"temp": float("inf")}, "temp = inf: must be a number from -8 to 39 °C"),
        ({"temp": None}, "temp: missing, must be a number from -8 to 39 °C"),
        ({"humidity": 0}, "humidity = 0: must be a number above 0 and at most 100 %"),
        ({"humidity": " "}, "humidity: missing, must be a number above 0 and at most 100 %"),
        ({"windspeed": -1}, "windspeed = -1: must be a number from 0 to 67 km/h"),
        ({"feels_like": 99}, "feels_like = 99: must be a number from -16 to 50 °C"),
        ({"holiday": "maybe"}, "holiday = maybe: must be one of yes, true, 1, no, false, 0"),
        ({"at": "17:00"}, "at = 17:00: must be a local time like 2012-10-05T17:00"),
        ({"at": "2012-02-30T17:00"}, "at = 2012-02-30T17:00: must be a local time like"),
        ({"at": "2012-10-05T17:00Z"}, "at = 2012-10-05T17:00Z: must be a local time like"),
        ({"at": None}, "at: missing, must be a local time like 2012-10-05T17:00"),
        ({"at": "2010-12-31T23:00"}, "must be from 2011-01-01 to 2014-01-01: the data end on"),
        ({"at": "2026-01-01T00:00"}, "must be from 2011-01-01 to 2014-01-01: the data end on"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_named(changed: dict[str, Any], said: str) -> None:
    assert said in error_of(**changed)


def test_an_unknown_weather_names_those_that_are_known() -> None:
    assert error_of(weather="sunny") == (
        "weather = sunny: must be one of clear, mist, light_precipitation, heavy_precipitation"
    )


def test_all_that_is_wrong_in_a_row_is_said() -> None:
    assert error_of(temp=60, weather="sunny").count(": must be") == 2


def test_an_absent_column_is_missing_in_every_row() -> None:
    rows = pd.DataFrame([ROW, ROW]).drop(columns="temp")
    clean, errors = read(rows, HABITS)
    assert clean.empty
    assert errors.str.startswith("temp: missing").all()


def test_right_rows_are_served_beside_wrong_ones() -> None:
    rows = pd.DataFrame([ROW, ROW | {"temp": 60}, ROW], index=[5, 6, 7])
    clean, errors = read(rows, HABITS)
    assert clean.index.tolist() == [5, 7]
    assert (errors != "").tolist() == [False, True, False]


def test_no_rows() -> None:
    clean, errors = read(pd.DataFrame([ROW]).iloc[:0], HABITS)
    assert clean.empty and errors.empty


def test_habits_are_measured() -> None:
    hours = pd.DataFrame(
        {
            "timestamp": pd.date_range("2011-01-01", periods=40, freq="h"),
            "temperature": [t % 7 for t in range(40)],
            "humidity": [50.0 + t % 5 for t in range(40)],
            "windspeed": [t % 3 * 6.0 for t in range(40)],
        }
    )
    hours["feels_like"] = 2 + 1.5 * hours["temperature"] - 0.25 * hours["windspeed"]
    hours["feels_like_suspect"] = False
    hours.loc[3, ["feels_like", "feels_like_suspect"]] = [40.0, True]
    hours["windspeed_calm"] = hours["windspeed"] <= 0
    found = learn(hours)
    assert (found.first, found.last, found.calm) == ("2011-01-01", "2011-01-02", 0.0)
    assert found.feels_like == pytest.approx((2, 1.5, 0, -0.25), abs=1e-9)
