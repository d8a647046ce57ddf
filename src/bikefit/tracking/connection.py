"""The connection to MLflow's store: creation, retries, errors and locations of artifacts."""

from __future__ import annotations

import logging
import os
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from contextvars import ContextVar
from functools import cache, partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import mlflow
from alembic.util import CommandError
from filelock import FileLock
from mlflow import MlflowClient, get_tracking_uri, is_tracking_uri_set
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.db.utils import _initialize_tables
from mlflow.tracking._tracking_service.utils import _tracking_store_registry
from requests import RequestException
from sqlalchemy import create_engine, event
from sqlalchemy.exc import SQLAlchemyError

from bikefit.data.files import atomic_write
from bikefit.errors import hide_secrets
from bikefit.tracking.addresses import database_file, mistake
from bikefit.tracking.errors import NotFoundError, StoreUnavailableError, TrackingError
from bikefit.tracking.probe import probe

log = logging.getLogger(__name__)
PATIENCE = "BIKEFIT_PATIENCE"  # environment variable: s for retries of an unavailable store
NOT_FOUND = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")  # no such run, deleted run
DATABASE_ERRORS = (sqlite3.Error, SQLAlchemyError, CommandError)
OUTDATED = (
    " was written by another version of MLflow than {version}: copy the database, then run `mlflow "
    "db upgrade {address}`; if that fails, install the newer MLflow that wrote it"
)
TOO_LARGE = (
    "; a proxy before MLflow refuses files of this size: raise its limit (client_max_body_size of "
    "nginx) and run `python -m bikefit.send`, or train with tracking.weights=false"
)
TEMPORARY = (
    "{address} is in a temporary workspace of DVC and is deleted with it: to keep the runs, set "
    "MLFLOW_TRACKING_URI=sqlite:///{root}/mlflow.db and start the experiment again"
)
NOTICE = 3.0  # s after which a command says that it waits
ARTIFACTS = "mlruns"  # folder of artifacts beside the database


@contextmanager
def _convert_errors() -> Iterator[None]:
    """Convert errors of MLflow, its database and the connection to :class:`TrackingError`."""
    try:
        yield
    except (MlflowException, RequestException, *DATABASE_ERRORS) as error:
        text = str(error)
        if isinstance(error, MlflowException):
            status, answered = error.get_http_status_code(), "failed with exception" not in text
        else:
            response = getattr(error, "response", None)
            status, answered = getattr(response, "status_code", 500), response is not None
        answered = answered or isinstance(error, DATABASE_ERRORS)
        message = (
            f": {hide_secrets(text.partition(chr(10))[0])}" if answered else " does not answer"
        )
        if code := re.search(r"too many (\d+) error responses", text):
            message = f" answers with status {code[1]}"
        if "out-of-date database schema" in text:
            status, message = 400, OUTDATED.format(version=mlflow.__version__, address=address())
        message += TOO_LARGE if status == 413 else ""
        kind = StoreUnavailableError if status >= 500 else TrackingError
        if getattr(error, "error_code", "") in NOT_FOUND:
            kind = NotFoundError
        raise kind(f"{address()}{message}") from error


OPTIONS = {
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # two lines per run
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # MLflow would retry for 8 minutes in silence
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}
LEVELS = {"mlflow.store.db.utils": logging.CRITICAL, "alembic": logging.WARNING}  # of tracebacks
_calls = 0  # number of calls of MLflow by all threads
_calls_lock = threading.Lock()
_undo = ExitStack()


@contextmanager
def _mlflow_options() -> Iterator[None]:
    """Set MLflow's environment variables and log levels during the calls of this module.

    Other code of the process, such as a notebook's, keeps its own.
    """
    global _calls
    with _calls_lock:
        _calls += 1
        if _calls == 1:
            for name in OPTIONS.keys() - os.environ.keys():
                os.environ[name] = OPTIONS[name]
                _undo.callback(os.environ.pop, name, None)
            for logger, level in LEVELS.items():
                _undo.callback(logging.getLogger(logger).setLevel, logging.getLogger(logger).level)
                logging.getLogger(logger).setLevel(level)
    try:
        yield
    finally:
        with _calls_lock:
            _calls -= 1
            if _calls == 0:
                _undo.close()


