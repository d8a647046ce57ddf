"""Data that one machine has made reaches a fresh clone elsewhere, which makes none of it again."""

from __future__ import annotations

import shutil
import subprocess
import sys
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
    """Run git as somebody."""
    somebody = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.org"]
    subprocess.run(["git", *somebody, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A git repository with the data stages, which have run."""
    folder = tmp_path_factory.mktemp("made") / "one"
    copy_parts(folder, "src/bikefit", ".dvc", ".dvcignore")
    (folder / ".gitignore").write_text("__pycache__\n")
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": {k: stages[k] for k in STAGES}}))
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["download"] |= {"file": "../own.csv", "sha256": None}
    params["featurize"]["tables"] = {"full": params["featurize"]["tables"]["full"]}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    raw_hours(days=20).to_csv(folder.parent / "own.csv", index=False)
    git(folder, "init")
    dvc(folder, "repro")
    return folder


@pytest.fixture
def repository(made: Path, tmp_path: Path) -> Path:
    """A copy of it, without the file that its data was made of."""
    return Path(shutil.copytree(made, tmp_path / "one"))


def reaches_a_clone(repository: Path) -> None:
    """Push from a repository, pull in a clone, and see that no stage runs there."""
    dvc(repository, "push")
    git(repository, "add", "--all")
    git(repository, "commit", "-m", "data")
    clone = repository.with_name("two")
    git(repository.parent, "clone", "one", "two")
    assert not (clone / "data/raw/hour.csv").exists()
    dvc(clone, "pull")
    for name in ("data/raw/hour.csv", "data/clean/hours.parquet", "data/features/full/table.json"):
        assert (clone / name).read_bytes() == (repository / name).read_bytes()
    printed = dvc(clone, "repro")
    assert printed.count("didn't change, skipping") == len(STAGES)
    assert "up to date" in printed
    assert "Running stage" not in printed


@pytest.mark.slow(seconds=20)
def test_a_folder_is_a_remote(repository: Path, tmp_path: Path) -> None:
    dvc(repository, "remote", "add", "--default", "storage", str(tmp_path / "storage"))
    reaches_a_clone(repository)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of an S3-compatible server with an empty bucket `bikefit`."""
    for package in ("moto", "boto3", "dvc_s3"):
        pytest.importorskip(package, reason="moto or the extra `s3` is not installed")
    import boto3

    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(key, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    code = (
        "import time\nfrom moto.server import ThreadedMotoServer\n"
        "server = ThreadedMotoServer('127.0.0.1', 0, verbose=False)\nserver.start()\n"
        "print(server.get_host_and_port()[1], flush=True)\ntime.sleep(600)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    try:
        address = f"http://127.0.0.1:{int(process.stdout.readline())}"
        boto3.client("s3", endpoint_url=address).create_bucket(Bucket="bikefit")
        yield address
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow(seconds=15)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the S3 client's own code
def test_an_s3_bucket_is_a_remote(repository: Path, bucket: str) -> None:
    dvc(repository, "remote", "add", "--default", "storage", "s3://bikefit/dvc")
    dvc(repository, "remote", "modify", "storage", "endpointurl", bucket)
    reaches_a_clone(repository)
