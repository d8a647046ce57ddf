"""The way to the store: opened safely, waited for where it is away, its errors in words."""

from __future__ import annotations

import logging
import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, partial
from http.client import responses
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from filelock import FileLock
from mlflow import MlflowClient, get_tracking_uri, is_tracking_uri_set
from mlflow.entities import Metric, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.db.utils import _initialize_tables
from requests import RequestException
from sqlalchemy import create_engine, event

from bikefit.data.files import atomic_write
from bikefit.errors import BikefitError, hide_secrets
from bikefit.tracking.store import relative_locations, write_ahead

log = logging.getLogger(__name__)
PATIENCE = "BIKEFIT_PATIENCE"  # variable: s to wait for a tracking server that is away
GONE = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")  # such a run, or a deleted one
# An answer that is an HTTP status alone, as MLflow words it: a proxy's, or a door's before MLflow.
STATUS = re.compile(r"(?:failed with error code|too many) (\d{3})")
HINTS = {
    401: "; name and password are taken from MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
    403: "; may this user do that? The server's MLFLOW_SERVER_ALLOWED_HOSTS must name this host",
    404: "; is an MLflow server there?",
}


class TrackingError(BikefitError):
    """Something that the store does not hold or cannot do.

    Args:
        message: what, in words.
        code: MLflow's name for it.
    """

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


class StoreUnavailableError(TrackingError):
    """The store cannot be reached or cannot work now; later it may."""


@contextmanager
def convert_errors() -> Iterator[None]:
    """Let errors of MLflow, of its database and of the way to it become a :class:`TrackingError`.

    Raises:
        StoreUnavailableError: the store does not answer or cannot work now.
        TrackingError: it does not do what it was asked for.
    """
    try:
        yield
    except (RequestException, sqlite3.Error) as error:
        if _status(error) in HINTS:
            raise TrackingError(_unable(error)) from error
        raise StoreUnavailableError(_unable(error)) from error
    except MlflowException as error:
        if error.get_http_status_code() >= 500:
            raise StoreUnavailableError(_unable(error)) from error
        # A proxy that finds no server answers 404, too; that says nothing about a run.
        code = "" if _status(error) else str(error.error_code)
        raise TrackingError(_unable(error), code) from error


def _status(error: Exception) -> int | None:
    """The HTTP status of an answer that is no more than that."""
    response = getattr(error, "response", None)
    if response is not None:
        return int(response.status_code)
    found = STATUS.search(str(error))
    return int(found[1]) if found else None


def _unable(error: Exception) -> str:
    """Say in a line what the store cannot do."""
    said = str(error).splitlines()[0] if str(error) else type(error).__name__
    if _database() is None and (status := _status(error)):
        words = f"{status} {responses.get(status, '')}".rstrip()
        return f"{address()} answers {words}{HINTS.get(status, '')}"
    if _database() is None and ("failed with" in said or isinstance(error, RequestException)):
        return f"{address()} does not answer"
    return f"{address()}: {hide_secrets(said)}"


_waits: ContextVar[bool] = ContextVar("waits", default=True)


