"""What the calendar of Washington, D.C. tells of a day before it comes: commuting and occasions."""

from typing import Final

import numpy as np
import pandas as pd

OCCASIONS: Final = (
    "ordinary", "new_years_day", "independence_day", "thanksgiving_eve", "thanksgiving",
    "thanksgiving_weekend", "christmas", "year_end",
)  # fmt: skip


def commuting(hours: pd.DataFrame) -> pd.Series:
    """Whether people commute, (N,) bool: on working days, and on public holidays on which most
    employers stay open (King, Presidents', Emancipation, Columbus and Veterans Day).
    """
    time = hours["timestamp"].dt
    king = (time.month == 1) & (time.day >= 15)
    veterans = (time.month == 11) & (time.day <= 12)
    open_for_business = king | veterans | time.month.isin([2, 4, 10])
    return hours["working_day"] | (hours["holiday"] & open_for_business)


def occasion(hours: pd.DataFrame) -> pd.Series:
    """The name of each day on which demand is unusual every year, else `ordinary`, (N,) text."""
    time = hours["timestamp"].dt
    date, november = time.month * 100 + time.day, time.month == 11
    # The Thursday of the week: its Friday to Sunday can reach into December.
    thursday = hours["timestamp"] - pd.to_timedelta((time.day_of_week - 3) % 7, unit="D")
    rules = {
        "new_years_day": date == 101,
        "independence_day": date == 704,
        "thanksgiving_eve": november & (time.day_of_week == 2) & time.day.between(21, 27),
        "thanksgiving": november & (time.day_of_week == 3) & time.day.between(22, 28),
        "thanksgiving_weekend": (thursday.dt.month == 11)
        & thursday.dt.day.between(22, 28)
        & time.day_of_week.isin([4, 5, 6]),
        "christmas": date.isin([1224, 1225]),
        "year_end": date >= 1222,
    }
    found = np.select(list(rules.values()), list(rules), default=OCCASIONS[0])
    return pd.Series(found, index=hours.index)
