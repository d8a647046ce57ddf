"""What a person sees: MLflow's own pages over a small sweep, in a real browser.

Needs Debian's packages chromium and chromium-driver; skipped only where they cannot be found.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import numpy as np
import pytest

from bikefit import tracking
from bikefit.compare import main
from ports import free_port
from stores import add, result, settings

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--window-size=1500,1000",
)  # fmt: skip
PATIENCE = 40.0  # s until a page must show what it should
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # what WebDriver calls an element's id

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no chromium with chromedriver"),
]


class Browser:
    """A headless Chromium, by the W3C WebDriver protocol."""

    def __init__(self, driver: str, profile: Path) -> None:
        self.driver = driver
        options = {"binary": CHROMIUM, "args": [*FLAGS, f"--user-data-dir={profile}"]}
        always = {"browserName": "chrome", "goog:chromeOptions": options}
        answer = self.post("/session", {"capabilities": {"alwaysMatch": always}})
        self.session = f"/session/{answer['sessionId']}"

    def post(self, path: str, body: dict[str, Any]) -> Any:
        data = json.dumps(body).encode()
        request = Request(self.driver + path, data, {"Content-Type": "application/json"})
        with urlopen(request, timeout=60) as answer:
            return json.load(answer)["value"]

    def open(self, address: str) -> None:
        self.post(f"{self.session}/url", {"url": address})

    def text(self) -> str:
        """What can be read on the page (or in the frame)."""
        script = "return document.body ? document.body.innerText : ''"
        return str(self.post(f"{self.session}/execute/sync", {"script": script, "args": []}))

    def enter(self, css: str) -> None:
        """Go on inside a frame."""
        found = self.post(f"{self.session}/element", {"using": "css selector", "value": css})
        self.post(f"{self.session}/frame", {"id": {ELEMENT: found[ELEMENT]}})

    def sees(self, *words: str) -> str:
        """Wait until all words can be read and return the text."""

        def all_there() -> str | None:
            text = self.text()
            return text if all(word in text for word in words) else None

        return str(patiently(all_there, lambda: f"{words} not in:\n{self.text()}"))


def patiently(look: Callable[[], Any], complain: Callable[[], str]) -> Any:
    """Look until there is something, or fail after a while."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            found = look()
        except (HTTPError, URLError, ConnectionError):  # not ready yet
            found = None
        if found:
            return found
        time.sleep(0.3)
    raise AssertionError(complain())


@contextmanager
def serving(*command: str, log: Path) -> Iterator[str]:
    """Run a server on a free port of this machine (`{}` in the command) and give its address."""
    port = free_port()
    with log.open("w") as out:
        server = subprocess.Popen(
            [part.format(port) for part in command], stdout=out, stderr=out, env=os.environ | {
                "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            }, start_new_session=True,
        )  # fmt: skip
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, 15)
        server.wait(20)


def answers(address: str) -> bool:
    with urlopen(address, timeout=5) as answer:
        return bool(answer.status == 200)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    assert DRIVER is not None
    with serving(DRIVER, "--port={}", log=tmp_path / "driver.log") as driver:
        patiently(lambda: answers(f"{driver}/status"), (tmp_path / "driver.log").read_text)
        opened = Browser(driver, tmp_path / "profile")
        yield opened
        with urlopen(Request(driver + opened.session, method="DELETE"), timeout=30):
            pass


@pytest.fixture
def pages(workplace: Path) -> Iterator[tuple[str, str, str]]:
    """The address of MLflow over a reported sweep, the sweep's id and its experiment."""
    sweep = tracking.start_sweep("full", "a small sweep", ["regularization.dropout=0,0.3"])
    for seed in (0, 1):
        add(sweep, settings(seed=seed), result(2.0, 6.0 + seed))
        add(sweep, settings(dropout=0.3, seed=seed), result(3.0, 5.0 + seed))
    add(sweep, settings(hidden=4), result(np.nan, np.nan, failure="loss is not finite"))
    tracking.finish_sweep(sweep, "**dropout p=0.3** wins", {}, "FINISHED")
    assert main(["--reports", "reports"]) == 0
    experiment = tracking.experiment_id("full")
    command = (sys.executable, "-m", "mlflow", "ui", "--host=127.0.0.1", "--port={}", "--workers=1")
    with serving(*command, log=workplace / "ui.log") as address:
        patiently(lambda: answers(f"{address}/health"), (workplace / "ui.log").read_text)
        yield address, sweep, experiment


def test_mlflow_shows_runs_tags_and_the_report(
    pages: tuple[str, str, str], browser: Browser
) -> None:
    address, sweep, experiment = pages
    runs = f"{address}/#/experiments/{experiment}/runs"
    child = tracking.read_runs(sweep).iloc[0]

    browser.open(runs)
    browser.sees("a small sweep", "6 matching runs")

    browser.open(f"{runs}/{child['run_id']}")
    browser.sees(child["name"], "verdict", child["tags.verdict"], "best/val/loss")

    browser.open(f"{runs}/{sweep}")
    browser.sees("a small sweep", "dropout p=0.3 wins", child["name"])

    browser.open(f"{runs}/{sweep}/artifacts/report.html")
    browser.sees("comparison.csv", "report.html")
    patiently(lambda: browser.enter("iframe") is None, lambda: "the report is not shown")
    count = (tracking.read_runs(sweep)["tags.verdict"] == child["tags.verdict"]).sum()
    browser.sees(
        "dropout p=0.3 · mlp 8 wins", "Within the noise of it",
        f"{child['tags.verdict']} {count}",
    )  # fmt: skip


