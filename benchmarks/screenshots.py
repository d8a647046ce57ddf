"""Renew the pictures of MLflow's views in docs/pictures: `make screenshots`.

Trains a small sweep in a temporary folder, serves it as `make ui` does and takes a picture of each
view of the sweep in a headless Chromium (Debian's packages chromium and chromium-driver).
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from io import BytesIO
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests")]

from browsers import DRIVER, MISSING, Browser, browser, serving  # noqa: E402

PICTURES = ROOT / "docs/pictures"
# from overfitting through a good fit to underfitting, on one path
SWEEP = ("data=rich", f"data.root={ROOT / 'data/features'}", "network.hidden=[128,128]",
         "regularization.l2=0,0.001,0.1,1", "seed=0,1,2")  # fmt: skip
LOADING = 15.0  # s until a page has loaded and its charts stand still


def photograph(by: Browser, address: str, picture: Path) -> None:
    """Open a page and keep what it shows."""
    by.open(address)
    time.sleep(LOADING)
    with Image.open(BytesIO(by.get_screenshot_as_png())) as image:
        # pages have few colours; this method keeps those of which there is little
        small = image.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE)
    small.save(picture, optimize=True)


def main() -> int:
    """Write a picture for each view and return the exit status."""
    if not DRIVER:
        print(f"error: {MISSING}", file=sys.stderr)
        return 1
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        subprocess.run([sys.executable, "-m", "bikefit.train", "-m", *SWEEP], check=True)
        from bikefit.tracking import views

        served = (sys.executable, "-m", "bikefit.ui", "--no-browser", "--port={}")
        with (
            serving(*served, health="health", log=Path(folder) / "ui.log") as pages,
            browser(Path(folder)) as opened,
        ):
            for name, link in views.latest_links(pages).items():
                photograph(opened, link, PICTURES / f"{name}.png")
        os.chdir(ROOT)
    return 0


if __name__ == "__main__":
    sys.exit(main())
