"""Whether a tracking server or a database answers, asked before anything is trained."""

from __future__ import annotations

import re
import socket
import ssl
from contextlib import suppress
from typing import Any
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

TIMEOUT = 10  # s
RUNS = "/api/2.0/mlflow/experiments/search?max_results=1"  # answered by every MLflow server
CREDENTIALS = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
# Errors of databases that another try does not mend
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
    answer = _get(address, "/version")
    status, target = answer.status_code, answer.url.removesuffix("/version")
    if status >= 500:
        raise StoreUnavailableError(f"answers with status {status} {answer.reason}")
    if status in (401, 403, 407):
        raise TrackingError(f"refuses access (status {status}); {CREDENTIALS}")
    if urlsplit(target)[:3] != urlsplit(re.sub("//[^/]*@", "//", address))[:3]:
        raise TrackingError(
            f"redirects to {target}; write that address if it is MLflow's; if it is a page to sign "
            f"in, {CREDENTIALS}"
        )
    version, ours = _version(answer), Version(mlflow.__version__)
    if version is None and not _is_json(_get(address, RUNS)):
        raise TrackingError(_other_server(address, status))
    if version and version.major < ours.major:
        raise TrackingError(
            f"is a server of MLflow {version}, which does not record runs of MLflow {ours}; run "
            f"`pip install mlflow=={ours}` and `mlflow db upgrade` where it runs"
        )


def _get(address: str, endpoint: str) -> requests.Response:
    """Return the answer of a server; raise a TrackingError if there is none."""
    options = {"max_retries": 0, "timeout": TIMEOUT, "raise_on_status": False}
    try:
        return http_request(get_default_host_creds(address), endpoint, "GET", **options)
    except MlflowException as failure:
        kind, reason = _explain(address, failure.__cause__ or failure.__context__ or failure)
        raise kind(reason) from failure


def _explain(address: str, error: BaseException) -> tuple[type[TrackingError], str]:
    """Return the kind of an error of a connection, and the reason with what to do."""
    parts, text, exceptions = urlsplit(address), str(error), requests.exceptions
    kind: type[TrackingError] = TrackingError
    if isinstance(error, exceptions.SSLError) and "CERTIFICATE_VERIFY_FAILED" in text:
        found = re.search(r"certificate verify failed: ([^(]*[^( ])", text)
        reason = (
            f"has a certificate that is not trusted ({found and found[1]}); set "
            "MLFLOW_TRACKING_SERVER_CERT_PATH to the file of the authority that signed it"
        )
    elif isinstance(error, exceptions.SSLError):
        reason = f"does not speak https; write http://{parts.netloc}{parts.path}"
    elif not isinstance(error, exceptions.ConnectionError | exceptions.Timeout):
        reason = f"cannot be used: {text.partition(chr(10))[0]}"
    elif _speaks_tls(address):
        reason = f"speaks https; write https://{parts.netloc}{parts.path}"
    else:
        kind, reason = StoreUnavailableError, "does not answer: it closes the connection"
        if isinstance(error, exceptions.ProxyError):
            reason = (
                f"is asked through a proxy that does not answer; set NO_PROXY={parts.hostname} if "
                "no proxy is needed, or correct HTTPS_PROXY and HTTP_PROXY"
            )
        elif isinstance(error, exceptions.Timeout) or "timed out" in text:
            reason = f"does not answer within {TIMEOUT} s"
        elif "resolve" in text:
            reason = f"does not answer: the host {parts.hostname} is unknown"
        elif "refused" in text:
            reason = "does not answer: the connection is refused"
    return kind, reason


def _other_server(address: str, status: int) -> str:
    """Return what an address leads to that is not MLflow's, and what to write."""
    parts = urlsplit(address)
    if status == 400 and _speaks_tls(address):
        return f"speaks https; write https://{parts.netloc}{parts.path}"
    root = f"{parts.scheme}://{parts.netloc}"
    if parts.path and _version(_get(root, "/version")):
        return f"has a path that MLflow does not serve; write {root}"
    return f"is no MLflow server (status {status} for /version); correct host, port and path"


def _speaks_tls(address: str) -> bool:
    """Return whether the port of an http address expects https."""
    parts, context = urlsplit(address), ssl.create_default_context()
    if parts.scheme != "http":
        return False
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    host = (str(parts.hostname), parts.port or 80)
    with suppress(OSError), socket.create_connection(host, 3) as plain:
        context.wrap_socket(plain).close()
        return True
    return False


def _version(answer: requests.Response) -> Version | None:
    try:
        return Version(answer.text) if answer.ok and len(answer.text) < 40 else None
    except InvalidVersion:
        return None


def _is_json(answer: requests.Response) -> bool:
    try:
        return answer.ok and isinstance(answer.json(), dict)
    except ValueError:
        return False


def _probe_database(address: str) -> None:
    url = make_url(address)
    key = {"pyodbc": "timeout"}.get(url.get_driver_name(), "connect_timeout")
    arguments: dict[str, Any] = {} if key in url.query else {key: TIMEOUT}
    try:
        with create_engine(url, connect_args=arguments, poolclass=NullPool).connect():
            return
    except DBAPIError as error:
        reason = " ".join(str(error.orig).split())
        kind = TrackingError if re.search(REFUSALS, reason) else StoreUnavailableError
        raise kind(f"does not answer: {reason}") from error
