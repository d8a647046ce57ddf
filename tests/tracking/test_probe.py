"""What keeps a server or a database from being used is said before anything is trained."""

from __future__ import annotations

import datetime
import ipaddress
import re
import socket
import sqlite3
import ssl
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import mlflow
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

import postgres
import stores
from bikefit.tracking import connection, probe, reading, writing
from bikefit.tracking.connection import StoreUnavailableError, TrackingError
from ports import free_port

RUNS = "/api/2.0/mlflow/experiments/search"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    connection._open.cache_clear()  # tests have servers of the same address
    monkeypatch.setenv("BIKEFIT_PATIENCE", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    monkeypatch.setattr(probe, "TIMEOUT", 2)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def refusal(monkeypatch: pytest.MonkeyPatch, address: str, later: bool = False) -> str:
    """Return why a store cannot be opened, without its address."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    with pytest.raises(TrackingError) as error:
        connection.client()
    assert isinstance(error.value, StoreUnavailableError) == later
    name, _, reason = str(error.value).partition(" ")
    assert name == f"MLFLOW_TRACKING_URI={re.sub('//.*@', '//…@', address)}"
    assert "\n" not in reason and "hush" not in reason
    return reason


def address_of(server: HTTPServer) -> str:
    return server.url_for("").rstrip("/")


@pytest.mark.parametrize("host", ["localhost/", "LocalHost", "me:hush@localhost"])
def test_a_server_of_this_version_is_used(
    host: str, httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    httpserver.expect_request("/version").respond_with_data(mlflow.__version__)
    name, slash, _ = host.partition("/")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://{name}:{httpserver.port}{slash}")
    connection.client()
    assert len(httpserver.log) == 1


def test_a_server_behind_a_proxy_that_passes_only_the_api_is_used(
    httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    httpserver.expect_request("/version").respond_with_data(status=404)
    httpserver.expect_request(RUNS).respond_with_json({"experiments": []})
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address_of(httpserver))
    connection.client()


def test_a_server_of_mlflow_2(httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tried with a server of 2.22.1: it creates runs, and answers 500 to their results."""
    httpserver.expect_request("/version").respond_with_data("2.22.1")
    reason = refusal(monkeypatch, address_of(httpserver))
    assert reason.startswith("is a server of MLflow 2.22.1, which does not record runs of MLflow 3")
    assert f"run `pip install mlflow=={mlflow.__version__}` and `mlflow db upgrade`" in reason


@pytest.mark.parametrize("page", ["", "<html>Welcome</html>", "{}"])
def test_a_server_that_is_not_mlflow(
    page: str, httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = 200 if page else 404
    httpserver.expect_request(re.compile(".*")).respond_with_data(page.strip("{}"), status)
    reason = refusal(monkeypatch, address_of(httpserver))
    assert reason == (
        f"is no MLflow server (status {status} for {probe.RUNS}); correct host, port and path"
    )


@pytest.mark.parametrize("status", [401, 403])
def test_access_is_refused(
    status: int, httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    httpserver.expect_request("/version").respond_with_data(status=404)
    httpserver.expect_request(RUNS).respond_with_data(status=status)
    address = address_of(httpserver).replace("//", "//me:hush@")
    reason = refusal(monkeypatch, address)
    assert reason.startswith(f"refuses access (status {status}); set MLFLOW_TRACKING_USERNAME")


def test_a_redirection_is_named(httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow's client would follow it and lose what it sends."""
    moved = {"Location": address_of(httpserver) + "/sign-in"}
    httpserver.expect_request(re.compile("/(version|api).*")).respond_with_data(
        status=302, headers=moved
    )
    httpserver.expect_request("/sign-in").respond_with_data("<html>")
    reason = refusal(monkeypatch, address_of(httpserver))
    assert reason.startswith(f"redirects to {moved['Location']}; write that address if it is ")


@pytest.mark.parametrize("status", [500, 502, 503])
def test_a_server_with_an_error_may_answer_later(
    status: int, httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    httpserver.expect_request("/version").respond_with_data(status=status)
    assert refusal(monkeypatch, address_of(httpserver), later=True).startswith(
        f"answers with status {status}"
    )


def test_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    reason = refusal(monkeypatch, f"http://me:hush@127.0.0.1:{free_port()}", later=True)
    assert reason == "does not answer: Connection refused"


def test_an_unknown_host(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    reason = refusal(monkeypatch, "http://nohost.invalid:5000", later=True)
    assert reason == "does not answer: the host nohost.invalid is unknown"


def test_a_proxy_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    reason = refusal(monkeypatch, "http://mlflow.example.org:5000", later=True)
    assert "set NO_PROXY=mlflow.example.org if no proxy is needed" in reason


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.slow(seconds=5)
@pytest.mark.parametrize("scheme", ["http", "postgresql"])
def test_waiting_is_said_and_ends(
    scheme: str, silent: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if scheme == "postgresql":
        pytest.importorskip("psycopg2", reason="the extra `server` is not installed")
    monkeypatch.setattr(connection, "NOTICE", 0.1)
    monkeypatch.setenv("BIKEFIT_PATIENCE", "1")
    start = time.monotonic()
    reason = refusal(monkeypatch, f"{scheme}://me:hush@127.0.0.1:{silent}/runs", later=True)
    assert time.monotonic() - start < 9
    ending = "does not answer within 2 s" if scheme == "http" else "timeout expired"
    assert reason.endswith(ending)
    assert caplog.messages == [
        f"{scheme}://…@127.0.0.1:{silent}/runs has not answered for 0 s; waiting "
        "(BIKEFIT_PATIENCE, in s)"
    ]


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A file with a key and a certificate that it signed for 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    host = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = made.add_extension(x509.SubjectAlternativeName([host]), critical=False)
    file = tmp_path / "server.pem"
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    )
    return file


@pytest.fixture
def secure(certificate: Path) -> Iterator[HTTPServer]:
    """A server that speaks https, with a certificate that nobody trusts."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with HTTPServer("127.0.0.1", ssl_context=context) as server:
        server.expect_request("/version").respond_with_data(mlflow.__version__)
        yield server


def test_a_certificate_that_is_not_trusted(
    secure: HTTPServer, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reason = refusal(monkeypatch, address_of(secure))
    assert reason == (
        "has a certificate that is not trusted (self-signed certificate); set "
        "MLFLOW_TRACKING_SERVER_CERT_PATH to the file of the authority that signed it"
    )
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(certificate.parent / "none"))
    assert "invalid path" in refusal(monkeypatch, address_of(secure))
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(certificate))
    connection.client()


def test_http_to_a_port_of_https(secure: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    address = address_of(secure)
    reason = refusal(monkeypatch, address.replace("https:", "http:"))
    assert reason == f"speaks https; write {address}"


def test_http_to_a_proxy_that_answers_400_on_its_port_of_https(
    httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    httpserver.expect_request(re.compile(".*")).respond_with_data(status=400)  # nginx
    monkeypatch.setattr(ssl.SSLContext, "wrap_socket", lambda _, plain: plain)
    address = address_of(httpserver)
    assert refusal(monkeypatch, address) == f"speaks https; write {address.replace('p:', 'ps:')}"


def test_https_to_a_port_of_http(httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    address = address_of(httpserver)
    reason = refusal(monkeypatch, address.replace("http:", "https:"))
    assert reason == f"does not speak https; write {address}"


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    with postgres.serving() as address:
        yield address


@pytest.mark.slow(seconds=10)
def test_postgresql(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = database.replace("hush@", "hush2@")
    assert "password authentication failed" in refusal(monkeypatch, wrong)
    missing = f"{database.rpartition('/')[0]}/missing"
    assert 'database "missing" does not exist' in refusal(monkeypatch, missing)
    other = re.sub(r":\d+/", f":{free_port()}/", database)
    assert "Connection refused" in refusal(monkeypatch, other, later=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    sweep = writing.start_sweep("full", "s", [f"seed={','.join(map(str, range(3000)))}"])
    run = stores.add(sweep, stores.settings(), stores.result(1.0, 2.0))
    assert reading.read_runs(sweep)["run_id"].tolist() == [run]


def test_an_error_of_a_call_names_the_status(
    httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(request: Request) -> Response:
        return Response(mlflow.__version__) if request.path == "/version" else Response(status=500)

    httpserver.expect_request(re.compile(".*")).respond_with_handler(answer)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address_of(httpserver))
    with pytest.raises(StoreUnavailableError, match="answers with status 500"):
        reading.latest_sweep()


def test_a_proxy_that_refuses_large_files(
    httpserver: HTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    httpserver.expect_request(re.compile(".*")).respond_with_data(status=413)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address_of(httpserver))
    location = f"{address_of(httpserver)}/api/2.0/mlflow-artifacts/artifacts/1"
    monkeypatch.setattr(connection, "artifact_location", lambda _: location)
    (tmp_path / "weights").write_bytes(b"0" * 1000)
    with pytest.raises(TrackingError, match=r"413 .*raise its limit \(client_max_body") as error:
        connection.artifacts_of("run").log_artifact(str(tmp_path / "weights"))
    assert not isinstance(error.value, StoreUnavailableError)
    assert len(httpserver.log) == 1


def test_the_database_of_another_version(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow calls the database of a newer version out of date, too."""
    with closing(sqlite3.connect("mlflow.db")) as opened, opened:
        opened.execute("UPDATE alembic_version SET version_num = '0a8213491aaa'")
    with pytest.raises(TrackingError) as error:
        connection.client()
    assert "was written by another version of MLflow than" in str(error.value)
    assert f"run `mlflow db upgrade {connection.address()}`; if that fails" in str(error.value)


def test_patience_that_is_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIKEFIT_PATIENCE", "long")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(TrackingError, match="BIKEFIT_PATIENCE=long: must be a number of seconds"):
        connection.client()
