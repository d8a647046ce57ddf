"""Sources of a download: archives on a server, and a source distribution for pip."""

from __future__ import annotations

import hashlib
import io
import tarfile
import time
import zipfile
from pathlib import Path

from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from bikefit.data.bikes.download import DownloadParams
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


def serve_downloads(server: HTTPServer) -> str:
    """Add a good archive and archives with errors to a server; return its address."""
    contents = {
        "/good": GOOD,
        "/wrong": zipped(**{"hour.csv": TABLE + b"2,2011-01-01\n"}),
        "/page": b"<html>Sorry, we are moving</html>",
        "/climbing": zipped(**{"../hour.csv": TABLE, "/etc/hour.csv": TABLE}),
    }
    for path, content in contents.items():
        server.expect_request(path).respond_with_data(content)
    cut = Response(GOOD[:50])
    cut.content_length = len(GOOD)
    server.expect_request("/cut").respond_with_response(cut)
    server.expect_request("/error").respond_with_data(status=500)
    server.expect_request("/silent").respond_with_handler(_answer_late)
    return server.url_for("").rstrip("/")


def _answer_late(_: Request) -> Response:
    time.sleep(1)
    return Response()


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
    """Write a source distribution that builds without dependencies."""
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
