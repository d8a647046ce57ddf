"""A store that moves with its folder."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts

import stores
from bikefit.tracking import reading, writing
from bikefit.tracking.store import _relative, relative_locations

ABSOLUTE = "UPDATE {0} SET {1} = '{2}/' || {1}"


def go(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    # The default of a new process; in an old one MLflow keeps the first it has met.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")


def attach(run: str, text: str, folder: Path) -> None:
    file = folder / "note.txt"
    file.write_text(text)
    writing.log_files(run, [file])


@pytest.fixture
def original(empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's folder with a store in it, as the current folder."""
    folder = tmp_path / "original"
    folder.mkdir()
    shutil.copy(empty_store, folder / "mlflow.db")
    go(folder, monkeypatch)
    return folder


def one_run(folder: Path) -> str:
    run = stores.add(writing.start_sweep("full", "s", []), stores.settings(), stores.result(1, 2))
    attach(run, "first", folder)
    return run


@pytest.mark.parametrize("way", ["moved", "copied"])
def test_artifacts_follow_their_folder(
    original: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    run, copy = one_run(original), original.with_name("a copy")
    if way == "moved":
        original.rename(copy)
    else:
        shutil.copytree(original, copy)
        (artifact,) = original.glob("mlruns/*/*/artifacts/note.txt")
        artifact.write_text("changed since")
    monkeypatch.chdir(copy)
    # What a plain `mlflow ui` or a notebook sees, before any command of ours
    store = f"sqlite:///{copy}/mlflow.db"
    plain = MlflowClient(store)
    assert "note.txt" in [file.path for file in plain.list_artifacts(run)]
    assert Path(plain.download_artifacts(run, "note.txt")).read_text() == "first"
    found = download_artifacts(run_id=run, artifact_path="note.txt", tracking_uri=store)
    assert Path(found).read_text() == "first"
    go(copy, monkeypatch)
    assert reading.read_artifact(run, "note.txt") == b"first"
    assert reading.latest_sweep()
    attach(run, "second", copy)
    assert reading.read_artifact(run, "note.txt") == b"second"
    if way == "copied":
        assert artifact.read_text() == "changed since"
    else:
        assert not original.exists()


def test_a_store_with_absolute_paths_is_mended(
    original: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = one_run(original)
    with sqlite3.connect("mlflow.db") as connection:
        for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
            connection.execute(ABSOLUTE.format(table, column, original))
    connection.close()
    copy = original.rename(original.with_name("moved"))
    go(copy, monkeypatch)
    assert reading.read_artifact(run, "note.txt") == b"first"
    assert MlflowClient().get_run(run).info.artifact_uri.startswith("mlruns/")
    assert relative_locations(copy / "mlflow.db") == 0


def test_a_store_is_used_from_another_folder(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = one_run(original)
    go(tmp_path, monkeypatch)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{original}/mlflow.db")
    assert reading.read_artifact(run, "note.txt") == b"first"
    attach(run, "second", tmp_path)
    assert not (tmp_path / "mlruns").exists()
    go(original, monkeypatch)
    assert reading.read_artifact(run, "note.txt") == b"second"


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("/old/mlruns/1", "mlruns/1"),
        ("file:///old/a%20b/mlruns/1/abc/artifacts", "mlruns/1/abc/artifacts"),
        ("/old/mlruns/x/mlruns/1", "mlruns/1"),
        ("{here}/mlruns/7", "mlruns/7"),
        ("{other}/mlruns/1", None),  # somebody keeps artifacts there on purpose
        ("{other}/mlruns/2", "mlruns/2"),  # which is here as well: this is the copy
        ("/data/artifacts/1", None),
        ("mlruns/1", None),
        ("s3://bucket/mlruns/1", None),
        ("file://host/mlruns/1", None),
        ("mlflow-artifacts:/mlruns/1", None),
        ("models:/m-1", None),
    ],
)
def test_which_locations_are_changed(tmp_path: Path, location: str, expected: str | None) -> None:
    here, other = tmp_path / "here", tmp_path / "other"
    for folder in (here / "mlruns/2", other / "mlruns/1", other / "mlruns/2"):
        folder.mkdir(parents=True)
    assert _relative(location.format(here=here, other=other), here) == expected