def _with_retries(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call MLflow; wait for a server that is away, or for others that hold the database."""
    patience = float(os.environ.get(PATIENCE, "60")) if _waits.get() else 0.0
    end, told = time.monotonic() + patience, False
    while True:
        try:
            with convert_errors():
                return call(*args, **kwargs)
        except StoreUnavailableError as error:
            hopeful = _database() is None or "locked" in str(error)
            if not hopeful or time.monotonic() >= end:
                raise
            if not told:
                log.warning(f"{error}: waiting up to {patience:.0f} s for it")
                told = True
            time.sleep(min(1.0, patience / 10))


@contextmanager
def without_retries() -> Iterator[None]:
    """Do not wait for a store that is away."""
    token = _waits.set(False)
    try:
        yield
    finally:
        _waits.reset(token)


class RetryingProxy:
    """An object of MLflow, all of whose methods are called :func:`_with_retries`."""

    def __init__(self, of: Any) -> None:
        self.of = of

    def __getattr__(self, name: str) -> Any:
        return partial(_with_retries, getattr(self.of, name))


def client() -> Any:
    """Return MLflow's client of the store in use.

    It waits for a server which is away, and its errors are :class:`TrackingError`.
    """
    return _client(_uri(), Path.cwd())  # where a relative address begins


@cache
def _client(uri: str, here: Path) -> Any:
    """Open a store, creating it first if need be, safely for processes that start together."""
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # it shows tracebacks
    logging.getLogger("alembic").setLevel(logging.WARNING)
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # two lines a run
    # MLflow's own patience is 8 minutes a call, without a word; we wait in _with_retries.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    database = _file(uri)
    if database is None:
        return RetryingProxy(MlflowClient(uri))
    database.parent.mkdir(parents=True, exist_ok=True)
    # Processes that meet a database in the making can ruin it for good.
    with FileLock(database.with_name(f"{database.name}.lock")), convert_errors():
        if not database.exists() or not database.stat().st_size:
            _make(database)
        opened = MlflowClient(f"sqlite:///{here / database}")  # MLflow keeps stores by address, too
        write_ahead(database)
        _relative_locations(database)
    return RetryingProxy(opened)


def _make(database: Path) -> None:
    """Make a database with MLflow's tables, whole or not at all.

    One that was killed half way is of no use to anybody: MLflow neither repairs nor replaces it.
    """
    with atomic_write(database) as temporary:
        engine = create_engine(f"sqlite:///{temporary}")
        # Nobody else knows this file yet, so it need not be safe before it has its name.
        for pragma in ("journal_mode=off", "synchronous=off"):
            event.listen(engine, "connect", lambda new, _, p=pragma: new.execute(f"PRAGMA {p}"))
        _initialize_tables(engine)
        engine.dispose()


def address() -> str:
    """Return the address of the store, without a password."""
    return hide_secrets(_uri())


def server() -> str | None:
    """Return the address of the tracking server, without a password; None over a database."""
    return address().rstrip("/") if _uri().startswith(("http://", "https://")) else None


def _uri() -> str:
    """The address of the store; MLflow spells the default one ``a%20b`` in a folder ``a b``."""
    uri = str(get_tracking_uri())
    return uri if is_tracking_uri_set() else unquote(uri)


def _database() -> Path | None:
    """The file of the store, if it is one."""
    return _file(_uri())


def _file(uri: str) -> Path | None:
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


def _relative_locations(database: Path | None) -> None:
    """Let a store in the current folder be moved with it; elsewhere MLflow would look here."""
    if database is not None and database.parent.resolve() == Path.cwd():
        relative_locations(database)


def experiment_id(name: str) -> str:
    """Return the id of an experiment, created if it is not there."""
    return _experiment_id(name, client())


@cache
def _experiment_id(name: str, store: object) -> str:
    """Look it up once for each store that the process opens."""
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


def artifacts_of(run: str) -> Any:
    """Where a run's artifacts are kept; a relative place is one beside the database."""
    location, database = str(client().get_run(run).info.artifact_uri), _database()
    if database is not None and "://" not in location:
        location = str(database.parent.resolve() / location)  # an absolute one stays as it is
    return RetryingProxy(get_artifact_repository(location))


def log_batch(run: str, metrics: Sequence[Metric], tags: Mapping[str, str]) -> None:
    """Write metrics and tags to a run; MLflow's client makes as many calls as there must be."""
    client().log_batch(run, metrics=metrics, tags=[RunTag(k, v) for k, v in tags.items()])


def search(condition: str, order: str = "attributes.start_time DESC") -> Iterator[Any]:
    """Give the runs of all experiments that meet a condition in MLflow's search syntax."""
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
