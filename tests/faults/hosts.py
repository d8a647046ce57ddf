"""Where a table is downloaded from: a host that answers as its path says, and an index of pip."""

from __future__ import annotations

import hashlib
import io
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from bikefit.data.download import DownloadParams
from bikefit.data.params import validate

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

    stop = threading.Event()
    climbing = zipped(**{"../hour.csv": TABLE, "/etc/hour.csv": TABLE})

    def do_GET(self) -> None:
        answers: dict[str, Callable[[], None]] = {
            "/good": lambda: self.send(GOOD),
            "/wrong": lambda: self.send(zipped(**{"hour.csv": TABLE + b"2,2011-01-01\n"})),
            "/page": lambda: self.send(b"<html>Sorry, we are moving</html>"),
            "/climbing": lambda: self.send(self.climbing),
            "/cut": lambda: self.send(GOOD[: len(GOOD) // 2], claimed=len(GOOD)),
            "/short": lambda: self.send(GOOD[: len(GOOD) // 2]),
            "/error": lambda: self.send(b"sorry", status=500),
            "/silent": lambda: self.stop.wait(20) and None,
        }
        answers[self.path]()

    def send(self, content: bytes, status: int = 200, claimed: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(claimed or len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    def handle_error(self, *_: Any) -> None:
        pass


@contextmanager
def serving() -> Iterator[str]:
    """The address of a host on this machine."""
    Host.stop.clear()
    with Server(("127.0.0.1", 0), Host) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        Host.stop.set()
        server.shutdown()
        thread.join()


def params(**change: object) -> DownloadParams:
    section = {
        "sha256": DIGEST,
        "file": None,
        "url": "http://127.0.0.1:9/none.zip",
        "sdist": {"name": "bundle", "version": "1.0", "sha256": "0" * 64, "member": "hour.csv"},
        "timeout": 0.5,
    }
    return validate("download", DownloadParams, section | change)


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
    return path


def pinned(path: Path, member: str = "bundle-1.0/data/hour.csv") -> dict[str, str]:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"name": "bundle", "version": "1.0", "sha256": digest, "member": member}
