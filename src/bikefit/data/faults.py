"""Known faults of weather stations and counters, found by rule, repaired or flagged, and counted.

No date stands here: the rules find the faults of any table in the same columns.
"""

from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from bikefit.data.params import StrictModel
from bikefit.errors import DataError

Action = Literal["repair", "flag"]
HOUR = pd.Timedelta(hours=1)


class Humidity(StrictModel):
    """Air outdoors is never perfectly dry: such a value is a dead sensor."""

    action: Action
    above: float = Field(ge=0, lt=100)  # %


class FeelsLike(StrictModel):
    """A felt temperature that stands still while the temperature moves is a stuck value."""

    action: Action
    hours: int = Field(ge=2)  # recorded hours in a row
    moves: float = Field(gt=0)  # °C between the lowest and highest temperature in them


class Windspeed(StrictModel):
    """Below what the anemometer can measure it reports 0; such hours are calm, not faulty."""

    calm: float = Field(ge=0)  # km/h; at or below


class Weather(StrictModel):
    """A category with few rows can hardly be learnt, and is worth a warning."""

    rare: int = Field(ge=0)  # rows; fewer are rare


def humidity_suspect(humidity: pd.Series, rule: Humidity) -> pd.Series:
    """Rows whose humidity (%) is not above `rule.above`."""
    return humidity <= rule.above


def feels_like_suspect(hours: pd.DataFrame, rule: FeelsLike) -> pd.Series:
    """Rows in a stretch of equal `feels_like` (°C) of at least `rule.hours` recorded hours.

    The stretch counts only if `temperature` (°C) varies in it by at least `rule.moves`.
    """
    felt = hours["feels_like"]
    stretch = felt.ne(felt.shift()).cumsum()
    groups = hours["temperature"].groupby(stretch)
    long_enough = groups.transform("size") >= rule.hours
    moved = groups.transform("max") - groups.transform("min") >= rule.moves
    return long_enough & moved


def interpolate(values: pd.Series, wrong: pd.Series, timestamps: pd.Series) -> pd.Series:
    """Replace the wrong values by a straight line in time between their right neighbours.

    Before the first and after the last right value, that value is kept.

    Raises:
        DataError: if no value is right.
    """
    if not wrong.any():
        return values
    if wrong.all():
        raise DataError(f"{values.name}: every value is faulty, nothing to repair it with")
    at = timestamps.to_numpy().astype("datetime64[s]").astype("int64")
    good = ~wrong.to_numpy()
    line = np.interp(at, at[good], values.to_numpy()[good])
    return values.where(~wrong, pd.Series(line, index=values.index))


def mend(hours: pd.DataFrame, humidity: Humidity, feels_like: FeelsLike) -> pd.DataFrame:
    """Repair the flagged values where the rule says so; the flags stay.

    Humidity is interpolated in time. Of `feels_like`, the difference to `temperature` is
    interpolated, so that the repaired value follows the day's temperature.
    """
    hours, time = hours.copy(), hours["timestamp"]
    if humidity.action == "repair":
        wrong = hours["humidity_suspect"]
        hours["humidity"] = interpolate(hours["humidity"], wrong, time)
    if feels_like.action == "repair":
        wrong = hours["feels_like_suspect"]
        excess = (hours["feels_like"] - hours["temperature"]).rename("feels_like")
        repaired = hours["temperature"] + interpolate(excess, wrong, time)
        # The sum must not leave the sensor's range (°C) by which the column is declared.
        hours["feels_like"] = hours["feels_like"].where(~wrong, repaired.clip(-16.0, 50.0))
    return hours


def gaps(timestamps: pd.Series) -> pd.DataFrame:
    """Where hours are absent: `begins` (the first absent hour) and `hours` of each gap."""
    steps = timestamps.diff()
    wide = steps > HOUR
    begins = timestamps.shift()[wide] + HOUR
    hours = steps[wide].dt.total_seconds().div(3600).round().astype("int64") - 1
    return pd.DataFrame({"begins": begins, "hours": hours}).reset_index(drop=True)


def quality(
    hours: pd.DataFrame, humidity: Humidity, feels_like: FeelsLike, windspeed: Windspeed, rare: int
) -> dict[str, Any]:
    """Count every known fault of the clean table, with its rule and what was done about it."""
    done = {"repair": "repaired and flagged", "flag": "flagged, left as it was"}
    by_weather = hours["weather"].value_counts().sort_index()
    few = by_weather[by_weather.between(1, rare - 1)]
    faults = {
        "humidity": _fault(
            hours["humidity_suspect"], done[humidity.action],
            f"humidity at or below {humidity.above:g} % does not occur outdoors",
        ),
        "feels_like": _fault(
            hours["feels_like_suspect"], done[feels_like.action],
            f"felt temperature stuck for {feels_like.hours} recorded hours or more while the "
            f"temperature varies by {feels_like.moves:g} °C or more",
        ),
        "windspeed": _fault(
            hours["windspeed_calm"], done["flag"],
            f"wind at or below {windspeed.calm:g} km/h is below what the anemometer measures",
        ),
        "weather": _fault(
            hours["weather"].isin(few.index), "counted, left as it was",
            f"a weather category with fewer than {rare} rows is rare",
        ) | {"rows_by_category": {str(name): int(n) for name, n in by_weather.items()}},
    }  # fmt: skip
    return {
        "rows": len(hours),
        "first_hour": str(hours["timestamp"].iloc[0]),
        "last_hour": str(hours["timestamp"].iloc[-1]),
        "absent_hours": _absent(hours["timestamp"]),
        "faults": faults,
    }


def _fault(found: pd.Series, done: str, rule: str) -> dict[str, Any]:
    count = int(found.sum())
    rows = "1 row" if count == 1 else f"{count:,} rows"
    sentence = f"{rule[0].upper()}{rule[1:]}: {rows}{', ' + done if count else ''}."
    return {"count": count, "done": done, "rule": rule, "sentence": sentence}


def _absent(timestamps: pd.Series) -> dict[str, Any]:
    found = gaps(timestamps)
    if found.empty:
        return {"count": 0, "gaps": 0, "longest_gap": None, "sentence": "No hour is absent."}
    longest = int(found["hours"].to_numpy().argmax())
    count, length = int(found["hours"].sum()), int(found["hours"].iloc[longest])
    begins = str(found["begins"].iloc[longest])
    return {
        "count": count,
        "gaps": len(found),
        "longest_gap": {"begins": begins, "hours": length},
        "sentence": f"{count:,} hours between the first and the last are absent, in {len(found)} "
        f"gaps; the longest begins at {begins} and lasts {length} hours. None was made up.",
    }
