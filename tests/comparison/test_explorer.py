"""The explorer in a browser: the slider shows the week, the dot and the verdict of its run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bikefit
from bikefit.comparison.compare import main
from bikefit.comparison.explorer import NO_PATH, explorer_page
from bikefit.comparison.result import Comparison
from bikefit.trained import load
from browsers import DRIVER, MISSING, Browser, browser, wait_for

SHOWN = """
const marks = window.views[arguments[0]].data(`layer_${arguments[1]}_marks`);
return marks.map(mark => mark.datum);
"""


@pytest.fixture
def compared(workplace: Path, quick: list[str]) -> Comparison:
    """Three strengths of l2 on two seeds, and their explorer in reports/."""
    found = bikefit.sweep([*quick, "regularization.l2=0,1e-2,3", "seed=0,1"])
    assert main(["--explorer"]) == 0
    return found


@pytest.fixture
def page(compared: Comparison, tmp_path: Path) -> Iterator[Browser]:
    """The explorer in a browser, without a network."""
    with browser(tmp_path) as opened:
        opened.execute_cdp_cmd("Network.enable", {})
        opened.execute_cdp_cmd("Network.setBlockedURLs", {"urls": ["http://*", "https://*"]})
        opened.open(f"file://{tmp_path}/reports/explorer.html")
        wait_for(lambda: opened.execute_script("return !!window.views"), opened.text)
        yield opened


def shown(page: Browser, chart: str, layer: int) -> list[dict[str, Any]]:
    """The rows that a layer of a chart draws."""
    rows: list[dict[str, Any]] = page.execute_script(SHOWN, chart, layer)
    return rows


@pytest.mark.skipif(DRIVER is None, reason=MISSING)
@pytest.mark.process
@pytest.mark.slow(seconds=30)
def test_the_slider_moves_the_week_the_dot_and_the_verdict(
    compared: Comparison, page: Browser
) -> None:
    runs = compared.ranked_runs.sort_values("val_loss")
    monday = pd.Timestamp(page.find_element("css selector", "#week option").text)
    slider = page.find_element("id", "position")
    assert "the mean alone" in page.text()
    hours = load(runs["run_id"].iloc[0]).rows
    mean = hours.loc[hours["part"] == "train", "rentals"].mean()
    assert np.allclose([hour["predicted"] for hour in shown(page, "week", 2)], mean, rtol=1e-3)
    seen = []
    for strength in (3, 0.01, 0):
        slider.send_keys("\ue014")  # the right arrow key
        chosen = runs[runs["regularization.l2"] == strength]
        row = compared.ranking.set_index("configuration_id").loc[chosen["configuration_id"].iloc[0]]
        text = page.text()
        assert f"L2 penalty λ = {strength:g}" in text
        assert f"{row['verdict']}\n" in text
        assert f"{row['configuration']}: {row['reason']}" in text
        losses = {dot["part"]: float(dot["loss"]) for dot in shown(page, "losses", 2)}
        expected = {"train": row["train_loss"], "validation": row["val_loss"]}
        assert losses == pytest.approx(expected, rel=1e-3)
        network = load(chosen["run_id"].iloc[0])
        line = shown(page, "week", 2)
        week = hours[(hours["timestamp"] - monday).dt.days.between(0, 6)]
        predicted = network.predict(week)
        assert np.allclose([float(hour["predicted"]) for hour in line], predicted, rtol=1e-3)
        errors = [hour["error"] for hour in shown(page, "errors", 0)]
        assert np.allclose(errors, predicted - week["rentals"], atol=0.6)
        rmse = ((predicted - week["rentals"]) ** 2).groupby(week["part"]).mean() ** 0.5
        assert f"{rmse['train']:.3g} bikes/hour on training days" in text
        assert f"{rmse['validation']:.3g} on validation days" in text
        seen.append([float(hour["predicted"]) for hour in line])
    assert seen[0] != seen[1] != seen[2]
    assert not page.get_log("browser")
    assert Path("reports/explorer.html").stat().st_size < 3e6
    assert page.execute_script("return performance.getEntriesByType('resource').length") == 0
    guess(page, row)
    metrics = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    assert page.execute_script("return document.documentElement.scrollWidth") == 360


def guess(page: Browser, row: pd.Series) -> None:
    """The switch hides validation loss and verdict until the student has guessed."""
    page.find_element("id", "guess").click()
    assert "Does it underfit, fit well or overfit?" in page.text()
    assert "on validation days ?" in page.text()
    assert row["reason"] not in page.text()
    assert {dot["part"] for dot in shown(page, "losses", 2)} == {"train"}
    page.find_element("css selector", f"#guesses [value='{row['verdict']}']").click()
    assert "1 of 1 right" in page.text()
    assert row["reason"] in page.text()
    assert len(shown(page, "losses", 2)) == 2
    page.find_element("id", "another").click()
    assert "Does it underfit, fit well or overfit?" in page.text()


def test_a_sweep_without_a_path_has_a_page_that_says_so(refitted: Path) -> None:
    assert NO_PATH in explorer_page(bikefit.compare())
