"""What a command writes to MLflow: its runs from their start to their end."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import yaml
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param
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
    AwayError,
    TrackingError,
    artifacts_of,
    client,
    experiment_id,
    log_batch,
    search,
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
    PREDICTIONS,
    PROCESS,
    REFIT,
    VERDICT,
    member_of,
)  # fmt: skip
from bikefit.tracking.outbox import send, to_send
from bikefit.tracking.views import COLOURS, prepare, renew_all

if TYPE_CHECKING:
    from bikefit.training.members import Failure, MemberResult


@cache
def _context_tags() -> dict[str, str]:
    return {key: hide_secrets(str(value)) for key, value in resolve_tags().items()}


def start_sweep(experiment: str, name: str, overrides: Sequence[str]) -> str:
    """Start the parent run of a ``-m`` command and return its id."""
    tags = {**_context_tags(), KIND: "sweep", "overrides": hide_secrets(" ".join(overrides))}
    return _create(experiment, name, tags)


def start_job(
    settings: Settings, sweep: str | None, data_version: str, fingerprint: str | None = None,
    configuration: str | None = None,
) -> str:  # fmt: skip
    """Start the run of a job and return its id; without a sweep it stands alone.

    Args:
        settings: of the job.
        sweep: id of the parent run.
        data_version: of its table.
        fingerprint: what determines its result.
        configuration: all that it shares with the jobs of other seeds, in words.
    """
    more = {FINGERPRINT: fingerprint, CONFIGURATION: configuration}
    return _start(settings, sweep, data_version, "job", more)


def start_fold(
    settings: Settings, job: str, data_version: str, fold: int, fingerprint: str | None = None
) -> str:
    """Start the run of one fold below its job's run and return its id."""
    return _start(settings, job, data_version, "fold", {FINGERPRINT: fingerprint}, fold)


def start_refit(settings: Settings, sweep: str, data_version: str, configuration: str) -> str:
    """Start the run of a refit and return its id; it is no part of the sweep that it follows."""
    # without a fingerprint: it trains other rows than its settings say
    run = _start(settings, None, data_version, REFIT, {CONFIGURATION: configuration})
    client().set_tag(run, "mlflow.runName", f"refit · {configuration}")
    client().set_tag(run, "sweep", sweep)
    return run


def _start(
    settings: Settings, parent: str | None, data_version: str, kind: str,
    more: Mapping[str, str | None], fold: int | None = None,
) -> str:  # fmt: skip
    tags = {**_context_tags(), KIND: kind, "data.version": data_version}
    tags |= {tag: value for tag, value in more.items() if value is not None}
    prepare(experiment_id(settings.tracking.experiment), parent if kind == "job" else None)
    tags |= {
        CONFIGURATION_ID: configuration_id(settings),
        METHOD: regularization_kind(settings),
        NETWORK: network_label(settings.network),
    }
    if parent is not None:
        tags |= {PARENT: parent, member_of(parent): "true"}
    run = _create(settings.tracking.experiment, describe(settings, fold), tags)
    values = parameters(settings) | ({"fold": str(fold)} if fold is not None else {})
    client().log_batch(run, params=[Param(k, v) for k, v in values.items()])
    source = json.dumps({"uri": str(settings.data.path)})
    dataset = Dataset(settings.data.name, data_version, "local", source)
    context = [InputTag("mlflow.data.context", "training")]
    _log_dataset(run, DatasetInput(dataset, context))
    return run


def parameters(settings: Settings) -> dict[str, str]:
    """Return what MLflow is told of the settings of a run, by name."""
    values = {**flat(settings), "method": regularization_label(settings)}
    return {key: hide_secrets(str(value)) for key, value in values.items()}


def _create(experiment: str, name: str, tags: Mapping[str, str]) -> str:
    run = client().create_run(
        experiment_id(experiment), run_name=name, tags={**tags, PROCESS: process_id()}
    )
    return str(run.info.run_id)


def close_dead() -> int:
    """Close runs that say "running" although their process is gone, as killed; count them."""
    running = search(f"tags.`{KIND}` != '' AND attributes.status = 'RUNNING'")
    dead = [run for run in running if is_running(run.data.tags.get(PROCESS, "")) is False]
    for run in dead:
        client().set_terminated(run.info.run_id, "KILLED")
    return len(dead)


def add_reused_runs(parent: str, runs: Sequence[str]) -> None:
    """Add finished runs to a sweep or a cross-validated job instead of training them again."""
    for run in runs:
        client().set_tag(run, member_of(parent), "true")


def _log_dataset(run: str, dataset: DatasetInput) -> None:
    try:
        client().log_inputs(run, datasets=[dataset])
    except AwayError:
        raise
    except TrackingError:
        # Of processes that name a dataset first at the same moment, MLflow lets one win (a unique
        # key of the database); for the others it is there now.
        client().log_inputs(run, datasets=[dataset])


@dataclass(frozen=True)
class Sent:
    """What MLflow has of a run in training.

    Args:
        epochs: how many, from the first.
        stamps: in ms since 1970, of these epochs and of others that may be there in part.
    """

    epochs: int = 0
    stamps: Sequence[int] = ()


NOTHING = Sent()


