"""Renew the pictures of MLflow's views in docs/pictures: `make screenshots`.

Trains a small sweep in a temporary folder, serves it with MLflow and takes a picture of each view
of the sweep in a headless Chromium (Debian's
packages chromium and chromium-driver).
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

from PIL import Image

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "docs/pictures"
SWEEP = ("data=full", f"data.root={ROOT / 'data/features'}", "training.epochs=30",
         "network.hidden=[8],[64,64],[256,256]", "regularization=none,dropout",
         "seed=0,1")  # fmt: skip
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         "--disable-dev-shm-usage", "--window-size=1500,1000")  # fmt: skip
LOADING = 15.0  # s until a page has loaded and its charts stand still
PATIENCE = 120.0  # s until MLflow must answer


@contextmanager
def serving(*command: str, health: str) -> Iterator[str]:
    """Run a server on a free port of this machine (`{}` in the command) and give its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    server = subprocess.Popen(
        [part.format(address.rpartition(":")[2]) for part in command], env=environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        _wait_for(f"{address}/{health}")
        yield address
    finally:
        os.killpg(server.pid, 15)
        server.wait(20)


def _wait_for(address: str) -> None:
    end = time.monotonic() + PATIENCE
    while True:
        try:
            with urlopen(address, timeout=5):
                return
        except (URLError, OSError):
            if time.monotonic() > end:
                raise
            time.sleep(0.5)


def photograph(driver: str, address: str, profile: Path, picture: Path) -> None:
    """Open a page in a new browser, by the W3C WebDriver protocol, and keep what it shows."""
    options = {"args": [*FLAGS, f"--user-data-dir={profile}"]}
    wanted = {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": options}}
    session = f"{driver}/session/{_ask(f'{driver}/session', capabilities=wanted)['sessionId']}"
    _ask(f"{session}/url", url=address)
    time.sleep(LOADING)
    with Image.open(BytesIO(b64decode(_ask(f"{session}/screenshot")))) as image:
        # pages have few colours; this method keeps those of which there is little
        small = image.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE)
    small.save(picture, optimize=True)
    with urlopen(Request(session, method="DELETE"), timeout=60):
        pass


def _ask(address: str, **body: Any) -> Any:
    data = json.dumps(body).encode() if body else None
    request = Request(address, data, {"Content-Type": "application/json"})
    with urlopen(request, timeout=60) as answer:
        return json.load(answer)["value"]


def main() -> int:
    """Write a picture for each view and return the exit status."""
    if not (program := shutil.which("chromedriver")):
        print("error: no chromedriver: `apt-get install chromium chromium-driver` on Debian",
              file=sys.stderr)  # fmt: skip
        return 1
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        subprocess.run([sys.executable, "-m", "bikefit.train", "-m", *SWEEP], check=True)
        from bikefit import tracking

        mlflow = (sys.executable, "-m", "mlflow", "ui", "--port={}", "--workers=1")
        with (
            serving(*mlflow, health="health") as pages,
            serving(program, "--port={}", health="status") as driver,
        ):
            for name, link in tracking.view_links(tracking.latest_sweep(), pages).items():
                photograph(driver, link, Path(folder) / name, PICTURES / f"{name}.png")
        os.chdir(ROOT)
    return 0


if __name__ == "__main__":
    sys.exit(main())
