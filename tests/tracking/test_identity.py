"""`data/store.json` changes with the store, so that `dvc repro` trains a lost sweep again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from bikefit.tracking import connection, identity


def stored() -> str:
    assert identity.main() == 0
    return str(json.loads(Path("data/store.json").read_text())["store"])


@pytest.fixture
def folder(empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a space in its name and a store."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = tmp_path / "a folder"
    folder.mkdir()
    shutil.copy(empty_store, folder / "mlflow.db")
    monkeypatch.chdir(folder)
    return folder


def test_a_database_keeps_its_identity(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = connection.client().get_experiment("0")
    first = stored()
    assert first == str(experiment.creation_time)
    connection.experiment_id("another")
    assert stored() == first
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db?timeout=60")
    assert stored() == first  # the same database


@pytest.mark.slow
def test_a_database_that_was_deleted_is_another_one(folder: Path) -> None:
    first = stored()
    for file in folder.glob("mlflow.db*"):
        file.unlink()
    connection._open.cache_clear()
    second = stored()  # creates it
    assert first != second
    assert stored() == second


def test_servers_have_their_address(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:hush@127.0.0.1:9/")
    assert stored() == "http://…@127.0.0.1:9"  # it is not asked


def test_a_wrong_address_is_an_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "text").write_text("no database")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///text")
    assert identity.main() == 1
    assert "URI=sqlite:///text is no SQLite database" in capsys.readouterr().err
