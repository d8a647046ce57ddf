"""Artifacts can be read after the folder of the store was moved or copied."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import stores
from bikefit.tracking import connection, reading, writing


def add_run(folder: Path) -> str:
    """Write a run with a file to the store of a folder."""
    run = stores.add(writing.start_sweep("full", "s", []), stores.settings(), stores.result(1, 2))
    (folder / "note.txt").write_text("first")
    writing.log_files(run, [folder / "note.txt"])
    return run


@pytest.mark.parametrize("copied", [False, True], ids=["moved", "copied"])
def test_artifacts_are_read_beside_the_database(
    empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, copied: bool
) -> None:
    original, folder = tmp_path / "original", tmp_path / "another folder"
    original.mkdir()
    shutil.copy(empty_store, original / "mlflow.db")
    monkeypatch.chdir(tmp_path)  # not the folder of the store
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{original}/mlflow.db")
    run = add_run(original)
    assert not (tmp_path / "mlruns").exists()
    if copied:
        shutil.copytree(original, folder)
        (artifact,) = original.glob("mlruns/*/*/artifacts/note.txt")
        artifact.write_text("changed since")
    else:
        original.rename(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
    assert reading.read_artifact(run, "note.txt") == b"first"
    new = add_run(folder)
    assert reading.read_artifact(new, "note.txt") == b"first"
    assert len(list(folder.glob("mlruns/*/*/artifacts/note.txt"))) == 2
    assert len(list(original.glob("mlruns/*/*/artifacts/note.txt"))) == int(copied)


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("/gone/mlruns/1", "{here}/mlruns/1"),
        ("/gone/mlruns/x/mlruns/1", "{here}/mlruns/1"),
        ("{other}/mlruns/1", "{other}/mlruns/1"),  # exists only there
        ("{other}/mlruns/2", "{here}/mlruns/2"),  # a copy exists here
        ("/data/artifacts/1", "/data/artifacts/1"),
        ("mlruns/1", "{here}/mlruns/1"),
        ("s3://bucket/mlruns/1", "s3://bucket/mlruns/1"),
    ],
)
def test_local_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, location: str, expected: str
) -> None:
    here, other = tmp_path / "here", tmp_path / "other"
    for folder in (here / "mlruns/2", other / "mlruns/1", other / "mlruns/2"):
        folder.mkdir(parents=True)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{here}/mlflow.db")
    path = connection.local_path(location.format(here=here, other=other))
    assert path == expected.format(here=here, other=other)
