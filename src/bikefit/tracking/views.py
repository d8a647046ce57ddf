"""Prepared views on MLflow's runs page: what each shows, kept as tags of the experiment.

MLflow (3.15 and newer) keeps a named view as an experiment tag, a JSON envelope of its name and
the state of the page. Only keys of ours are written, so views that users made stay as they are. A
version of MLflow that knows neither tag nor address shows its plain runs page instead.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import urlencode

from bikefit.tracking.connection import TrackingError, client, search, server, without_retries
from bikefit.tracking.names import CONFIGURATION, KIND, member_of
from bikefit.tracking.reading import children

log = logging.getLogger(__name__)
LOCAL = "http://127.0.0.1:5000"  # of `make ui`
TAG = "mlflow.sharedViewState."
KEY = "bikefit-"  # begins the keys of our views
TRAIN, VALIDATION = "best/train/loss", "best/val/loss"  # at the selected epoch
EPOCHS = ("train/loss", "val/loss")  # at every epoch
COMMON = {
    # sorted by anything else than a metric, MLflow shows the sweeps' own runs among their members
    "orderByKey": f"metrics.`{VALIDATION}`", "orderByAsc": True,
    "runsHiddenMode": "SHOW_ALL",
    "autoRefreshEnabled": True,  # every 30 s, so that curves grow
}  # fmt: skip
# Columns and their widths in pixels. A run's name says method, network and seed; so the losses and
# the verdict come first, which then can be read on a narrow screen too. The configuration says what
# else tells it from the others of its sweep.
COLUMNS = {
    f"metrics.`{TRAIN}`": 95, f"metrics.`{VALIDATION}`": 95, "metrics.`gap`": 80,
    "tags.`verdict`": 95, f"tags.`{CONFIGURATION}`": 310, "params.`seed`": 50,
}  # fmt: skip
# of a verdict, for a run in MLflow's charts and in the report
COLOURS = {
    "good fit": "#00745a", "underfitting": "#0072b2", "overfitting": "#b84f00",
    "undecided": "#5d666d",
}  # fmt: skip


@dataclass(frozen=True)
class View:
    """A view: its name, what it says of the page's state, and whether it shows charts."""

    name: str
    state: dict[str, Any]
    charts: bool = True


def _charts(name: str, columns: int, *charts: dict[str, Any]) -> dict[str, Any]:
    """The state of a page that shows these charts and none that MLflow makes by itself."""
    # as high as fits on a screen with its legend
    section = {"uuid": name, "name": name, "display": True, "columns": columns, "cardHeight": 400}
    metrics = sorted({metric for chart in charts for metric in _metrics(chart)})
    # MLflow adds a chart for each metric that has none, and its filter knows charts by metric.
    hidden = [
        {**_line(metric), "deleted": True}
        for chart in charts
        if chart["type"] == "SCATTER"
        for metric in _metrics(chart)
    ]
    return {
        "compareRunSections": [section],
        "compareRunCharts": [
            {"uuid": f"{name}-{number}", "metricSectionId": name, **chart}
            for number, chart in enumerate([*charts, *hidden])
        ],
        "chartsSearchFilter": f"^({'|'.join(metrics)})$",
        "isAccordionReordered": True,  # else MLflow sorts sections and shows the last one twice
        **COMMON,
    }  # fmt: skip


def _metrics(chart: dict[str, Any]) -> list[str]:
    if chart["type"] == "SCATTER":
        return [chart["xaxis"]["key"], chart["yaxis"]["key"]]
    return [chart["metricKey"]]


def _line(metric: str) -> dict[str, Any]:
    # left out, the smoothness is not 0: lines would be drawn that nobody measured
    return {"type": "LINE", "metricKey": metric, "selectedMetricKeys": [metric], "deleted": False,
            "lineSmoothness": 0, "useGlobalLineSmoothing": False, "xAxisKey": "step",
            "scaleType": "log", "runsCountToCompare": 100}  # fmt: skip


def _scatter(x: str, y: str) -> dict[str, Any]:
    axes = {"xaxis": {"key": x, "type": "METRIC"}, "yaxis": {"key": y, "type": "METRIC"}}
    return {"type": "SCATTER", **axes, "deleted": False, "runsCountToCompare": 1000}


def _grouped(tag: str) -> dict[str, Any]:
    by = {"mode": "tag", "groupByData": tag}
    return {"groupBy": {"aggregateFunction": "average", "groupByKeys": [by]}}


