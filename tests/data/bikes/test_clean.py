"""Reading, validation and cleaning of the raw table, and plots of the clean table."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bikefit.data import look
from bikefit.data.bikes import clean as stage_clean
from bikefit.data.bikes.clean import RAW, clean, parse_raw, read_raw
from bikefit.data.bikes.faults import CleanParams, is_stuck, quality_report
from bikefit.data.bikes.look import draw
from bikefit.data.params import read_section
from bikefit.errors import DataError
from conftest import ROOT
from synthetic import raw_hours

PARAMS = read_section("clean", CleanParams, ROOT / "params.yaml")


def parse(raw: pd.DataFrame) -> pd.DataFrame:
    return parse_raw(raw.astype(str).set_axis(pd.RangeIndex(2, len(raw) + 2, name="line")))


def cleaned(raw: pd.DataFrame) -> pd.DataFrame:
    return clean(parse(raw), PARAMS)


def damaged(column: str, value: object) -> pd.DataFrame:
    raw = raw_hours(3).astype(object)
    raw.loc[5, column] = value
    return raw


def test_a_raw_table_is_read_with_line_numbers(tmp_path: Path) -> None:
    path = tmp_path / "hour.csv"
    raw_hours(2).to_csv(path, index=False)
    raw = read_raw(path)
    assert set(raw) == set(RAW)
    assert (raw.index[0], raw.index[-1]) == (2, 49)
    assert raw["dteday"].iloc[-1] == pd.Timestamp("2011-01-02")
    for name in ("cnt", "temp"):
        assert raw[name].tolist() == raw_hours(2)[name].tolist()
    text = path.read_text()
    path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").replace(",", " , ").encode())
    pd.testing.assert_frame_equal(read_raw(path), raw)
    raw_hours(2)[list(RAW[::-1])].assign(note="x").to_csv(path, index=False)
    pd.testing.assert_frame_equal(read_raw(path), raw)
    lines = text.splitlines()
    path.write_text("\n".join([*lines[:3], "", *lines[3:], "", ""]))
    assert read_raw(path).index[:4].tolist() == [2, 3, 5, 6]
    assert len(read_raw(path)) == 48


HEADER = ",".join(RAW)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read as a CSV table: [Errno 2] No such file"),
        ("", "cannot be read as a CSV table: it is empty"),
        ("\xff", "missing columns dteday, season, hr"),
        (HEADER, "no rows below the header"),
        ("a,b\n1,2\n", "missing columns dteday, season, hr"),
        (f"{HEADER}\n2011-01-01,3\n", "column hr, line 2: the value '' must be a whole number"),
        (f"{HEADER}\n1,1{',1' * 13}\n", "line 2 has 15 cells, but the header has 12 names"),
    ],
)
def test_files_of_another_format_are_refused(
    tmp_path: Path, content: str | None, message: str
) -> None:
    path = tmp_path / "hour.csv"
    if content is not None:
        path.write_text(content, encoding="latin-1")
    with pytest.raises(DataError) as error:
        read_raw(path)
    assert str(error.value).startswith(str(path))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("column", "value", "allowed"),
    [
        ("temp", "warm", "must be a number from 0 to 1"),
        ("windspeed", "nan", "must be a number from 0 to 1"),
        ("cnt", "3.5", "must be a whole number from 0 to 1000000000"),
        ("dteday", "2011-02-30", "must be a date like 2011-01-31"),
        ("season", 5, "must be a whole number from 1 to 4"),
        ("season", 3, "must be the season of its month (1 is winter, from december to march)"),
        ("hr", 24, "must be a whole number from 0 to 23"),
        ("hr", 4, "is in the table twice for this day"),
        ("casual", -1, "must be a whole number from 0 to 1000000000"),
        ("cnt", 100_000, "must be casual + registered"),
    ],
)
def test_errors_name_line_column_value_and_what_is_allowed(
    column: str, value: object, allowed: str
) -> None:
    with pytest.raises(DataError) as error:
        parse(damaged(column, value))
    assert str(error.value) == f"column {column}, line 7: the value {str(value)!r} {allowed}"


def test_faults_of_many_rows_are_said_once() -> None:
    raw = raw_hours(3)
    raw["cnt"] += 1
    raw.loc[0, "cnt"] -= 1
    with pytest.raises(DataError, match="column cnt, lines 3, 4, 5 and 68 more: the value"):
        parse(raw)
    allowed = "the value '9.84' must be a number from 0 to 1"
    with pytest.raises(DataError, match=f"column temp, every line: {allowed}"):
        parse(raw_hours(3).assign(temp=9.84))


def test_clean_rows_have_units_and_category_names() -> None:
    raw = raw_hours(3)
    raw.loc[0, ["temp", "atemp", "hum", "windspeed"]] = [0.24, 0.2879, 0.81, 0.1]
    hours = cleaned(raw)
    first, last = hours.iloc[0], hours.iloc[71]
    assert first["timestamp"] == pd.Timestamp("2011-01-01 00:00")
    assert first["temperature"] == pytest.approx(3.28)  # 0.24 · 47 − 8
    assert first["feels_like"] == pytest.approx(3.0014)  # 0.2879 · 66 − 16
    assert first["humidity"] == pytest.approx(81)
    assert first["windspeed"] == pytest.approx(6.7)
    assert (first["season"], first["weekday"], first["year"]) == ("winter", "saturday", 2011)
    assert not first["working_day"]
    assert (last["weekday"], last["hour"], bool(last["holiday"])) == ("monday", 23, True)


def test_humidity_of_zero_is_interpolated_in_time() -> None:
    raw = raw_hours(2)
    raw.loc[:1, "hum"] = [0, 0.3]
    raw.loc[9:14, "hum"] = [0.4, 0, 0, 0, 0, 0.9]
    raw = raw.drop(index=11)  # one of the faulty hours is absent
    repaired = cleaned(raw)
    assert repaired["humidity"].iloc[9:14].to_list() == pytest.approx([40, 50, 70, 80, 90])
    assert repaired["humidity"].iloc[0] == pytest.approx(30)
    assert repaired["humidity_suspect"].sum() == 4
    with pytest.raises(DataError, match="humidity: every value is faulty"):
        cleaned(raw.assign(hum=0.0))


@pytest.mark.parametrize(
    ("hours", "moves", "expected"), [(24, 2, 24), (23, 9, 0), (24, 1.9, 0), (30, 5, 30)]
)
def test_stuck_felt_temperature_is_detected(hours: int, moves: float, expected: int) -> None:
    temperature = [10.0, *np.linspace(12, 12 + moves, hours), 10.0]
    rows = pd.DataFrame({"temperature": temperature, "feels_like": [9.0, *[0.0] * hours, 13.0]})
    assert is_stuck(rows, PARAMS).sum() == expected


def test_repaired_felt_temperature_follows_the_temperature() -> None:
    raw = raw_hours(3)
    raw["temp"] = 0.5 + 0.1 * np.sin(np.arange(72) / 4).round(2)
    raw["atemp"] = ((raw["temp"] * 47 - 8 + 2) + 16) / 66  # 2 °C above the temperature
    raw.loc[24:47, "atemp"] = 0.2424
    repaired = cleaned(raw)
    assert repaired.index[repaired["feels_like_suspect"]].to_list() == list(range(24, 48))
    excess = repaired["feels_like"] - repaired["temperature"]
    assert excess.to_list() == pytest.approx([2.0] * 72)


def test_the_quality_report_counts_faults_and_absent_hours() -> None:
    raw = raw_hours(3)
    raw["weathersit"] = 1
    raw.loc[40:42, "weathersit"] = 4
    raw.loc[5:6, "windspeed"] = 0.0
    raw.loc[9:10, "hum"] = 0.0
    raw = raw.drop(index=[20, 21, 50]).sample(frac=1, random_state=0)  # in any order
    report = quality_report(cleaned(raw), PARAMS)
    assert report["rows"] == 69
    assert report["absent_hours"] == {
        "count": 3,
        "gaps": 2,
        "sentence": "3 hours between the first and the last are absent, in 2 gaps of at most 2 "
        "hours; no row was added for them.",
    }
    counts = {name: fault["count"] for name, fault in report["faults"].items()}
    assert counts == {"humidity": 2, "feels_like": 0, "windspeed": 2}
    assert list(report["rows_by_weather"].values()) == [66, 0, 0, 3]
    assert report["faults"]["humidity"]["sentence"] == (
        "Humidity at or below 0 % does not occur outdoors: 2 rows, repaired and flagged."
    )


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a raw table without two of its hours."""
    (tmp_path / "data/raw").mkdir(parents=True)
    raw_hours(20).drop(index=[30, 31]).to_csv(tmp_path / "data/raw/hour.csv", index=False)
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_stages_write_the_same_bytes_twice(project: Path) -> None:
    files = [stage_clean.CLEAN_FILE, stage_clean.QUALITY_FILE, look.FIGURE_FILE]
    content = []
    for _ in range(2):
        stage_clean.main()
        look.main()
        content.append([file.read_bytes() for file in files])
    assert content[0] == content[1]
    assert content[0][2].startswith(b"\x89PNG")
    assert json.loads(files[1].read_text())["absent_hours"]["count"] == 2
    assert len(pd.read_parquet(files[0])) == 478


@pytest.mark.slow
@pytest.mark.parametrize("days", [1, 2, 8])
def test_plots_of_tables_with_few_rows(days: int) -> None:
    figure = draw(cleaned(raw_hours(days)))
    figure.canvas.draw()
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert "Rentals over time" in titles