def finish_member(run: str, result: MemberResult, settings: Settings, sent: Sent = NOTHING) -> None:
    """Keep a member's metrics, its selected epoch and its artifacts, and close its run.

    Metrics of epoch e have step e; ``best/…`` are those of the selected epoch, and ``gap`` is
    ``best/val/loss`` - ``best/train/loss``. ``lowest/…`` tell when the validation loss was lowest,
    whichever epoch was selected. Epochs that were sent as they were done are not sent again.
    """
    stamp = int(time.time() * 1000)
    metrics = [
        Metric(name, float(value), sent.stamps[e - 1] if e <= len(sent.stamps) else stamp, e)
        for name, values in result.metrics.items()
        for e, value in enumerate(values[sent.epochs :].tolist(), start=sent.epochs + 1)
        if math.isfinite(value)
    ]
    tags = {"train_rows": str(result.train_rows), "val_rows": str(result.val_rows)}
    status = "FINISHED"
    if result.failure is None:
        metrics += [Metric(k, v, stamp, result.selected) for k, v in best(result).items()]
    else:
        tags["failure"] = result.failure.reason
        status = "KILLED" if result.failure.killed else "FAILED"
    with to_send(run, metrics, tags, status) as folder:
        _write_artifacts(folder, result, settings)
    send(run)


def best(result: MemberResult) -> dict[str, float]:
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


def finish_folds(run: str, folds: Sequence[Mapping[str, float]]) -> None:
    """Keep mean and standard error over the folds of a job, and close its run.

    Args:
        run: of the job.
        folds: of each fold what :func:`best` gives.
    """
    table = pd.DataFrame(list(folds))
    error = table.std(ddof=1) / math.sqrt(len(table))
    stamp = int(time.time() * 1000)
    metrics = [Metric(str(k), float(v), stamp, 0) for k, v in table.mean().items()]
    metrics += [Metric(f"{k}/standard_error", float(v), stamp, 0) for k, v in error.items()]
    metrics += [
        Metric(f"folds/{name}", float(value), stamp, fold)
        for name in ("best/train/loss", "best/val/loss", "best/val/deviance")
        for fold, value in enumerate(table[name])
    ]
    _close(run, metrics, {}, "FINISHED")


def fail(run: str, failure: Failure) -> None:
    """Close a run that has no result, with the reason as a tag."""
    status = "KILLED" if failure.killed else "FAILED"
    _close(run, [], {"failure": failure.reason[-5000:]}, status)


def _close(run: str, metrics: Sequence[Metric], tags: Mapping[str, str], status: str) -> None:
    """Keep and send the last of a run that has no artifacts."""
    with to_send(run, metrics, tags, status):
        pass
    send(run)


def _write_artifacts(folder: Path, result: MemberResult, settings: Settings) -> None:
    config = yaml.safe_dump(settings.model_dump(mode="json", by_alias=True), sort_keys=False)
    (folder / "config.yaml").write_text(config)
    layers = yaml.safe_dump({"layers": result.layers}, sort_keys=False)
    (folder / "network.yaml").write_text(f"# {result.parameters} parameters\n{layers}")
    if settings.tracking.weights and result.failure is None:
        save_file(result.state, folder / "weights.safetensors")
    if settings.tracking.predictions and result.failure is None:
        columns = dict(zip(PREDICTIONS, result.predictions, strict=True))
        pd.DataFrame(columns).to_parquet(folder / "predictions.parquet", index=False)


def finish_sweep(run: str, note: str, metrics: Mapping[str, float], status: str) -> None:
    """Close a sweep with a description that the UI shows and the counts of its runs."""
    client().set_tag(run, "mlflow.note.content", note)
    renew_all(run)
    stamp = int(time.time() * 1000)
    log_batch(run, [Metric(k, v, stamp, 0) for k, v in metrics.items()], {})
    client().set_terminated(run, status)


def finish_refit(run: str, metrics: Mapping[str, float], note: str, files: Sequence[Path]) -> None:
    """Write test metrics, the choice in words and files to a refit's run, and close it."""
    stamp = int(time.time() * 1000)
    found = [Metric(key, float(value), stamp, 0) for key, value in metrics.items()]
    log_batch(run, found, {"mlflow.note.content": note})
    log_files(run, files)
    client().set_terminated(run, "FINISHED")


def tag_verdicts(table: pd.DataFrame) -> None:
    """Write verdicts to their runs: the tags ``configuration`` and ``verdict`` with its parts.

    A run also gets the colour of its verdict in MLflow's charts.

    Args:
        table: of :func:`bikefit.comparison.verdicts.verdicts`; a run without a result gets a reason
            and no verdict.
    """
    for row in table.to_dict("records"):
        tags = {tag: row[key][:5000] for key, tag in VERDICT.items() if row[key]}
        if row["verdict"]:
            tags[COLOUR] = COLOURS[row["verdict"]]
        log_batch(row["run_id"], [], tags)


def log_counts(run: str, counts: Mapping[str, int]) -> None:
    """Write how often each verdict was given to a sweep's run: ``verdicts/good_fit`` and so on."""
    stamp = int(time.time() * 1000)
    metrics = [
        Metric(f"verdicts/{name.replace(' ', '_')}", float(count), stamp, 0)
        for name, count in counts.items()
    ]
    log_batch(
        run, metrics, {"verdicts": ", ".join(f"{n} {name}" for name, n in counts.items() if n)}
    )


def log_files(run: str, files: Sequence[Path]) -> None:
    """Attach files to a run."""
    for file in files:
        artifacts_of(run).log_artifact(str(file))
