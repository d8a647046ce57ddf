"""Tables of files: what the section names is read, and what cannot be used is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from bikefit.data import featurize
from bikefit.data.files import sha256
from bikefit.data.inputs import table_inputs
from bikefit.data.look import draw_table
from bikefit.data.rows import read_rows
from bikefit.data.sources import Source
from bikefit.data.table import Table, read_table
from bikefit.data.transformer import Transformer
from bikefit.errors import DataError

RANDOM = {"kind": "random", "seed": 0, "validation": 0.2, "test": 0.2}


def clinic(rows: int = 60) -> pd.DataFrame:
    """Return visits: a pressure that depends on age, by ward and patient."""
    random = np.random.default_rng(0)
    age = random.integers(20, 90, rows)
    return pd.DataFrame(
        {
            "id": np.arange(rows),
            "day": [f"{i % 28 + 1:02}.03.2020" for i in range(rows)],
            "age": age,
            "ward": np.array(["east", "west", "north"])[np.arange(rows) % 3],
            "patient": np.arange(rows) // 4,
            "smokes": np.where(random.random(rows) < 0.5, "yes", "no"),
            "pressure": 100 + 0.5 * age + random.normal(0, 5, rows),
        }
    )


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("data/own").mkdir(parents=True)
    return tmp_path


def make(rows: pd.DataFrame, **section: Any) -> Table:
    """Run the stage on a table `clinic` and return it."""
    rows.to_csv("data/own/clinic.csv", index=False)
    table = {"source": "data/own/clinic.csv", "target": "pressure", "standardized": ["age"]}
    params = {"featurize": {"split": RANDOM, "tables": {"clinic": table | section}}}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    featurize.main()
    return read_table(Path("data/features/clinic"))


def test_the_columns_that_are_named_become_features(capsys: pytest.CaptureFixture[str]) -> None:
    table = make(clinic(), unit="mm Hg", one_hot=["ward"], plain=["smokes"])
    assert table.feature_names == ("ward=east", "ward=north", "ward=west", "age", "smokes")
    assert (table.target, table.unit, table.time) == ("pressure", "mm Hg", False)
    assert table.rows == {"train": 36, "validation": 12, "test": 12}
    assert "data/own/clinic.csv: not used: column id, day, patient\n" in capsys.readouterr().out
    train = table.read("train")
    assert train.features[:, 3].mean() == pytest.approx(0, abs=1e-6)
    source = clinic().iloc[train.keys]
    assert train.target == pytest.approx(source["pressure"].to_numpy(), rel=1e-6)
    assert train.features[:, 4].tolist() == (source["smokes"] == "yes").tolist()
    rows = read_rows(table, "train")
    assert rows["row"].tolist() == train.keys.tolist() == rows["unit"].tolist()
    loaded = Transformer.load(table.path / "transformer.json")
    assert (loaded.transform(rows) == train.features).all()


def test_rows_of_the_file_can_be_predicted_from() -> None:
    table = make(clinic(), one_hot=["ward"], plain=["smokes"])
    rows, transformer = read_rows(table, "train"), Transformer.load(table.path / "transformer.json")
    inputs = table_inputs(transformer, rows)
    parsed, errors = inputs.parse(clinic().astype("str"))
    assert (errors == "").all()
    features = transformer.transform(parsed)[table.read("train").keys]
    assert (features == table.read("train").features).all()


def test_groups_and_days_are_not_divided() -> None:
    table = make(clinic(), split=RANDOM | {"kind": "groups", "column": "patient"})
    parts = [set(clinic()["patient"][table.read(p).keys]) for p in ("train", "validation", "test")]
    assert [len(part) for part in parts] == [9, 3, 3]
    assert len(set.union(*parts)) == 15
    assert set(table.read("test").units) == parts[2]


def test_the_column_of_the_time_may_divide_rows_into_groups() -> None:
    table = make(clinic(), time="day", split=RANDOM | {"kind": "groups", "column": "day"})
    days = [set(table.read(part).keys) for part in ("train", "validation", "test")]
    assert [len(part) for part in days] == [16, 6, 6]
    assert len(set.union(*days)) == 28


def test_a_table_with_time_has_calendar_columns() -> None:
    table = make(
        clinic(28),
        time="day",
        split=RANDOM | {"kind": "chronological"},
        one_hot=["weekday"],
        plain=["days_since_start"],
    )
    train = table.read("train")
    assert train.keys[:2].tolist() == [pd.Timestamp("2020-03-01"), pd.Timestamp("2020-03-02")]
    names = list(table.feature_names)
    assert train.features[:2, names.index("days_since_start")].tolist() == [0, 1]
    assert train.features[0, names.index("weekday=sunday")] == 1
    assert table.read("test").keys.min() > train.keys.max()


def test_own_periods() -> None:
    table = make(clinic(), cyclic=["age"], periods={"age": 40})
    age = clinic()["age"].to_numpy()[table.read("train").keys]
    sine = table.read("train").features[:, 0]
    assert sine == pytest.approx(np.sin(2 * np.pi * age / 40), abs=1e-6)


def put(column: str, value: Any, *lines: int) -> pd.DataFrame:
    rows = clinic().astype({column: object})
    rows.loc[[line - 2 for line in lines], column] = value
    return rows


GROUPS = RANDOM | {"kind": "groups", "column": "patient"}


@pytest.mark.parametrize(
    ("rows", "section", "message"),
    [
        (put("pressure", "", 5, 9), {}, "column pressure, lines 5, 9: the value is missing"),
        (
            put("pressure", 120, *range(2, 62)),
            {},
            "value is 120 in every row, so there is nothing",
        ),
        (put("pressure", "high", 3), {}, "line 3: the value 'high' is no number, but pressure is"),
        (
            put("age", "old", 3, 4, 5, 6),
            {},
            "age, lines 3, 4, 5 and 1 more: the value 'old'",
        ),
        (put("age", "NA", 7), {}, "column age, line 7: the value is missing"),
        (put("age", "inf", 7), {}, "column age, line 7: the value inf is not finite"),
        (put("ward", "", 7), {"one_hot": ["ward"]}, "column ward, line 7: the value is missing"),
        (clinic(), {"plain": ["ward"]}, "column ward, every line: the value 'east' is no number"),
        (clinic(), {"plain": ["wage"]}, "no column 'wage'; its columns: id, day, age, ward"),
        (clinic(), {"plain": ["weekday"]}, "calendar columns .* need `time`"),
        (
            clinic(),
            {"split": RANDOM | {"kind": "groups", "column": "age group"}},
            "no column 'age gr",
        ),
        (
            clinic(),
            {"time": "ward"},
            "column ward, every line: the value 'east' is no date or time",
        ),
        (put("day", "soon", 4), {"time": "day"}, "column day, line 4: the value 'soon' is no date"),
        (clinic(), {"cyclic": ["age"], "standardized": []}, "'age': add its period to `periods`"),
        (clinic(1), {}, "has 1 rows; a table needs two or more"),
        (clinic(2), {}, "split.test = 0.2: would be 0, must be between 0 and 2"),
        (
            put("patient", 1, *range(2, 62)),
            {"split": GROUPS},
            "in every row, so all rows are one group",
        ),
        (clinic(), {"split": RANDOM | {"kind": "days"}}, "the split kind days needs `time`"),
        (clinic(), {"split": RANDOM | {"kind": "groups"}}, "the kind groups, which needs it"),
        (clinic(), {"standardized": ["pressure"]}, "the target 'pressure' must not be a feature"),
        (clinic(), {"target": None}, "is a file .* and needs a target"),
        (clinic(), {"source": "bikes"}, "target, unit, time and sha256 are not for"),
        (clinic(), {"source": "data/own/none.csv"}, "there is no such file"),
        (clinic(), {"source": "params.yaml"}, "a file outside data/own/ needs its sha256, which"),
        (clinic(), {"source": "https://a.test/b.csv"}, "an address needs its sha256"),
        (clinic(), {"sha256": "0" * 64}, "its sha256 is .*, expected 000"),
        (
            clinic().rename(columns={"id": "row"}),
            {"plain": ["row"]},
            "'row': this name is reserved",
        ),
    ],
)
def test_bad_input_is_refused_before_training(
    rows: pd.DataFrame, section: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message) as error:
        make(rows, **section)
    assert "featurize.tables.clinic" in str(error.value) or "split." in str(error.value)
    assert not Path("data/features/clinic").exists()


def test_a_category_without_a_training_row_is_refused() -> None:
    table = make(clinic())
    held_out = int(table.read("test").keys[0])
    with pytest.raises(DataError, match=f"column ward, line {held_out + 2}: the category 'moon'"):
        make(put("ward", "moon", held_out + 2), one_hot=["ward"])


def test_a_table_has_the_name_of_the_time_in_its_file() -> None:
    assert make(clinic(), time="day").time_column == "day"
    assert make(clinic()).time_column == "timestamp"


def test_warnings_name_constant_columns_and_many_features(
    capsys: pytest.CaptureFixture[str],
) -> None:
    make(put("age", 50, *range(2, 62)), one_hot=["id"], split=RANDOM | {"validation": 0, "test": 0})
    printed = capsys.readouterr().out
    assert "warning: column age: the value is 50 in every row; remove it" in printed
    assert "warning: 61 features of 60 training rows" in printed


def test_the_picture_has_a_panel_for_the_target_and_for_each_column() -> None:
    rows = clinic().assign(
        timestamp=pd.date_range("2020-01-01", periods=60), old=lambda r: r["age"] > 60
    )
    names = ["timestamp", "age", "ward", "old", "pressure"]
    figure = draw_table(Source(rows[names], "pressure", "mm Hg"))
    panels = [axes for axes in figure.axes if axes.axison]
    assert [axes.get_xlabel() for axes in panels] == [
        "pressure (mm Hg)",
        "time",
        "age",
        "ward",
        "old",
    ]
    figure.canvas.draw()
    words = [text.get_text() for text in panels[3].get_xticklabels()]
    assert words == ["east", "north", "west"]
    assert panels[3].get_xlim() == (-0.5, 2.5)
    crosses = panels[3].lines[0].get_ydata()
    assert crosses == pytest.approx(rows.groupby("ward")["pressure"].mean().to_numpy())
    curve = panels[2].lines[0]
    assert len(curve.get_xdata()) == 20
    assert curve.get_ydata().mean() == pytest.approx(rows["pressure"].mean())


def test_a_file_elsewhere_is_read_with_its_hash(tmp_path: Path) -> None:
    clinic().to_csv("visits.csv", index=False)
    table = make(clinic(), source="visits.csv", sha256=sha256(tmp_path / "visits.csv"))
    assert table.rows["train"] == 36
