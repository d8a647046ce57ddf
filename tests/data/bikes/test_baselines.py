"""Baselines of the bike tables."""

import pandas as pd

from bikefit.data.bikes.baselines import hourly_mean


def test_hourly_mean() -> None:
    hours = pd.DataFrame(
        {"working_day": [True, True, False, True], "rentals": [10, 20, 3, 7]}
    ).assign(timestamp=pd.to_datetime(["2012-01-02T08"] * 3 + ["2012-01-02T09"]))
    test = pd.DataFrame({"working_day": [True, False, False]})
    test["timestamp"] = pd.to_datetime(["2012-01-09T08", "2012-01-09T08", "2012-01-09T09"])
    assert hourly_mean(hours, test).tolist() == [
        15,
        3,
        10,
    ]  # the last is the mean
