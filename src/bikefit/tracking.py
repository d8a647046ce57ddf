"""Everything that is said to MLflow or read from it; nobody else imports it.

A sweep is a parent run; each job of it is a child. A job with holdout validation is a member and
its run holds the member's record; a job with k-fold validation is a run that carries mean and
standard error over its folds, with one child run a fold.
"""

from __future__ import annotations

import io
import json
import logging
import math
import os
import shutil
import sqlite3
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import numpy as np
import pandas as pd
import yaml
from filelock import FileLock
from mlflow import MlflowClient, artifacts, get_tracking_uri, pyfunc
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature, infer_signature
from mlflow.tracking.context.registry import resolve_tags
from mlflow.types import ColSpec, Schema, TensorSpec
from safetensors.numpy import load, save_file

from bikefit.config import Settings, describe, flat, regularization_label

if TYPE_CHECKING:
    from bikefit.training.fit import MemberResult

METRICS_A_CALL = 1000  # MLflow's limit of one log_batch
PREDICTIONS = ("timestamp", "rentals", "predicted")  # of the validation rows, bikes/hour
KIND = "bikefit.kind"  # tag: sweep | job | fold
PARENT = "mlflow.parentRunId"


class TrackingError(RuntimeError):
    """Something that the store does not hold or cannot do."""


@cache
def client() -> MlflowClient:
    """Open the store, creating it first if need be, safely for processes that start together."""
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    uri = get_tracking_uri()
    if not uri.startswith("sqlite:///"):
        return MlflowClient()
    database = Path(uri.removeprefix("sqlite:///"))
    database.parent.mkdir(parents=True, exist_ok=True)
    # Processes that meet a database in the making can ruin it for good.
    with FileLock(database.with_name(f"{database.name}.lock")):
        opened = MlflowClient()
        _write_ahead(database)
    return opened


def _write_ahead(database: Path) -> None:
    """Let readers read while a run is written (SQLite's WAL; stays with the file)."""
    with sqlite3.connect(database, timeout=60) as connection:
        connection.execute("PRAGMA journal_mode=wal")
    connection.close()


def experiment_id(name: str) -> str:
    """Return the id of an experiment, created if it is not there."""
    found = client().get_experiment_by_name(name)
    if found is None:
        try:
            return str(client().create_experiment(name))
        except MlflowException:  # somebody else was quicker
            found = client().get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        raise TrackingError(
            f"experiment {name!r} was deleted in MLflow; restore it with "
            f"`mlflow experiments restore -x {found.experiment_id}` or set tracking.experiment"
        )
    return str(found.experiment_id)


@cache
def _context_tags() -> dict[str, str]:
    return {key: str(value) for key, value in resolve_tags().items()}


def start_sweep(experiment: str, name: str, overrides: Sequence[str]) -> str:
    """Start the parent run of a ``-m`` command and return its id."""
    tags = {**_context_tags(), KIND: "sweep", "overrides": " ".join(overrides)}
    return _create(experiment, name, tags)


def start_job(settings: Settings, sweep: str | None, data_version: str) -> str:
    """Start the run of a job and return its id; without a sweep it stands alone."""
    return _start(settings, sweep, data_version, kind="job", fold=None)


def start_fold(settings: Settings, job: str, data_version: str, fold: int) -> str:
    """Start the run of one fold below its job's run and return its id."""
    return _start(settings, job, data_version, kind="fold", fold=fold)


def _start(
    settings: Settings, parent: str | None, data_version: str, kind: str, fold: int | None
) -> str:
    tags = {**_context_tags(), KIND: kind, "data.version": data_version}
    if parent is not None:
        tags[PARENT] = parent
    run = _create(settings.tracking.experiment, describe(settings, fold), tags)
    values = {**flat(settings), "method": regularization_label(settings)}
    if fold is not None:
        values["fold"] = fold
    client().log_batch(run, params=[Param(k, str(v)) for k, v in values.items()])
    source = json.dumps({"uri": str(settings.data.path)})
    dataset = Dataset(settings.data.name, data_version, "local", source)
    context = [InputTag("mlflow.data.context", "training")]
    client().log_inputs(run, datasets=[DatasetInput(dataset, context)])
    return run


