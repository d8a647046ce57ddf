"""Whether a tracking server or a database answers, asked before anything is trained."""

from __future__ import annotations

import re
import socket
import ssl
from contextlib import suppress
from urllib.parse import urlsplit

import mlflow
import requests
from mlflow.exceptions import MlflowException
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request
from packaging.version import InvalidVersion, Version
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from bikefit.errors import hide_secrets
from bikefit.tracking.addresses import DATABASES
from bikefit.tracking.errors import StoreUnavailableError, TrackingError

RUNS = "/api/2.0/mlflow/experiments/search?max_results=1"  # answered by every MLflow server
CREDENTIALS = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
CLOSED = r"[Cc]onnection (aborted|reset|broken)"
PROBLEMS = {
    "ProxyError": (
        "is asked through a proxy that does not answer; set NO_PROXY={host} if no proxy is needed, "
        "or correct HTTPS_PROXY and HTTP_PROXY"
    ),
    r"timed out.*timeout=([\d.]+)": "does not answer within {0} s",
    "Failed to resolve": "does not answer: the host {host} is unknown",
    r"new connection: (?:\[.*?\] )?([\w ]+)": "does not answer: {0}",
    CLOSED: "does not answer: it closes the connection",
    r"certificate verify failed: ([^(]*[^( ])": (
        "has a certificate that is not trusted ({0}); set MLFLOW_TRACKING_SERVER_CERT_PATH to the "
        "file of the authority that signed it"
    ),
    "SSLError": "does not speak https; write http://{rest}",
    "(.*)": "cannot be used: {0}",
}
"""What is wrong with a connection, by the first pattern that the text of its error has.

A host that "does not answer" may do so later.
"""

TIMEOUT = 10  # s for a database
# Databases whose drivers would wait for minutes, and their errors that another try does not mend
WAITING = ("psycopg2", "psycopg", "mysqldb", "pymysql")
REFUSALS = r"(?i)authentic|password|does not exist|denied|unknown database|pg_hba|ssl|certificate"


def probe(address: str) -> None:
    """Ask a server or a database whether it can be used.

    Raises:
        StoreUnavailableError: It does not answer; it may do so later.
        TrackingError: It cannot be used; the message says what to change.
    """
    scheme = address.partition(":")[0].lower()
    try:
        if scheme in ("http", "https"):
            _probe_server(address.rstrip("/"))
        elif scheme.partition("+")[0] in DATABASES:
            _probe_database(address)
    except TrackingError as error:
        raise type(error)(hide_secrets(f"MLFLOW_TRACKING_URI={address} {error}")) from error


def _probe_server(address: str) -> None:
    answer, endpoint = _get(address, "/version"), "/version"
    version, ours = _version(answer), Version(mlflow.__version__)
    if version is None and answer.status_code < 500:  # a proxy may pass only the API
        answer, endpoint = _get(address, RUNS), RUNS
    status = answer.status_code
    if status >= 500:
        raise StoreUnavailableError(f"answers with status {status} {answer.reason}")
    if status in (401, 403, 407):
        raise TrackingError(f"refuses access (status {status}); {CREDENTIALS}")
    if answer.history:
        raise TrackingError(
            f"redirects to {answer.url.removesuffix(endpoint)}; write that address if it is "
            f"MLflow's; if it is a page to sign in, {CREDENTIALS}"
        )
    if status == 400:
        _check_scheme(address)
    if version is None and not (answer.ok and "json" in answer.headers.get("Content-Type", "")):
        raise TrackingError(
            f"is no MLflow server (status {status} for {endpoint}); correct host, port and path"
        )
    if version and version.major < ours.major:
        raise TrackingError(
            f"is a server of MLflow {version}, which does not record runs of MLflow {ours}; run "
            f"`pip install mlflow=={ours}` and `mlflow db upgrade` where it runs"
        )


def _get(address: str, endpoint: str) -> requests.Response:
    """Return the answer of a server; raise a TrackingError if there is none."""
    try:
        return http_request(
            get_default_host_creds(address), endpoint, "GET", max_retries=0, raise_on_status=False
        )
    except MlflowException as failure:
        text, rest = str(failure).partition("\n")[0], address.partition("://")[2]
        if re.search(CLOSED, text):
            _check_scheme(address)
        pattern = next(pattern for pattern in PROBLEMS if re.search(pattern, text))
        groups, host = re.findall(pattern, text)[:1], urlsplit(address).hostname
        reason = PROBLEMS[pattern].format(*groups, host=host, rest=rest)
        kind = StoreUnavailableError if "does not answer" in reason else TrackingError
        raise kind(reason) from failure


def _check_scheme(address: str) -> None:
    """Raise a TrackingError if the port of an http address expects https."""
    parts, context = urlsplit(address), ssl.create_default_context()
    if parts.scheme != "http":
        return
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    host = (str(parts.hostname), parts.port or 80)
    with suppress(OSError), socket.create_connection(host, 3) as plain:
        context.wrap_socket(plain).close()
        raise TrackingError(f"speaks https; write https:{address.partition(':')[2]}")


def _version(answer: requests.Response) -> Version | None:
    try:
        return Version(answer.text) if answer.ok and len(answer.text) < 40 else None
    except InvalidVersion:
        return None


def _probe_database(address: str) -> None:
    url = make_url(address)
    waits = url.get_driver_name() in WAITING and "connect_timeout" not in url.query
    arguments = {"connect_timeout": TIMEOUT} if waits else {}
    try:
        with create_engine(url, connect_args=arguments, poolclass=NullPool).connect():
            return
    except DBAPIError as error:
        reason = " ".join(str(error.orig).split())
        kind = TrackingError if re.search(REFUSALS, reason) else StoreUnavailableError
        raise kind(f"does not answer: {reason}") from error
