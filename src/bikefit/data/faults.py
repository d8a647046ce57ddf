"""Known faults of weather stations and counters: flagged, repaired and counted."""

from typing import Any

import numpy as np
import pandas as pd
from pydantic import Field

from bikefit.data.columns import SCALES
from bikefit.data.params import StrictModel
from bikefit.errors import DataError

HOUR = pd.Timedelta(hours=1)


class Clean(StrictModel):
    """The section `clean` of `params.yaml`: the limits of the known faults."""

    humidity_above: float = Field(ge=0, lt=100)  # %; at or below, the sensor has failed
    stuck_hours: int = Field(ge=2)  # recorded hours in a row with the same felt temperature
    stuck_range: float = Field(gt=0)  # °C between the lowest and highest temperature in them
    calm: float = Field(ge=0)  # km/h; at or below, the anemometer measures nothing
    rare: int = Field(ge=0)  # rows; a category of the weather with fewer is rare


def is_stuck(hours: pd.DataFrame, params: Clean) -> pd.Series:
    """Return whether a row is in a stretch of equal `feels_like` that breaks the rule, (N,)."""
    stretch = hours["feels_like"].ne(hours["feels_like"].shift()).cumsum()
    temperature = hours["temperature"].groupby(stretch)
    range_ = temperature.transform("max") - temperature.transform("min")
    long = temperature.transform("size") >= params.stuck_hours
    return long & (range_ >= params.stuck_range)


def interpolate(values: pd.Series, wrong: pd.Series, timestamps: pd.Series) -> pd.Series:
    """Replace wrong values by linear interpolation in time; the first and last are extended."""
    if wrong.all():
        raise DataError(f"{values.name}: every value is faulty, so none can be repaired")
    time = timestamps.to_numpy().astype("datetime64[s]").astype("int64")
    right = ~wrong.to_numpy()
    line = np.interp(time, time[right], values.to_numpy()[right])
    return values.where(~wrong, pd.Series(line, index=values.index))


def flag_and_repair(hours: pd.DataFrame, params: Clean) -> pd.DataFrame:
    """Flag and repair the faults of clean rows.

    Humidity is interpolated. Of `feels_like`, the difference from `temperature` is interpolated,
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
    """Return the gaps of absent hours: `begins` (the first absent hour) and length in `hours`."""
    steps = timestamps.diff()
    wide = steps > HOUR
    hours = steps[wide].dt.total_seconds().div(3600).round().astype("int64") - 1
    begins = timestamps.shift()[wide] + HOUR
    return pd.DataFrame({"begins": begins, "hours": hours}).reset_index(drop=True)


def quality(hours: pd.DataFrame, params: Clean) -> dict[str, Any]:
    """Count the known faults of the clean table, with the rule and the action for each."""
    by_weather = hours["weather"].value_counts().sort_index()
    faults = {
        "humidity": _fault(
            f"humidity at or below {params.humidity_above:g} % does not occur outdoors",
            hours["humidity_suspect"].sum(),
            "repaired and flagged",
        ),
        "feels_like": _fault(
            f"felt temperature stuck for {params.stuck_hours} recorded hours or more while the "
            f"temperature varies by {params.stuck_range:g} °C or more",
            hours["feels_like_suspect"].sum(),
            "repaired and flagged",
        ),
        "windspeed": _fault(
            f"wind at or below {params.calm:g} km/h is below what the anemometer measures",
            hours["windspeed_calm"].sum(),
            "flagged, left as it was",
        ),
        "weather": _fault(
            f"a weather category with fewer than {params.rare} rows is rare",
            by_weather[by_weather < params.rare].sum(),
            "counted, left as it was",
        ),
    }
    faults["weather"]["rows_by_category"] = by_weather.to_dict()
    return {
        "rows": len(hours),
        "first_hour": str(hours["timestamp"].iloc[0]),
        "last_hour": str(hours["timestamp"].iloc[-1]),
        "absent_hours": _absent(hours["timestamp"]),
        "faults": faults,
    }


def _fault(rule: str, total: float, done: str) -> dict[str, Any]:
    count = int(total)
    rows = "1 row" if count == 1 else f"{count:,} rows"
    sentence = f"{rule[0].upper()}{rule[1:]}: {rows}{', ' + done if count else ''}."
    return {"count": count, "done": done, "rule": rule, "sentence": sentence}


def _absent(timestamps: pd.Series) -> dict[str, Any]:
    absent = gaps(timestamps)
    if absent.empty:
        return {"count": 0, "gaps": 0, "longest_gap": None, "sentence": "No hour is absent."}
    begins, length = absent.iloc[int(absent["hours"].argmax())]
    count = int(absent["hours"].sum())
    sentence = (
        f"{count:,} hours between the first and the last are absent, in {len(absent)} gaps; the "
        f"longest begins at {begins} and lasts {length} hours. None was made up."
    )
    gap = {"begins": str(begins), "hours": int(length)}
    return {"count": count, "gaps": len(absent), "longest_gap": gap, "sentence": sentence}
