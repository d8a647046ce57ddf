"""Known faults of weather stations and counters: flagged, repaired and counted."""

from typing import Any

import numpy as np
import pandas as pd
from pydantic import Field

from bikefit.data.bikes.columns import SCALES
from bikefit.data.params import StrictModel
from bikefit.errors import DataError

HOUR = pd.Timedelta(hours=1)


class CleanParams(StrictModel):
    """Limits of the known faults: the section `clean` of `params.yaml`."""

    humidity_above: float = Field(ge=0, lt=100)  # %; at or below, the sensor has failed
    stuck_hours: int = Field(ge=2)  # recorded hours in a row with the same felt temperature
    stuck_range: float = Field(gt=0)  # °C between the lowest and highest temperature in them
    calm: float = Field(ge=0)  # km/h; at or below, the anemometer measures nothing


def is_stuck(hours: pd.DataFrame, params: CleanParams) -> pd.Series:
    """Return whether the sensor of `feels_like` was stuck in each row, (N,) bool.

    It was in `stuck_hours` or more rows of equal `feels_like`, if their temperature varies by
    `stuck_range` or more.
    """
    stretch = hours["feels_like"].ne(hours["feels_like"].shift()).cumsum()
    temperature = hours["temperature"].groupby(stretch)
    range_ = temperature.transform("max") - temperature.transform("min")
    long = temperature.transform("size") >= params.stuck_hours
    return long & (range_ >= params.stuck_range)


def interpolate(values: pd.Series, wrong: pd.Series, timestamps: pd.Series) -> pd.Series:
    """Replace wrong values by linear interpolation in time.

    At both ends, the nearest right value is repeated.
    """
    if wrong.all():
        raise DataError(f"{values.name}: every value is faulty, so none can be repaired")
    time = timestamps.to_numpy().astype("datetime64[s]").astype("int64")
    right = ~wrong.to_numpy()
    line = np.interp(time, time[right], values.to_numpy()[right])
    return values.where(~wrong, pd.Series(line, index=values.index))


def flag_and_repair(hours: pd.DataFrame, params: CleanParams) -> pd.DataFrame:
    """Repair faulty values of clean rows, and set the flags of these rows.

    Humidity is interpolated. For `feels_like`, its difference from `temperature` is interpolated,
    so that the repaired value follows the temperature of the day.
    """
    temperature, felt, time = hours["temperature"], hours["feels_like"], hours["timestamp"]
    dry, stuck = hours["humidity"] <= params.humidity_above, is_stuck(hours, params)
    excess = interpolate((felt - temperature).rename("feels_like"), stuck, time)
    repaired = (temperature + excess).clip(*SCALES["feels_like"][1:])
    return hours.assign(
        humidity=interpolate(hours["humidity"], dry, time),
        feels_like=felt.where(~stuck, repaired),
        humidity_suspect=dry,
        feels_like_suspect=stuck,
    )


def gaps(timestamps: pd.Series) -> pd.DataFrame:
    """Return a row per gap in the timestamps: `begins` (first absent hour) and its `hours`."""
    steps = timestamps.diff()
    wide = steps > HOUR
    hours = steps[wide].dt.total_seconds().div(3600).round().astype("int64") - 1
    begins = timestamps.shift()[wide] + HOUR
    return pd.DataFrame({"begins": begins, "hours": hours}).reset_index(drop=True)


def quality_report(hours: pd.DataFrame, params: CleanParams) -> dict[str, Any]:
    """Count the absent hours and the known faults of the clean table, and describe them."""
    faults = {
        "humidity": _fault(
            f"Humidity at or below {params.humidity_above:g} % does not occur outdoors",
            hours["humidity_suspect"].sum(),
            "repaired and flagged",
        ),
        "feels_like": _fault(
            f"Felt temperature stuck for {params.stuck_hours} recorded hours or more while the "
            f"temperature varies by {params.stuck_range:g} °C or more",
            hours["feels_like_suspect"].sum(),
            "repaired and flagged",
        ),
        "windspeed": _fault(
            f"Wind at or below {params.calm:g} km/h is below what the anemometer measures",
            hours["windspeed_calm"].sum(),
            "flagged, not changed",
        ),
    }
    absent = gaps(hours["timestamp"])
    count, longest = int(absent["hours"].sum()), max(absent["hours"], default=0)
    sentence = (
        f"{count:,} hours between the first and the last are absent, in {len(absent)} gaps of at "
        f"most {longest} hours; no row was added for them."
    )
    return {
        "rows": len(hours),
        "first_hour": str(hours["timestamp"].iloc[0]),
        "last_hour": str(hours["timestamp"].iloc[-1]),
        "absent_hours": {"count": count, "gaps": len(absent), "sentence": sentence},
        "faults": faults,
        "rows_by_weather": hours["weather"].value_counts().sort_index().to_dict(),
    }


def _fault(rule: str, count: float, action: str) -> dict[str, Any]:
    return {"count": int(count), "sentence": f"{rule}: {int(count):,} rows, {action}."}
