"""The stage `featurize`, and tables that are written from Python."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml

import bikefit
from bikefit.data import featurize
from bikefit.data.features import Features
from bikefit.data.featurize import data_version, write_table
from bikefit.data.rows import read_rows
from bikefit.data.sources import Source
from bikefit.data.table import read_table
from bikefit.data.table_params import SplitParams
from bikefit.data.transformer import Transformer
from bikefit.errors import DataError
from conftest import ROOT
from synthetic import clean_hours

HOURS = clean_hours(40)
FEATURES = Path("data/features")
SPLIT = SplitParams(kind="days", seed=0, validation=0.2, test=0.2)
PARTS = ("train", "validation", "test")


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict:
    """Parameters for short tables, in a folder that contains only the clean table."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    for name, table in params["featurize"]["tables"].items():
        table["rows"] = None if name == "full" else 480
    (tmp_path / "data/clean").mkdir(parents=True)
    HOURS.to_parquet(tmp_path / "data/clean/hours.parquet", index=False)
    monkeypatch.chdir(tmp_path)
    return params


def run(params: dict) -> dict[str, bytes]:
    """Run the stage and return the content of the files by name."""
    Path("params.yaml").write_text(yaml.safe_dump(params))
    featurize.main()
    return content()


def content() -> dict[str, bytes]:
    files = (path for path in FEATURES.rglob("*") if path.is_file())
    return {str(path.relative_to(FEATURES)): path.read_bytes() for path in files}


def test_the_stage_writes_split_and_standardized_tables(params: dict) -> None:
    files = run(params)
    assert len(files) == 8 * len(params["featurize"]["tables"])
    assert run(params) == files
    full, lecture = (read_table(FEATURES / name) for name in ("full", "lecture"))
    assert full.rows == {"train": 576, "validation": 192, "test": 192}
    assert lecture.rows == {"train": 384, "validation": 96, "test": 0}
    assert lecture.read("test").features.shape == (0, 32)
    assert lecture.read("validation").keys[0] == np.datetime64("2011-01-17T00")
    train = full.read("train")
    standardized = train.features[:, list(full.standardized)]
    assert standardized.mean(axis=0) == pytest.approx(0, abs=1e-5)
    assert standardized.std(axis=0) == pytest.approx(1, abs=1e-5)
    times = [set(full.read(part).keys) for part in PARTS]
    assert set.union(*times) == set(HOURS["timestamp"].to_numpy())


def test_the_saved_transformer_gives_the_same_features(params: dict) -> None:
    run(params)
    loaded = Transformer.load(FEATURES / "full/transformer.json")
    for part in PARTS:
        rows = read_table(FEATURES / "full").read(part)
        hours = read_rows(read_table(FEATURES / "full"), part)
        assert (hours["timestamp"] == rows.keys).all()
        assert (hours["unit"] == rows.units).all()
        assert (loaded.transform(hours) == rows.features).all()
        assert (hours["rentals"].to_numpy() == rows.target).all()
        table = pq.read_table(FEATURES / f"full/{part}.parquet")
        assert table.column_names == ["timestamp", "rentals", *loaded.names]


def test_data_version_depends_on_the_content(params: dict) -> None:
    run(params)
    before = {name: read_table(FEATURES / name).data_version for name in ("full", "lecture")}
    assert before["full"] == data_version(FEATURES / "full")
    assert len(before["full"]) == 16
    params["featurize"]["split"]["seed"] = 1
    run(params)
    assert read_table(FEATURES / "full").data_version != before["full"]
    assert read_table(FEATURES / "lecture").data_version == before["lecture"]


def test_a_failure_keeps_the_old_table(params: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    before = run(params)

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Transformer, "save", full_disk)
    with pytest.raises(OSError, match="No space left"):
        featurize.main()
    assert content() == before


def test_without_a_clean_table_the_message_names_the_command(params: dict) -> None:
    Path("data/clean/hours.parquet").unlink()
    with pytest.raises(DataError, match="run `dvc repro clean`"):
        run(params)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"plain": ["wage"]}, "bikes has no column 'wage'; its columns: season, holiday, "),
        ({"plain": ["rentals"]}, "bikes has no column 'rentals'"),
        ({"cyclic": ["windspeed"]}, "cyclic column 'windspeed': add its period to `periods`"),
        ({"plain": ["part"]}, "column 'part': this name is reserved"),
        ({"unit": "bikes"}, "target, unit, time and sha256 are not for the source 'bikes'"),
    ],
)
def test_sections_that_do_not_suit_the_bikes_are_refused(
    params: dict, change: dict, message: str
) -> None:
    params["featurize"]["tables"] = {"mine": {"standardized": ["temperature"]} | change}
    with pytest.raises(DataError, match=rf"^featurize\.tables\.mine: {message}"):
        run(params)


def test_a_table_written_from_python_has_no_missing_value(project: Path, tmp_path: Path) -> None:
    hours = pd.read_parquet(project / "data/clean/hours.parquet")
    hours.loc[4, "temperature"] = float("nan")
    features = Features(plain=("temperature",))
    with pytest.raises(DataError, match="column temperature, row 4: the value is not finite"):
        write_table(tmp_path / "warmth", Source(hours, "rentals"), features, SPLIT)
    assert not (tmp_path / "warmth").exists()


@pytest.mark.slow
def test_a_sweep_trains_on_a_table_written_from_python(quick: list[str]) -> None:
    hours = pd.read_parquet("data/clean/hours.parquet")
    by_time = hours.set_index("timestamp")["temperature"]
    hours["yesterday"] = hours["timestamp"].map(by_time.shift(freq="24h"))
    hours = hours.dropna(subset="yesterday")
    features = Features(standardized=("yesterday",), plain=("temperature",))
    table = write_table(Path("data/custom/warmth"), Source(hours, "rentals"), features, SPLIT)
    assert (table.name, table.feature_names) == ("warmth", ("yesterday", "temperature"))
    train = table.read("train").features
    assert train[:, 0].mean() == pytest.approx(0, abs=1e-5)
    assert train[:, 0].std() == pytest.approx(1, abs=1e-5)
    runs = bikefit.sweep([*quick, "data.root=data/custom", "data.name=warmth", "seed=0,1"]).runs
    assert set(runs["table"]) == {"warmth"}
