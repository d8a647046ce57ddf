"""Write runs to MLflow, from their start to their end.

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

import pandas as pd
import yaml
from mlflow.entities import Metric, Param
from mlflow.tracking.context.registry import resolve_tags
from safetensors.numpy import save_file

from bikefit.config import (
    Settings,
    configuration_id,
    describe,
    flat,
    network_label,
    regularization_kind,
    regularization_label,
)
from bikefit.errors import hide_secrets
from bikefit.processes import is_running, process_id
from bikefit.tracking.connection import (
    artifacts_of,
    client,
    experiment_id,
    log_batch,
    search,
    without_retries,
)
from bikefit.tracking.names import (
    COLOUR,
    CONFIGURATION,
    CONFIGURATION_ID,
    FINGERPRINT,
    KIND,
    METHOD,
    NETWORK,
    PARENT,
    PROCESS,
    VERDICT,
    member_of,
)
from bikefit.tracking.views import COLOURS, prepare_views, renew_views

if TYPE_CHECKING:
    from bikefit.training.members import Failure, MemberResult

TAG_LENGTH = 5000  # characters that MLflow accepts


def start_sweep(experiment: str, name: str, overrides: Sequence[str]) -> str:
    """Start the parent run of a ``-m`` command and return its id."""
    tags = {KIND: "sweep", "overrides": hide_secrets(" ".join(overrides))}
    return _create(experiment, name, tags)


def start_job(
    settings: Settings,
    sweep: str | None,
    data_version: str,
    fingerprint: str = "",
    configuration: str = "",
) -> str:
    """Start the run of a job and return its id.

    Args:
        settings: Settings of the job.
        sweep: Run id of its sweep; None for a plain run.
        data_version: Version of its table.
        fingerprint: Hash of everything that determines its result.
        configuration: Label of its configuration.
    """
    tags = {KIND: "job", FINGERPRINT: fingerprint, CONFIGURATION: configuration}
    return _start(settings, sweep, data_version, tags)


def start_fold(
    settings: Settings, job: str, data_version: str, fold: int, fingerprint: str = ""
) -> str:
    """Start the run of one fold of a cross-validated job and return its id."""
    return _start(settings, job, data_version, {KIND: "fold", FINGERPRINT: fingerprint}, fold)


def start_refit(settings: Settings, sweep: str, data_version: str, configuration: str) -> str:
    """Start the run of a refit and return its id; the run does not belong to the sweep.

    It has no fingerprint, because it is trained on other rows than its settings say.
    """
    tags = {KIND: "refit", CONFIGURATION: configuration, "sweep": sweep}
    run = _start(settings, None, data_version, tags)
    client().set_tag(run, "mlflow.runName", f"refit · {configuration}")
    return run


def _start(
    settings: Settings,
    parent: str | None,
    data_version: str,
    tags: Mapping[str, str],
    fold: int | None = None,
) -> str:
    experiment = settings.tracking.experiment
    prepare_views(experiment_id(experiment), parent if fold is None else None, client())
    identity = {
        "data.version": data_version,
        CONFIGURATION_ID: configuration_id(settings),
        METHOD: regularization_kind(settings),
        NETWORK: network_label(settings.network),
    }
    membership = {PARENT: parent, member_of(parent): "true"} if parent else {}
    run = _create(experiment, describe(settings, fold), {**tags, **identity, **membership})
    values = parameters(settings) | ({} if fold is None else {"fold": str(fold)})
    client().log_batch(run, params=[Param(key, value) for key, value in values.items()])
    return run


def _create(experiment: str, name: str, tags: Mapping[str, str]) -> str:
    tags = _context_tags() | {PROCESS: process_id()} | {k: v for k, v in tags.items() if v}
    run = client().create_run(experiment_id(experiment), run_name=name, tags=tags)
    return str(run.info.run_id)


@cache
def _context_tags() -> dict[str, str]:
    return {key: hide_secrets(str(value)) for key, value in resolve_tags().items()}


def parameters(settings: Settings) -> dict[str, str]:
    """Return the parameters of a run in MLflow by name."""
    values = {**flat(settings), "method": regularization_label(settings)}
    return {key: hide_secrets(str(value)) for key, value in values.items()}


def add_reused_runs(parent: str, runs: Sequence[str]) -> None:
    """Add finished runs to a sweep or a cross-validated job instead of training them again."""
    for run in runs:
        client().set_tag(run, member_of(parent), "true")


def close_abandoned_runs() -> int:
    """Close runs with status "running" whose process has ended, as killed; return their number."""
    running = search(f"tags.`{KIND}` != '' AND attributes.status = 'RUNNING'")
    abandoned = [r for r in running if is_running(r.data.tags.get(PROCESS, "")) is False]
    for run in abandoned:
        client().set_terminated(run.info.run_id, "KILLED")
    return len(abandoned)


def log_epochs(
    run: str, after: int, epochs: Sequence[Mapping[str, float]], stamps: Sequence[int]
) -> None:
    """Write metrics of epochs during the training, without waiting for a store that is away.

    Args:
        run: Id of the run.
        after: Number of epochs that MLflow has already.
        epochs: Metrics by name for each of the following epochs.
        stamps: Time of each epoch from the first, in ms since 1970.
    """
    metrics = [
        Metric(name, value, stamps[epoch - 1], epoch)
        for epoch, values in enumerate(epochs, start=after + 1)
        for name, value in values.items()
    ]
    with without_retries():
        log_batch(run, metrics, {})


def finish_member(run: str, result: MemberResult, settings: Settings, logged: int = 0) -> None:
    """Write a member's metrics and artifacts, and close its run.

    Metrics of epoch e have step e. ``best/…`` are those of the selected epoch, and ``gap`` is
    ``best/val/loss`` - ``best/train/loss``. ``lowest/…`` tell when the validation loss was lowest,
    even if another epoch was selected.

    Args:
        run: Id of the run.
        result: Result of the member.
        settings: Settings of the member.
        logged: Number of epochs that MLflow has already.

    Raises:
        StoreUnavailableError: MLflow cannot be reached; call again later.
    """
    if result.failure and not result.metrics:
        fail_run(run, result.failure)
        return
    metrics = [
        Metric(name, float(value), result.timestamps[e - 1], e)
        for name, values in result.metrics.items()
        for e, value in enumerate(values[logged:].tolist(), start=logged + 1)
        if math.isfinite(value)
    ]
    if result.failure is None:
        best = best_metrics(result).items()
        last = result.timestamps[-1]
        metrics += [Metric(name, value, last, result.selected) for name, value in best]
    tags = {"train_rows": str(result.train_rows), "val_rows": str(result.val_rows)}
    with tempfile.TemporaryDirectory() as folder:
        _write_artifacts(Path(folder), result, settings)
        log_batch(run, metrics, tags)
        artifacts_of(run).log_artifacts(folder)
    if result.failure is None:
        client().set_terminated(run, "FINISHED")
    else:
        fail_run(run, result.failure)


def fail_run(run: str, failure: Failure) -> None:
    """Close a run that has no result, with the reason as a tag."""
    client().set_tag(run, "failure", failure.reason[-TAG_LENGTH:])
    client().set_terminated(run, "KILLED" if failure.killed else "FAILED")


def _start_time(run: str) -> int:
    return int(client().get_run(run).info.start_time)


def best_metrics(result: MemberResult) -> dict[str, float]:
    """Return the metrics of the selected epoch under ``best/``, the gap and the epoch."""
    at = {name: float(values[result.selected - 1]) for name, values in result.metrics.items()}
    lowest = int(result.metrics["val/loss"].argmin())
    return {
        **{f"best/{name}": value for name, value in at.items()},
        **result.final,
        "best/epoch": float(result.selected),
        "lowest/val/loss": float(result.metrics["val/loss"][lowest]),
        "lowest/epoch": lowest + 1.0,
        "gap": at["val/loss"] - at["train/loss"],
    }


def _write_artifacts(folder: Path, result: MemberResult, settings: Settings) -> None:
    """Write the files of a member's run: settings, layers, and what ``tracking`` asks for."""
    config = yaml.safe_dump(settings.model_dump(mode="json", by_alias=True), sort_keys=False)
    (folder / "config.yaml").write_text(config)
    layers = yaml.safe_dump({"layers": result.layers}, sort_keys=False)
    (folder / "network.yaml").write_text(f"# {result.parameters} parameters\n{layers}")
    if settings.tracking.weights and result.failure is None:
        save_file(result.state, folder / "weights.safetensors")
    if settings.tracking.predictions and result.failure is None:
        pd.DataFrame(result.predictions).to_parquet(folder / "predictions.parquet", index=False)


