"""Known faults of weather stations and counters: found by rule, flagged or repaired, counted."""

from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from bikefit.data.columns import SCALES
from bikefit.data.params import StrictModel
from bikefit.errors import DataError

Action = Literal["repair", "flag"]
HOUR = pd.Timedelta(hours=1)


class Humidity(StrictModel):
    """Outdoor air is never perfectly dry: such a value is a dead sensor."""

    action: Action
    above: float = Field(ge=0, lt=100)  # %


class FeelsLike(StrictModel):
    """A felt temperature that is constant while the temperature varies is stuck."""

    action: Action
    hours: int = Field(ge=2)  # recorded hours in a row
    moves: float = Field(gt=0)  # °C between the lowest and highest temperature in them


class Windspeed(StrictModel):
    """The anemometer reports 0 below its limit; such hours are calm, not faulty."""

    calm: float = Field(ge=0)  # km/h; at or below


class Weather(StrictModel):
    """A category with few rows can hardly be learnt."""

    rare: int = Field(ge=0)  # rows; fewer are rare


class Clean(StrictModel):
    """The section `clean` of `params.yaml`."""

    humidity: Humidity
    feels_like: FeelsLike
    windspeed: Windspeed
    weather: Weather


def is_stuck(hours: pd.DataFrame, rule: FeelsLike) -> pd.Series:
    """Return whether a row is in a stretch of equal `feels_like` that breaks the rule, (N,)."""
    stretch = hours["feels_like"].ne(hours["feels_like"].shift()).cumsum()
    temperature = hours["temperature"].groupby(stretch)
    range_ = temperature.transform("max") - temperature.transform("min")
    return (temperature.transform("size") >= rule.hours) & (range_ >= rule.moves)


def interpolate(values: pd.Series, wrong: pd.Series, timestamps: pd.Series) -> pd.Series:
    """Replace wrong values by linear interpolation in time; the first and last are extended."""
    if wrong.all():
        raise DataError(f"{values.name}: every value is faulty, so none can be repaired")
    time = timestamps.to_numpy().astype("datetime64[s]").astype("int64")
    right = ~wrong.to_numpy()
    line = np.interp(time, time[right], values.to_numpy()[right])
    return values.where(~wrong, pd.Series(line, index=values.index))


def flag_and_repair(hours: pd.DataFrame, params: Clean) -> pd.DataFrame:
    """Flag the faults of clean rows, and repair them if the rule says so.

    Humidity is interpolated. Of `feels_like`, the difference from `temperature` is interpolated,
    so that the repaired value follows the temperature of the day.
    """
    humidity, felt, time = hours["humidity"], hours["feels_like"], hours["timestamp"]
    dry, stuck = humidity <= params.humidity.above, is_stuck(hours, params.feels_like)
    if params.humidity.action == "repair":
        humidity = interpolate(humidity, dry, time)
    if params.feels_like.action == "repair":
        excess = (felt - hours["temperature"]).rename("feels_like")
        repaired = hours["temperature"] + interpolate(excess, stuck, time)
        felt = felt.where(~stuck, repaired.clip(*SCALES["feels_like"][1:]))
    return hours.assign(
        humidity=humidity, feels_like=felt, humidity_suspect=dry, feels_like_suspect=stuck
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
    done = {"repair": "repaired and flagged", "flag": "flagged, left as it was"}
    felt, rare = params.feels_like, params.weather.rare
    by_weather = hours["weather"].value_counts().sort_index()
    is_rare = hours["weather"].isin(by_weather.index[by_weather < rare])
    faults = {
        "humidity": _fault(
            f"humidity at or below {params.humidity.above:g} % does not occur outdoors",
            hours["humidity_suspect"],
            done[params.humidity.action],
        ),
        "feels_like": _fault(
            f"felt temperature stuck for {felt.hours} recorded hours or more while the "
            f"temperature varies by {felt.moves:g} °C or more",
            hours["feels_like_suspect"],
            done[felt.action],
        ),
        "windspeed": _fault(
            f"wind at or below {params.windspeed.calm:g} km/h is below what the anemometer "
            "measures",
            hours["windspeed_calm"],
            done["flag"],
        ),
        "weather": _fault(
            f"a weather category with fewer than {rare} rows is rare",
            is_rare,
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


def _fault(rule: str, faulty: pd.Series, done: str) -> dict[str, Any]:
    count = int(faulty.sum())
    rows = "1 row" if count == 1 else f"{count:,} rows"
    sentence = f"{rule[0].upper()}{rule[1:]}: {rows}{', ' + done if count else ''}."
    return {"count": count, "done": done, "rule": rule, "sentence": sentence}


def _absent(timestamps: pd.Series) -> dict[str, Any]:
    absent = gaps(timestamps)
    if absent.empty:
        return {"count": 0, "gaps": 0, "longest_gap": None, "sentence": "No hour is absent."}
    longest = absent.iloc[int(absent["hours"].argmax())]
    begins, length = str(longest["begins"]), int(longest["hours"])
    count = int(absent["hours"].sum())
    sentence = (
        f"{count:,} hours between the first and the last are absent, in {len(absent)} gaps; the "
        f"longest begins at {begins} and lasts {length} hours. None was made up."
    )
    gap = {"begins": begins, "hours": length}
    return {"count": count, "gaps": len(absent), "longest_gap": gap, "sentence": sentence}
