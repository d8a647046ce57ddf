"""The report over a real store: what it says, that it stands alone, and that it is safe."""

from __future__ import annotations

import base64
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bikefit.comparison import report
from bikefit.comparison.compare import main
from bikefit.comparison.result import compare
from bikefit.tracking import connection, reading, writing
from stores import add, result, settings, visiting

HOSTILE = "<script>alert('bikes')</script>"
ADDRESS = "http://127.0.0.1:5001/"


class Page(HTMLParser):
    """What a report holds: tags, links, pictures with their texts, and what can be read."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.sources: list[str] = []
        self.alts: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "srcset", "data", "action"):
                (self.links if tag == "a" else self.sources).append(value or "")
            if name == "alt":
                self.alts.append(value or "")

    def handle_data(self, data: str) -> None:
        self.text += data


def render(sweep: str) -> str:
    """The report of a sweep in the store."""
    return report.render_report(compare(sweep), ADDRESS)


def member(dropout: float, seed: int, **more: Any) -> tuple[Any, Any]:
    """Settings and outcome of a run that keeps weights and predictions of two weeks."""
    one = settings(dropout, seed, tracking={"experiment": "full"}, **more)
    time = pd.Series(pd.date_range("2011-01-03", periods=336, freq="h"))
    val = 5.0 + 20 * (dropout - 0.3) ** 2 + seed / 100
    draw = np.random.default_rng(seed)
    state = {
        "hidden1.linear.weight": draw.normal(0, 1 - dropout, (8, 5)).astype("float32"),
        "output.linear.weight": draw.normal(0, 1, (1, 8)).astype("float32"),
        "hidden1.linear.bias": np.zeros(8, "float32"),
    }
    true = np.full(336, 100.0)
    return one, result(2 + 8 * dropout, val, state=state, predictions=(time, true, true + val))


@pytest.fixture(scope="module")
def written(project: Path, empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a sweep and what the command writes of it: drawing takes seconds."""
    folder = tmp_path_factory.mktemp("report")
    (folder / "data").symlink_to(project / "data")
    shutil.copy(empty_store, folder / "mlflow.db")
    with visiting(folder):
        make_sweep()
        assert main(["--reports", "reports", "--mlflow", ADDRESS]) == 0
    return folder


@pytest.fixture
def sweep(written: Path) -> Iterator[str]:
    """The sweep in its folder."""
    with visiting(written):
        yield reading.latest_sweep()


@pytest.fixture
def page(written: Path) -> Page:
    """Its report."""
    return Page((written / "reports/report.html").read_text())


def make_sweep() -> str:
    """Five dropouts on two seeds, one run that failed, and one with a hostile name."""
    sweep = writing.start_sweep("full", f"a sweep {HOSTILE}", [])
    for seed in (0, 1):
        for dropout in (0.0, 0.1, 0.3, 0.5, 0.9):
            add(sweep, *member(dropout, seed))
    failed = add(sweep, settings(hidden=4), result(np.nan, np.nan, failure=HOSTILE))
    connection.client().update_run(failed, name=HOSTILE)
    return sweep


@pytest.mark.slow
def test_it_stands_alone_and_is_light(sweep: str) -> None:
    html = Path("reports/report.html").read_text()
    page = Page(html)
    assert len(html) < 5e6
    assert page.sources
    assert all(source.startswith("data:image/svg+xml;base64,") for source in page.sources)
    assert "script" not in page.tags
    assert "link" not in page.tags
    assert not re.search(r"url\(|@import", html)
    assert all(link.startswith(("#s", "#runs", f"{ADDRESS}#/")) for link in page.links)
    assert reading.read_artifact(sweep, "report.html") == html.encode()
    assert not list(Path("reports").glob(".*tmp"))
    assert render(sweep) == html  # the same for the same runs
    # names of runs are escaped
    assert HOSTILE not in html and HOSTILE in page.text
    for source in page.sources:
        assert b"<script" not in base64.b64decode(source.split(",", maxsplit=1)[1])


@pytest.mark.slow
def test_the_first_screen_names_the_winner_and_every_run_has_its_link(
    sweep: str, page: Page
) -> None:
    assert "dropout p=0.3 · mlp 8 wins" in page.text
    assert "5.005 ± 0.007" in page.text
    assert "All others are significantly worse" in page.text
    assert "1 of 11 runs failed" in page.text
    experiment = connection.experiment_id("full")
    for run in reading.read_runs(sweep)["run_id"]:
        assert run in page.text
        assert f"{ADDRESS}#/experiments/{experiment}/runs/{run}" in page.links


@pytest.mark.slow
def test_all_curves_are_there_with_words(page: Page) -> None:
    alts = "\n".join(page.alts)
    for words in (
        "Good fits lie low and near the diagonal",
        "dropout p: validation loss is lowest at 0.3",
        "Learning curves of 5 runs",
        "Winner: RMSE 5.0",
        "Underfitting: RMSE 12.2",
        "Errors by hour",
        "Errors by weekday",
    ):
        assert words in alts
    assert all(page.alts)
    assert "use data.fraction=0.1,0.2,0.4,0.7,1 seed=0,1,2" in page.text


@pytest.mark.slow
def test_verdicts_are_shown_with_their_reasons(sweep: str, page: Page) -> None:
    text = page.text
    runs = reading.read_runs(sweep)  # with the verdicts that were given
    for verdict, count in runs["tags.verdict"].value_counts().items():
        assert f"{verdict} {count}" in text
    for reason in runs["tags.verdict.reason"]:
        assert reason in text


@pytest.mark.slow
def test_missing_artifacts_are_said(workplace: Path) -> None:
    sweep = writing.start_sweep("full", "bare", [])
    add(sweep, settings(), result(2.0, 6.0))
    page = Page(render(sweep))
    assert "have no saved predictions" in page.text
    assert "No setting has three values" in page.text
    assert len(page.alts) == 2  # where it stands, and its learning curve


@pytest.mark.slow
def test_folds_stand_for_a_cross_validated_run(workplace: Path) -> None:
    sweep = writing.start_sweep("full", "folds", [])
    one, outcome = member(0.3, 0, validation={"name": "kfold", "folds": 2})
    job = writing.start_job(one, sweep, "v1")
    for fold in range(2):
        writing.finish_member(writing.start_job(one, job, "v1", fold=fold), outcome, one)
    writing.finish_folds(job, [writing.summarize(outcome)] * 2)
    predictions = reading.read_predictions(job)
    assert predictions is not None
    assert len(predictions) == 2 * 336
    page = Page(render(sweep))
    assert "over 2 folds" in page.text
    assert any("Learning curves of 1 runs" in alt for alt in page.alts)
