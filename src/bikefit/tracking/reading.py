"""Read runs from MLflow: tables of runs, metrics by epoch, files."""

from __future__ import annotations

import io
import json
import tempfile
from ast import literal_eval
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.entities import ViewType
from safetensors.numpy import load

from bikefit.tracking.connection import (
    NotFoundError,
    TrackingError,
    address,
    artifacts_of,
    client,
    is_missing,
    search,
)
from bikefit.tracking.names import FINGERPRINT, KIND, PROCESS, member_of


@dataclass(frozen=True)
class FinishedRun:
    """Id of a finished run, and the last value of each metric."""

    run: str
    metrics: dict[str, float]


def finished_runs(prefix: str) -> dict[str, FinishedRun]:
    """Return the latest finished run of each fingerprint that starts with ``prefix``.

    Runs whose files were deleted from ``mlruns/`` are left out.
    """
    runs = search(
        f"tags.`{FINGERPRINT}` LIKE '{prefix}%' AND attributes.status = 'FINISHED'",
        order="attributes.start_time ASC",
    )
    return {
        run.data.tags[FINGERPRINT]: FinishedRun(run.info.run_id, dict(run.data.metrics))
        for run in runs
        if _has_files(run)
    }


def _has_files(run: Any) -> bool:
    """Return whether the files of a run exist; those on a server are not looked for."""
    of_folds = "fold" not in run.data.params and run.data.params["validation.name"] != "holdout"
    return of_folds or not is_missing(run.info.artifact_uri)


def summary_metrics(run: Any) -> dict[str, float]:
    """Return the metrics that :func:`~bikefit.tracking.writing.summarize` computed for a run."""
    metrics = run.data.metrics
    return {name: value for name, value in metrics.items() if f"best/{name}" not in metrics}


def latest_sweep(process: str | None = None) -> str:
    """Return the id of the sweep that started last; with ``process``, of those of a process."""
    started_by = f" AND tags.`{PROCESS}` = '{process}'" if process else ""
    for run in search(f"tags.`{KIND}` = 'sweep'{started_by}"):
        return str(run.info.run_id)
    raise TrackingError(f"no sweep in {address()}: run `python -m bikefit.train -m …` first")


def sweep_name(sweep: str) -> str:
    """Return the name of a sweep; raise a TrackingError if the run is no sweep."""
    try:
        run = client().get_run(sweep)
    except NotFoundError as error:
        raise TrackingError(
            f"no run {sweep} in {address()}: if the store was deleted or is another one, `dvc "
            "repro` trains the sweep of the pipeline again; without an id, it is the latest sweep"
        ) from error
    if run.info.lifecycle_stage == "deleted":
        raise TrackingError(
            f"run {sweep} was deleted in MLflow: `mlflow runs restore --run-id {sweep}` restores "
            "it; `dvc repro -s -f sweep` records the sweep of the pipeline again"
        )
    kind = run.data.tags.get(KIND, "of another program")
    if kind != "sweep":
        raise TrackingError(f"run {sweep} is not a sweep but {kind}")
    return str(run.info.run_name)


def remark_on_deleted(sweep: str) -> str:
    """Return a sentence about runs of a sweep that were deleted in MLflow; "" if there are none."""
    condition = f"tags.`{member_of(sweep)}` = 'true'"
    deleted = [run.info.run_id for run in search(condition, view=ViewType.DELETED_ONLY)]
    if not deleted:
        return ""
    return (
        f"{len(deleted)} runs of the sweep were deleted in MLflow and are left out: `mlflow runs "
        f"restore --run-id {deleted[0]}` restores one; the command of the sweep (`dvc repro -s -f "
        "sweep` for that of the pipeline) trains only them again."
    )


