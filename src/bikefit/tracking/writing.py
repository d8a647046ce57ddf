"""Start, log and close runs in MLflow.

Functions that finish a run may be called again with the same result, for example after a lost
connection: MLflow stores a metric only once for the same name, value, step and time.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import yaml
from mlflow.entities import Metric, Param, RunTag
from mlflow.tracking.context.registry import resolve_tags
from safetensors.numpy import save_file

from bikefit import config
from bikefit.config import Settings
from bikefit.errors import hide_secrets
from bikefit.processes import has_ended, process_id
from bikefit.tracking import names
from bikefit.tracking.connection import artifacts_of, client, experiment_id, search
from bikefit.tracking.reading import children, latest_sweep
from bikefit.tracking.views import COLOURS, write_views

if TYPE_CHECKING:
    from bikefit.training.members import MemberResult

NAME_LENGTH, TAG_LENGTH = 250, 5000  # characters that the databases of MLflow accept


def start_sweep(experiment: str, name: str, overrides: Sequence[str]) -> str:
    """Start the parent run of a ``-m`` command and return its id."""
    tags = {names.KIND: "sweep", "overrides": hide_secrets(" ".join(overrides))}
    run = _create(experiment, name, tags)
    write_views(experiment_id(experiment), run)
    return run


def start_job(
    settings: Settings,
    parent: str | None,
    data_version: str,
    fingerprint: str = "",
    configuration: str = "",
    fold: int | None = None,
    target: Mapping[str, str] | None = None,
) -> str:
    """Start the run of a job or of one of its folds, and return its id.

    The parent is the run of the sweep, or of the fold's job; None for a single run. ``target`` is
    :attr:`~bikefit.data.table.Table.tags`.
    """
    tags = dict(target or {}) | {names.FINGERPRINT: fingerprint, names.CONFIGURATION: configuration}
    tags |= {names.KIND: "job" if fold is None else "fold"}
    if parent is None:
        write_views(experiment_id(settings.tracking.experiment))
    else:
        tags |= {names.PARENT: parent, names.member_of(parent): "true"}
    values = parameters(settings) | ({} if fold is None else {"fold": str(fold)})
    return _start(settings, config.run_name(settings, fold), data_version, tags, values)


def start_refit(
    settings: Settings,
    sweep: str,
    data_version: str,
    configuration: str,
    target: Mapping[str, str],
) -> str:
    """Start the run of a refit, which is no child of the sweep, and return its id.

    It has no fingerprint, because it is trained on more rows than its settings describe.
    """
    tags = dict(target) | {names.KIND: "refit", names.CONFIGURATION: configuration, "sweep": sweep}
    name = f"refit · {configuration}"
    return _start(settings, name, data_version, tags, parameters(settings))


def _start(
    settings: Settings,
    name: str,
    data_version: str,
    tags: Mapping[str, str],
    values: Mapping[str, str],
) -> str:
    identity = {
        "data.version": data_version,
        names.CONFIGURATION_ID: config.configuration_id(settings),
        names.METHOD: config.regularization_kind(settings),
        names.NETWORK: config.network_label(settings.network),
    }
    run = _create(settings.tracking.experiment, name, {**tags, **identity})
    client().log_batch(run, params=[Param(key, value) for key, value in values.items()])
    return run


def _create(experiment: str, name: str, tags: Mapping[str, str]) -> str:
    tags = _context_tags() | {names.PROCESS: process_id()} | {k: v for k, v in tags.items() if v}
    tags = {key: _cut(value) for key, value in tags.items()}
    name = _cut(name, NAME_LENGTH)
    run = client().create_run(experiment_id(experiment), run_name=name, tags=tags)
    return str(run.info.run_id)


def _cut(text: str, length: int = TAG_LENGTH) -> str:
    """Return a text, cut to what a database accepts."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


@cache
def _context_tags() -> dict[str, str]:
    return {key: hide_secrets(str(value)) for key, value in resolve_tags().items()}


def parameters(settings: Settings) -> dict[str, str]:
    """Return the parameters of a run in MLflow by name."""
    values = {**config.flat(settings), "method": config.regularization_label(settings)}
    return {key: hide_secrets(str(value)) for key, value in values.items()}