def _create(experiment: str, name: str, tags: Mapping[str, str]) -> str:
    run = client().create_run(experiment_id(experiment), run_name=name, tags=dict(tags))
    return str(run.info.run_id)


def finish_member(run: str, result: MemberResult, settings: Settings) -> None:
    """Write a member's metrics, its selected epoch and its artifacts, and close its run.

    Metrics of epoch e have step e; ``best/…`` are those of the selected epoch, and ``gap`` is
    ``best/val/loss`` - ``best/train/loss``. ``lowest/…`` tell when the validation loss was lowest,
    whichever epoch was selected.
    """
    stamp = int(time.time() * 1000)
    metrics = [
        Metric(name, float(value), stamp, epoch)
        for name, values in result.metrics.items()
        for epoch, value in enumerate(values, start=1)
        if math.isfinite(value)
    ]
    tags = {"train_rows": str(result.train_rows), "val_rows": str(result.val_rows)}
    if result.failure is None:
        metrics += [Metric(k, v, stamp, result.selected) for k, v in best(result).items()]
    else:
        tags["failure"] = result.failure
    _log(run, metrics, tags)
    _log_artifacts(run, result, settings)
    client().set_terminated(run, "FINISHED" if result.failure is None else "FAILED")


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


def finish_folds(run: str, results: Sequence[MemberResult]) -> None:
    """Write mean and standard error over the folds of a job, and close its run."""
    failures = [f"fold {i}: {r.failure}" for i, r in enumerate(results) if r.failure]
    if failures:
        _log(run, [], {"failure": "; ".join(failures)})
        client().set_terminated(run, "FAILED")
        return
    table = pd.DataFrame([best(result) for result in results])
    error = table.std(ddof=1) / math.sqrt(len(table))
    stamp = int(time.time() * 1000)
    metrics = [Metric(str(k), float(v), stamp, 0) for k, v in table.mean().items()]
    metrics += [Metric(f"{k}/standard_error", float(v), stamp, 0) for k, v in error.items()]
    metrics += [
        Metric(f"folds/{name}", float(value), stamp, fold)
        for name in ("best/train/loss", "best/val/loss", "best/val/deviance")
        for fold, value in enumerate(table[name])
    ]
    _log(run, metrics, {})
    client().set_terminated(run, "FINISHED")


def fail(run: str, reason: str) -> None:
    """Close a run as failed, with the reason as a tag."""
    _log(run, [], {"failure": reason[:5000]})
    client().set_terminated(run, "FAILED")


def _log(run: str, metrics: Sequence[Metric], tags: Mapping[str, str]) -> None:
    for start in range(0, max(len(metrics), 1), METRICS_A_CALL):
        client().log_batch(
            run,
            metrics=metrics[start : start + METRICS_A_CALL],
            tags=[RunTag(k, v) for k, v in tags.items()] if start == 0 else [],
        )


def _log_artifacts(run: str, result: MemberResult, settings: Settings) -> None:
    with tempfile.TemporaryDirectory() as folder:
        config = yaml.safe_dump(settings.model_dump(mode="json", by_alias=True), sort_keys=False)
        (Path(folder) / "config.yaml").write_text(config)
        layers = yaml.safe_dump({"layers": result.layers}, sort_keys=False)
        (Path(folder) / "network.yaml").write_text(f"# {result.parameters} parameters\n{layers}")
        if settings.tracking.weights and result.failure is None:
            save_file(result.state, Path(folder) / "weights.safetensors")
        if settings.tracking.predictions and result.failure is None:
            columns = dict(zip(PREDICTIONS, result.predictions, strict=True))
            pd.DataFrame(columns).to_parquet(Path(folder) / "predictions.parquet", index=False)
        client().log_artifacts(run, folder)


def finish_sweep(run: str, note: str, metrics: Mapping[str, float], status: str) -> None:
    """Close a sweep with a description that the UI shows and the counts of its runs."""
    client().set_tag(run, "mlflow.note.content", note)
    stamp = int(time.time() * 1000)
    _log(run, [Metric(k, v, stamp, 0) for k, v in metrics.items()], {})
    client().set_terminated(run, status)


