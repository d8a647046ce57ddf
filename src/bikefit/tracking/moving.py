"""A sweep copied with its runs and files from the store in use to another."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException

from bikefit.data.checks import masked
from bikefit.data.files import write_json
from bikefit.tracking import connection, reading
from bikefit.tracking.connection import TrackingError
from bikefit.tracking.names import PARENT, REUSED, SWEEP

MOVED = "moved.from"  # tag: id of the run in the store that it comes from


@dataclass
class _Move:
    """From the store in use to another.

    Args:
        there: the other store.
        ids: of the runs there, by those here.
    """

    there: MlflowClient
    ids: dict[str, str] = field(default_factory=dict)

    def run(self, run: Any) -> None:
        """Copy a run with its history and artifacts; its parent has been copied before."""
        experiment = self._experiment(run.info.experiment_id)
        parent = self.ids.get(run.data.tags.get(PARENT, ""))
        found = self.there.search_runs([experiment], f"tags.`{MOVED}` = '{run.info.run_id}'")
        for other in found:
            if other.info.status == run.info.status:
                self.ids[run.info.run_id] = other.info.run_id
                if parent and PARENT not in other.data.tags:  # it came first, referred to
                    self.there.set_tag(other.info.run_id, PARENT, parent)
                return
            self.there.delete_run(other.info.run_id)  # broken off in the middle
        tags = {k: v for k, v in run.data.tags.items() if k not in (PARENT, SWEEP)}
        tags[MOVED] = run.info.run_id
        created = self.there.create_run(
            experiment, run.info.start_time, tags | ({PARENT: parent} if parent else {}),
            run.info.run_name,
        ).info.run_id  # fmt: skip
        self._values(run, created)
        self._files(run.info.run_id, created)
        self.there.set_terminated(created, run.info.status, run.info.end_time)
        self.ids[run.info.run_id] = created

    def mark(self, sweep: str) -> None:
        """Let the copy of a sweep have those of its runs in its views."""
        for run in reading.children(sweep):
            self.there.set_tag(self.ids[run.info.run_id], SWEEP, self.ids[sweep])

    def _experiment(self, here: str) -> str:
        name = connection.client().get_experiment(here).name
        found = self.there.get_experiment_by_name(name)
        return str(found.experiment_id if found else self.there.create_experiment(name))

    def _values(self, run: Any, created: str) -> None:
        params = [Param(key, value) for key, value in run.data.params.items()]
        metrics = [
            Metric(m.key, m.value, m.timestamp, m.step)
            for key in run.data.metrics
            for m in connection.client().get_metric_history(run.info.run_id, key)
        ]
        self.there.log_batch(created, metrics=metrics, params=params)
        if run.inputs.dataset_inputs:
            self.there.log_inputs(created, datasets=run.inputs.dataset_inputs)

    def _files(self, here: str, created: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            reading.download(here, Path(folder))
            referring = Path(folder) / REUSED
            if referring.exists():  # the runs that it counts as its own have been copied before
                ids = json.loads(referring.read_text())
                write_json(referring, sorted(self.ids[run] for run in ids))
            if any(Path(folder).iterdir()):
                self.there.log_artifacts(created, folder)


def move(sweep: str, to: str) -> int:
    """Copy a sweep with its runs and their folds to another store; return how many runs.

    Raises:
        TrackingError: it is not a sweep, it is still running, or the other store is this one or
            does not answer.
    """
    reading.sweep_name(sweep)
    parent = connection.client().get_run(sweep)
    if parent.info.status == "RUNNING":
        raise TrackingError(f"sweep {sweep} is still running: move it once it has ended")
    if connection.in_use(to):
        raise TrackingError(f"--to {masked(to)} is the store that the sweep is in already")
    try:
        moving = _Move(MlflowClient(to))
        for run in _ordered(parent):
            moving.run(run)
        moving.mark(sweep)
    except MlflowException as error:
        said = masked(f"{to}: {error}".splitlines()[0])
        raise TrackingError(f"{said}; the same command goes on from here") from error
    return len(moving.ids)


def _ordered(run: Any) -> Iterator[Any]:
    """A run and all below it, each after what its copy refers to.

    A run that is referred to belongs to another sweep, so it may come first; one of its own needs
    the parent's new id.
    """
    children = list(reading.children(run.info.run_id))
    own = [child for child in children if child.data.tags.get(PARENT) == run.info.run_id]
    for child in children:
        if child not in own:
            yield from _ordered(child)
    yield run
    for child in own:
        yield from _ordered(child)
