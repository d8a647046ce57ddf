"""What follows from a date in Washington, D.C.: season, holiday, working day.

Refitting counts the days on which these rules and the table disagree.
"""

import numpy as np
import pandas as pd
from pandas.tseries.holiday import Holiday, USFederalHolidayCalendar, nearest_workday

from bikefit.data.columns import SEASONS, WEEKDAYS

BEGINS = {1221: "winter", 923: "autumn", 621: "summer", 321: "spring"}
"""Season by its first day, month x 100 + day, the last of the year first."""

EMANCIPATION = Holiday("Emancipation Day", month=4, day=16, observance=nearest_workday)


def seasons(dates: pd.Series) -> pd.Series:
    """The season of each date, as a category with all four seasons."""
    code = dates.dt.month * 100 + dates.dt.day
    words = np.select([code >= begin for begin in BEGINS], list(BEGINS.values()), default="winter")
    return pd.Series(words, dates.index).astype(pd.CategoricalDtype(list(SEASONS.values())))


def holidays(dates: pd.Series) -> pd.Series:
    """Whether each date is a federal holiday or Emancipation Day, on the day it is observed."""
    if dates.empty:
        return pd.Series(False, dates.index)
    first, last = dates.min().normalize(), dates.max().normalize()
    days = [*USFederalHolidayCalendar().holidays(first, last), *EMANCIPATION.dates(first, last)]
    return dates.dt.normalize().isin(days)


def weekdays(dates: pd.Series) -> pd.Series:
    """The weekday of each date, as a category that begins with monday."""
    words = dates.dt.day_of_week.map(dict(enumerate(WEEKDAYS)))
    return words.astype(pd.CategoricalDtype(list(WEEKDAYS)))


def disagreements(hours: pd.DataFrame) -> dict[str, int]:
    """Count the days of a clean table whose season or holiday is not what the rules say."""
    days = hours.groupby(hours["timestamp"].dt.normalize(), as_index=False).first()
    dates = days["timestamp"]
    return {
        "days": len(days),
        "season": int((seasons(dates).astype(str) != days["season"].astype(str)).sum()),
        "holiday": int((holidays(dates) != days["holiday"]).sum()),
    }