VIEWS = (
    View(
        "comparison",
        {
            "selectedColumns": list(COLUMNS),
            "columnOrder": list(COLUMNS),
            "columnWidths": COLUMNS,
            **COMMON,
        },
        charts=False,
    ),
    View(
        "curves",
        {**_charts("curves", 2, *(_line(metric) for metric in EPOCHS)), **_grouped(CONFIGURATION)},
    ),
    View(
        "plane",
        {
            **_charts("plane", 1, _scatter(TRAIN, VALIDATION)),
            **_grouped("verdict"),
            "useGroupedValuesInCharts": False,  # a point a run, not a point a verdict
        },
    ),
)


def prepare(experiment: str, sweep: str | None = None) -> None:
    """Write the views of an experiment once, those of its latest sweep too if there is one.

    Args:
        experiment: its id.
        sweep: run id of a sweep that has just begun.
    """
    _prepare(experiment, sweep, client())


@cache
def _prepare(experiment: str, sweep: str | None, store: object) -> None:
    """Once for each store that the process opens."""
    renew(experiment, sweep)


def renew(experiment: str, sweep: str | None = None) -> None:
    """Write the views of an experiment; a store that does not take them only gets a warning."""
    try:
        with without_retries():
            for key, value in _tags(sweep):
                client().set_experiment_tag(experiment, key, value)
    except TrackingError as error:
        log.warning(f"the views in MLflow are not renewed: {error}")


def renew_all(sweep: str) -> None:
    """Renew the views wherever a sweep has runs, those of earlier sweeps that it counts too."""
    experiments = {str(client().get_run(sweep).info.experiment_id)}
    experiments |= {str(run.info.experiment_id) for run in children(sweep)}
    for experiment in experiments:
        renew(experiment, sweep)


def _tags(sweep: str | None) -> Iterator[tuple[str, str]]:
    """Keys and values of the experiment's tags."""
    jobs = f"tags.`{KIND}` = 'job'"
    for view in VIEWS:
        yield f"{TAG}{_key(view, False)}", _envelope(view.name, view.state, jobs)
    if sweep is None:
        return
    latest = f"tags.`{member_of(sweep)}` = 'true'"
    for view in VIEWS:
        name = f"{view.name} · latest sweep"
        yield f"{TAG}{_key(view, True)}", _envelope(name, view.state, latest)


def _envelope(name: str, state: dict[str, Any], condition: str) -> str:
    """A view as MLflow keeps it; it takes the page's state packed or, as here, in plain JSON."""
    now = int(time.time() * 1000)
    packed = json.dumps({"searchFilter": condition, **state}, separators=(",", ":"))
    return json.dumps(
        {"name": name, "createdAt": now, "updatedAt": now, "state": packed}, ensure_ascii=False
    )


def _key(view: View, latest: bool) -> str:
    return f"{KEY}{view.name}{'-latest' if latest else ''}"


def pages() -> str:
    """Where MLflow's pages are: the tracking server, or `make ui` over a database."""
    return server() or LOCAL


def view_lines(sweep: str) -> str:
    """Say where the views of a sweep are, a line each."""
    return "\n".join(f"{name}: {link}" for name, link in view_links(sweep, pages()).items())


def latest_links(pages: str) -> dict[str, str]:
    """Return :func:`links` of the latest sweep; without one, of all runs; without runs, none."""
    for kind in ("sweep", "job"):
        for run in search(f"tags.`{KIND}` = '{kind}'"):
            return links(run.info.experiment_id, latest=kind == "sweep", pages=pages)
    return {}


def view_links(sweep: str, pages: str = "") -> dict[str, str]:
    """Return :func:`links` of the experiment that holds a sweep, its run's id given."""
    return links(client().get_run(sweep).info.experiment_id, pages=pages)


def links(experiment: object, latest: bool = True, pages: str = "") -> dict[str, str]:
    """Return the address of each view by its name, in model-training mode.

    Args:
        experiment: its id.
        latest: of the latest sweep, not of all runs.
        pages: where MLflow's pages are served; without it, addresses are relative to them,
            wherever that is.
    """
    return {
        view.name: f"{pages.rstrip('/')}{'/' if pages else ''}#/experiments/{experiment}/runs?"
        + urlencode(
            {
                "viewStateShareKey": _key(view, latest),
                "compareRunsMode": "CHART" if view.charts else "TABLE",
                "workflowType": "machine_learning",
            }
        )
        for view in VIEWS
    }
