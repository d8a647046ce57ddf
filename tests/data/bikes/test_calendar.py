"""Seasons, holidays, commuting days and occasions of given dates."""

from __future__ import annotations

import pandas as pd
import pytest

from bikefit.data.bikes.calendar import (
    OCCASIONS,
    is_commuting_day,
    is_holiday,
    occasion,
    season,
)
from bikefit.data.features import category_codes


def dates(*texts: str) -> pd.Series:
    return pd.Series(pd.to_datetime(list(texts)))


@pytest.mark.parametrize(
    ("last", "first", "before", "after"),
    [
        ("2012-03-20", "2012-03-21", "winter", "spring"),
        ("2012-06-20", "2012-06-21", "spring", "summer"),
        ("2012-09-22", "2012-09-23", "summer", "autumn"),
        ("2012-12-20", "2012-12-21", "autumn", "winter"),
        ("2012-01-01", "2012-12-31", "winter", "winter"),
    ],
)
def test_first_and_last_days_of_seasons(last: str, first: str, before: str, after: str) -> None:
    assert season(dates(last, first)).tolist() == [before, after]


def test_holidays_of_2012() -> None:
    days = pd.Series(pd.date_range("2012-01-01", "2012-12-31"))
    assert " ".join(days[is_holiday(days)].dt.strftime("%m-%d")) == (
        "01-02 01-16 02-20 04-16 05-28 07-04 09-03 10-08 11-12 11-22 12-25"
    )


def test_holidays_on_weekends_are_observed_on_working_days() -> None:
    # Emancipation Day of 2011 was a Saturday, Christmas a Sunday.
    days = dates("2011-04-15 13:00", "2011-04-16 13:00", "2011-12-25 08:00", "2011-12-26 08:00")
    assert is_holiday(days).tolist() == [True, False, False, True]
    assert is_holiday(dates()).empty


@pytest.mark.parametrize(
    ("day", "expected"),
    [
        ("2012-01-01", "new_years_day"),
        ("2012-01-02", "ordinary"),
        ("2011-07-04", "independence_day"),
        ("2011-11-23", "thanksgiving_eve"),
        ("2011-11-24", "thanksgiving"),
        ("2011-11-27", "thanksgiving_weekend"),
        ("2011-11-28", "ordinary"),
        ("2013-11-28", "thanksgiving"),
        ("2013-12-01", "thanksgiving_weekend"),  # the Sunday after can be in December
        ("2012-12-01", "ordinary"),
        ("2011-12-21", "ordinary"),
        ("2011-12-22", "year_end"),
        ("2011-12-24", "christmas"),
        ("2011-12-31", "year_end"),
    ],
)
def test_occasions(day: str, expected: str) -> None:
    rows = pd.DataFrame({"timestamp": pd.to_datetime([f"{day}T00", f"{day}T23"])})
    assert occasion(rows).tolist() == [expected, expected]
    rows["occasion"] = occasion(rows)
    assert category_codes(rows["occasion"], OCCASIONS).tolist() == [OCCASIONS.index(expected)] * 2


@pytest.mark.parametrize(
    ("day", "holiday", "working", "expected"),
    [
        ("2012-06-05", False, True, True),  # a Tuesday
        ("2012-06-09", False, False, False),  # a Saturday
        ("2012-01-02", True, False, False),  # New Year's Day, observed
        ("2012-01-16", True, False, True),  # King
        ("2012-04-16", True, False, True),  # Emancipation Day
        ("2012-05-28", True, False, False),  # Memorial Day
        ("2012-11-12", True, False, True),  # Veterans Day, observed
        ("2012-11-22", True, False, False),  # Thanksgiving
    ],
)
def test_commuting(day: str, holiday: bool, working: bool, expected: bool) -> None:
    rows = pd.DataFrame(
        {"timestamp": pd.to_datetime([day]), "holiday": [holiday], "working_day": [working]}
    )
    assert is_commuting_day(rows).tolist() == [expected]
