"""Rows of a user for the model of any table."""

from __future__ import annotations

import pandas as pd
import pytest

from bikefit.data.features import Features
from bikefit.data.inputs import TableInputs, table_inputs
from bikefit.data.transformer import Transformer

ROWS = pd.DataFrame(
    {
        "timestamp": pd.to_datetime(["2020-01-01T05:00", "2020-03-01T06:00"]),
        "age": [20.5, 60.5],
        "visits": [0, 10],
        "smoker": [True, False],
        "site": ["Bonn", "Köln"],
        "stage": [1, 3],
        "unused": [1.0, 2.0],
        "y": [1.0, 2.0],
    }
)
FEATURES = Features(
    one_hot=("site", "stage", "weekday"), standardized=("age", "visits"), plain=("smoker",)
)
VALID = {
    "timestamp": "2020-02-29T23:30",
    "age": "33,0",
    "visits": 2.0,
    "smoker": "Yes",
    "site": " Köln ",
    "stage": 3,
}


@pytest.fixture
def inputs() -> TableInputs:
    return table_inputs(Transformer.fit(FEATURES, ROWS), ROWS)


def test_rows_of_a_user_become_rows_for_the_transformer(inputs: TableInputs) -> None:
    assert set(inputs.required) == set(VALID)
    parsed, errors = inputs.parse(pd.DataFrame([VALID, VALID | {"smoker": 0}]))
    assert errors.tolist() == ["", ""]
    assert parsed["smoker"].tolist() == [True, False]
    expected = ROWS.assign(
        timestamp=pd.Timestamp("2020-02-29T23:30"), age=33.0, visits=2, site="Köln", stage=3
    )
    transformer = Transformer.fit(FEATURES, ROWS)
    assert (transformer.transform(parsed) == transformer.transform(expected)).all()


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"age": "old"}, "age = old: must be a number from 0.5 to 80.5: the model was fitted on"),
        ({"age": 81}, "age = 81: must be a number from 0.5 to 80.5: the model was fitted on value"),
        ({"visits": 16}, "visits = 16: must be a number from -5 to 15"),
        ({"smoker": "maybe"}, "smoker = maybe: must be one of yes, true, 1, no, false, 0"),
        ({"site": "Rom"}, "site = Rom: must be one of Bonn, Köln"),
        ({"site": None}, "site: missing, must be one of Bonn, Köln"),
        ({"stage": 2}, "stage = 2: must be one of 1, 3"),
        ({"timestamp": "1/2/2020"}, "timestamp = 1/2/2020: must be a local time like"),
        ({"timestamp": "2025-01-01"}, "17:00, and from 2020-01-01 to 2021-03-02"),
        (
            {"age": 81, "site": "Rom"},
            "Bonn, Köln; age = 81: must be a number from",
        ),
    ],
)
def test_an_error_names_the_column_the_value_and_what_is_allowed(
    inputs: TableInputs, changed: dict[str, object], error: str
) -> None:
    parsed, errors = inputs.parse(pd.DataFrame([VALID | changed, VALID]))
    assert error in errors[0] and errors[1] == ""
    assert parsed.index.tolist() == [1]


def test_the_time_has_the_name_that_the_file_gives_it() -> None:
    named = table_inputs(Transformer.fit(FEATURES, ROWS), ROWS, "Datum")
    assert "Datum" in named.required and "timestamp" not in named.required
    row = {name: value for name, value in VALID.items() if name != "timestamp"}
    parsed, errors = named.parse(pd.DataFrame([row | {"Datum": "29.2.2020 23:30"}, row]))
    assert parsed["timestamp"].tolist() == [pd.Timestamp("2020-02-29T23:30")]
    assert errors[0] == "" and errors[1].startswith("Datum: missing, must be a local time like")
    assert named.parse(named.example(ROWS))[1].tolist() == ["", ""]


def test_numbers_may_have_a_decimal_comma_or_a_fraction(inputs: TableInputs) -> None:
    parsed, errors = inputs.parse(pd.DataFrame([VALID | {"age": "33,5", "visits": 2.5}]))
    assert errors[0] == "" and parsed[["age", "visits"]].values.tolist() == [[33.5, 2.5]]


def test_an_absent_column_is_missing_in_every_row(inputs: TableInputs) -> None:
    errors = inputs.parse(pd.DataFrame([VALID]).drop(columns="age"))[1]
    assert errors[0].startswith("age: missing, must be a number")


def test_the_example_is_valid(inputs: TableInputs) -> None:
    parsed, errors = inputs.parse(inputs.example(ROWS))
    assert errors.tolist() == ["", ""]
    transformer = Transformer.fit(FEATURES, ROWS)
    assert (transformer.transform(parsed) == transformer.transform(ROWS)).all()
