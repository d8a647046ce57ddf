"""Artifacts are found if the folder of the store was moved or copied."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import stores
from bikefit.tracking import connection, reading, writing


def use(folder: Path, monkeypatch: pytest.MonkeyPatch, database: Path | None = None) -> None:
    """Work in a folder, with its own database or another one."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database or folder / 'mlflow.db'}")


def attach(run: str, text: str, folder: Path) -> None:
    (folder / "note.txt").write_text(text)
    writing.log_files(run, [folder / "note.txt"])


@pytest.fixture
def original(empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's folder with a store, as the current folder."""
    folder = tmp_path / "original"
    folder.mkdir()
    shutil.copy(empty_store, folder / "mlflow.db")
    use(folder, monkeypatch)
    return folder


def add_run(folder: Path) -> str:
    run = stores.add(writing.start_sweep("full", "s", []), stores.settings(), stores.result(1, 2))
    attach(run, "first", folder)
    return run


@pytest.mark.parametrize("copied", [False, True], ids=["moved", "copied"])
def test_artifacts_follow_their_folder(
    original: Path, monkeypatch: pytest.MonkeyPatch, copied: bool
) -> None:
    run, folder = add_run(original), original.with_name("another folder")
    if copied:
        shutil.copytree(original, folder)
        (artifact,) = original.glob("mlruns/*/*/artifacts/note.txt")
        artifact.write_text("changed since")
    else:
        original.rename(folder)
    use(folder, monkeypatch)
    assert reading.read_artifact(run, "note.txt") == b"first"
    attach(run, "second", folder)
    assert reading.read_artifact(run, "note.txt") == b"second"
    new = add_run(folder)
    assert reading.read_artifact(new, "note.txt") == b"first"
    assert len(list(folder.glob("mlruns/*/*/artifacts/note.txt"))) == 2
    if copied:
        assert artifact.read_text() == "changed since"
        assert len(list(original.glob("mlruns/*/*/artifacts/note.txt"))) == 1
    else:
        assert not original.exists()


def test_a_store_is_used_from_another_folder(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(tmp_path, monkeypatch, original / "mlflow.db")
    run = add_run(tmp_path)
    assert not (tmp_path / "mlruns").exists()
    use(original, monkeypatch)
    assert reading.read_artifact(run, "note.txt") == b"first"


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("/gone/mlruns/1", "{here}/mlruns/1"),
        ("/gone/mlruns/x/mlruns/1", "{here}/mlruns/1"),
        ("{here}/mlruns/7", "{here}/mlruns/7"),
        ("{other}/mlruns/1", "{other}/mlruns/1"),  # it is there and not here
        ("{other}/mlruns/2", "{here}/mlruns/2"),  # it is here as well: a copy
        ("/data/artifacts/1", "/data/artifacts/1"),
        ("mlruns/1", "{here}/mlruns/1"),
        ("s3://bucket/mlruns/1", "s3://bucket/mlruns/1"),
        ("mlflow-artifacts://host/mlruns/1", "mlflow-artifacts://host/mlruns/1"),
    ],
)
def test_local_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, location: str, expected: str
) -> None:
    here, other = tmp_path / "here", tmp_path / "other"
    for folder in (here / "mlruns/2", other / "mlruns/1", other / "mlruns/2"):
        folder.mkdir(parents=True)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{here}/mlflow.db")
    found = connection.local_path(location.format(here=here, other=other))
    assert found == expected.format(here=here, other=other)
