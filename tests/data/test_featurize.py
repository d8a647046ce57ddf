import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from sklearn.preprocessing import SplineTransformer

from bikefit.data import featurize, transformer
from bikefit.data.clean import clean, parse_raw
from bikefit.data.faults import Clean
from bikefit.data.features import Features
from bikefit.data.featurize import Split, build, data_version, first_rows
from bikefit.data.params import check, read_section
from bikefit.data.table import read_table
from bikefit.data.transformer import apply, fit, load, save
from bikefit.errors import DataError
from synthetic import raw_hours

ROOT = Path(__file__).parents[2]
DAYS = Split(kind="days", seed=0, validation=0.2, test=0.2)


HOURS = clean(
    parse_raw(raw_hours(40).astype(str)), read_section("clean", Clean, ROOT / "params.yaml")
)


def features(**change: object) -> Features:
    return check("features", Features, change)


def matrix(spec: Features, rows: pd.DataFrame, training: pd.DataFrame = HOURS) -> pd.DataFrame:
    return pd.DataFrame(apply(fit(spec, training), rows), columns=spec.names)


# Features by hand


def test_one_hot_with_all_and_without_the_first() -> None:
    # Row 0 is Saturday, 2011-01-01, 0:00; row 50 is Monday, 2011-01-03, 2:00, a holiday.
    rows = HOURS.iloc[[0, 50]]
    found = matrix(features(one_hot=["weekday", "holiday"]), rows)
    assert list(found.columns[:2]) == ["weekday=monday", "weekday=tuesday"]
    assert found.to_numpy().tolist() == [[0, 0, 0, 0, 0, 1, 0, 1, 0], [1, 0, 0, 0, 0, 0, 0, 0, 1]]
    found = matrix(features(one_hot=["weekday", "holiday"], drop_first=True), rows)
    assert list(found.columns) == [
        *(f"weekday={day}" for day in ("tuesday", "wednesday", "thursday", "friday")),
        "weekday=saturday", "weekday=sunday", "holiday=yes",
    ]  # fmt: skip
    assert found.to_numpy().tolist() == [[0, 0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 0, 1]]


def test_categories_are_declared_and_not_found() -> None:
    names = features(one_hot=["month", "weather"]).names
    assert len(names) == 12 + 4
    assert names[-1] == "weather=heavy_precipitation"
    assert matrix(features(one_hot=["month"]), HOURS)["month=12"].sum() == 0


def test_cyclic() -> None:
    found = matrix(features(cyclic=["hour", "day_of_week"]), HOURS.iloc[[0, 6, 60]])
    assert list(found.columns) == ["hour_sin", "hour_cos", "day_of_week_sin", "day_of_week_cos"]
    assert found["hour_sin"].to_list() == pytest.approx([0, 1, 0], abs=1e-6)
    assert found["hour_cos"].to_list() == pytest.approx([1, 0, -1], abs=1e-6)
    assert found["day_of_week_sin"].iloc[2] == 0  # monday


def test_harmonics_go_round_more_often() -> None:
    found = matrix(features(cyclic=["hour", "month"], harmonics={"hour": 2}), HOURS.iloc[[3, 6]])
    assert list(found.columns) == [
        "hour_sin", "hour_cos", "hour_sin2", "hour_cos2", "month_sin", "month_cos",
    ]  # fmt: skip
    assert found["hour_sin2"].to_list() == pytest.approx([1, 0], abs=1e-6)
    assert found["hour_cos2"].to_list() == pytest.approx([0, -1], abs=1e-6)
    assert found["month_sin"].to_list() == pytest.approx([0.5, 0.5])


def test_splines() -> None:
    spec = features(splines=[{"of": "temperature", "first": 0, "last": 25, "every": 10}])
    rows = HOURS.iloc[:4].assign(temperature=[-5.0, 4.0, 10.0, 99.0])
    found = matrix(spec, rows)
    assert list(found.columns) == ["temperature~10/0", "temperature~10/10", "temperature~10/20"]
    assert found.to_numpy() == pytest.approx(
        np.array([[1, 0, 0], [0.6, 0.4, 0], [0, 1, 0], [0, 0, 1]])
    )


