"""Data pushed to a DVC remote is pulled by a fresh clone, where no stage runs again."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
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
    copy_parts(folder, "src/bikefit", ".dvc", ".dvcignore")
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


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of an S3-compatible server with an empty bucket `bikefit`."""
    server = pytest.importorskip("moto.server", reason="moto is not installed")
    boto3 = pytest.importorskip("boto3", reason="boto3 is not installed")
    pytest.importorskip("dvc_s3", reason="the extra `s3` is not installed")
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(key, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    moto = server.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    moto.start()
    address = "http://{}:{}".format(*moto.get_host_and_port())
    boto3.client("s3", endpoint_url=address).create_bucket(Bucket="bikefit")
    yield address
    moto.stop()


@pytest.mark.slow(seconds=40)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # in the code of the S3 client
def test_remotes(repository: Path, tmp_path: Path, bucket: str) -> None:
    dvc(repository, "remote", "add", "folder", str(tmp_path / "storage"))
    dvc(repository, "remote", "add", "s3", "s3://bikefit/dvc")
    dvc(repository, "remote", "modify", "s3", "endpointurl", bucket)
    git(repository, "add", "--all")
    git(repository, "commit", "-m", "data")
    for remote in ("folder", "s3"):
        dvc(repository, "push", "--remote", remote)
        clone = tmp_path / remote
        git(tmp_path, "clone", "one", remote)
        assert not (clone / "data/raw/hour.csv").exists()
        dvc(clone, "pull", "--remote", remote)
        for name in (
            "data/raw/hour.csv",
            "data/clean/hours.parquet",
            "data/features/full/table.json",
        ):
            assert (clone / name).read_bytes() == (repository / name).read_bytes()
        printed = dvc(clone, "repro")
        assert printed.count("didn't change, skipping") == len(STAGES)
        assert "Running stage" not in printed
