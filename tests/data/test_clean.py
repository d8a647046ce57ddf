import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bikefit.data import clean as stage_clean
from bikefit.data import look
from bikefit.data.clean import Clean, clean, decode
from bikefit.data.columns import CLEAN, RAW
from bikefit.data.faults import feels_like_suspect, gaps, interpolate, quality
from bikefit.data.params import check
from bikefit.data.raw import read_raw
from bikefit.data.schema import check_clean, check_raw
from bikefit.errors import DataError
from synthetic import raw_hours

ROOT = Path(__file__).parents[2]


def params(**change: object) -> Clean:
    section = {
        "humidity": {"action": "repair", "above": 0},
        "feels_like": {"action": "repair", "hours": 24, "moves": 2},
        "windspeed": {"calm": 0},
        "weather": {"rare": 10},
    }
    return check("clean", Clean, section | change)


def written(folder: Path, raw: pd.DataFrame) -> Path:
    path = folder / "hour.csv"
    raw.to_csv(path, index=False)
    return path


def read(folder: Path, raw: pd.DataFrame) -> pd.DataFrame:
    return read_raw(written(folder, raw))


def report(hours: pd.DataFrame, rules: Clean) -> dict:
    return quality(hours, rules.humidity, rules.feels_like, rules.windspeed, rules.weather.rare)


# Reading


def test_values_are_read_as_they_stand(tmp_path: Path) -> None:
    raw = read(tmp_path, raw_hours(2))
    assert list(raw.columns) == list(RAW)
    assert raw.index[0] == 2
    assert raw.index[-1] == 49
    assert raw["dteday"].iloc[-1] == pd.Timestamp("2011-01-02")
    assert (raw["cnt"] == raw_hours(2)["cnt"].to_numpy()).all()
    assert (raw["temp"] == raw_hours(2)["temp"].to_numpy()).all()


def test_form_does_not_matter(tmp_path: Path) -> None:
    path = written(tmp_path, raw_hours(2))
    plain = read_raw(path)
    text = path.read_text()
    path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").replace(",", " , ").encode())
    pd.testing.assert_frame_equal(read_raw(path), plain)
    raw_hours(2)[list(RAW[::-1])].to_csv(path, index=False)
    pd.testing.assert_frame_equal(read_raw(path), plain)


def test_blank_lines_are_skipped_and_lines_still_counted(tmp_path: Path) -> None:
    path = written(tmp_path, raw_hours(1))
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:3], "", *lines[3:], "", ""]))
    raw = read_raw(path)
    assert len(raw) == 24
    assert list(raw.index[:4]) == [2, 3, 5, 6]


def damaged(column: str, value: object) -> pd.DataFrame:
    raw = raw_hours(3).astype(object)
    raw.loc[5, column] = value
    return raw


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("temp", "warm", "line 7, temp = 'warm': a number"),
        ("hum", "", "line 7, hum = '': a number"),
        ("windspeed", "nan", "line 7, windspeed = 'nan': a number"),
        ("atemp", "inf", "line 7, atemp = 'inf': a number"),
        ("cnt", "3.5", "line 7, cnt = '3.5': a whole number"),
        ("cnt", "1e30", "line 7, cnt = '1e30': a whole number"),
        ("dteday", "2011-02-30", "line 7, dteday = '2011-02-30': a date like 2011-01-31"),
        ("dteday", "", "line 7, dteday = '': a date like 2011-01-31"),
    ],
)
def test_what_is_no_number_is_named(
    tmp_path: Path, column: str, value: object, message: str
) -> None:
    with pytest.raises(DataError) as error:
        read(tmp_path, damaged(column, value))
    assert message in str(error.value)
    assert "1 wrong value" in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read as a CSV table"),
        (b"\n\n", "wrong columns (missing: instant"),
        (",".join(RAW).encode(), "cannot be read as a CSV table"),
        (",".join(RAW).encode() + b"\n", "no rows below the header"),
        (",".join(RAW).encode() + b"\n\n\n", "no rows below the header"),
        (b"a,b\n1,2\n", "wrong columns (missing: instant, dteday"),
        (",".join([*RAW, "extra"]).encode() + b"\n", "unknown: extra"),
        (",".join([*RAW, "cnt"]).encode() + b"\n", "repeated: cnt"),
        (",".join(RAW).encode() + b"\n1,2,3\n", "line 2: 3 values, not 17"),
        (b"\xff\xfe\x00" * 40, ""),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "hour.csv"
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        read_raw(path)
    assert str(path) in str(error.value)
    assert message in str(error.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="run `dvc repro download`"):
        read_raw(tmp_path / "none.csv")


