"""Bike tables of other forms: the section that `describe` prints makes a table of each."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from bikefit.data import featurize
from bikefit.data.describe import describe
from bikefit.data.table import Table, read_table
from synthetic import raw_hours

DAYS = 30


def daily() -> str:
    """Return a daily table as the archive of the hourly table has it."""
    hours = raw_hours(DAYS)
    means = {"season": "first", "holiday": "first", "weathersit": "max", "temp": "mean"}
    sums = {"casual": "sum", "registered": "sum", "cnt": "sum"}
    days = hours.groupby("dteday", as_index=False).agg(means | sums)
    days.insert(0, "instant", np.arange(1, len(days) + 1))
    return days.to_csv(index=False)


def competition() -> str:
    """Return hours with `datetime` and `count`, weather in °C, %, km/h."""
    hours = raw_hours(DAYS)
    columns = {
        "datetime": hours["dteday"] + hours["hr"].map(" {:02}:00:00".format),
        "season": hours["season"],
        "holiday": hours["holiday"],
        "workingday": hours["workingday"],
        "weather": hours["weathersit"],
        "temp": (hours["temp"] * 41).round(2),
        "humidity": (hours["hum"] * 100).round(),
        "windspeed": (hours["windspeed"] * 67).round(4),
        "casual": hours["casual"],
        "registered": hours["registered"],
        "count": hours["cnt"],
    }
    return pd.DataFrame(columns).to_csv(index=False)


def other_city() -> str:
    """Return hours with dates of days first, words with accents, and other weather columns."""
    hours = raw_hours(DAYS)
    dates = pd.to_datetime(hours["dteday"])
    columns = {
        "Date": dates.dt.strftime("%d/%m/%Y"),
        "Rented Bike Count": hours["cnt"],
        "Hour": hours["hr"],
        "Temperature(°C)": (hours["temp"] * 47 - 8).round(1),
        "Visibility (10m)": (2000 - 1000 * hours["hum"]).round().astype(int),
        "Rainfall(mm)": np.where(hours["weathersit"] == 3, 1.5, 0),
        "Seasons": hours["season"].map({1: "Winter", 2: "Spring"}),
        "Holiday": np.where(dates.dt.day_of_week >= 5, "Holiday", "No Holiday"),
    }
    return pd.DataFrame(columns).to_csv(index=False)


def make(content: bytes, target: str, folder: Path) -> tuple[dict, Table]:
    """Describe a file, make the table of the section, and return both."""
    (folder / "data/own").mkdir(parents=True)
    Path("data/own/bikes.csv").write_bytes(content)
    section = yaml.safe_load(describe(Path("data/own/bikes.csv"), target))["bikes"]
    split = {"kind": "random", "seed": 0, "validation": 0.2, "test": 0.2}
    params = {"featurize": {"split": split, "tables": {"bikes": section}}}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    featurize.main()
    return section, read_table(Path("data/features/bikes"))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_days(folder: Path) -> None:
    section, table = make(daily().encode(), "cnt", folder)
    assert section["time"] == "dteday"
    assert section["standardized"] == ["temp", "days_since_start"]
    assert table.rows == {"train": 18, "validation": 6, "test": 6}
    sums = raw_hours(DAYS).groupby("dteday")["cnt"].sum()
    train = table.read("train")
    days = pd.Series(train.keys).dt.strftime("%Y-%m-%d")
    assert train.target.tolist() == sums[days].tolist()


def test_hours_of_a_competition(folder: Path) -> None:
    section, table = make(competition().encode(), "count", folder)
    assert section["time"] == "datetime"
    assert section["one_hot"] == ["weather", "hour", "weekday"]
    assert section["standardized"] == ["temp", "humidity", "windspeed", "days_since_start"]
    assert "casual" not in str(section["standardized"])
    assert table.rows == {"train": 432, "validation": 144, "test": 144}
    names = list(table.feature_names)
    train = table.read("train")
    hour = train.features[:, names.index("hour=0") : names.index("hour=23") + 1].argmax(axis=1)
    assert hour.tolist() == pd.Series(train.keys).dt.hour.tolist()


def test_hours_of_another_city(folder: Path) -> None:
    section, table = make(other_city().encode("latin-1"), "Rented Bike Count", folder)
    assert section["time"] == "Date"
    assert {"Hour", "Temperature(°C)", "Visibility (10m)"} < set(section["standardized"])
    assert section["one_hot"] == ["Holiday", "weekday"]
    assert section["split"]["kind"] == "days"
    parts = [set(table.read(part).units) for part in ("train", "validation", "test")]
    assert [len(units) for units in parts] == [18, 6, 6]
    assert table.feature_names[0] == "Holiday=Holiday"
