"""What is read back from MLflow: runs as tables, metrics by epoch, files."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors.numpy import load

from bikefit.tracking.connection import (
    GONE,
    TrackingError,
    address,
    artifacts_of,
    client,
    search,
)
from bikefit.tracking.names import FINGERPRINT, KIND, member_of


@dataclass(frozen=True)
class Finished:
    """A run that is in the store with all its results.

    Args:
        run: its id.
        metrics: the last value of each, those of the selected epoch under ``best/``.
    """

    run: str
    metrics: dict[str, float]

    @property
    def best(self) -> dict[str, float]:
        """What :func:`best_metrics` gave: all but what was measured at every epoch."""
        return {k: v for k, v in self.metrics.items() if f"best/{k}" not in self.metrics}


def find_finished(family: str) -> dict[str, Finished]:
    """Find the finished runs of one family of fingerprints, the newest of each fingerprint."""
    runs = search(
        f"tags.`{FINGERPRINT}` LIKE '{family}%' AND attributes.status = 'FINISHED'",
        order="attributes.start_time ASC",
    )
    return {
        run.data.tags[FINGERPRINT]: Finished(run.info.run_id, dict(run.data.metrics))
        for run in runs
    }


def latest_sweep() -> str:
    """Return the id of the sweep that started last.

    Raises:
        TrackingError: the store has no sweep.
    """
    experiments = [e.experiment_id for e in client().search_experiments()]
    found = client().search_runs(
        experiments, f"tags.`{KIND}` = 'sweep'", max_results=1, order_by=["start_time DESC"]
    )
    if not found:
        raise TrackingError(f"no sweep in {address()}: run `python -m bikefit.train -m …` first")
    return str(found[0].info.run_id)


def sweep_name(sweep: str) -> str:
    """Return the name of a sweep's parent run.

    Raises:
        TrackingError: there is no such run, or it is not a sweep.
    """
    try:
        run = client().get_run(sweep)
    except TrackingError as error:
        if error.code not in GONE:
            raise
        raise TrackingError(f"no run {sweep} in {address()}") from error
    if run.data.tags.get(KIND) != "sweep":
        raise TrackingError(f"run {sweep} is not a sweep but {run.data.tags.get(KIND, 'foreign')}")
    return str(run.info.run_name)


def recorded_sweep(path: Path) -> str:
    """Return the sweep that a record file names.

    Raises:
        TrackingError: the file is not there or names none.
    """
    try:
        return str(json.loads(path.read_text())["sweep"])
    except FileNotFoundError:
        raise TrackingError(f"{path} not found: it is written by `dvc repro sweep`") from None
    except (ValueError, KeyError, TypeError):
        raise TrackingError(
            f'{path}: expected {{"sweep": run id}}, got {path.read_text()!r}'
        ) from None


def read_runs(parent: str) -> pd.DataFrame:
    """Read the child runs of a sweep or of a k-fold job, in the order in which they started.

    Returns:
        One row a run: ``run_id``, ``experiment_id``, ``name``, ``status``, a column for each
        parameter under its own name (numbers as numbers), one for each metric and each tag.
    """
    return pd.DataFrame([_row(run) for run in children(parent)])


def read_run(run: str) -> pd.DataFrame:
    """Read one run in the columns of :func:`read_runs`."""
    return pd.DataFrame([_row(client().get_run(run))])


def parse_parameters(parameters: Mapping[str, str]) -> dict[str, str | float | int | bool]:
    """Return parameters as :func:`read_runs` gives them: numbers as numbers."""
    return {key: _number(value) for key, value in parameters.items()}


def _row(run: Any) -> dict[str, Any]:
    return {
        "run_id": run.info.run_id,
        "experiment_id": run.info.experiment_id,
        "name": run.info.run_name,
        "status": run.info.status,
        **parse_parameters(run.data.params),
        **run.data.metrics,
        **{f"tags.{k}": v for k, v in run.data.tags.items() if not k.startswith("mlflow.")},
    }


def _number(text: str) -> str | float | int | bool:
    if text in ("True", "False"):
        return text == "True"
    for convert in (int, float):
        try:
            return convert(text)
        except ValueError:
            continue
    return text


def children(parent: str) -> Iterator[Any]:
    """Yield the runs of a sweep or of a cross-validated job, including runs that it reuses."""
    condition = f"tags.`{member_of(parent)}` = 'true'"
    return search(condition, order="attributes.start_time ASC")


def read_history(run: str, metric: str) -> list[float]:
    """Read a metric of a run epoch by epoch, the first of epoch 1."""
    return list(read_steps(run, metric).values())


def read_steps(run: str, metric: str) -> dict[int, float]:
    """Read a metric of a run by its steps (epochs from 1, folds from 0), in their order."""
    found = client().get_metric_history(run, metric)
    return {m.step: m.value for m in sorted(found, key=lambda m: m.step)}


def read_config(run: str) -> str:
    """Read the settings of a run, or of a cross-validated run's first fold, as YAML.

    Raises:
        TrackingError: the run has none.
    """
    found = _of_run_or_folds(run, "config.yaml")
    if not found:
        raise TrackingError(f"run {run} has no config.yaml")
    return found[0].decode("utf-8")


def read_predictions(run: str) -> pd.DataFrame | None:
    """Read true and predicted rentals of a run's validation rows; None where they were not kept.

    Returns:
        Columns :data:`~bikefit.tracking.names.PREDICTIONS`, rentals in bikes/hour. Of a
        cross-validated run, the held-out rows of all folds.
    """
    found = _of_run_or_folds(run, "predictions.parquet")
    tables = [pd.read_parquet(io.BytesIO(content)) for content in found]
    return pd.concat(tables, ignore_index=True) if tables else None


def read_weights(run: str) -> dict[str, np.ndarray] | None:
    """Read a run's parameters and buffers by name; None where they were not kept.

    A cross-validated run has one network a fold; the first is read.
    """
    found = _of_run_or_folds(run, "weights.safetensors")
    return dict(load(found[0])) if found else None


def _of_run_or_folds(run: str, name: str) -> list[bytes]:
    """A file of a run, or of a cross-validated run those of its folds."""
    own = read_artifact(run, name)
    if own is not None:
        return [own]
    folds = [read_artifact(child.info.run_id, name) for child in children(run)]
    return [content for content in folds if content is not None]


def read_artifact(run: str, name: str) -> bytes | None:
    """Read a file that is attached to a run; None where the run has no such file."""
    artifacts = artifacts_of(run)
    if name not in {file.path for file in artifacts.list_artifacts()}:
        return None
    with tempfile.TemporaryDirectory() as folder:
        return Path(artifacts.download_artifacts(name, folder)).read_bytes()
