"""Renew the pictures in `docs/pictures`: three positions of the explorer, and MLflow's views.

The explorer is `reports/explorer.html`, as the pipeline built it. For MLflow, it trains a small
sweep in an empty folder, serves it as `make ui` does and takes a picture of each view of the sweep.
Needs headless Chromium (Debian's packages chromium and chromium-driver).
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
from browsers import DRIVER, MISSING, Browser, browser, serving, wait_for

PICTURES = ROOT / "docs/pictures"
# A path from overfitting through a good fit to underfitting.
SWEEP = "data=rich network.hidden=[128,128] regularization.l2=0,0.001,0.1,1 seed=0,1,2"
EXPLORER = ROOT / "reports/explorer.html"
SETTING, VALUES = "L2 penalty λ", ("1", "0.1", "0")  # underfitting, a good fit, overfitting
ONLY_THE_WEEK = """
const others = `main > :not(.controls):not(.grid), .controls label, #plain, #reason, #guesses, h2,
    .grid > section:not(:has(#chart-week)):not(:has(#verdict)), section > p.soft,
    p:has(> label > #guess), label:has(#week)`;
for (const other of document.querySelectorAll(others)) other.style.display = "none";
document.getElementById("judged").style.minHeight = 0;
document.querySelector(".controls").style.position = "static";
const path = document.getElementById("path");
path.value = [...path.options].findIndex(option => option.text === arguments[0]);
path.dispatchEvent(new Event("input"));
"""
LOADING = 15.0  # s until a page has loaded and its charts stand still


def photograph(window: Browser, address: str, picture: Path) -> None:
    """Open a page and write what it shows."""
    window.open(address)
    time.sleep(LOADING)
    with Image.open(BytesIO(window.get_screenshot_as_png())) as image:
        # Pages have few colours; MAXCOVERAGE keeps the rare ones.
        small = image.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE)
    small.save(picture, optimize=True)


def photograph_explorer(window: Browser) -> None:
    """Write a picture of a week at three positions of the slider, side by side."""
    narrow = {"width": 420, "height": 740, "deviceScaleFactor": 1.5, "mobile": False}
    window.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", narrow)
    window.open(f"file://{EXPLORER}")
    wait_for(lambda: window.execute_script("return !!window.views"), window.text)
    window.execute_script(ONLY_THE_WEEK, SETTING)
    slider, name = (window.find_element("id", id_) for id_ in ("position", "name"))
    pictures = []
    for value in VALUES:
        window.execute_script("arguments[0].value = 0", slider)
        while name.text != f"{SETTING} = {value}":
            window.execute_script(
                "arguments[0].stepUp(); arguments[0].dispatchEvent(new Event('input'))", slider
            )
        time.sleep(1)
        png = window.find_element("tag name", "main").screenshot_as_png
        pictures.append(Image.open(BytesIO(png)).convert("RGB"))
    width, height = pictures[0].width, max(picture.height for picture in pictures)
    joined = Image.new("RGB", (width * len(pictures), height), pictures[0].getpixel((0, 0)))
    for number, picture in enumerate(pictures):
        joined.paste(picture, (number * width, 0))
    small = joined.quantize(256, Image.Quantize.MAXCOVERAGE)
    small.save(PICTURES / "explorer.png", optimize=True)
    window.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def measure(options: argparse.Namespace) -> dict[str, str]:
    """Write a picture of each view."""
    if not DRIVER:
        sys.exit(f"error: {MISSING}")
    with scratch() as folder:
        run([*TRAIN, "-m", *SWEEP.split()], folder)
        os.chdir(folder)
        from bikefit.tracking.views import latest_links

        command = (sys.executable, "-m", "bikefit.ui", "--port={}")
        served = serving(*command, health="health", log=folder / "ui.log")
        with served as pages, browser(folder) as window:
            photograph_explorer(window)
            for name, link in latest_links(pages).items():
                photograph(window, link, PICTURES / f"{name}.png")
        os.chdir(ROOT)
    return {}
