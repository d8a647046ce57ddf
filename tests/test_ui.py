"""The command `python -m bikefit.ui`; tracking/test_pages.py tests the pages in a browser."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

import pytest
from pytest_httpserver import HTTPServer

from bikefit import ui
from bikefit.tracking import views, writing
from stores import settings


@pytest.fixture(autouse=True)
def serve(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Mock:
    """Replace the start of MLflow's server by a mock."""
    called = Mock(return_value=0)
    monkeypatch.setattr(ui.subprocess, "call", called)
    return called


@pytest.fixture(autouse=True)
def browse(monkeypatch: pytest.MonkeyPatch) -> Mock:
    """Replace the thread that opens a browser by a mock, on a machine with a screen."""
    threading = Mock()
    monkeypatch.setattr(ui, "threading", threading)
    monkeypatch.setenv("DISPLAY", ":0")
    return threading.Thread


@pytest.mark.parametrize("store", [None, "sqlite:///mlflow.db"])
def test_views_are_listed_and_served(
    serve: Mock,
    browse: Mock,
    store: str | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if store is not None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    sweep = writing.start_sweep("full", "a sweep", [])
    assert ui.main(["--port", "5007", "--no-browser"]) == 0
    links = views.view_links(sweep, "http://127.0.0.1:5007")
    assert capsys.readouterr().out.splitlines() == [f"{k}: {v}" for k, v in links.items()]
    expected = ["mlflow", "ui", "--host", "127.0.0.1", "--port", "5007", "--workers", "1"]
    assert serve.call_args.args[0][2:] == expected
    assert serve.call_args.kwargs["env"].get("MLFLOW_BACKEND_STORE_URI") == store
    browse.assert_not_called()


def test_without_a_sweep_the_views_show_all_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert ui.main([]) == 0
    printed = capsys.readouterr().out
    assert "no runs yet: run `python -m bikefit.train -m …` first" in printed
    assert "MLflow: http://127.0.0.1:5000\n" in printed
    writing.start_job(settings(), None, "v1")
    assert ui.main([]) == 0
    printed = capsys.readouterr().out
    assert "viewStateShareKey=bikefit-comparison&" in printed
    assert "latest" not in printed


@pytest.mark.parametrize("screen", [True, False])
def test_a_browser_is_opened_only_on_a_screen(
    browse: Mock, monkeypatch: pytest.MonkeyPatch, screen: bool
) -> None:
    monkeypatch.setattr(ui.sys, "platform", "linux")
    for name in () if screen else ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    sweep = writing.start_sweep("full", "a sweep", [])
    pages = "http://127.0.0.1:5000"
    assert ui.main([]) == 0
    opened = [call.kwargs["args"] for call in browse.call_args_list]
    assert opened == ([(pages, views.view_links(sweep, pages)["comparison"])] if screen else [])


def test_a_page_is_opened_when_the_server_answers(
    httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Mock()
    monkeypatch.setattr(ui.webbrowser, "open", opened)
    httpserver.expect_ordered_request("/health").respond_with_data(status=503)
    httpserver.expect_ordered_request("/health").respond_with_data("OK")
    ui._open(f"http://127.0.0.1:{httpserver.port}", "the comparison")
    opened.assert_called_once_with("the comparison")
    assert len(httpserver.log) == 2  # asked again after the first answer


def test_a_tracking_server_serves_its_pages_itself(
    serve: Mock, browse: Mock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pages, link = "http://far:5000/mlflow", "http://far:5000/mlflow/#/experiments/1/runs?…"
    monkeypatch.setattr(views, "latest_links", {pages: {"comparison": link}}.get)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{pages}/")
    assert ui.main([]) == 0
    serve.assert_not_called()
    assert browse.call_args.kwargs["args"] == (pages, link)
    assert capsys.readouterr().out == f"comparison: {link}\n"


def test_a_tracking_server_that_does_not_answer_is_an_error(
    serve: Mock, browse: Mock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("BIKEFIT_PATIENCE", "0")
    assert ui.main([]) == 1
    assert "127.0.0.1:9 does not answer: Connection refused\n" in capsys.readouterr().err
    assert not serve.called and not browse.called