MANGLED = st.text(max_size=12) | st.sampled_from(
    [
        "1e400",
        "-0",
        "0x10",
        "1_0",
        "١",
        "NaT",
        "9999-12-31",
        "0001-01-01",
        '"',
        "'1'",
        "\x00",
        "None",
    ]
)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(row=st.integers(0, 24), column=st.integers(0, 16), text=MANGLED)
def test_a_mangled_value_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, row: int, column: int, text: str
) -> None:
    lines = [line.split(",") for line in raw_hours(1).to_csv(index=False).splitlines()]
    lines[row][column] = text
    path = tmp_path_factory.mktemp("mangled") / "hour.csv"
    path.write_bytes("\n".join(map(",".join, lines)).encode("utf-8", "surrogatepass"))
    try:
        hours = clean(read_raw(path), params())
    except DataError:
        return
    # What passes is a table in which each number is the one that was written.
    assert len(hours) in (23, 24)
    assert (hours["casual"] + hours["registered"] == hours["rentals"]).all()


# Checking


@pytest.mark.parametrize(
    ("column", "value", "allowed"),
    [
        ("season", 5, "must be a whole number from 1 to 4"),
        ("season", 3, "must be the season of its month (1 is winter, from december to march)"),
        ("mnth", 13, "must be a whole number from 1 to 12"),
        ("mnth", 2, "must be the month of dteday"),
        ("yr", 1, "must be the year of dteday, counted from the same year in all rows"),
        ("hr", 24, "must be a whole number from 0 to 23"),
        ("hr", 6, "this hour of this day stands in the table twice"),
        ("weekday", 3, "must be the weekday of dteday (0 is sunday)"),
        ("workingday", 1, "must be 1 from monday to friday except on holidays, otherwise 0"),
        ("holiday", 2, "must be a whole number from 0 to 1"),
        ("weathersit", 0, "must be a whole number from 1 to 4"),
        ("temp", 1.01, "must be a number from 0 to 1"),
        ("hum", -0.1, "must be a number from 0 to 1"),
        ("casual", -1, "must be 0 or more"),
        ("cnt", 100_000, "must be casual + registered"),
    ],
)
def test_wrong_rows_are_named(tmp_path: Path, column: str, value: float, allowed: str) -> None:
    with pytest.raises(DataError) as error:
        check_raw(read(tmp_path, damaged(column, value)), "hour.csv")
    line = 8 if allowed.startswith("this hour") else 7
    assert f"line {line}, {column} = {value}: {allowed}" in str(error.value)


def test_many_wrong_rows_are_counted(tmp_path: Path) -> None:
    raw = raw_hours(3)
    raw["cnt"] += 1
    with pytest.raises(DataError) as error:
        check_raw(read(tmp_path, raw), "hour.csv")
    assert "hour.csv: 72 wrong values" in str(error.value)
    assert str(error.value).count("\n") == 9
    assert "… and 64 more" in str(error.value)


def test_a_table_of_other_years_is_as_good(tmp_path: Path) -> None:
    raw = raw_hours(400, start="2019-12-25")
    hours = clean(read(tmp_path, raw), params())
    assert sorted(set(hours["year"])) == [2019, 2020, 2021]
    only_second = raw[raw["yr"] == 1]
    assert set(clean(read(tmp_path, only_second), params())["year"]) == {2020}


# Decoding


def test_decoding_by_hand(tmp_path: Path) -> None:
    raw = raw_hours(3)
    raw.loc[0, ["temp", "atemp", "hum", "windspeed"]] = [0.24, 0.2879, 0.81, 0.1]
    first = decode(read(tmp_path, raw), 0).iloc[0]
    assert first["timestamp"] == pd.Timestamp("2011-01-01 00:00")
    assert first["temperature"] == pytest.approx(3.28)  # 0.24 · 47 − 8
    assert first["feels_like"] == pytest.approx(3.0014)  # 0.2879 · 66 − 16
    assert first["humidity"] == pytest.approx(81)
    assert first["windspeed"] == pytest.approx(6.7)
    assert (first["season"], first["weekday"], first["year"]) == ("winter", "saturday", 2011)
    assert not first["working_day"]
    monday = decode(read(tmp_path, raw), 0).iloc[71]
    assert (monday["weekday"], monday["hour"], bool(monday["holiday"])) == ("monday", 23, True)