def tag_verdicts(table: pd.DataFrame) -> None:
    """Write verdicts to their runs as the tags ``verdict``, ``verdict.reason``, ``verdict.next``.

    Args:
        table: of :func:`bikefit.compare.verdicts.verdicts`; a run without a result gets a reason
            alone.
    """
    names = {"verdict": "verdict", "reason": "verdict.reason", "next": "verdict.next"}
    for row in table.to_dict("records"):
        _log(row["run_id"], [], {tag: row[key][:5000] for key, tag in names.items() if row[key]})


def log_counts(run: str, counts: Mapping[str, int]) -> None:
    """Write how often each verdict was given to a sweep's run: ``verdicts/good_fit`` and so on."""
    stamp = int(time.time() * 1000)
    metrics = [
        Metric(f"verdicts/{name.replace(' ', '_')}", float(count), stamp, 0)
        for name, count in counts.items()
    ]
    _log(run, metrics, {"verdicts": ", ".join(f"{n} {name}" for name, n in counts.items() if n)})


def log_files(run: str, files: Sequence[Path], folder: str | None = None) -> None:
    """Attach files to a run."""
    for file in files:
        client().log_artifact(run, str(file), folder)


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
        raise TrackingError(
            f"no sweep in {get_tracking_uri()}: run `python -m bikefit.train -m …` first"
        )
    return str(found[0].info.run_id)


def sweep_name(sweep: str) -> str:
    """Return the name of a sweep's parent run.

    Raises:
        TrackingError: there is no such run, or it is not a sweep.
    """
    try:
        run = client().get_run(sweep)
    except MlflowException as error:
        raise TrackingError(f"no run {sweep} in {get_tracking_uri()}") from error
    if run.data.tags.get(KIND) != "sweep":
        raise TrackingError(f"run {sweep} is not a sweep but {run.data.tags.get(KIND, 'foreign')}")
    return str(run.info.run_name)


def read_runs(parent: str) -> pd.DataFrame:
    """Read the child runs of a sweep or of a k-fold job, in the order in which they started.

    Returns:
        One row a run: ``run_id``, ``experiment_id``, ``name``, ``status``, a column for each
        parameter under its own name (numbers as numbers), one for each metric and each tag.
    """
    return pd.DataFrame([_row(run) for run in _children(parent)])


def read_run(run: str) -> pd.DataFrame:
    """Read one run in the columns of :func:`read_runs`."""
    return pd.DataFrame([_row(client().get_run(run))])


def _row(run: Any) -> dict[str, Any]:
    return {
        "run_id": run.info.run_id,
        "experiment_id": run.info.experiment_id,
        "name": run.info.run_name,
        "status": run.info.status,
        **{key: _number(value) for key, value in run.data.params.items()},
        **run.data.metrics,
        **{f"tags.{k}": v for k, v in run.data.tags.items() if not k.startswith("mlflow.")},
    }


def _children(parent: str) -> Iterator[Any]:
    # A sweep over tables has its runs in the experiment of each.
    experiments = [e.experiment_id for e in client().search_experiments()]
    token = None
    while True:
        page = client().search_runs(
            experiments, f"tags.`{PARENT}` = '{parent}'", ViewType.ACTIVE_ONLY,
            max_results=1000, order_by=["attributes.start_time ASC"], page_token=token,
        )  # fmt: skip
        yield from page
        token = page.token
        if not token:
            return


def _number(text: str) -> str | float | int | bool:
    if text in ("True", "False"):
        return text == "True"
    for convert in (int, float):
        try:
            return convert(text)
        except ValueError:
            continue
    return text


def read_artifact(run: str, name: str) -> bytes | None:
    """Read a file that is attached to a run; None where the run has no such file."""
    if name not in {file.path for file in client().list_artifacts(run)}:
        return None
    with tempfile.TemporaryDirectory() as folder:
        return Path(client().download_artifacts(run, name, folder)).read_bytes()


