"""What the calendar tells of a day."""

from __future__ import annotations

import pandas as pd
import pytest

from bikefit.data.features import codes
from bikefit.data.occasions import OCCASIONS, commuting, occasion


@pytest.mark.parametrize(
    ("day", "wanted"),
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
def test_the_occasion_of_a_day(day: str, wanted: str) -> None:
    rows = pd.DataFrame({"timestamp": pd.to_datetime([f"{day}T00", f"{day}T23"])})
    assert occasion(rows).tolist() == [wanted, wanted]
    assert codes("occasion", rows).tolist() == [OCCASIONS.index(wanted)] * 2


@pytest.mark.parametrize(
    ("day", "holiday", "working", "wanted"),
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
def test_who_commutes(day: str, holiday: bool, working: bool, wanted: bool) -> None:
    rows = pd.DataFrame(
        {"timestamp": pd.to_datetime([day]), "holiday": [holiday], "working_day": [working]}
    )
    assert commuting(rows).tolist() == [wanted]