def test_rows_come_in_time_order(tmp_path: Path) -> None:
    raw = raw_hours(3)
    mixed = raw.sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(
        clean(read(tmp_path, mixed), params()), clean(read(tmp_path, raw), params())
    )


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(*[st.floats(0, 1)] * 4, st.integers(1, 4), st.integers(0, 900)),
        min_size=24,
        max_size=24,
    )
)
def test_every_valid_raw_row_decodes_into_the_clean_schema(values: list[tuple]) -> None:
    raw = raw_hours(1)
    raw["dteday"] = pd.to_datetime(raw["dteday"]).astype("datetime64[us]")
    raw = raw.astype({name: "int64" for name in RAW if raw[name].dtype.kind == "i"})
    names = ["temp", "atemp", "hum", "windspeed", "weathersit", "casual"]
    raw[names] = pd.DataFrame(values, columns=names, index=raw.index)
    raw["cnt"] = raw["casual"] + raw["registered"]
    flagging = {
        "humidity": {"action": "flag", "above": 0},
        "feels_like": {"action": "repair", "hours": 48, "moves": 2},
    }
    hours = clean(raw, params(**flagging))
    assert hours["temperature"].between(-8, 39).all()
    assert hours["feels_like"].between(-16, 50).all()
    assert list(hours.columns) == list(CLEAN)


# Faults


def test_humidity_of_zero_is_interpolated_in_time(tmp_path: Path) -> None:
    raw = raw_hours(2)
    raw.loc[9:14, "hum"] = [0.4, 0, 0, 0, 0, 0.9]
    raw = raw.drop(index=11)  # one of the faulty hours is absent
    hours = clean(read(tmp_path, raw), params())
    assert hours["humidity"].iloc[9:14].to_list() == pytest.approx([40, 50, 70, 80, 90])
    assert hours["humidity_suspect"].sum() == 3
    left = clean(read(tmp_path, raw), params(humidity={"action": "flag", "above": 0}))
    assert left["humidity"].iloc[9:14].to_list() == pytest.approx([40, 0, 0, 0, 90])
    assert left["humidity_suspect"].sum() == 3


def test_a_dead_sensor_that_never_wakes_stops_the_stage(tmp_path: Path) -> None:
    raw = raw_hours(2).assign(hum=0.0)
    with pytest.raises(DataError, match="humidity: every value is faulty"):
        clean(read(tmp_path, raw), params())


def test_interpolation_keeps_the_ends() -> None:
    times = pd.Series(pd.date_range("2011-01-01", periods=5, freq="h"))
    values = pd.Series([0.0, 2.0, 0.0, 4.0, 0.0])
    wrong = pd.Series([True, False, True, False, True])
    assert interpolate(values, wrong, times).to_list() == [2.0, 2.0, 3.0, 4.0, 4.0]


def stuck(hours: int, moves: float) -> pd.DataFrame:
    temperature = [10.0, *np.linspace(12, 12 + moves, hours), 10.0]
    felt = [9.0, *[0.0] * hours, 13.0]
    return pd.DataFrame({"temperature": temperature, "feels_like": felt})


@pytest.mark.parametrize(
    ("hours", "moves", "found"), [(24, 2, 24), (23, 9, 0), (24, 1.9, 0), (30, 5, 30)]
)
def test_stuck_felt_temperature_is_found_by_rule(hours: int, moves: float, found: int) -> None:
    assert feels_like_suspect(stuck(hours, moves), params().feels_like).sum() == found


def test_stuck_felt_temperature_follows_the_temperature_after_repair(tmp_path: Path) -> None:
    raw = raw_hours(3)
    raw["temp"] = 0.5 + 0.1 * np.sin(np.arange(72) / 4).round(2)
    raw["atemp"] = ((raw["temp"] * 47 - 8 + 2) + 16) / 66  # 2 °C above the temperature
    raw.loc[24:47, "atemp"] = 0.2424
    hours = clean(read(tmp_path, raw), params())
    assert hours.index[hours["feels_like_suspect"]].to_list() == list(range(24, 48))
    assert (hours["feels_like"] - hours["temperature"]).to_list() == pytest.approx([2.0] * 72)
    rule = {"action": "flag", "hours": 24, "moves": 2}
    left = clean(read(tmp_path, raw), params(feels_like=rule))
    assert left["feels_like"].iloc[30] == pytest.approx(0.2424 * 66 - 16)
    assert left["feels_like_suspect"].sum() == 24


