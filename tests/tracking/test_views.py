"""Views in the tags of an experiment, and their addresses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pandas as pd
import pytest

from bikefit.tracking import connection, reading, views, writing
from bikefit.tracking.connection import TrackingError
from stores import add, result, settings

NAMES = ["comparison", "curves", "plane"]


def tags() -> dict[str, str]:
    return dict(connection.client().get_experiment(connection.experiment_id("full")).tags)


def state(key: str) -> dict[str, Any]:
    """Return a view as MLflow reads it: its name and the state of the page."""
    envelope = json.loads(tags()[f"{views.TAG}bikefit-{key}"])
    return {"name": envelope["name"], **json.loads(envelope["state"])}


def sweep_of(*seeds: int) -> tuple[str, list[str]]:
    sweep = writing.start_sweep("full", "a sweep", [])
    return sweep, [add(sweep, settings(seed=seed), result(2.0, 6.0)) for seed in seeds]


def test_an_experiment_has_its_views_from_its_first_run(workplace: Path) -> None:
    writing.start_job(settings(), None, "v1")
    assert [state(name)["name"] for name in NAMES] == NAMES
    assert state("curves")["searchFilter"] == "tags.`bikefit.kind` = 'job'"
    assert not [key for key in tags() if key.endswith("-latest")]
    assert [line["lineSmoothness"] for line in state("curves")["compareRunCharts"]] == [0, 0]
    assert all(state(name)["autoRefreshEnabled"] for name in NAMES)
    assert all(len(value) < 5000 for value in tags().values())  # MLflow's limit


def test_views_show_the_latest_sweep_and_those_of_users_do_not_change(workplace: Path) -> None:
    writing.start_job(settings(), None, "v1")
    experiment, key = connection.experiment_id("full"), f"{views.TAG}mine"
    connection.client().set_experiment_tag(experiment, key, "unchanged")
    for seed in (0, 1):
        sweep, _ = sweep_of(seed)
        for name in NAMES:
            view = state(f"{name}-latest")
            assert view["name"] == f"{name} · latest sweep"
            assert view["searchFilter"] == f"tags.`bikefit.member_of.{sweep}` = 'true'"
    assert tags()[key] == "unchanged"


@pytest.mark.parametrize("seeds", [(), (2,)], ids=["only reused", "reused and trained"])
def test_reused_runs_are_in_the_views_of_the_sweep(workplace: Path, seeds: tuple[int]) -> None:
    _, earlier = sweep_of(0, 1)
    sweep, trained = sweep_of(*seeds)
    writing.add_reused_runs(sweep, earlier[:1])
    writing.add_reused_runs(sweep, earlier)  # of a later batch of the same command
    assert reading.read_runs(sweep)["run_id"].tolist() == [*earlier, *trained]
    condition = state("plane-latest")["searchFilter"]
    shown = connection.client().search_runs([connection.experiment_id("full")], condition)
    assert {run.info.run_id for run in shown} == {*earlier, *trained}


def test_a_store_that_refuses_views_causes_a_warning(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise TrackingError("tags are refused")

    monkeypatch.setattr(connection.client().target, "set_experiment_tag", refuse)
    writing.start_job(settings(), None, "v1")
    assert "tags are refused" in caplog.text


@pytest.mark.slow
def test_runs_have_the_colour_of_their_verdict(workplace: Path) -> None:
    _, runs = sweep_of(3, 4)
    for verdict in (None, "overfitting", "good fit"):
        table = pd.DataFrame({"run_id": runs, "verdict": verdict, "configuration": "none · mlp 8"})
        writing.tag_verdicts(table.assign(reason="a reason", next=None))
        stored = [connection.client().get_run(run).data.tags for run in runs]
        assert {tags["configuration"] for tags in stored} == {"none · mlp 8"}
        assert {tags["verdict.reason"] for tags in stored} == {"a reason"}
        colours = [tags.get("mlflow.runColor") for tags in stored]
        assert colours == [views.COLOURS[verdict] if verdict else None] * 2


def test_links_open_in_model_training_mode(workplace: Path) -> None:
    assert views.latest_links("http://here:5000") == {}
    writing.start_job(settings(), None, "v1")
    links = views.latest_links("http://here:5000/")
    assert list(links) == NAMES
    assert "bikefit-comparison&" in links["comparison"]
    sweep, _ = sweep_of()
    parts = urlsplit(views.latest_links("http://here:5000/")["plane"])
    assert (parts.scheme, parts.netloc) == ("http", "here:5000")
    path, _, query = parts.fragment.partition("?")
    assert path == f"/experiments/{connection.experiment_id('full')}/runs"
    assert parse_qs(query) == {
        "viewStateShareKey": ["bikefit-plane-latest"],
        "compareRunsMode": ["CHART"],
        "workflowType": ["machine_learning"],
    }
    assert views.view_links(sweep)["plane"] == f"#{parts.fragment}"  # relative to MLflow's pages


def test_curves_and_plane_show_the_tagged_runs_of_the_latest_sweep(workplace: Path) -> None:
    earlier, others = sweep_of(5)
    sweep, runs = sweep_of(6, 7)
    writing.tag_shown_runs(sweep, {runs[0]: "curves plane", runs[1]: "plane"})
    writing.tag_shown_runs(earlier, {others[0]: "plane"})  # does not change the latest views
    experiment = connection.experiment_id("full")
    expected = {"comparison": set(runs), "curves": {runs[0]}, "plane": set(runs)}
    for name, ids in expected.items():
        condition = state(f"{name}-latest")["searchFilter"]
        found = connection.client().search_runs([experiment], condition)
        assert {run.info.run_id for run in found} == ids
    writing.tag_shown_runs(sweep, {runs[0]: ""})
    condition = state("curves-latest")["searchFilter"]
    assert len(connection.client().search_runs([experiment], condition)) == 0