def read_predictions(run: str) -> pd.DataFrame | None:
    """Read true and predicted rentals of a run's validation rows; None where they were not kept.

    Returns:
        Columns :data:`PREDICTIONS`, rentals in bikes/hour. Of a cross-validated run, the held-out
        rows of all folds.
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
    folds = [read_artifact(child.info.run_id, name) for child in _children(run)]
    return [content for content in folds if content is not None]


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


def recorded(path: Path) -> str:
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


# The registry: models that are used.

CHAMPION = "champion"  # alias of the version in use
MODEL = "model"  # name of the logged model, and of the folder of its files


def start_refit(settings: Settings, sweep: str, data_version: str, configuration: str) -> str:
    """Start the run of a refit and return its id; it is no part of the sweep that it follows."""
    run = _start(settings, None, data_version, kind="refit", fold=None)
    client().set_tag(run, "mlflow.runName", f"refit · {configuration}")
    client().set_tag(run, "sweep", sweep)
    return run


def finish_refit(run: str, metrics: Mapping[str, float], note: str, files: Sequence[Path]) -> None:
    """Write test metrics, the choice in words and files to a refit's run, and close it."""
    stamp = int(time.time() * 1000)
    found = [Metric(key, float(value), stamp, 0) for key, value in metrics.items()]
    _log(run, found, {"mlflow.note.content": note})
    log_files(run, files)
    client().set_terminated(run, "FINISHED")


def register(
    run: str, name: str, folder: Path, example: pd.DataFrame, answer: pd.DataFrame,
    optional: Sequence[str], requirements: Sequence[str], tags: Mapping[str, str],
) -> int:  # fmt: skip
    """Log a saved model to a run, as code and plain files, and register it.

    Args:
        run: id of a refit's run.
        name: of the registered model.
        folder: what :meth:`bikefit.final.model.Model.save` wrote.
        example: input rows, whose types become the signature.
        answer: what the model says to them.
        optional: input columns that may be absent.
        requirements: exact pins; given, so that MLflow need not find them out, which is slow.
        tags: of the registered version.

    Returns:
        The number of the version.
    """
    client()  # opens the store safely
    source = Path(__file__).parent
    with (
        tempfile.TemporaryDirectory() as place,
        warnings.catch_warnings(),
        mlflow.start_run(run_id=run),
    ):
        # MLflow on its own type hints, and on ours, in place of which there is a signature.
        warnings.filterwarnings("ignore", ".*type hint.*")
        warnings.filterwarnings("ignore", "Operation with range is deprecated")  # within MLflow
        logging.getLogger("mlflow.pyfunc").setLevel(logging.WARNING)
        inferred = infer_signature(example, answer)
        columns: list[ColSpec | TensorSpec] = [
            ColSpec(column.type, column.name, required=column.name not in optional)
            for column in inferred.inputs
        ]
        code = Path(place) / source.name
        shutil.copytree(source, code, ignore=shutil.ignore_patterns("__pycache__"))
        logged = pyfunc.log_model(
            name=MODEL,
            python_model=str(source / "final/served.py"),
            artifacts={MODEL: str(folder)},
            code_paths=[str(code)],
            pip_requirements=list(requirements),
            signature=ModelSignature(Schema(columns), inferred.outputs),
            input_example=example,
            registered_model_name=name,
        )
    version = int(logged.registered_model_version)
    for key, value in tags.items():
        client().set_model_version_tag(name, str(version), key, value)
    return version


def champion(name: str) -> dict[str, str] | None:
    """Return ``version``, ``run_id`` and the tags of the champion; None where there is none."""
    try:
        found = client().get_model_version_by_alias(name, CHAMPION)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise
    return {**found.tags, "version": str(found.version), "run_id": str(found.run_id)}


def promote(name: str, version: int) -> None:
    """Make a version the champion."""
    client().set_registered_model_alias(name, CHAMPION, str(version))


def model_folder(uri: str) -> Path:
    """Return the folder of a registered model's files, like that of ``models:/bikefit@champion``.

    Raises:
        TrackingError: there is no such model.
    """
    client()
    try:
        return Path(artifacts.download_artifacts(uri)) / "artifacts" / MODEL
    except (MlflowException, OSError) as error:
        raise TrackingError(
            f"no model {uri} in {get_tracking_uri()}: run `python -m bikefit.refit` first"
        ) from error