def test_gaps_by_hand() -> None:
    times = pd.Series(pd.to_datetime(["2011-01-01 00", "2011-01-01 01", "2011-01-01 05"]))
    found = gaps(times)
    assert found["hours"].to_list() == [3]
    assert found["begins"].to_list() == [pd.Timestamp("2011-01-01 02:00")]


def test_report_by_hand(tmp_path: Path) -> None:
    raw = raw_hours(3)
    raw["weathersit"] = 1
    raw.loc[40:42, "weathersit"] = 4
    raw.loc[5:6, "windspeed"] = 0.0
    raw.loc[9:10, "hum"] = 0.0
    raw = raw.drop(index=[20, 21, 50])
    found = report(clean(read(tmp_path, raw), params()), params())
    assert found["rows"] == 69
    assert found["absent_hours"]["count"] == 3
    assert found["absent_hours"]["longest_gap"] == {"begins": "2011-01-01 20:00:00", "hours": 2}
    counts = {name: fault["count"] for name, fault in found["faults"].items()}
    assert counts == {"humidity": 2, "feels_like": 0, "windspeed": 2, "weather": 3}
    assert found["faults"]["weather"]["rows_by_category"] == {
        "clear": 66, "mist": 0, "light_precipitation": 0, "heavy_precipitation": 3,
    }  # fmt: skip
    assert found["faults"]["humidity"]["sentence"] == (
        "Humidity at or below 0 % does not occur outdoors: 2 rows, repaired and flagged."
    )


def test_clean_schema_names_the_row(tmp_path: Path) -> None:
    hours = clean(read(tmp_path, raw_hours(2)), params())
    hours.loc[4, "temperature"] = 60.0
    with pytest.raises(DataError, match=r"row 4, temperature = 60.0: must be a number from -8 to"):
        check_clean(hours, "cleaned table")
    with pytest.raises(DataError, match="row 1, timestamp"):
        check_clean(clean(read(tmp_path, raw_hours(2)), params()).iloc[[0, 0]].reset_index(
            drop=True), "cleaned table")  # fmt: skip


# The stages


def project(folder: Path, raw: pd.DataFrame) -> None:
    (folder / "data/raw").mkdir(parents=True)
    raw.to_csv(folder / "data/raw/hour.csv", index=False)
    (folder / "params.yaml").write_text((ROOT / "params.yaml").read_text())


@pytest.mark.slow
def test_stage_writes_the_same_bytes_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project(tmp_path, raw_hours(20).drop(index=[30, 31]))
    monkeypatch.chdir(tmp_path)
    files = [stage_clean.CLEAN_FILE, stage_clean.QUALITY_FILE, look.FIGURE_FILE]
    content = []
    for _ in range(2):
        stage_clean.main()
        look.main()
        content.append([file.read_bytes() for file in files])
    assert content[0] == content[1]
    assert content[0][2].startswith(b"\x89PNG")
    assert json.loads(files[1].read_text())["absent_hours"]["count"] == 2
    assert pd.read_parquet(files[0]).shape == (478, 19)
    assert sorted(path.name for path in Path("reports").iterdir()) == [
        "data_quality.json",
        "raw_data.png",
    ]


def test_stage_writes_nothing_after_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = raw_hours(3)
    raw.loc[7, "cnt"] += 1
    project(tmp_path, raw)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="line 9, cnt"):
        stage_clean.main()
    assert not stage_clean.CLEAN_FILE.exists()
    assert not stage_clean.QUALITY_FILE.exists()


@pytest.mark.slow
@pytest.mark.parametrize("days", [1, 2, 8])
def test_the_picture_needs_few_rows(tmp_path: Path, days: int) -> None:
    figure = look.draw(clean(read(tmp_path, raw_hours(days)), params()))
    figure.canvas.draw()
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert "Rentals over time" in titles