_retries: ContextVar[bool] = ContextVar("retries", default=True)


def _patience() -> float:
    given = os.environ.get(PATIENCE, "60")
    try:
        return float(given) if _retries.get() else 0.0
    except ValueError:
        raise TrackingError(f"{PATIENCE}={given}: must be a number of seconds") from None


def _with_retries(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call MLflow; retry while its server is unavailable or its database is locked."""
    patience = _patience()
    end, warned = time.monotonic() + patience, False
    while True:
        try:
            with _convert_errors(), _mlflow_options():
                return call(*args, **kwargs)
        except StoreUnavailableError as error:
            retry = _database() is None or "locked" in str(error)
            if not retry or time.monotonic() >= end:
                raise
            if not warned:
                log.warning(f"{error}: retrying for up to {patience:.0f} s")
                warned = True
            time.sleep(min(1.0, patience / 10))


@contextmanager
def without_retries() -> Iterator[None]:
    """Disable retries in this context: an unavailable store raises an error at once."""
    token = _retries.set(False)
    try:
        yield
    finally:
        _retries.reset(token)


class RetryingProxy:
    """A proxy of an object or module of MLflow.

    Its functions are retried and raise :class:`TrackingError`.
    """

    def __init__(self, target: Any) -> None:
        self.target = target

    def __getattr__(self, name: str) -> Any:
        return partial(_with_retries, getattr(self.target, name))


def client() -> Any:
    """Return MLflow's client of the current store, as a :class:`RetryingProxy`."""
    return _open(_uri(), Path.cwd())  # a relative address depends on the folder


def _probe(uri: str) -> None:
    """Ask a server whether it can be used; log a warning if it takes longer than NOTICE."""
    text = f"{address()} has not answered for {NOTICE:.0f} s; waiting ({PATIENCE}, in s)"
    timer = threading.Timer(NOTICE, log.warning, [text])
    timer.start()
    try:
        probe(uri)
    finally:
        timer.cancel()


@cache
def _open(uri: str, folder: Path) -> Any:
    """Open a store, and create its database if necessary; safe if several processes do so.

    Raises:
        TrackingError: The address is wrong, or the store cannot be used.
    """
    if wrong := mistake(uri, _tracking_store_registry._registry):
        raise TrackingError(hide_secrets(f"MLFLOW_TRACKING_URI={uri} {wrong}"))
    if database := _database():
        return RetryingProxy(_with_retries(_open_database, uri, database, folder))
    _with_retries(_probe, uri)
    return RetryingProxy(_with_retries(MlflowClient, uri))


def _open_database(uri: str, database: Path, folder: Path) -> MlflowClient:
    root, temporary, _ = str(database.resolve()).partition("/.dvc/tmp/exps/")
    if temporary:
        log.warning(TEMPORARY.format(address=address(), root=root))
    lock = database.with_name(f"{database.name}.lock")
    try:
        database.parent.mkdir(parents=True, exist_ok=True)
        lock.touch()  # FileLock would wait for ever if the folder cannot be written
    except OSError as error:
        raise TrackingError(
            f"{address()} cannot be written: {error.strerror}; set MLFLOW_TRACKING_URI to a "
            "store that can be written"
        ) from None
    # Processes that open an incomplete database can damage it permanently.
    with FileLock(lock):
        if not database.exists() or not database.stat().st_size:
            _create_database(database)
        # MLflow caches stores by address.
        opened = MlflowClient(uri.replace(f":///{database}", f":///{folder / database}", 1))
        with closing(sqlite3.connect(database, timeout=60)) as connection:
            connection.execute("PRAGMA journal_mode=wal")  # readers do not wait for a writer
    return opened


def _create_database(database: Path) -> None:
    """Create a database with MLflow's tables atomically; MLflow repairs no incomplete database."""
    with atomic_write(database) as temporary:
        engine = create_engine(f"sqlite:///{temporary}")
        # No other process uses the file yet, so it need not be safe: 2 s instead of 8 s.
        for pragma in ("journal_mode=off", "synchronous=off"):
            event.listen(engine, "connect", lambda new, _, p=pragma: new.execute(f"PRAGMA {p}"))
        _initialize_tables(engine)
        engine.dispose()


def address() -> str:
    """Return the address of the store, with passwords masked."""
    return hide_secrets(_uri())


def server() -> str | None:
    """Return the address of the tracking server, with passwords masked; None for a database."""
    return address().rstrip("/") if _uri().startswith(("http://", "https://")) else None


def _uri() -> str:
    uri = str(get_tracking_uri())
    return uri if is_tracking_uri_set() else unquote(uri)  # MLflow quotes spaces of the default


def _database() -> Path | None:
    """Return the database file of the store; None for a server."""
    return database_file(_uri())


def experiment_id(name: str) -> str:
    """Return the id of an experiment; create it if it does not exist."""
    store = client()
    if experiment := store.get_experiment_by_name(name):
        number = str(experiment.experiment_id)
        if experiment.lifecycle_stage == "deleted":
            raise TrackingError(
                f"tracking.experiment={name} was deleted in MLflow: `mlflow experiments restore -x "
                f"{number}` restores it; or write another name"
            )
        return number
    database = _database()
    folder = database and f"{database.parent.resolve()}/{ARTIFACTS}/{quote(name, safe='')}"
    try:
        return str(store.create_experiment(name, folder))
    except TrackingError:  # another process may have created it
        if experiment := store.get_experiment_by_name(name):
            return str(experiment.experiment_id)
        raise


def local_path(location: str) -> str:
    """Return the current path of an artifact; addresses on servers are returned unchanged.

    MLflow records absolute paths. If the folder of the database was moved or copied, artifacts
    are in ``mlruns`` beside the database.
    """
    database = _database()
    if database is None or "://" in location:
        return location
    folder = database.parent.resolve()
    _, beside, inner = location.rpartition(f"/{ARTIFACTS}/")
    moved = folder / ARTIFACTS / inner
    if beside and (moved.exists() or not Path(location).exists()):
        return str(moved)
    return str(folder / location)  # an absolute location is returned unchanged


def is_missing(location: str) -> bool:
    """Return whether a folder of artifacts was deleted; those on servers are not looked for."""
    return (
        _database() is not None
        and "://" not in location
        and not Path(local_path(location)).exists()
    )


def artifact_location(run: str) -> str:
    """Return the folder or address of a run's artifacts."""
    return local_path(_recorded_location(_uri(), run))


@cache
def _recorded_location(uri: str, run: str) -> str:  # reading a run takes longer than its files
    return str(client().get_run(run).info.artifact_uri)


def artifacts_of(run: str) -> Any:
    """Return MLflow's repository of a run's artifacts, as a :class:`RetryingProxy`."""
    return RetryingProxy(get_artifact_repository(artifact_location(run)))


def search(
    condition: str,
    order: str = "attributes.start_time DESC",
    experiments: Sequence[str] | None = None,
    view: int = ViewType.ACTIVE_ONLY,
) -> Iterator[Any]:
    """Yield the runs that meet a condition in MLflow's search syntax.

    Args:
        condition: The condition; all runs meet the empty text.
        order: Order of the runs.
        experiments: Ids of the experiments; None for all.
        view: Whether to yield deleted runs, a constant of MLflow's ``ViewType``.
    """
    if experiments is None:
        experiments = [experiment.experiment_id for experiment in client().search_experiments()]
    options = {"run_view_type": view, "max_results": 1000, "order_by": [order]}
    token = None
    while True:
        page = client().search_runs(experiments, condition, page_token=token, **options)
        yield from page
        token = page.token
        if not token:
            return
