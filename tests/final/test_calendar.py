"""Season, holiday and working day from a date."""

from __future__ import annotations

import pandas as pd

from bikefit.final.calendar import disagreements, holidays, seasons, weekdays


def dates(*texts: str) -> pd.Series:
    return pd.Series(pd.to_datetime(list(texts)))


def test_seasons_begin_on_their_day() -> None:
    days = dates("2012-03-20", "2012-03-21", "2012-06-20", "2012-06-21", "2012-09-22",
                 "2012-09-23", "2012-12-20", "2012-12-21", "2012-01-01")  # fmt: skip
    assert seasons(days).tolist() == [
        "winter", "spring", "spring", "summer", "summer", "autumn", "autumn", "winter", "winter",
    ]  # fmt: skip


def test_holidays_of_2012_as_observed() -> None:
    days = pd.Series(pd.date_range("2012-01-01", "2012-12-31"))
    found = days[holidays(days)].dt.strftime("%m-%d").tolist()
    assert found == ["01-02", "01-16", "02-20", "04-16", "05-28", "07-04", "09-03", "10-08",
                     "11-12", "11-22", "12-25"]  # fmt: skip


def test_a_holiday_on_a_weekend_moves_and_the_hour_does_not_matter() -> None:
    # Emancipation Day of 2011 was a saturday, Christmas a sunday.
    days = dates("2011-04-15 13:00", "2011-04-16 13:00", "2011-12-25 08:00", "2011-12-26 08:00")
    assert holidays(days).tolist() == [True, False, False, True]


def test_no_dates_have_no_holidays() -> None:
    assert holidays(dates()).empty


def test_weekdays_have_names() -> None:
    assert weekdays(dates("2012-10-05", "2012-10-07")).tolist() == ["friday", "sunday"]


def test_disagreements_count_days() -> None:
    time = pd.Series(pd.date_range("2012-07-03", periods=72, freq="h"))
    hours = pd.DataFrame({"timestamp": time, "season": "summer", "holiday": False})
    hours.loc[time.dt.day == 5, "season"] = "winter"
    assert disagreements(hours) == {"days": 3, "season": 1, "holiday": 1}
