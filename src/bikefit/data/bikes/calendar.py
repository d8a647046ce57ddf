"""The calendar of Washington, D.C.: seasons, holidays, commuting days and yearly occasions."""

from typing import Final

import numpy as np
import pandas as pd
from pandas.tseries.holiday import Holiday, USFederalHolidayCalendar, nearest_workday

from bikefit.data.bikes.columns import SEASONS

SEASON_STARTS: Final = {321: "spring", 621: "summer", 923: "autumn", 1221: "winter"}
"""Season by its first day, as 100 · month + day."""

EMANCIPATION_DAY = Holiday("Emancipation Day", month=4, day=16, observance=nearest_workday)

OCCASIONS: Final = (
    *("ordinary", "new_years_day", "independence_day", "thanksgiving_eve", "thanksgiving"),
    *("thanksgiving_weekend", "christmas", "year_end"),
)


def season(dates: pd.Series) -> pd.Series:
    """Return the season of each date, (N,) categorical."""
    code = dates.dt.month * 100 + dates.dt.day
    latest = np.searchsorted(list(SEASON_STARTS), code, side="right") - 1  # -1 is winter
    names = np.array(list(SEASON_STARTS.values()))[latest]
    return pd.Series(pd.Categorical(names, list(SEASONS.values())), dates.index)


def is_holiday(dates: pd.Series) -> pd.Series:
    """Return whether each date is an observed federal holiday or Emancipation Day, (N,) bool."""
    if dates.empty:
        return pd.Series(False, dates.index)
    first, last = dates.min().normalize(), dates.max().normalize()
    days = [*USFederalHolidayCalendar().holidays(first, last), *EMANCIPATION_DAY.dates(first, last)]
    return dates.dt.normalize().isin(days)


def is_commuting_day(hours: pd.DataFrame) -> pd.Series:
    """Return whether most people commute in each row, (N,) bool.

    These are working days, and the holidays on which most employers stay open: King,
    Presidents', Emancipation, Columbus and Veterans Day.
    """
    time = hours["timestamp"].dt
    king, veterans = (time.month == 1) & (time.day >= 15), (time.month == 11) & (time.day <= 12)
    open_for_business = king | veterans | time.month.isin([2, 4, 10])
    return hours["working_day"] | (hours["holiday"] & open_for_business)


def occasion(hours: pd.DataFrame) -> pd.Series:
    """Return the name of each day with unusual demand every year, otherwise `ordinary`, (N,)."""
    time = hours["timestamp"].dt
    date, november = time.month * 100 + time.day, time.month == 11
    # The Thursday of the week decides: the Sunday after Thanksgiving can be in December.
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
    names = np.select(list(rules.values()), list(rules), default=OCCASIONS[0])
    return pd.Series(names, index=hours.index)
