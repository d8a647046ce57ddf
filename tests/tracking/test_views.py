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


def tags(experiment: str) -> dict[str, str]:
    return dict(connection.client().get_experiment(experiment).tags)


def state(experiment: str, key: str) -> dict[str, Any]:
    """Return a view as MLflow reads it: its name and the state of the page."""
    envelope = json.loads(tags(experiment)[f"{views.TAG}bikefit-{key}"])
    assert isinstance(envelope["createdAt"], int)
    return {"name": envelope["name"], **json.loads(envelope["state"])}


def sweep_of(*seeds: int) -> tuple[str, str, list[str]]:
    sweep = writing.start_sweep("full", "a sweep", [])
    runs = [add(sweep, settings(seed=seed), result(2.0, 6.0)) for seed in seeds]
    return sweep, connection.experiment_id("full"), runs


def test_an_experiment_has_its_views_from_its_first_run(workplace: Path) -> None:
    writing.start_job(settings(), None, "v1")
    experiment = connection.experiment_id("full")
    assert [state(experiment, name)["name"] for name in NAMES] == NAMES
    assert state(experiment, "curves")["searchFilter"] == "tags.`bikefit.kind` = 'job'"
    assert not [key for key in tags(experiment) if key.endswith("-latest")]
    lines = state(experiment, "curves")["compareRunCharts"]
    assert [line["lineSmoothness"] for line in lines] == [0, 0]
    assert all(state(experiment, name)["autoRefreshEnabled"] for name in NAMES)


def test_views_show_the_latest_sweep_while_it_is_running(workplace: Path) -> None:
    for seed in (0, 1):
        sweep, experiment, _ = sweep_of(seed)
        for name in NAMES:
            seen = state(experiment, f"{name}-latest")
            assert seen["name"] == f"{name} · latest sweep"
            assert seen["searchFilter"] == f"tags.`bikefit.member_of.{sweep}` = 'true'"


@pytest.mark.parametrize("seeds", [(), (2,)], ids=["reused alone", "reused and trained"])
def test_reused_runs_are_in_the_views_of_the_sweep(workplace: Path, seeds: tuple[int]) -> None:
    _, _, earlier = sweep_of(0, 1)
    sweep, experiment, trained = sweep_of(*seeds)
    writing.add_reused_runs(sweep, earlier[:1])
    writing.add_reused_runs(sweep, earlier)  # of a later batch of the same command
    writing.finish_sweep(sweep, "note", {}, "FINISHED")
    assert reading.read_runs(sweep)["run_id"].tolist() == [*earlier, *trained]
    for name in ("comparison", "plane"):
        condition = state(experiment, f"{name}-latest")["searchFilter"]
        shown = connection.client().search_runs([experiment], condition)
        assert {run.info.run_id for run in shown} == {*earlier, *trained}


def test_views_of_users_do_not_change(workplace: Path) -> None:
    writing.start_job(settings(), None, "v1")
    experiment, key = connection.experiment_id("full"), f"{views.TAG}mine"
    connection.client().set_experiment_tag(experiment, key, "unchanged")
    sweep, _, _ = sweep_of(0)
    writing.finish_sweep(sweep, "note", {}, "FINISHED")
    assert tags(experiment)[key] == "unchanged"


def test_a_view_fits_into_a_tag() -> None:
    assert all(
        len(value) < 5000 for value in views._tags("-latest", " · latest sweep", "x" * 80).values()
    )  # what MLflow takes


def test_a_store_that_refuses_views_causes_a_warning(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise TrackingError("tags are refused")

    monkeypatch.setattr(connection.client().target, "set_experiment_tag", refuse)
    writing.start_job(settings(), None, "v1")
    assert "tags are refused" in caplog.text


def colours(*runs: str, verdict: str | None) -> list[str | None]:
    """Write a verdict to runs and return their colours."""
    table = pd.DataFrame({"run_id": list(runs), "verdict": verdict})
    table = table.assign(configuration="none · mlp 8", reason="a reason", next=None)
    writing.tag_verdicts(table)
    found = [connection.client().get_run(run).data.tags for run in runs]
    assert {tags["configuration"] for tags in found} == {"none · mlp 8"}
    assert {tags["verdict.reason"] for tags in found} == {"a reason"}
    return [tags.get("mlflow.runColor") for tags in found]


@pytest.mark.slow
def test_runs_have_the_colour_of_their_verdict(workplace: Path) -> None:
    _, _, (first, second) = sweep_of(3, 4)
    assert colours(first, second, verdict=None) == [None, None]
    assert colours(first, second, verdict="overfitting") == [views.COLOURS["overfitting"]] * 2
    assert colours(second, verdict="good fit") == [views.COLOURS["good fit"]]


def test_links_open_in_model_training_mode() -> None:
    links = views.links(7, pages="http://here:5000/")
    assert list(links) == NAMES
    parts = urlsplit(links["plane"])
    assert (parts.scheme, parts.netloc) == ("http", "here:5000")
    path, _, query = parts.fragment.partition("?")
    assert path == "/experiments/7/runs"
    assert parse_qs(query) == {
        "viewStateShareKey": ["bikefit-plane-latest"],
        "compareRunsMode": ["CHART"],
        "workflowType": ["machine_learning"],
    }
    assert "bikefit-comparison&" in views.links(7, latest=False)["comparison"]
    # relative to MLflow's pages
    assert views.links(7)["plane"].startswith("#/experiments/7/runs?")
