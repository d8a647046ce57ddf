"""Renew the pictures of MLflow's views in `docs/pictures`.

Trains a small sweep in an empty folder, serves it as `make ui` does and takes a picture of each
view of the sweep in headless Chromium (Debian's packages chromium and chromium-driver).
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from io import BytesIO
from pathlib import Path

from benchmarks.common import ROOT, run, scratch
from benchmarks.reference import TRAIN
from PIL import Image

sys.path.insert(0, str(ROOT / "tests"))
from browsers import DRIVER, MISSING, Browser, browser, serving

PICTURES = ROOT / "docs/pictures"
# A path from overfitting through a good fit to underfitting.
SWEEP = "data=rich network.hidden=[128,128] regularization.l2=0,0.001,0.1,1 seed=0,1,2"
LOADING = 15.0  # s until a page has loaded and its charts stand still


def photograph(window: Browser, address: str, picture: Path) -> None:
    """Open a page and write what it shows."""
    window.open(address)
    time.sleep(LOADING)
    with Image.open(BytesIO(window.get_screenshot_as_png())) as image:
        # Pages have few colours; MAXCOVERAGE keeps the rare ones.
        small = image.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE)
    small.save(picture, optimize=True)


def measure(options: argparse.Namespace) -> dict[str, str]:
    """Write a picture of each view."""
    if not DRIVER:
        sys.exit(f"error: {MISSING}")
    with scratch() as folder:
        run([*TRAIN, "-m", *SWEEP.split()], folder)
        os.chdir(folder)
        from bikefit.tracking.views import latest_links

        command = (sys.executable, "-m", "bikefit.ui", "--no-browser", "--port={}")
        served = serving(*command, health="health", log=folder / "ui.log")
        with served as pages, browser(folder) as window:
            for name, link in latest_links(pages).items():
                photograph(window, link, PICTURES / f"{name}.png")
        os.chdir(ROOT)
    return {}
