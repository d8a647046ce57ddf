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
import socket
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import numpy as np
import pandas as pd
import psutil
import yaml
from filelock import FileLock
from mlflow import MlflowClient, get_tracking_uri, is_tracking_uri_set
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.db.utils import _initialize_tables
from mlflow.tracking.context.registry import resolve_tags
from requests import RequestException
from safetensors.numpy import load, save_file
from sqlalchemy import create_engine, event

from bikefit.checks import masked
from bikefit.config import Settings, describe, flat, regularization_label
from bikefit.data.files import (
    clear_leftovers,
    remove_folder,
    replacing,
    replacing_folder,
    write_json,
)
from bikefit.fingerprints import fingerprint
from bikefit.store import relative_locations, write_ahead

if TYPE_CHECKING:
    from bikefit.training.members import Failure, MemberResult

log = logging.getLogger(__name__)

METRICS_A_CALL = 1000  # MLflow's limit of one log_batch
PREDICTIONS = ("timestamp", "rentals", "predicted")  # of the validation rows, bikes/hour
KIND = "bikefit.kind"  # tag: sweep | job | fold | refit
REFIT = "refit"
PARENT = "mlflow.parentRunId"
OWNER = "bikefit.process"  # tag: host, number and start time of the process that writes the run
FINGERPRINT = "fingerprint"
REUSED = "reused.json"  # artifact: ids of the finished runs that a run refers to, instead of copies
UNSENT = Path("unsent")  # results that MLflow has not taken yet
REFUSED = "refused"  # folder in it: results of runs that the store does not know (any more)
GONE = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")  # such a run, or a deleted one
PATIENCE = "BIKEFIT_PATIENCE"  # variable: s to wait for a tracking server that is away
PAUSE = 10  # s before results are sent again to a server that was away


class TrackingError(RuntimeError):
    """Something that the store does not hold or cannot do.

    Args:
        message: what, in words.
        code: MLflow's name for it.
    """

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


class AwayError(TrackingError):
    """The store cannot be reached or cannot work now; later it may."""


@dataclass(frozen=True)
class Finished:
    """A run that is in the store with all its results.

    Args:
        run: its id.
        metrics: the last value of each, those of the selected epoch under ``best/``.
    """

    run: str
    metrics: dict[str, float]


@contextmanager
def in_words() -> Iterator[None]:
    """Let errors of MLflow, of its database and of the way to it become a :class:`TrackingError`.

    Raises:
        AwayError: the store does not answer or cannot work now.
        TrackingError: it does not do what it was asked for.
    """
    try:
        yield
    except (RequestException, sqlite3.Error) as error:
        raise AwayError(_unable(error)) from error
    except MlflowException as error:
        if error.get_http_status_code() >= 500:
            raise AwayError(_unable(error)) from error
        raise TrackingError(_unable(error), str(error.error_code)) from error


def _unable(error: Exception) -> str:
    """Say in a line what the store cannot do."""
    said = str(error).splitlines()[0] if str(error) else type(error).__name__
    if _database() is None and ("failed with" in said or isinstance(error, RequestException)):
        return f"{address()} does not answer"
    return f"{address()}: {masked(said)}"


_waits: ContextVar[bool] = ContextVar("waits", default=True)