def test_splines_are_those_of_scikit_learn() -> None:
    spec = features(splines=[{"of": "humidity", "first": 20, "last": 80, "every": 7.5}])
    (spline,) = spec.splines
    peer = SplineTransformer(degree=1, knots=spline.knots[:, None], extrapolation="constant")
    values = HOURS[["humidity"]].to_numpy()
    assert matrix(spec, HOURS).to_numpy() == pytest.approx(
        peer.fit(spline.knots[:, None]).transform(values), abs=1e-6
    )


def test_derived_categories() -> None:
    spec = features(one_hot=["commuting"], plain=["commuting"], interactions=[["hour", "occasion"]])
    found = matrix(spec, HOURS.iloc[[0, 58]])  # New Year's Day 0:00, Monday 10:00, a holiday
    assert found[["commuting=no", "commuting=yes", "commuting"]].to_numpy().tolist() == [
        [1, 0, 0], [1, 0, 0],
    ]  # fmt: skip
    assert found[["hour=0,occasion=new_years_day", "hour=10,occasion=ordinary"]].to_numpy(
    ).tolist() == [[1, 0], [0, 1]]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cyclic": ["hour"], "harmonics": {"hour": 0}}, "harmonics.hour = 0: must be 1 or more"),
        ({"cyclic": ["month"], "harmonics": {"hour": 2}}, "of a number in cyclic"),
        ({"splines": [{"of": "rentals", "first": 0, "last": 9, "every": 1}]}, "would leak it"),
        ({"splines": [{"of": "hour", "first": 0, "last": 2, "every": 3}]}, "two knots"),
        ({"splines": [{"of": "hour", "first": 0, "last": 2, "every": 0}]}, "greater than 0"),
        ({"splines": [{"of": "hour", "first": 0, "last": 4, "every": 2}] * 2}, "more than once"),
    ],
)
def test_wrong_features_are_refused(change: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        features(**change)


def test_interaction() -> None:
    found = matrix(features(interactions=[["hour", "working_day"]]), HOURS.iloc[[8, 72 + 8]])
    assert found.shape == (2, 48)
    assert found.columns[0] == "hour=0,working_day=no"
    assert found.columns[17] == "hour=8,working_day=yes"
    assert found.columns[found.iloc[0] == 1].to_list() == ["hour=8,working_day=no"]
    assert found.columns[found.iloc[1] == 1].to_list() == ["hour=8,working_day=yes"]


def test_plain_and_derived() -> None:
    names = ["humidity_fraction", "day_of_year", "days_since_start", "day_of_week", "holiday"]
    found = matrix(features(plain=names), HOURS.iloc[[24 * 33 + 5]], HOURS.iloc[48:])
    # The 34th day, Thursday 2011-02-03; training begins on 2011-01-03.
    assert found.iloc[0, 1:].to_list() == [34, 31, 3, 0]
    assert found.iloc[0, 0] == pytest.approx(HOURS["humidity"].iloc[24 * 33 + 5] / 100)


def test_standardized_by_training_rows_alone() -> None:
    training = HOURS.iloc[:3].assign(temperature=[1.0, 2.0, 6.0])
    other = HOURS.iloc[3:5].assign(temperature=[3.0, 1000.0])
    found = matrix(features(standardized=["temperature"]), other, training)
    std = np.sqrt((4 + 1 + 9) / 3)
    assert found["temperature"].to_list() == pytest.approx([0, 997 / std])


def test_a_constant_column_is_not_divided_by_zero() -> None:
    training = HOURS.assign(temperature=5.1, windspeed=0.0)
    spec = features(standardized=["temperature", "windspeed"])
    assert matrix(spec, training, training).abs().to_numpy().max() < 1e-12
    assert fit(spec, training).scale == (1.0, 1.0)


def test_order_of_features_and_the_lecture_table() -> None:
    section = yaml.safe_load((ROOT / "params.yaml").read_text())["featurize"]["tables"]
    lecture = {k: v for k, v in section["lecture"].items() if k in Features.model_fields}
    names = features(**lecture).names
    assert len(names) == 32
    assert names[:2] == ["hour=1", "hour=2"]
    assert names[-3:] == ["holiday=yes", "temperature", "humidity_fraction"]
    full = {k: v for k, v in section["full"].items() if k in Features.model_fields}
    assert 60 <= len(features(**full).names) <= 100


# Refusals


def test_wrong_rows_are_refused() -> None:
    fitted = fit(features(one_hot=["weather"], plain=["temperature"]), HOURS)
    rows = HOURS.iloc[:3][["weather", "temperature"]].astype({"weather": "str"})
    assert apply(fitted, rows).shape == (3, 5)
    with pytest.raises(DataError, match="row 0, weather = 'hail': must be one of clear, mist"):
        apply(fitted, rows.assign(weather="hail"))
    with pytest.raises(DataError, match="missing columns: temperature"):
        apply(fitted, rows[["weather"]])
    with pytest.raises(DataError, match=r"row 1, feature temperature: .* not finite"):
        apply(fitted, rows.assign(temperature=[1.0, np.nan, 2.0]))
    booleans = fit(features(one_hot=["holiday"]), HOURS)
    with pytest.raises(DataError, match="row 0, holiday = 2: must be one of no, yes"):
        apply(booleans, pd.DataFrame({"holiday": [2, 0]}))


def test_too_few_rows_and_no_training_row() -> None:
    with pytest.raises(DataError, match=r"lecture.rows = 1296: .* has only 960 rows"):
        first_rows(HOURS, "lecture", 1296)
    with pytest.raises(DataError, match="no training row"):
        fit(features(plain=["hour"]), HOURS.iloc[:0])


# The kept transformer

EVERYTHING = features(
    one_hot=["season", "weekday", "hour", "windspeed_calm", "occasion"],
    cyclic=["hour", "day_of_year"],
    harmonics={"hour": 3},
    standardized=["temperature", "days_since_start", "month"],
    plain=["holiday", "humidity_fraction"],
    interactions=[["hour", "working_day"], ["season", "weekday", "holiday"], ["hour", "commuting"]],
    splines=[
        {"of": "temperature", "first": -8, "last": 37, "every": 5},
        {"of": "days_since_start", "first": 0, "last": 28, "every": 7},
        {"of": "days_since_start", "first": 0, "last": 30, "every": 1},
    ],
)


def test_a_loaded_transformer_gives_exactly_the_same(tmp_path: Path) -> None:
    fitted = fit(EVERYTHING, HOURS[::3])
    save(fitted, tmp_path / "transformer.json")
    loaded = load(tmp_path / "transformer.json")
    assert loaded == fitted
    assert (apply(loaded, HOURS) == apply(fitted, HOURS)).all()


def test_rows_are_independent_of_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = fit(EVERYTHING, HOURS)
    whole = apply(fitted, HOURS)
    monkeypatch.setattr(transformer, "BLOCK", 7)
    assert (apply(fitted, HOURS.iloc[:100]) == whole[:100]).all()
    assert apply(fitted, HOURS.iloc[:0]).shape == (0, len(EVERYTHING.names))
    assert (apply(fitted, HOURS.iloc[[50]]) == whole[50]).all()


@pytest.mark.parametrize(
    "change",
    [
        {"format": "pickle"},
        {"mean": {}},
        {"scale": {"temperature": 0, "days_since_start": 1, "month": 1}},
        {"start": "NaT"},
        {"start": "yesterday"},
        {"feature_names": ["a"]},
        {"features": {"plain": ["casual"]}},
        {"categories": {"season": ["wet", "dry"]}},
    ],
)
def test_a_changed_transformer_is_refused(tmp_path: Path, change: dict) -> None:
    path = tmp_path / "transformer.json"
    save(fit(EVERYTHING, HOURS), path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DataError, match=r"transformer\.json"):
        load(path)


def test_no_transformer(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="run `dvc repro featurize`"):
        load(tmp_path / "transformer.json")
    (tmp_path / "transformer.json").write_text("[")
    with pytest.raises(DataError, match="is not a transformer"):
        load(tmp_path / "transformer.json")


# The stage


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    for name, table in params["featurize"]["tables"].items():
        table["rows"] = None if name == "full" else 480
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    (tmp_path / "data/clean").mkdir(parents=True)
    HOURS.to_parquet(tmp_path / "data/clean/hours.parquet", index=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_stage(project: Path) -> None:
    featurize.main()
    full, lecture = (read_table(project / "data/features" / name) for name in ("full", "lecture"))
    assert full.rows == {"train": 576, "validation": 192, "test": 192}
    assert lecture.rows == {"train": 384, "validation": 96, "test": 0}
    assert lecture.read("test").features.shape == (0, 32)
    assert lecture.read("validation").timestamps[0] == np.datetime64("2011-01-17T00")
    train = full.read("train")
    assert train.features[:, list(full.standardized)].mean(axis=0) == pytest.approx(0, abs=1e-5)
    assert train.features[:, list(full.standardized)].std(axis=0) == pytest.approx(1, abs=1e-5)
    target = json.loads((full.path / "table.json").read_text())["target"]
    assert target["mean"] == pytest.approx(float(train.target.mean()))
    assert target["std"] == pytest.approx(float(train.target.std()), rel=1e-5)
    parts = [set(full.read(part).timestamps) for part in ("train", "validation", "test")]
    assert set.union(*parts) == set(HOURS["timestamp"].to_numpy())


def test_clean_rows_give_the_parquet_again(project: Path) -> None:
    featurize.main()
    folder = project / "data/features/full"
    loaded = load(folder / "transformer.json")
    for part in ("train", "validation", "test"):
        kept = read_table(folder).read(part)
        rows = HOURS[HOURS["timestamp"].isin(kept.timestamps)]
        assert (apply(loaded, rows) == kept.features).all()
        assert (rows["rentals"].to_numpy() == kept.target).all()
        content = pq.read_table(folder / f"{part}.parquet")
        assert content.column_names == ["timestamp", "rentals", *loaded.features.names]


def content_of(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def test_stage_writes_the_same_bytes_twice(project: Path) -> None:
    featurize.main()
    first = content_of(project / "data/features")
    assert len(first) == 25
    featurize.main()
    assert content_of(project / "data/features") == first


def test_data_version_follows_the_content(project: Path) -> None:
    featurize.main()
    folder = project / "data/features/full"
    version = read_table(folder).data_version
    assert version == data_version(folder)
    assert len(version) == 16
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["featurize"]["split"]["seed"] = 1
    Path("params.yaml").write_text(yaml.safe_dump(params))
    lecture = read_table(project / "data/features/lecture").data_version
    featurize.main()
    assert read_table(folder).data_version != version
    assert read_table(project / "data/features/lecture").data_version == lecture


def test_a_failure_leaves_the_old_table(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    featurize.main()
    before = content_of(project / "data/features")

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(featurize, "save", full_disk)
    with pytest.raises(OSError, match="No space left"):
        featurize.main()
    assert content_of(project / "data/features") == before
    shutil.rmtree(project / "data/features/full")
    with pytest.raises(OSError, match="No space left"):
        featurize.main()
    assert sorted(path.name for path in (project / "data/features").iterdir()) == [
        "lecture", "lecture_raw", "lecture_standardized", "rich",
    ]  # fmt: skip


def test_split_decides_who_is_fitted_on() -> None:
    spec = features(standardized=["temperature"])
    fitted, parts = build(HOURS, spec, DAYS)
    train = parts["train"]["timestamp"].to_numpy()
    own = HOURS[HOURS["timestamp"].isin(train)]["temperature"]
    assert fitted.mean[0] == pytest.approx(own.mean())
    assert fitted.scale[0] == pytest.approx(own.std(ddof=0))
    assert sum(part.num_rows for part in parts.values()) == 960


def test_no_clean_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="run `dvc repro clean`"):
        featurize.main()