def finish_folds(run: str, folds: Sequence[Mapping[str, float]]) -> None:
    """Write mean and standard error over the folds of a job, and close its run.

    Args:
        run: Id of the job's run.
        folds: Result of :func:`best_metrics` for each fold.
    """
    log_batch(run, fold_metrics(folds, _start_time(run)), {})
    client().set_terminated(run, "FINISHED")


def fold_metrics(folds: Sequence[Mapping[str, float]], stamp: int) -> list[Metric]:
    """Return mean and standard error over folds, and the losses of each fold (step: fold).

    Both are over the folds that have the metric; with one such fold there is no standard error.
    """
    table = pd.DataFrame(list(folds))
    summary = pd.concat([table.mean(), table.sem().add_suffix("/standard_error")])
    return _metrics(dict(summary.dropna()), stamp) + [
        Metric(f"folds/{name}", float(value), stamp, fold)
        for name in ("best/train/loss", "best/val/loss", "best/val/deviance")
        for fold, value in enumerate(table[name])
    ]


def _metrics(values: Mapping[str, float], stamp: int | None = None) -> list[Metric]:
    """Return metrics that are measured once, by default at this moment."""
    stamp = stamp or int(time.time() * 1000)
    return [Metric(str(name), float(value), stamp, 0) for name, value in values.items()]


