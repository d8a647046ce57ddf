"""MLflow's pages, served by `make ui`, in a browser.

Needs Debian's packages chromium and chromium-driver; skipped if they are not installed.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import browsers
import commands
from bikefit.comparison.compare import main
from bikefit.comparison.result import compare
from bikefit.tracking import connection, reading, writing
from bikefit.tracking import views as prepared
from browsers import Browser, serving, wait_for
from stores import add, result, settings

pytestmark = [
    pytest.mark.slow(seconds=7),
    pytest.mark.skipif(not (browsers.CHROMIUM and browsers.DRIVER), reason=browsers.MISSING),
]
LINES = ".js-plotly-plot .scatterlayer .js-line"
POINTS = ".js-plotly-plot .scatterlayer .point"


@pytest.fixture(scope="module")
def site(
    project: Path, empty_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Return the address of `make ui` in a new folder, which becomes the current folder."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "data").symlink_to(project / "data")
    shutil.copy(empty_store, folder / "mlflow.db")
    command = (sys.executable, "-m", "bikefit.ui", "--port={}")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        with serving(*command, health="health", log=folder / "ui.log") as address:
            yield address


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browsers.browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


def settings_in(experiment: str, seed: int = 0, **more: Any) -> Any:
    """Settings of a run of an experiment."""
    tracked = {"experiment": experiment, "weights": False, "predictions": False}
    return settings(seed=seed, tracking=tracked, **more)


def test_mlflow_shows_runs_tags_and_the_report(site: str, browser: Browser) -> None:
    sweep = writing.start_sweep("full", "a small sweep", ["regularization.dropout=0,0.3"])
    for seed in (0, 1):
        add(sweep, settings_in("full", seed), result(2.0, 6.0 + seed))
        add(sweep, settings_in("full", seed, dropout=0.3), result(3.0, 5.0 + seed))
    add(sweep, settings_in("full", hidden=4), result(np.nan, np.nan, failure="loss is not finite"))
    link = prepared.view_links(sweep)["curves"]
    writing.finish_sweep(sweep, f"**dropout p=0.3** wins\n\n[its curves]({link})", {}, "FINISHED")
    assert main(["--reports", "reports"]) == 0
    runs = f"{site}/#/experiments/{connection.experiment_id('full')}/runs"
    child = reading.read_runs(sweep).iloc[0]

    browser.open(runs)
    browser.sees("a small sweep", "6 matching runs")

    browser.open(f"{runs}/{child['run_id']}")
    browser.sees(child["name"], "verdict", child["tags.verdict"], "best/val/loss")

    browser.open(f"{runs}/{sweep}")
    browser.sees("a small sweep", "dropout p=0.3 wins", child["name"], "its curves")
    # The link is relative, so that it also works behind a URL prefix.
    clicked = """const link = [...document.querySelectorAll('a')]
        .find(a => a.innerText == 'its curves'); link.target = ''; link.click()
        return link.href"""
    assert browser.execute_script(clicked) == f"{site}/{link}"
    browser.sees("curves · latest sweep")

    browser.open(f"{runs}/{sweep}/artifacts/report.html")
    browser.sees("comparison.csv", "report.html")
    wait_for(lambda: browser.enter("iframe") is None, lambda: "the report is not shown")
    same = (reading.read_runs(sweep)["tags.verdict"] == child["tags.verdict"]).sum()
    browser.sees(
        "dropout p=0.3 · mlp 8 wins", "Not significantly worse", f"{child['tags.verdict']} {same}"
    )


@pytest.fixture(scope="module")
def sweep(site: str) -> str:
    """Return the second of two sweeps, which are written over HTTP to the server."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", site)
        add(writing.start_sweep("two", "another", []), settings_in("two", 7), result(9.0, 9.0))
        latest = writing.start_sweep("two", "the latest", [])
        for dropout, val in ((0.5, 7.0), (0.0, 6.0), (0.3, 5.0)):
            add(latest, settings_in("two", 4, dropout=dropout), result(2.0, val))
        compare(latest)
        writing.finish_sweep(latest, "it is over", {}, "FINISHED")
    return latest


@pytest.fixture(scope="module")
def views(site: str, sweep: str) -> dict[str, str]:
    """Return the addresses of the views of the second sweep."""
    return prepared.view_links(sweep, site)