def cells(browser: Browser, column: str) -> list[str]:
    """What the runs table shows in a column, from the top."""
    script = """return [...document.querySelectorAll('.ag-center-cols-container .ag-row')]
        .sort((a, b) => a.getAttribute('row-index') - b.getAttribute('row-index'))
        .map(row => row.querySelector(`[col-id="${arguments[0]}"]`)?.innerText.trim() ?? '')"""
    body = {"script": script, "args": [column]}
    return list(browser.post(f"{browser.session}/execute/sync", body))


def count(browser: Browser, css: str) -> int:
    script = "return document.querySelectorAll(arguments[0]).length"
    return int(browser.post(f"{browser.session}/execute/sync", {"script": script, "args": [css]}))


@pytest.fixture
def views(pages: tuple[str, str, str]) -> dict[str, str]:
    """Addresses of the latest sweep's views; a run of an earlier sweep is not in them."""
    address, _, experiment = pages
    earlier = add(tracking.start_sweep("full", "another", []), settings(seed=7), result(9.0, 9.0))
    sweep = tracking.start_sweep("full", "the latest", [])
    for dropout, val in ((0.5, 7.0), (0.0, 6.0), (0.3, 5.0)):
        add(sweep, settings(dropout=dropout, seed=4), result(2.0, val))
    assert main(["--reports", "reports"]) == 0
    tracking.finish_sweep(sweep, "it is over", {}, "FINISHED")
    assert tracking.client().get_run(earlier).info.experiment_id == experiment
    return tracking.view_links(sweep, address)


def test_the_comparison_is_sorted_and_shows_the_verdicts(
    views: dict[str, str], browser: Browser
) -> None:
    # MLflow writes only the columns that are to be seen
    browser.post(f"{browser.session}/window/rect", {"width": 2200, "height": 1000})
    browser.open(views["comparison"])
    browser.sees("comparison · latest sweep", "3 matching runs", "verdict", "gap", "method", "seed")
    losses = patiently(lambda: cells(browser, "metrics.`best/val/loss`"), browser.text)
    assert [float(loss) for loss in losses] == [5.0, 6.0, 7.0]
    assert [float(loss) for loss in cells(browser, "metrics.`best/train/loss`")] == [2.0] * 3
    assert cells(browser, "params.`method`") == ["dropout p=0.3", "none", "dropout p=0.5"]
    assert cells(browser, "params.`seed`") == ["4"] * 3
    verdicts = tracking.read_runs(tracking.latest_sweep()).set_index("method")["tags.verdict"]
    shown = zip(cells(browser, "params.`method`"), cells(browser, "tags.`verdict`"), strict=True)
    assert all(verdict == verdicts[method] for method, verdict in shown)
    assert "Prompts" not in browser.text()  # the sidebar of GenAI mode


def test_the_curves_are_drawn_for_each_configuration(
    views: dict[str, str], browser: Browser
) -> None:
    browser.open(views["curves"])
    browser.sees(
        "curves · latest sweep", "3 matching runs", "Group by: configuration", "train/loss",
        "val/loss", "dropout p=0.3 · mlp 8 (val/loss)", "none · mlp 8 (train/loss)",
    )  # fmt: skip
    lines = ".js-plotly-plot .scatterlayer .js-line"
    patiently(lambda: count(browser, lines) >= 6, lambda: f"{count(browser, lines)} lines")
    assert count(browser, ".js-plotly-plot") == 2


def test_the_plane_has_a_point_for_each_run(views: dict[str, str], browser: Browser) -> None:
    browser.open(views["plane"])
    browser.sees(
        "plane · latest sweep", "3 matching runs", "Group by: verdict",
        "best/train/loss vs. best/val/loss",
    )  # fmt: skip
    patiently(
        lambda: count(browser, ".js-plotly-plot .scatterlayer .point") == 3,
        lambda: f"{count(browser, '.js-plotly-plot .scatterlayer .point')} points",
    )
    assert count(browser, ".js-plotly-plot") == 1


def test_the_views_are_in_the_menu(views: dict[str, str], browser: Browser) -> None:
    browser.open(views["comparison"])
    browser.sees("comparison · latest sweep", "3 matching runs")
    script = """[...document.querySelectorAll('button')]
        .find(b => b.innerText.includes('latest sweep'))
        .dispatchEvent(new PointerEvent('pointerdown', {bubbles: true, button: 0}))"""
    browser.post(f"{browser.session}/execute/sync", {"script": script, "args": []})
    browser.sees("curves\n", "plane\n", "curves · latest sweep", "plane · latest sweep")
