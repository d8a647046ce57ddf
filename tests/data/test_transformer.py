"""Features of clean rows, computed by hand, and the saved transformer."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.preprocessing import SplineTransformer

from bikefit.data.bikes.derived import table_rows
from bikefit.data.features import Features
from bikefit.data.params import validate
from bikefit.data.transformer import Transformer
from bikefit.errors import DataError
from synthetic import clean_hours

HOURS = table_rows(clean_hours(40))
# Row 0 is Saturday, 2011-01-01, 0:00; Monday, 2011-01-03, is a holiday


def features(**change: object) -> Features:
    return validate("features", Features, change)


def matrix(spec: Features, rows: pd.DataFrame, training: pd.DataFrame = HOURS) -> pd.DataFrame:
    fitted = Transformer.fit(spec, training)
    return pd.DataFrame(fitted.transform(rows), columns=fitted.names)


@pytest.mark.parametrize(
    ("spec", "rows", "expected"),
    [
        (
            {"one_hot": ["weekday", "holiday"]},
            [0, 50],
            [[0, 0, 0, 0, 0, 1, 0, 1, 0], [1, 0, 0, 0, 0, 0, 0, 0, 1]],
        ),
        (
            {"one_hot": ["weekday", "holiday"], "drop_first": True},
            [0, 50],
            [[0, 0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 0, 1]],
        ),
        ({"cyclic": ["hour", "day_of_week"]}, [60], [[0, -1, 0, 1]]),
        (
            {"cyclic": ["hour"], "harmonics": {"hour": 2}},
            [3, 6],
            [[0.5**0.5, 0.5**0.5, 1, 0], [1, 0, 0, -1]],
        ),
        # The 34th day, Thursday 2011-02-03, at 5:00.
        ({"plain": ["day_of_year", "days_since_start"]}, [24 * 33 + 5], [[34, 33]]),
        ({"plain": ["day_of_week", "holiday"]}, [24 * 33 + 5], [[3, 0]]),
        ({"one_hot": ["commuting"], "plain": ["commuting"]}, [0, 24 * 5], [[1, 0, 0], [0, 1, 1]]),
        ({"one_hot": ["month"]}, [0], [[1, *[0] * 11]]),  # months without rows have a column
    ],
)
def test_features_have_hand_computed_values(
    spec: dict, rows: list[int], expected: list[list[float]]
) -> None:
    values = matrix(features(**spec), HOURS.iloc[rows]).to_numpy()
    assert values == pytest.approx(np.array(expected), abs=1e-6)


def test_names_are_in_the_order_of_the_features() -> None:
    spec = features(
        one_hot=["holiday"],
        drop_first=True,
        cyclic=["hour", "month"],
        harmonics={"hour": 2},
        plain=["hour"],
        interactions=[["holiday", "working_day"]],
        splines=[{"of": "temperature", "first": 0, "last": 25, "every": 10}],
    )
    assert Transformer.fit(spec, HOURS).names == [
        *("holiday=yes", "hour_sin", "hour_cos", "hour_sin2", "hour_cos2", "month_sin"),
        *("month_cos", "hour", "holiday=no,working_day=no", "holiday=no,working_day=yes"),
        *("holiday=yes,working_day=no", "holiday=yes,working_day=yes", "temperature~10/0"),
        *("temperature~10/10", "temperature~10/20"),
    ]


def test_interactions_are_products_of_categories() -> None:
    spec = features(interactions=[["hour", "working_day"], ["hour", "occasion"]])
    rows = matrix(spec, HOURS.iloc[[8, 72 + 8]])  # New Year's Day, Tuesday
    assert len(rows.columns) == 48 + 24 * 8
    for number, values in enumerate((("no", "new_years_day"), ("yes", "ordinary"))):
        names = [f"hour=8,working_day={values[0]}", f"hour=8,occasion={values[1]}"]
        assert rows.columns[rows.iloc[number] == 1].to_list() == names


def test_splines_equal_those_of_scikit_learn() -> None:
    spec = features(splines=[{"of": "temperature", "first": 0, "last": 25, "every": 10}])
    rows = matrix(spec, HOURS.iloc[:4].assign(temperature=[-5.0, 4.0, 10.0, 99.0]))
    expected = np.array([[1, 0, 0], [0.6, 0.4, 0], [0, 1, 0], [0, 0, 1]])
    assert rows.to_numpy() == pytest.approx(expected)
    spec = features(splines=[{"of": "humidity", "first": 20, "last": 80, "every": 7.5}])
    knots = spec.splines[0].knots[:, None]
    spline = SplineTransformer(degree=1, knots=knots, extrapolation="constant").fit(knots)
    values = spline.transform(HOURS[["humidity"]].to_numpy())
    assert matrix(spec, HOURS).to_numpy() == pytest.approx(values, abs=1e-6)


def test_standardized_by_training_rows_only() -> None:
    training = HOURS.iloc[:3].assign(temperature=[1.0, 2.0, 6.0], windspeed=5.1)
    other = HOURS.iloc[3:5].assign(temperature=[3.0, 1000.0], windspeed=5.1)
    spec = features(standardized=["temperature", "windspeed"])
    values = matrix(spec, other, training)
    assert values["temperature"].to_list() == pytest.approx([0, 997 / np.sqrt((4 + 1 + 9) / 3)])
    assert values["windspeed"].abs().max() < 1e-12
    assert Transformer.fit(spec, training).scale["windspeed"] == 1.0  # constant


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cyclic": ["hour"], "harmonics": {"hour": 0}}, "harmonics.hour = 0: .* greater than 0"),
        ({"cyclic": ["month"], "harmonics": {"hour": 2}}, "of numbers in cyclic"),
        ({"splines": [{"of": "hour", "first": 0, "last": 2, "every": 3}]}, "two knots"),
        ({"interactions": [["hour"]]}, "at least 2 items"),
        ({"plain": []}, "a table needs at least one feature"),
    ],
)
def test_wrong_features_are_refused(change: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        features(**change)


def test_a_feature_occurs_once() -> None:
    with pytest.raises(DataError, match="named more than once: hour, hour_cos, hour_sin"):
        matrix(features(cyclic=["hour", "hour"], standardized=["hour"], plain=["hour"]), HOURS)


def test_unknown_categories_are_refused() -> None:
    fitted = Transformer.fit(features(one_hot=["weather"]), HOURS)
    rows = HOURS.iloc[:3].astype({"weather": "str"})
    assert fitted.transform(rows).shape == (3, 4)
    with pytest.raises(DataError, match="weather = 'hail': must be one of clear, mist"):
        fitted.transform(rows.assign(weather="hail"))


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


def test_a_loaded_transformer_is_the_same(tmp_path: Path) -> None:
    fitted = Transformer.fit(EVERYTHING, HOURS[::3])
    fitted.save(tmp_path / "transformer.json")
    loaded = Transformer.load(tmp_path / "transformer.json")
    assert loaded == fitted
    assert (loaded.transform(HOURS) == fitted.transform(HOURS)).all()


def test_rows_are_independent_of_each_other() -> None:
    fitted = Transformer.fit(EVERYTHING, HOURS)
    every = fitted.transform(HOURS)
    assert fitted.transform(HOURS.iloc[:0]).shape == (0, len(fitted.names))
    assert (fitted.transform(HOURS.iloc[[50]]) == every[50]).all()


def test_damaged_and_incompatible_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "transformer.json"
    with pytest.raises(DataError, match="run `dvc repro featurize`"):
        Transformer.load(path)
    Transformer.fit(EVERYTHING, HOURS).save(path)
    content = json.loads(path.read_text())
    for change, message in (
        ({"start": "yesterday"}, "transformer.start = 'yesterday'"),
        ({"features": {"plain": []}}, "at least one feature"),
        ({"feature_names": ["season=wet"]}, "it is of another version of bikefit"),
    ):
        path.write_text(json.dumps(content | change))
        with pytest.raises(DataError, match=rf"transformer\.json cannot be read: .*{message}"):
            Transformer.load(path)