def cells(browser: Browser, column: str) -> list[str]:
    """Return the texts of a column of the runs table, from the top."""
    script = """return [...document.querySelectorAll('.ag-center-cols-container .ag-row')]
        .sort((a, b) => a.getAttribute('row-index') - b.getAttribute('row-index'))
        .map(row => row.querySelector(`[col-id="${arguments[0]}"]`)?.innerText.trim() ?? '')"""
    return list(browser.execute_script(script, column))


def test_the_comparison_is_sorted_and_shows_the_verdicts(
    views: dict[str, str], sweep: str, browser: Browser
) -> None:
    # MLflow renders only visible columns.
    browser.set_window_rect(width=2200, height=1000)
    browser.open(views["comparison"])
    browser.sees("comparison · latest sweep", "3 matching runs")
    browser.sees("verdict", "gap", "configuration", "seed")
    losses = wait_for(lambda: cells(browser, "metrics.`best/val/loss`"), browser.text)
    assert [float(loss) for loss in losses] == [5.0, 6.0, 7.0]
    assert [float(loss) for loss in cells(browser, "metrics.`best/train/loss`")] == [2.0] * 3
    assert [float(gap) for gap in cells(browser, "metrics.`gap`")] == [3.0, 4.0, 5.0]
    named = ["dropout p=0.3 · mlp 8", "none · mlp 8", "dropout p=0.5 · mlp 8"]
    assert cells(browser, "tags.`configuration`") == named
    assert cells(browser, "params.`seed`") == ["4"] * 3
    runs = reading.read_runs(sweep).set_index("tags.configuration")
    assert cells(browser, "tags.`verdict`") == runs.loc[named, "tags.verdict"].tolist()
    assert "Prompts" not in browser.text()  # the sidebar of GenAI mode


def test_the_curves_are_drawn_for_each_configuration(
    views: dict[str, str], browser: Browser
) -> None:
    browser.open(views["curves"])
    browser.sees("curves · latest sweep", "3 matching runs", "Group by: configuration")
    browser.sees("dropout p=0.3 · mlp 8 (val/loss)", "none · mlp 8 (train/loss)")
    wait_for(lambda: browser.count(LINES) >= 6, lambda: f"{browser.count(LINES)} lines")
    assert browser.count(".js-plotly-plot") == 2


def test_the_plane_has_a_point_for_each_run(views: dict[str, str], browser: Browser) -> None:
    browser.open(views["plane"])
    browser.sees("plane · latest sweep", "3 matching runs", "Group by: verdict")
    browser.sees("gap vs. best/val/loss")
    wait_for(lambda: browser.count(POINTS) == 3, lambda: f"{browser.count(POINTS)} points")
    assert browser.count(".js-plotly-plot") == 1


def test_the_views_are_in_the_menu(views: dict[str, str], browser: Browser) -> None:
    browser.open(views["comparison"])
    browser.sees("comparison · latest sweep", "3 matching runs")
    browser.execute_script("""[...document.querySelectorAll('button')]
        .find(b => b.innerText.includes('latest sweep'))
        .dispatchEvent(new PointerEvent('pointerdown', {bubbles: true, button: 0}))""")
    browser.sees("curves\n", "plane\n", "curves · latest sweep", "plane · latest sweep")


def test_points_appear_during_the_training(site: str, browser: Browser) -> None:
    furthest = """return Math.max(0, ...[...document.querySelectorAll('.js-plotly-plot')]
        .flatMap(plot => plot.data ?? []).flatMap(line => [...(line.x ?? [])]))"""
    words = "tracking.experiment=live seed=0,1 network.hidden=[32] training.epochs=100000"
    before = reading.latest_sweep()
    training = commands.start(
        ["-m", "bikefit.train", "-m", *words.split(), "hydra.launcher.processes=1"]
    )
    try:
        sweep = wait_for(lambda: new_sweep(before), lambda: "no sweep has begun")
        browser.open(prepared.view_links(sweep, site)["curves"])
        browser.sees("curves · latest sweep", "2 matching runs")
        wait_for(lambda: browser.execute_script(furthest) > 1, browser.text)
        assert reading.read_runs(sweep)["status"].tolist() == ["RUNNING", "RUNNING"]
        browser.open(prepared.view_links(sweep, site)["comparison"])
        browser.sees("comparison · latest sweep", "2 matching runs")
        assert training.poll() is None
    finally:
        training.kill()
        training.wait()


def new_sweep(before: str) -> str | None:
    sweep = reading.latest_sweep()
    return sweep if sweep != before and len(reading.read_runs(sweep)) == 2 else None
