from pathlib import Path

import pytest
import yaml

from bikefit.data.download import Download
from bikefit.data.faults import Clean
from bikefit.data.featurize import Featurize
from bikefit.data.params import StrictModel, check, read_section
from bikefit.errors import DataError

ROOT = Path(__file__).parents[2]


def featurize_section(**table: object) -> dict[str, object]:
    split = {"kind": "days", "seed": 0, "validation": 0.2, "test": 0.2}
    return {"split": split, "tables": {"full": {"plain": ["temperature"], **table}}}


def test_the_file_of_the_project_is_valid() -> None:
    path = ROOT / "params.yaml"
    assert read_section("download", Download, path).sdist.name == "effector"
    assert read_section("clean", Clean, path).feels_like.hours == 24
    tables = read_section("featurize", Featurize, path).tables
    assert list(tables) == ["full", "rich", "lecture", "lecture_standardized", "lecture_raw"]
    assert {tables[name].rows for name in tables if name.startswith("lecture")} == {1296}
    assert [len(table.names) for table in tables.values()] == [87, 380, 32, 32, 5]
    assert tables["lecture"].split == tables["lecture_raw"].split


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": {"kind": "dayz", "seed": 0, "validation": 0.2, "test": 0}},
         "featurize.split.kind = 'dayz': input should be 'random', 'days' or 'chronological'"),
        ({"split": {"kind": "days", "sed": 0, "validation": 0.2, "test": 0}},
         "featurize.split.sed: unknown key; allowed: kind, seed, validation, test"),
        ({"split": {"kind": "days", "seed": 0, "validation": 0.5, "test": 0.5}},
         "validation and test together must stay below 1"),
        ({"split": {"kind": "days", "seed": 0, "validation": -0.1, "test": 0}},
         "featurize.split.validation = -0.1"),
        ({"tables": {}}, "featurize.tables = {}"),
        ({"tables": {"../up": {"plain": ["temperature"]}}}, "../up"),
    ],
)  # fmt: skip
def test_featurize_names_key_value_and_what_is_allowed(change: dict, message: str) -> None:
    with pytest.raises(DataError) as error:
        check("featurize", Featurize, featurize_section() | change)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"plain": ["casual"]}, "casual cannot be a feature: casual and registered add up to"),
        ({"one_hot": ["registered"]}, "registered cannot be a feature"),
        ({"standardized": ["rentals"]}, "rentals cannot be a feature"),
        ({"interactions": [["hour", "casual"]]}, "casual cannot be a feature"),
        ({"one_hot": ["houre"]}, "unknown column houre; allowed: season, month, hour, weekday"),
        ({"cyclic": ["weather"]}, "unknown column weather; allowed: hour, day_of_week, month"),
        ({"interactions": [["hour"]]}, "two or more different columns, not ['hour']"),
        ({"standardized": ["temperature"]}, "named more than once: temperature"),
        ({"plain": []}, "a table needs at least one feature"),
        ({"rows": 0}, "featurize.tables.full.rows = 0"),
        ({"onehot": []}, "featurize.tables.full.onehot: unknown key; allowed: one_hot, drop_first"),
        ({"split": {"kid": 1}},
         "featurize.tables.full.split.kid: unknown key; allowed: kind, seed, validation, test"),
    ],
)  # fmt: skip
def test_a_table_names_key_and_what_is_allowed(table: dict, message: str) -> None:
    with pytest.raises(DataError) as error:
        check("featurize", Featurize, featurize_section(**table))
    assert message in str(error.value)


def test_download_wants_a_sha256() -> None:
    content = yaml.safe_load((ROOT / "params.yaml").read_text())["download"]
    with pytest.raises(DataError, match=r"download.sha256 = 'abc': string should match pattern"):
        check("download", Download, content | {"sha256": "abc"})
    assert check("download", Download, content | {"sha256": None}).sha256 is None


class Small(StrictModel):
    size: int


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("other: {}", "has no section 'small'"),
        ("", "has no section 'small'"),
        ("small: [", "is not valid YAML"),
        ("small: {}", "small.size: missing"),
        ("small: {size: much}", "small.size = 'much': input should be a valid integer"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(DataError) as error:
        read_section("small", Small, path)
    assert message in str(error.value)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="run from the project's root"):
        read_section("small", Small, tmp_path / "params.yaml")
