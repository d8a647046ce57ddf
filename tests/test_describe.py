"""A description of a file is a section of params.yaml that works as it is."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from bikefit.data import featurize
from bikefit.data.describe import describe
from bikefit.data.table import read_table
from bikefit.describe import main
from bikefit.errors import DataError
from synthetic import raw_hours

COUNT = 600


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data/own").mkdir(parents=True)


def described(rows: pd.DataFrame, target: str) -> tuple[dict, str]:
    """Return the section of a file as data, and as text."""
    rows.to_csv("data/own/My rows.csv", index=False)
    text = describe(Path("data/own/My rows.csv"), target)
    return yaml.safe_load(text)["my_rows"], text


def test_columns_are_described_by_what_they_are() -> None:
    random = np.random.default_rng(0)
    rows = pd.DataFrame(
        {
            "visit": [f"v{i}" for i in range(COUNT)],
            "number": np.arange(COUNT) + 100,
            "ward": random.choice(["east", "west"], COUNT),
            "grade": random.integers(1, 5, COUNT),
            "age": random.integers(20, 90, COUNT),
            "smokes": random.choice(["yes", "no"], COUNT),
            "patient": [f"p{i // 4}" for i in range(COUNT)],
            "country": "here",
            "weight": np.where(np.arange(COUNT) < 3, np.nan, 70.5),
            "part": random.integers(0, 100, COUNT),
            "pressure": random.normal(120, 10, COUNT),
        }
    )
    rows["in inches"] = rows["pressure"] / 25.4
    rows["weight"] += np.arange(COUNT) / 7
    section, text = described(rows, "pressure")
    assert section == {
        "source": "data/own/My rows.csv",
        "target": "pressure",
        "unit": "",
        "one_hot": ["ward", "grade"],
        "standardized": ["age"],
        "plain": ["smokes"],
        "split": {
            "kind": "groups",
            "column": "patient",
            "seed": 0,
            "validation": 0.2,
            "test": 0.2,
        },
    }
    for line in (
        "target: pressure # numbers from",
        "- ward # 2 different words",
        "# patient: 150 words, each in 4.0 rows: groups that are not divided",
        "# not used: visit: another value in each row: an identifier",
        "# not used: number: another value in each row: an identifier",
        "# not used: country: the same value in every row",
        "# not used: weight: missing in 3 rows: fill it or delete these rows to use it",
        "# not used: part: its name is reserved: rename the column",
        "# not used: in inches: may contain the target: their correlation is 1.0000",
    ):
        assert line in text


def test_the_section_of_a_bike_table_makes_a_table() -> None:
    section, text = described(raw_hours(40), "cnt")
    assert section["time"] == "dteday"
    assert section["split"]["kind"] == "days"
    assert section["one_hot"] == ["weathersit", "weekday"]
    assert "counts from" in text and "train with loss=poisson" in text
    for one, other in (("casual", "registered"), ("registered", "casual")):
        assert f"not used: {one}: may contain the target: with {other}, it sums to it" in text
    split = {"kind": "random", "seed": 0, "validation": 0.2, "test": 0.2}
    params = {"featurize": {"split": split, "tables": {"mine": section}}}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    featurize.main()
    table = read_table(Path("data/features/mine"))
    assert table.rows == {"train": 576, "validation": 192, "test": 192}
    assert "weekday=saturday" in table.feature_names


def test_yes_and_no_are_for_bernoulli() -> None:
    rows = pd.DataFrame({"x": [1.5, 2.5, 3.5, 0.5], "y": ["yes", "no", "no", "no"]})
    assert "target: y # 25% are 1 or yes: train with loss=bernoulli" in described(
        rows.rename(columns={"y": "y "}), "y"
    )[1].replace("'y'", "y")


def test_whole_numbers_are_counts_if_the_smallest_is_at_most_a_tenth_of_their_mean() -> None:
    rows = pd.DataFrame({"x": [1.5, 2.5, 3.5], "counts": [1, 2, 27], "amounts": [2, 2, 26]})
    assert "counts from 1 to 27: train with loss=poisson, or" in described(rows, "counts")[1]
    assert "numbers from 2 to 26: train with loss=mse" in described(rows, "amounts")[1]


def test_the_command_prints_the_section(capsys: pytest.CaptureFixture[str]) -> None:
    pd.DataFrame({"x": [1.5, 2.5], "z": [1, 2]}).to_csv("file.csv", index=False)
    assert main(["file.csv", "--target", "z"]) == 0
    assert "      sha256: " in capsys.readouterr().out
    assert main(["file.csv", "--target", "none"]) == 1
    assert "file.csv has no column 'none'; its columns: x, z" in capsys.readouterr().err
    with pytest.raises(DataError, match="no column"):
        describe(Path("file.csv"), "none")


def test_dates_of_digits_are_a_time_and_a_constant_target_is_described() -> None:
    days = pd.date_range("2011-01-15", periods=30).strftime("%Y%m%d")
    rows = pd.DataFrame({"date": days, "code": [f"0{i % 3}" for i in range(30)], "y": 5})
    section, _ = described(rows, "y")
    assert section["time"] == "date"
    assert section["one_hot"] == ["code", "weekday"]
