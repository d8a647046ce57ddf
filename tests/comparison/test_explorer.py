"""The explorer in a browser: the slider shows the week, the dot and the verdict of its run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.datasets import load_diabetes

import bikefit
from bikefit.comparison.compare import main
from bikefit.comparison.explorer import NO_PATH, explorer_page
from bikefit.comparison.report import render_report
from bikefit.comparison.result import Comparison
from bikefit.data.featurize import main as featurize
from bikefit.errors import DataError
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


@pytest.mark.slow(seconds=20)
def test_a_table_without_time_has_target_and_columns_in_place_of_a_week(
    workplace: Path, quick: list[str]
) -> None:
    Path("data").unlink()  # the link to shared data
    folder = Path("data/own")
    folder.mkdir(parents=True)
    diabetes = load_diabetes(as_frame=True, scaled=False).frame
    diabetes["sex"] = diabetes["sex"].map({1.0: "a", 2.0: "b"})
    diabetes.to_csv(folder / "diabetes.csv", index=False)
    table = {"source": str(folder / "diabetes.csv"), "target": "target", "unit": "points"}
    table["split"] = {"kind": "random", "seed": 0, "validation": 0.3, "test": 0.2}
    table |= {"one_hot": ["sex"], "standardized": ["age", "bmi", "bp"]}
    params = yaml.safe_load((Path(bikefit.__file__).parents[2] / "params.yaml").read_text())
    params["featurize"]["tables"] = {"diabetes": table}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    featurize()
    sweep = bikefit.sweep(
        [*quick, "data=diabetes", "loss=mse", "regularization.l2=0,0.1,10", "seed=0"]
    )
    with pytest.raises(DataError, match="no time, so there is no week"):
        sweep.week()
    with pytest.raises(DataError, match="column s1: must be one of sex, age, bmi, bp"):
        sweep.response("s1")
    response = sweep.response("sex")
    assert sorted(response["sex"].unique()) == ["a", "b"]
    assert response["bmi"].nunique() == 1
    assert sorted(sweep.response_columns) == ["age", "bmi", "bp", "sex"]
    page = explorer_page(sweep)
    for words in ("Predicted and true target", "training rows</b> to predict target"):
        assert words in page
    assert page.count("What it has learned about") == 4
    assert "format(datum.loss, '.3~r')" in page.replace("\\u0027", "'")  # 0.649, not 649m
    assert "A week of" not in page
    assert "bikes" not in page.split("<script")[0]
    report = render_report(sweep)
    assert "Predicted target by bmi" in report
    assert "points" in report
    assert "Errors by hour" not in report
