"""Validation of `params.yaml`."""

from pathlib import Path

import pytest

from bikefit.data.bikes.derived import table_rows
from bikefit.data.bikes.download import DownloadParams
from bikefit.data.bikes.faults import CleanParams
from bikefit.data.featurize import FeaturizeParams
from bikefit.data.params import read_section, validate
from bikefit.data.transformer import Transformer
from bikefit.errors import DataError
from synthetic import clean_hours

PARAMS = Path(__file__).parents[2] / "params.yaml"
SPLIT = {"kind": "days", "seed": 0, "validation": 0.2, "test": 0.2}
LECTURE = ("lecture", "lecture_standardized", "lecture_raw")
TABLE = {"plain": ["temperature"]}


def test_the_project_has_valid_parameters() -> None:
    assert read_section("download", DownloadParams, PARAMS).sdist.name == "effector"
    assert read_section("clean", CleanParams, PARAMS).stuck_hours == 24
    tables = read_section("featurize", FeaturizeParams, PARAMS).tables
    assert list(tables) == ["full", "rich", "known", *LECTURE]
    assert {tables[name].rows for name in tables if name.startswith("lecture")} == {1296}
    hours = table_rows(clean_hours(3))
    names = [Transformer.fit(table, hours).names for table in tables.values()]
    assert [len(of) for of in names] == [87, 380, 380, 32, 32, 5]
    assert tables["lecture"].split == tables["lecture_raw"].split


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"split": SPLIT | {"kind": "dayz"}},
            "featurize.split.kind = 'dayz': input should be 'random', 'groups', 'days' or",
        ),
        (
            {"split": SPLIT | {"sed": 0}},
            "unknown key sed; allowed: kind, column, seed",
        ),
        ({"split": {"kind": "days"}}, "featurize.split.seed: missing"),
        ({"tables": {}}, "featurize.tables = {}"),
        ({"tables": {"../up": TABLE}}, "../up"),
        ({"tables": {"full": TABLE | {"rows": 0}}}, "featurize.tables.full.rows = 0"),
    ],
)
def test_errors_name_key_value_and_what_is_allowed(change: dict, message: str) -> None:
    with pytest.raises(DataError) as error:
        validate("featurize", FeaturizeParams, {"split": SPLIT, "tables": {"full": TABLE}} | change)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "not found: run from the project's root"),
        ("", "has no section 'clean'"),
        ("clean: [", "is not valid YAML"),
        ("clean: much", "clean = 'much': input should be a valid dictionary"),
    ],
)
def test_missing_and_invalid_files_are_refused(
    tmp_path: Path, text: str | None, message: str
) -> None:
    path = tmp_path / "params.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_section("clean", CleanParams, path)