def finish_sweep(run: str, note: str, metrics: Mapping[str, float], status: str) -> None:
    """Write a sweep's description and the counts of its runs, renew its views and close it."""
    log_batch(run, _metrics(metrics), {"mlflow.note.content": note})
    renew_views(run)
    client().set_terminated(run, status)


def finish_refit(run: str, metrics: Mapping[str, float], note: str, files: Sequence[Path]) -> None:
    """Write test metrics, a description and files to the run of a refit, and close it."""
    log_batch(run, _metrics(metrics), {"mlflow.note.content": note})
    log_files(run, files)
    client().set_terminated(run, "FINISHED")


def tag_verdicts(table: pd.DataFrame) -> None:
    """Write verdicts to their runs as tags, and the colour of the verdict for MLflow's charts.

    Args:
        table: Result of :func:`bikefit.comparison.verdicts.verdicts`. A run without a result has
            a reason and no verdict.
    """
    for row in table.to_dict("records"):
        tags = {tag: row[key][:TAG_LENGTH] for key, tag in VERDICT.items() if row[key]}
        if row["verdict"]:
            tags[COLOUR] = COLOURS[row["verdict"]]
        log_batch(row["run_id"], [], tags)


def log_counts(run: str, counts: Mapping[str, int]) -> None:
    """Write the number of runs with each verdict to a sweep: ``verdicts/good_fit`` and so on."""
    metrics = {f"verdicts/{name.replace(' ', '_')}": count for name, count in counts.items()}
    text = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    log_batch(run, _metrics(metrics), {"verdicts": text})


def log_files(run: str, files: Sequence[Path]) -> None:
    """Attach files to a run."""
    for file in files:
        artifacts_of(run).log_artifact(str(file))
