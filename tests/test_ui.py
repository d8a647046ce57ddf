"""The command `python -m bikefit.ui`; tracking/test_pages.py looks at the pages in a browser."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
from pytest_httpserver import HTTPServer

from bikefit import ui
from bikefit.tracking import views, writing
from ports import free_port
from stores import add, result, settings


@pytest.fixture
def serve(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Mock:
    """The start of MLflow's server, which is only recorded."""
    called = Mock(return_value=0)
    monkeypatch.setattr(ui.subprocess, "call", called)
    return called


@pytest.fixture
def browse(monkeypatch: pytest.MonkeyPatch) -> Mock:
    """The start of a browser on a screen, which is only recorded."""
    called = Mock(return_value=True)
    monkeypatch.setattr(ui.webbrowser, "open", called)
    monkeypatch.setenv("DISPLAY", ":0")
    return called


@pytest.fixture
def sweep(workplace: Path) -> str:
    found = writing.start_sweep("full", "a sweep", [])
    add(found, settings(), result(2.0, 6.0))
    return found


@pytest.fixture
def port() -> str:
    return str(free_port())


@pytest.mark.parametrize("store", [None, "sqlite:///mlflow.db"])
def test_views_are_listed_and_served(
    serve: Mock,
    browse: Mock,
    sweep: str,
    port: str,
    store: str | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if store is not None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    assert ui.main(["--port", port, "--no-browser"]) == 0
    links = views.view_links(sweep, f"http://127.0.0.1:{port}")
    assert capsys.readouterr().out.splitlines() == [f"{k}: {v}" for k, v in links.items()]
    expected = ["mlflow", "ui", "--host", "127.0.0.1", "--port", port, "--workers", "1"]
    (command,) = serve.call_args.args
    assert command[2:] == expected
    assert serve.call_args.kwargs["env"].get("MLFLOW_BACKEND_STORE_URI") == store
    browse.assert_not_called()


def test_without_a_sweep_the_views_show_all_runs(
    serve: Mock, port: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ui.main(["--port", port, "--no-browser"]) == 0
    printed = capsys.readouterr().out
    assert "no runs yet: run `python -m bikefit.train -m …` first" in printed
    assert f"MLflow: http://127.0.0.1:{port}\n" in printed
    writing.start_job(settings(), None, "v1")
    assert ui.main(["--port", port, "--no-browser"]) == 0
    printed = capsys.readouterr().out
    assert "viewStateShareKey=bikefit-comparison&" in printed
    assert "latest" not in printed


def test_a_view_is_opened_when_the_server_answers_and_its_port_is_refused_from_then(
    serve: Mock, browse: Mock, httpserver: HTTPServer, capsys: pytest.CaptureFixture[str]
) -> None:
    httpserver.expect_ordered_request("/health").respond_with_data(status=503)
    httpserver.expect_ordered_request("/health").respond_with_data("OK")
    address = f"http://127.0.0.1:{httpserver.port}"
    ui._open(address, "the comparison")
    browse.assert_called_once_with("the comparison")
    assert len(httpserver.log) == 2  # asked again after the first answer
    assert ui.main(["--port", str(httpserver.port)]) == 1
    assert f"another program, perhaps `make ui`, answers on {address}" in capsys.readouterr().err
    serve.assert_not_called()


@pytest.mark.parametrize("screen", [True, False])
def test_a_browser_is_opened_only_on_a_screen(
    serve: Mock,
    browse: Mock,
    sweep: str,
    port: str,
    monkeypatch: pytest.MonkeyPatch,
    screen: bool,
) -> None:
    def thread(target: object, args: tuple[str, str], daemon: bool) -> SimpleNamespace:
        return SimpleNamespace(start=lambda: browse(args[1]))

    monkeypatch.setattr(ui.threading, "Thread", thread)
    monkeypatch.setattr(ui.sys, "platform", "linux")
    for name in () if screen else ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert ui.main(["--port", port]) == 0
    comparison = views.view_links(sweep, f"http://127.0.0.1:{port}")["comparison"]
    assert [call.args for call in browse.call_args_list] == ([(comparison,)] if screen else [])


def test_a_tracking_server_serves_its_pages_itself(
    serve: Mock,
    browse: Mock,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    links = {"comparison": "http://far:5000/mlflow/#/experiments/1/runs?…"}
    monkeypatch.setattr(views, "latest_links", {"http://far:5000/mlflow": links}.get)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://far:5000/mlflow/")
    assert ui.main([]) == 0
    serve.assert_not_called()
    browse.assert_called_once_with(links["comparison"])
    assert capsys.readouterr().out == f"comparison: {links['comparison']}\n"


def test_a_tracking_server_that_does_not_answer_is_an_error(
    serve: Mock,
    browse: Mock,
    port: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("BIKEFIT_PATIENCE", "0")
    assert ui.main([]) == 1
    assert f"error: http://127.0.0.1:{port} does not answer" in capsys.readouterr().err
    assert not serve.called and not browse.called