def _patiently(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call MLflow; wait for a server that is away, or for others that hold the database."""
    patience = float(os.environ.get(PATIENCE, "60")) if _waits.get() else 0.0
    end, told = time.monotonic() + patience, False
    while True:
        try:
            with in_words():
                return call(*args, **kwargs)
        except AwayError as error:
            hopeful = _database() is None or "locked" in str(error)
            if not hopeful or time.monotonic() >= end:
                raise
            if not told:
                log.warning(f"{error}: waiting up to {patience:.0f} s for it")
                told = True
            time.sleep(min(1.0, patience / 10))


@contextmanager
def _at_once() -> Iterator[None]:
    """Do not wait for a store that is away."""
    token = _waits.set(False)
    try:
        yield
    finally:
        _waits.reset(token)


class _Patient:
    """An object of MLflow, all of whose methods are called :func:`_patiently`."""

    def __init__(self, of: Any) -> None:
        self.of = of

    def __getattr__(self, name: str) -> Any:
        return partial(_patiently, getattr(self.of, name))


@cache
def client() -> Any:
    """Open the store, creating it first if need be, safely for processes that start together.

    Returns:
        MLflow's client, that waits for a server which is away and whose errors are
        :class:`TrackingError`.
    """
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # it shows tracebacks
    logging.getLogger("alembic").setLevel(logging.WARNING)
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # MLflow's own patience is 8 minutes a call, without a word; we wait in _patiently.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    database = _database()
    if database is None:
        return _Patient(MlflowClient(_uri()))
    database.parent.mkdir(parents=True, exist_ok=True)
    # Processes that meet a database in the making can ruin it for good.
    with FileLock(database.with_name(f"{database.name}.lock")), in_words():
        if not database.exists() or not database.stat().st_size:
            _make(database)
        opened = MlflowClient(_uri())
        write_ahead(database)
        _relative_locations(database)
    return _Patient(opened)


def _make(database: Path) -> None:
    """Make a database with MLflow's tables, whole or not at all.

    One that was killed half way is of no use to anybody: MLflow neither repairs nor replaces it.
    """
    with replacing(database) as temporary:
        engine = create_engine(f"sqlite:///{temporary}")
        # Nobody else knows this file yet, so it need not be safe before it has its name.
        for pragma in ("journal_mode=off", "synchronous=off"):
            event.listen(engine, "connect", lambda new, _, p=pragma: new.execute(f"PRAGMA {p}"))
        _initialize_tables(engine)
        engine.dispose()


def experiment_id(name: str) -> str:
    """Return the id of an experiment, created if it is not there."""
    found = client().get_experiment_by_name(name)
    if found is None:
        try:
            created = str(client().create_experiment(name))
            _relative_locations(_database())
            return created
        except TrackingError:  # somebody else was quicker
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
    return {key: masked(str(value)) for key, value in resolve_tags().items()}


def start_sweep(experiment: str, name: str, overrides: Sequence[str]) -> str:
    """Start the parent run of a ``-m`` command and return its id."""
    tags = {**_context_tags(), KIND: "sweep", "overrides": masked(" ".join(overrides))}
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
    if kind != REFIT:  # which trains other rows than its settings say
        tags[FINGERPRINT] = fingerprint(settings, data_version, fold)
    if parent is not None:
        tags[PARENT] = parent
    run = _create(settings.tracking.experiment, describe(settings, fold), tags)
    values = {**flat(settings), "method": regularization_label(settings)}
    if fold is not None:
        values["fold"] = fold
    client().log_batch(run, params=[Param(k, masked(str(v))) for k, v in values.items()])
    source = json.dumps({"uri": str(settings.data.path)})
    dataset = Dataset(settings.data.name, data_version, "local", source)
    context = [InputTag("mlflow.data.context", "training")]
    _log_dataset(run, DatasetInput(dataset, context))
    return run


def _create(experiment: str, name: str, tags: Mapping[str, str]) -> str:
    run = client().create_run(
        experiment_id(experiment), run_name=name, tags={**tags, OWNER: _process()}
    )
    return str(run.info.run_id)


@cache
def _process() -> str:
    own = psutil.Process()
    return f"{socket.gethostname()} {own.pid} {own.create_time():.0f}"


def _is_dead(process: str) -> bool:
    """Say whether a process of this host is gone; of another host nobody here can tell."""
    host, _, rest = process.partition(" ")
    if host != socket.gethostname():
        return False
    number, started = rest.split()
    try:
        return abs(psutil.Process(int(number)).create_time() - float(started)) > 2
    except psutil.NoSuchProcess:
        return True


def close_dead() -> int:
    """Close runs that say "running" although their process is gone, as killed; count them."""
    running = _search(f"tags.`{KIND}` != '' AND attributes.status = 'RUNNING'")
    dead = [run for run in running if _is_dead(run.data.tags.get(OWNER, ""))]
    for run in dead:
        client().set_terminated(run.info.run_id, "KILLED")
    return len(dead)


def find_finished(family: str) -> dict[str, Finished]:
    """Find the finished runs of one family of fingerprints, the newest of each fingerprint."""
    runs = _search(
        f"tags.`{FINGERPRINT}` LIKE '{family}%' AND attributes.status = 'FINISHED'",
        order="attributes.start_time ASC",
    )
    return {
        run.data.tags[FINGERPRINT]: Finished(run.info.run_id, dict(run.data.metrics))
        for run in runs
    }


def refer(run: str, to: Sequence[str]) -> None:
    """Let a sweep or a cross-validated job count finished runs as its own, without copies."""
    known = {other.info.run_id for other in _referred(run)}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / REUSED
        write_json(file, sorted(known | set(to)))
        _artifacts(run).log_artifact(str(file))
    client().set_tag(run, "runs.reused", str(len(known | set(to))))


def _log_dataset(run: str, dataset: DatasetInput) -> None:
    try:
        client().log_inputs(run, datasets=[dataset])
    except AwayError:
        raise
    except TrackingError:
        # Of processes that name a dataset first at the same moment, MLflow lets one win (a unique
        # key of the database); for the others it is there now.
        client().log_inputs(run, datasets=[dataset])


def finish_member(run: str, result: MemberResult, settings: Settings) -> None:
    """Keep a member's metrics, its selected epoch and its artifacts, and close its run.

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
    status = "FINISHED"
    if result.failure is None:
        metrics += [Metric(k, v, stamp, result.selected) for k, v in best(result).items()]
    else:
        tags["failure"] = result.failure.reason
        status = "KILLED" if result.failure.killed else "FAILED"
    with _unsent(run, metrics, tags, status) as folder:
        _write_artifacts(folder, result, settings)
    _send(run)


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


def is_best(metric: str) -> bool:
    """Say whether :func:`best` gives a metric of this name."""
    return metric == "gap" or metric.startswith(("best/", "lowest/", "constant/", "averaged/"))


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
    with _unsent(run, metrics, tags, status):
        pass
    _send(run)


@contextmanager
def _unsent(
    run: str, metrics: Sequence[Metric], tags: Mapping[str, str], status: str
) -> Iterator[Path]:
    """Write what is to be sent to a folder of its own: until MLflow has it, it lies there.

    Yields:
        The folder for the run's artifacts.
    """
    with replacing_folder(UNSENT / run) as folder:
        (folder / "artifacts").mkdir()
        yield folder / "artifacts"
        record = {
            "store": address(), "run": run, "status": status, "tags": dict(tags),
            "metrics": [[m.key, m.value, m.timestamp, m.step] for m in metrics],
        }  # fmt: skip
        (folder / "record.json").write_text(json.dumps(record))  # indented, it takes 3 ms a run


_pause_until = 0.0  # by time.monotonic(): until then a store that was away is left alone


def _send(run: str) -> bool:
    """Send what a run has unsent; where that fails now, it stays and is sent later."""
    global _pause_until
    if time.monotonic() < _pause_until:
        return False
    try:
        _deliver(UNSENT / run)
        return True
    except (TrackingError, OSError) as error:
        if isinstance(error, TrackingError) and error.code in GONE:
            place = _set_aside(run)
            log.error(f"{error}; what was to be sent lies in {place}/ now and can be deleted")
            return True
        log.warning(f"{error}: results are kept in {UNSENT}/ and sent later")
        _pause_until = time.monotonic() + PAUSE
        return False


def _deliver(folder: Path) -> None:
    with FileLock(UNSENT / ".lock"), _at_once():  # a sweep beside this one may be sending, too
        if not folder.exists():
            return
        record = json.loads((folder / "record.json").read_text())
        run = record["run"]
        _log(run, [Metric(*values) for values in record["metrics"]], record["tags"])
        if any((folder / "artifacts").iterdir()):
            _artifacts(run).log_artifacts(str(folder / "artifacts"))
        client().set_terminated(run, record["status"])
        remove_folder(folder)


def _set_aside(run: str) -> Path:
    place = UNSENT / REFUSED / run
    place.parent.mkdir(exist_ok=True)
    (UNSENT / run).replace(place)
    return place


def send_unsent() -> int:
    """Send what lies unsent for this store and return how many runs are left."""
    global _pause_until
    waiting = unsent()
    if waiting:
        clear_leftovers(UNSENT)
        try:
            client().search_experiments(max_results=1)  # waits for a server that is away
        except AwayError as error:
            log.warning(str(error))
            return len(waiting)
        _pause_until = 0.0
    return sum(not _send(run) for run in waiting)


def keep(run: str, metrics: Mapping[str, float], status: str) -> None:
    """Keep for later how a run ends."""
    stamp = int(time.time() * 1000)
    with _unsent(run, [Metric(k, v, stamp, 0) for k, v in metrics.items()], {}, status):
        pass


def unsent() -> list[str]:
    """List the runs whose results wait to be sent to this store, in the order they ended."""
    found = []
    for file in UNSENT.glob("[!.]*/record.json"):
        try:
            if json.loads(file.read_text())["store"] == address():
                found.append((file.stat().st_mtime, file.parent.name))
        except FileNotFoundError:  # a sweep beside this one has just sent it
            continue
    return [run for _, run in sorted(found)]


def address() -> str:
    """Return the address of the store, without a password."""
    return masked(_uri())


def _log(run: str, metrics: Sequence[Metric], tags: Mapping[str, str]) -> None:
    for start in range(0, max(len(metrics), 1), METRICS_A_CALL):
        client().log_batch(
            run,
            metrics=metrics[start : start + METRICS_A_CALL],
            tags=[RunTag(k, v) for k, v in tags.items()] if start == 0 else [],
        )


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
        _artifacts(run).log_artifact(str(file), folder)


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
    except AwayError:
        raise
    except TrackingError as error:
        raise TrackingError(f"no run {sweep} in {address()}") from error
    if run.data.tags.get(KIND) != "sweep":
        raise TrackingError(f"run {sweep} is not a sweep but {run.data.tags.get(KIND, 'foreign')}")
    return str(run.info.run_name)


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


def children(parent: str) -> Iterator[Any]:
    """Give the runs below a sweep or a k-fold job, with those of earlier sweeps it refers to."""
    yield from _referred(parent)
    yield from _search(f"tags.`{PARENT}` = '{parent}'", order="attributes.start_time ASC")


def _referred(parent: str) -> Iterator[Any]:
    """The finished runs of earlier sweeps that a run counts as its own."""
    if "runs.reused" not in client().get_run(parent).data.tags:
        return
    ids = json.loads(read_artifact(parent, REUSED) or b"[]")
    for start in range(0, len(ids), 100):
        listed = ", ".join(f"'{run}'" for run in ids[start : start + 100])
        yield from _search(f"attributes.run_id IN ({listed})", order="attributes.start_time ASC")


def _search(condition: str, order: str = "attributes.start_time DESC") -> Iterator[Any]:
    # A sweep over tables has its runs in the experiment of each.
    experiments = [e.experiment_id for e in client().search_experiments()]
    token = None
    while True:
        page = client().search_runs(
            experiments, condition, ViewType.ACTIVE_ONLY, max_results=1000, order_by=[order],
            page_token=token,
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
    artifacts = _artifacts(run)
    if name not in {file.path for file in artifacts.list_artifacts()}:
        return None
    with tempfile.TemporaryDirectory() as folder:
        return Path(artifacts.download_artifacts(name, folder)).read_bytes()


def download(run: str, folder: Path) -> None:
    """Copy all files that are attached to a run."""
    if _artifacts(run).list_artifacts():
        _artifacts(run).download_artifacts("", str(folder))


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
    folds = [read_artifact(child.info.run_id, name) for child in children(run)]
    return [content for content in folds if content is not None]


def read_history(run: str, metric: str) -> list[float]:
    """Read a metric of a run epoch by epoch, the first of epoch 1."""
    return list(read_steps(run, metric).values())


def read_steps(run: str, metric: str) -> dict[int, float]:
    """Read a metric of a run by its steps (epochs from 1, folds from 0), in their order."""
    found = client().get_metric_history(run, metric)
    return {m.step: m.value for m in sorted(found, key=lambda m: m.step)}


def _uri() -> str:
    """The address of the store; MLflow spells the default one ``a%20b`` in a folder ``a b``."""
    uri = str(get_tracking_uri())
    return uri if is_tracking_uri_set() else unquote(uri)


def _database() -> Path | None:
    """The file of the store, if it is one."""
    uri = _uri()
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


def _relative_locations(database: Path | None) -> None:
    """Let a store in the current folder be moved with it; elsewhere MLflow would look here."""
    if database is not None and database.parent.resolve() == Path.cwd():
        relative_locations(database)


def _artifacts(run: str) -> Any:
    """Where a run's artifacts are kept; a relative place is one beside the database."""
    location, database = str(client().get_run(run).info.artifact_uri), _database()
    if database is not None and "://" not in location:
        location = str(database.parent.resolve() / location)  # an absolute one stays as it is
    return _Patient(get_artifact_repository(location))


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


def start_refit(settings: Settings, sweep: str, data_version: str, configuration: str) -> str:
    """Start the run of a refit and return its id; it is no part of the sweep that it follows."""
    run = _start(settings, None, data_version, kind=REFIT, fold=None)
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