def recorded_sweep(path: Path) -> str:
    """Return the id of the sweep in a JSON file written by ``tracking.record``."""
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["sweep"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        raise TrackingError(f"no sweep in {path}: it is written by `dvc repro sweep`") from None


def read_runs(parent: str) -> pd.DataFrame:
    """Return the runs of a sweep or of a cross-validated job, in the order of their start.

    Returns:
        One row per run with the columns ``run_id``, ``experiment_id``, ``name`` and ``status``, a
        column per parameter (numbers as numbers), per metric, and per tag (``tags.<name>``).
    """
    return pd.DataFrame([_row(run) for run in children(parent)])


def read_run(run: str) -> pd.DataFrame:
    """Return one run in the columns of :func:`read_runs`."""
    return pd.DataFrame([_row(client().get_run(run))])


def read_experiment(name: str) -> pd.DataFrame:
    """Return the runs of an experiment of any program, in the order of their start.

    Returns:
        One row per run: ``run_id``, ``experiment_id``, ``name``, ``status``, and a column for each
        parameter (text, with the prefix ``params.``) and each metric (its last value, with the
        prefix ``metrics.``).

    Raises:
        TrackingError: There is no such experiment, or it has no runs.
    """
    experiments = {one.name: one.experiment_id for one in client().search_experiments()}
    if name not in experiments:
        names = ", ".join(sorted(experiments))
        raise TrackingError(f"no experiment {name!r} in {address()}; there are: {names}")
    rows = [
        {
            **_info(run),
            **{f"params.{key}": text for key, text in run.data.params.items()},
            **{f"metrics.{key}": value for key, value in run.data.metrics.items()},
        }
        for run in search("", "attributes.start_time ASC", [experiments[name]])
    ]
    if not rows:
        raise TrackingError(f"experiment {name!r} in {address()} has no runs")
    return pd.DataFrame(rows)


def _info(run: Any) -> dict[str, Any]:
    return {
        "run_id": run.info.run_id,
        "experiment_id": run.info.experiment_id,
        "name": run.info.run_name,
        "status": run.info.status,
    }


def _row(run: Any) -> dict[str, Any]:
    return {
        **_info(run),
        **parse_parameters(run.data.params),
        **run.data.metrics,
        **{f"tags.{k}": v for k, v in run.data.tags.items() if not k.startswith("mlflow.")},
    }


def parse_parameters(parameters: Mapping[str, str]) -> dict[str, str | float | int | bool]:
    """Return parameters with numbers and truth values converted from text."""
    return {key: _parse(text) for key, text in parameters.items()}


def _parse(text: str) -> str | float | int | bool:
    try:
        value = literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    return value if isinstance(value, int | float) else text


def children(parent: str) -> Iterator[Any]:
    """Yield MLflow's runs of a sweep or of a cross-validated job, including reused runs."""
    return search(f"tags.`{member_of(parent)}` = 'true'", order="attributes.start_time ASC")


def read_history(run: str, metric: str) -> list[float]:
    """Return the values of a metric in the order of its steps, which are epochs or folds."""
    history = client().get_metric_history(run, metric)
    return list({m.step: m.value for m in sorted(history, key=lambda m: m.step)}.values())


def read_config(run: str) -> str:
    """Return the settings of a run, or of the first fold of a cross-validated job, as YAML."""
    for content in _read_files(run, "config.yaml"):
        return content.decode("utf-8")
    raise TrackingError(
        f"run {run} has no config.yaml: its files were deleted; the command of its sweep (`dvc "
        "repro -s -f sweep` for that of the pipeline) trains it again"
    )


def read_predictions(run: str) -> pd.DataFrame | None:
    """Return target and predictions of the validation rows (of all folds), None if not logged.

    The columns are ``timestamp`` or ``row``, ``target``, ``predicted`` and, if the table is split
    by groups, ``unit``.
    """
    tables = [pd.read_parquet(io.BytesIO(f)) for f in _read_files(run, "predictions.parquet")]
    if not tables:
        return None
    # Before tables had a target, its name was that of the bike tables.
    return pd.concat(tables, ignore_index=True).rename(columns={"rentals": "target"})


def read_weights(run: str) -> dict[str, np.ndarray] | None:
    """Return parameters and buffers by name (of the first fold), None if not logged."""
    for content in _read_files(run, "weights.safetensors"):
        return dict(load(content))
    return None


def _read_files(run: str, name: str) -> Iterator[bytes]:
    """Yield a file of a run, or the files of the folds of a cross-validated job."""
    content = read_artifact(run, name)
    if content is not None:
        yield content
        return
    for child in children(run):
        content = read_artifact(child.info.run_id, name)
        if content is not None:
            yield content


def read_artifact(run: str, name: str) -> bytes | None:
    """Return the content of a file of a run; None if there is no such file."""
    artifacts = artifacts_of(run)
    if name not in {file.path for file in artifacts.list_artifacts()}:
        return None
    with tempfile.TemporaryDirectory() as folder:
        return Path(artifacts.download_artifacts(name, folder)).read_bytes()