def add_reused_runs(parent: str, runs: Sequence[str]) -> None:
    """Add finished runs to a sweep or to a cross-validated job."""
    for run in runs:
        client().set_tag(run, names.member_of(parent), "true")


def close_abandoned_runs() -> int:
    """Close the running runs whose process has ended; return their number.

    Their status is KILLED; that of a sweep is FINISHED or FAILED if all its runs are closed.
    """
    running = list(search(f"tags.`{names.KIND}` != '' AND attributes.status = 'RUNNING'"))
    signs: dict[str, float] = {}
    for run in running:
        process = run.data.tags.get(names.PROCESS, "")
        alive = max(int(run.info.start_time), int(run.data.tags.get(names.ALIVE, 0))) / 1000
        signs[process] = max(signs.get(process, 0.0), alive)
    ended = {process for process, sign in signs.items() if has_ended(process, sign)}
    abandoned = [run for run in running if run.data.tags.get(names.PROCESS, "") in ended]
    for run in abandoned:
        statuses = {"KILLED"}
        if run.data.tags[names.KIND] == "sweep":
            statuses = {child.info.status for child in children(run.info.run_id)} or statuses
        closed = not statuses & {"KILLED", "RUNNING"}
        status = "KILLED" if not closed else "FAILED" if "FAILED" in statuses else "FINISHED"
        client().set_terminated(run.info.run_id, status)
    return len(abandoned)


def renew(run: str) -> None:
    """Write to a run that its process is alive."""
    client().set_tag(run, names.ALIVE, str(round(time.time() * 1000)))


def log_epochs(
    run: str, metrics: Mapping[str, np.ndarray], after: int, stamps: Sequence[int]
) -> None:
    """Write the metrics of the epochs after epoch ``after``.

    ``metrics`` has the values of all epochs by name; ``stamps`` are their times in ms since 1970.
    """
    _log_batch(run, _epoch_metrics(metrics, after, stamps))


def finish_member(run: str, result: MemberResult, settings: Settings, logged: int = 0) -> None:
    """Write a member's metrics and artifacts, and close its run.

    Metrics of epoch e have step e; the first ``logged`` epochs are already in MLflow. ``best/…``
    are metrics of the selected epoch, those of training rows over all of them instead of the sample
    of the curves. ``gap`` is ``best/val/loss`` - ``best/train/loss``,
    ``lowest/…`` are the lowest validation loss and its epoch, even if it was not selected, and
    ``parameters`` is the number of trainable parameters.
    """
    if result.failure and not result.metrics:
        fail_run(run, result.failure, result.killed)
        return
    metrics = _epoch_metrics(result.metrics, logged, result.timestamps)
    if not result.failure:
        last, summary = result.timestamps[-1], summarize(result).items()
        metrics += [Metric(name, value, last, result.selected) for name, value in summary]
    tags = {"train_rows": str(result.train_rows), "val_rows": str(result.val_rows)}
    with tempfile.TemporaryDirectory() as folder:
        _write_artifacts(Path(folder), result, settings)
        _log_batch(run, metrics, tags)
        artifacts_of(run).log_artifacts(folder)
    if not result.failure:
        client().set_terminated(run, "FINISHED")
    else:
        fail_run(run, result.failure, result.killed)


def _epoch_metrics(
    metrics: Mapping[str, np.ndarray], after: int, stamps: Sequence[int]
) -> list[Metric]:
    """Return the finite values of the epochs after epoch ``after``."""
    return [
        Metric(name, value, stamps[epoch - 1], epoch)
        for name, values in metrics.items()
        for epoch, value in enumerate(values[after:].tolist(), start=after + 1)
        if math.isfinite(value)
    ]


def _log_batch(run: str, metrics: Sequence[Metric], tags: Mapping[str, str] | None = None) -> None:
    pairs = [RunTag(key, _cut(value)) for key, value in (tags or {}).items()]
    client().log_batch(run, metrics=metrics, tags=pairs)


def fail_run(run: str, reason: str, killed: bool = False) -> None:
    """Close a run that has no result, with the reason as a tag."""
    client().set_tag(run, "failure", reason[-TAG_LENGTH:])
    client().set_terminated(run, "KILLED" if killed else "FAILED")


