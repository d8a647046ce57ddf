"""Views on MLflow's runs page: three for all runs and three for the latest sweep.

MLflow (3.15 and newer) stores a named view as a tag of the experiment: JSON with its name and the
state of the page. Other versions show their plain runs page at the same addresses.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from bikefit.tracking.connection import TrackingError, client, search, server, without_retries
from bikefit.tracking.names import CONFIGURATION, CURVES, KIND, PLANE, member_of, views_of

log = logging.getLogger(__name__)
LOCAL = "http://127.0.0.1:5000"  # address of `make ui`
TAG = "mlflow.sharedViewState."
# at the selected epoch
TRAIN, VALIDATION, GAP = "best/train/loss", "best/val/loss", "gap"
EPOCHS = ("train/loss", "val/loss")  # at every epoch
COLOURS = {
    "good fit": "#00745a",
    "underfitting": "#0072b2",
    "overfitting": "#b84f00",
    "undecided": "#5d666d",
}
"""Colours of verdicts in MLflow's charts and in the report."""
COLUMNS = {
    f"metrics.`{TRAIN}`": 95,
    f"metrics.`{VALIDATION}`": 95,
    f"metrics.`{GAP}`": 80,
    "tags.`verdict`": 95,
    f"tags.`{CONFIGURATION}`": 310,
    "params.`seed`": 50,
}
"""Columns of the comparison and their widths in pixels."""
COMMON = {
    # If runs are not sorted by a metric, MLflow shows the run of the sweep among its members.
    "orderByKey": f"metrics.`{VALIDATION}`",
    "orderByAsc": True,
    "runsHiddenMode": "SHOW_ALL",
    "autoRefreshEnabled": True,  # every 30 s
}


def _line(metric: str, deleted: bool = False) -> dict[str, Any]:
    return {
        "type": "LINE",
        "metricKey": metric,
        "selectedMetricKeys": [metric],
        "deleted": deleted,
        "lineSmoothness": 0,  # the default is smoothed
        "useGlobalLineSmoothing": False,
        "xAxisKey": "step",
        "scaleType": "log",
        "runsCountToCompare": 100,
    }


def _charts(
    name: str, columns: int, metrics: Sequence[str], charts: Sequence[dict[str, Any]], group: str
) -> dict[str, Any]:
    """Return the state of a page that shows only these charts, with runs grouped by a tag."""
    return {
        "compareRunSections": [
            {"uuid": name, "name": name, "display": True, "columns": columns, "cardHeight": 400}
        ],
        "compareRunCharts": [
            {"uuid": f"{name}-{number}", "metricSectionId": name, **chart}
            for number, chart in enumerate(charts)
        ],
        "chartsSearchFilter": f"^({'|'.join(metrics)})$",
        "isAccordionReordered": True,  # otherwise MLflow shows the last section twice
        "groupBy": {
            "aggregateFunction": "average",
            "groupByKeys": [{"mode": "tag", "groupByData": group}],
        },
        **COMMON,
    }


SCATTER = {
    "type": "SCATTER",
    "xaxis": {"key": GAP, "type": "METRIC"},  # flexibility grows to the right
    "yaxis": {"key": VALIDATION, "type": "METRIC"},
    "deleted": False,
    "runsCountToCompare": 1000,
}
# MLflow adds a line chart for each metric that has none, unless there is a deleted one.
NO_LINES = [_line(GAP, deleted=True), _line(VALIDATION, deleted=True)]
VIEWS = {
    "comparison": {
        "selectedColumns": list(COLUMNS),
        "columnOrder": list(COLUMNS),
        "columnWidths": COLUMNS,
        **COMMON,
    },
    CURVES: _charts(CURVES, 2, EPOCHS, [_line(m) for m in EPOCHS], CONFIGURATION),
    PLANE: {
        **_charts(PLANE, 1, (GAP, VALIDATION), [SCATTER, *NO_LINES], "verdict"),
        "useGroupedValuesInCharts": False,  # one point per run, not per verdict
    },
}
"""States of MLflow's runs page by the name of the view."""


def write_views(experiment: str, sweep: str | None = None, tagged: bool = False) -> None:
    """Write the views of an experiment and of its latest sweep; log a warning on an error.

    If ``tagged``, *curves* and *plane* of the sweep show only the runs with the tag for them.
    """
    tags = _tags("", "", dict.fromkeys(VIEWS, f"tags.`{KIND}` = 'job'"))
    if sweep is not None:
        conditions = dict.fromkeys(VIEWS, f"tags.`{member_of(sweep)}` = 'true'")
        if tagged:
            conditions |= {v: f"tags.`{views_of(sweep)}` LIKE '%{v}%'" for v in (CURVES, PLANE)}
        tags |= _tags("-latest", " · latest sweep", conditions)
    try:
        with without_retries():
            for key, value in tags.items():
                client().set_experiment_tag(experiment, key, value)
    except TrackingError as error:
        log.warning(f"the views in MLflow are not renewed: {error}")


def _tags(key_suffix: str, name_suffix: str, conditions: Mapping[str, str]) -> dict[str, str]:
    """Return the tags of all views, which show the runs that meet the condition of the view."""
    now = int(time.time() * 1000)
    tags = {}
    for name, state in VIEWS.items():
        text = json.dumps({"searchFilter": conditions[name], **state}, separators=(",", ":"))
        view = {"name": name + name_suffix, "createdAt": now, "updatedAt": now, "state": text}
        tags[f"{TAG}bikefit-{name}{key_suffix}"] = json.dumps(view, ensure_ascii=False)
    return tags


def pages_address() -> str:
    """Return the address of MLflow's pages: the tracking server, or `make ui` for a database."""
    return server() or LOCAL


def latest_links(pages: str) -> dict[str, str]:
    """Return the addresses of the views of the latest sweep, or of all runs if there is none.

    They are empty if there is no run.
    """
    for kind in ("sweep", "job"):
        for run in search(f"tags.`{KIND}` = '{kind}'"):
            return _links(run.info.experiment_id, "-latest" if kind == "sweep" else "", pages)
    return {}


def view_links(sweep: str, pages: str = "") -> dict[str, str]:
    """Return the addresses of a sweep's views by name, relative if ``pages`` is empty."""
    return _links(client().get_run(sweep).info.experiment_id, "-latest", pages)


def _links(experiment: str, key_suffix: str, pages: str) -> dict[str, str]:
    base = f"{pages.rstrip('/')}/" if pages else ""
    addresses = {}
    for name, state in VIEWS.items():
        query = {
            "viewStateShareKey": f"bikefit-{name}{key_suffix}",
            "compareRunsMode": "CHART" if "compareRunCharts" in state else "TABLE",
            "workflowType": "machine_learning",
        }
        addresses[name] = f"{base}#/experiments/{experiment}/runs?{urlencode(query)}"
    return addresses
