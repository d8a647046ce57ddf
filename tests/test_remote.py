"""Data pushed to a DVC remote is pulled by a fresh clone, where no stage runs again."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from conftest import ROOT
from copies import copy_parts
from synthetic import raw_hours
from test_pipeline import dvc

STAGES = ("download", "clean", "look", "featurize")


def git(folder: Path, *arguments: str) -> None:
    user = ["-c", "user.name=name", "-c", "user.email=name@example.org"]
    subprocess.run(["git", *user, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A git repository whose data stages have run."""
    folder = tmp_path / "one"
    copy_parts(folder, "src/bikefit", ".dvc", ".dvcignore", "data/own")
    (folder / ".gitignore").write_text("__pycache__\n")
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": {k: stages[k] for k in STAGES}}))
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["download"] |= {"file": "../own.csv", "sha256": None}
    params["featurize"]["tables"] = {"full": params["featurize"]["tables"]["full"]}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    raw_hours(days=20).to_csv(tmp_path / "own.csv", index=False)
    git(folder, "init")
    dvc(folder, "repro")
    return folder


@pytest.mark.slow(seconds=20)
def test_a_clone_pulls_the_data_and_repeats_no_stage(repository: Path, tmp_path: Path) -> None:
    dvc(repository, "remote", "add", "--default", "storage", str(tmp_path / "storage"))
    git(repository, "add", "--all")
    git(repository, "commit", "-m", "data")
    dvc(repository, "push")
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "one", "clone")
    assert not (clone / "data/raw/hour.csv").exists()
    dvc(clone, "pull")
    for name in ("data/raw/hour.csv", "data/clean/hours.parquet", "data/features/full/table.json"):
        assert (clone / name).read_bytes() == (repository / name).read_bytes()
    printed = dvc(clone, "repro")
    assert printed.count("didn't change, skipping") == len(STAGES)
    assert "Running stage" not in printed