def summarize(result: MemberResult) -> dict[str, float]:
    """Return the metrics of a member that have one value: see :func:`finish_member`."""
    best = {f"best/{k}": float(v[result.selected - 1]) for k, v in result.metrics.items()}
    best |= result.final
    lowest = int(result.metrics["val/loss"].argmin())
    return {
        **best,
        "best/epoch": float(result.selected),
        "lowest/val/loss": float(result.metrics["val/loss"][lowest]),
        "lowest/epoch": lowest + 1.0,
        "gap": best["best/val/loss"] - best["best/train/loss"],
        "parameters": float(result.parameters),
    }


def _write_artifacts(folder: Path, result: MemberResult, settings: Settings) -> None:
    """Write settings and layers to files; weights and predictions according to ``tracking``."""
    values = yaml.safe_dump(settings.model_dump(mode="json", by_alias=True), sort_keys=False)
    (folder / "config.yaml").write_text(values, encoding="utf-8")
    layers = yaml.safe_dump({"layers": result.layers}, sort_keys=False)
    content = f"# {result.parameters} parameters\n{layers}"
    (folder / "network.yaml").write_text(content, encoding="utf-8")
    if settings.tracking.weights and not result.failure:
        save_file(result.state, folder / "weights.safetensors")
    if settings.tracking.predictions and not result.failure:
        pd.DataFrame(result.predictions).to_parquet(folder / "predictions.parquet", index=False)


def finish_folds(run: str, folds: Sequence[Mapping[str, float]]) -> None:
    """Write mean and standard error of :func:`summarize` over the folds, and close a job's run.

    Both are over the folds that have the metric; with one such fold there is no standard error.
    The losses of each fold are written as well, with the fold as step.
    """
    stamp = int(client().get_run(run).info.start_time)  # the same if it is written again
    table = pd.DataFrame(list(folds))
    summary = pd.concat([table.mean(), table.sem().add_suffix("/standard_error")]).dropna()
    losses = [
        Metric(f"folds/{name}", float(value), stamp, fold)
        for name in ("best/train/loss", "best/val/loss", "best/val/deviance")
        if name in table
        for fold, value in enumerate(table[name])
    ]
    _log_batch(run, [*_metrics(summary.to_dict(), stamp), *losses])
    client().set_terminated(run, "FINISHED")


def _metrics(values: Mapping[str, float], stamp: int | None = None) -> list[Metric]:
    """Return MLflow's metrics for single values, by default with the current time."""
    stamp = stamp or int(time.time() * 1000)
    return [Metric(name, float(value), stamp, 0) for name, value in values.items()]


def finish_sweep(run: str, note: str, metrics: Mapping[str, float], status: str) -> None:
    """Write the description and the metrics of a sweep or a refit, and close its run."""
    _log_batch(run, _metrics(metrics), {"mlflow.note.content": note})
    client().set_terminated(run, status)


def tag_verdicts(table: pd.DataFrame) -> None:
    """Write a table of verdicts to its runs as tags, with the colour for MLflow's charts.

    A run without a result has a reason and no verdict.
    """
    for row in table.to_dict("records"):
        tags = {tag: row[key] for key, tag in names.VERDICT.items() if row[key]}
        if row["verdict"]:
            tags[names.COLOUR] = COLOURS[row["verdict"]]
        _log_batch(row["run_id"], [], tags)


def tag_shown_runs(sweep: str, shown: Mapping[str, str]) -> None:
    """Write the views of a sweep that show each of these runs; renew the views if it is the latest.

    Args:
        sweep: Run id of the sweep.
        shown: Names of views by run id, such as "curves plane"; "" for none.
    """
    for run, shown_in in shown.items():
        client().set_tag(run, names.views_of(sweep), shown_in)
    if sweep == latest_sweep():
        write_views(client().get_run(sweep).info.experiment_id, sweep, tagged=True)


def log_files(run: str, files: Sequence[Path]) -> None:
    """Attach files to a run."""
    for file in files:
        artifacts_of(run).log_artifact(str(file))
