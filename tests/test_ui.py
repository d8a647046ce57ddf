"""`python -m bikefit.ui`: what it prints, serves and opens; tracking/test_pages.py serves it."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from bikefit import ui
from bikefit.tracking import views, writing
from ports import free_port
from stores import add, result, settings


class Doors:
    """What was served and what was opened, instead of both."""

    def __init__(self) -> None:
        self.commands: list[list[str]] = []
        self.stores: list[str | None] = []
        self.pages: list[str] = []
        self.opened = threading.Event()

    def serve(self, command: list[str], env: dict[str, str], **_: Any) -> Any:
        """Instead of MLflow's server."""
        self.commands.append(command[2:])
        self.stores.append(env.get("MLFLOW_BACKEND_STORE_URI"))
        return subprocess.CompletedProcess(command, 0)

    def open(self, address: str) -> bool:
        """Instead of a browser."""
        self.pages.append(address)
        self.opened.set()
        return True


@pytest.fixture
def doors(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Doors:
    found = Doors()
    monkeypatch.setattr(ui.subprocess, "run", found.serve)
    monkeypatch.setattr(ui.webbrowser, "open", found.open)
    monkeypatch.setenv("DISPLAY", ":0")
    return found


@pytest.fixture
def sweep(workplace: Path) -> str:
    found = writing.start_sweep("full", "a sweep", [])
    add(found, settings(), result(2.0, 6.0))
    return found


@pytest.fixture
def port() -> str:
    return str(free_port())


def test_it_says_where_the_views_are_and_serves_them(
    doors: Doors, sweep: str, port: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ui.main(["--port", port, "--no-browser"]) == 0
    links = views.view_links(sweep, f"http://127.0.0.1:{port}")
    assert capsys.readouterr().out.splitlines() == [f"{k}: {v}" for k, v in links.items()]
    assert list(links) == ["comparison", "curves", "plane"]
    assert doors.commands == [
        ["mlflow", "ui", "--host", "127.0.0.1", "--port", port, "--workers", "1"]
    ]
    assert doors.stores == [None]  # MLflow's own default is ours
    assert not doors.pages


@pytest.mark.slow
def test_another_database_is_served_where_training_writes_to_it(
    doors: Doors, port: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///elsewhere.db")
    assert ui.main(["--port", port, "--no-browser"]) == 0
    assert doors.stores == ["sqlite:///elsewhere.db"]


def test_without_a_sweep_it_leads_to_all_runs(
    doors: Doors, port: str, capsys: pytest.CaptureFixture[str]
) -> None:
    writing.start_job(settings(), None, "v1")
    assert ui.main(["--port", port, "--no-browser"]) == 0
    printed = capsys.readouterr().out
    assert "viewStateShareKey=bikefit-comparison&" in printed
    assert "latest" not in printed


def test_without_runs_it_leads_to_the_plain_pages(
    doors: Doors, port: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ui.main(["--port", port, "--no-browser"]) == 0
    said = capsys.readouterr().out
    assert "no runs yet: run `python -m bikefit.train -m …` first" in said
    assert f"http://127.0.0.1:{port}\n" in said
    assert len(doors.commands) == 1


class Healthy(BaseHTTPRequestHandler):
    """A server that answers, once it does."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def answering() -> Iterator[str]:
    """The port of something that answers."""
    with HTTPServer(("127.0.0.1", 0), Healthy) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield str(server.server_port)
        server.shutdown()
        thread.join()


def test_the_comparison_is_opened_once_the_pages_answer(doors: Doors, answering: str) -> None:
    ui._show(f"http://127.0.0.1:{answering}", "the comparison")
    assert doors.pages == ["the comparison"]


def test_it_opens_on_the_comparison_in_model_training_mode(
    doors: Doors, sweep: str, port: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ui, "_show", lambda _, address: doors.open(address))
    assert ui.main(["--port", port]) == 0
    assert doors.opened.wait(10)
    (page,) = doors.pages
    assert "viewStateShareKey=bikefit-comparison-latest" in page
    assert "workflowType=machine_learning" in page


def test_without_a_screen_nothing_is_opened(
    doors: Doors, sweep: str, port: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(ui.sys, "platform", "linux")
    monkeypatch.setattr(ui, "_show", lambda _, address: doors.open(address))
    assert ui.main(["--port", port]) == 0
    assert not doors.opened.wait(0.2)


def test_a_taken_port_is_said(
    doors: Doors, answering: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ui.main(["--port", answering]) == 1
    said = capsys.readouterr().err
    assert f"something answers on http://127.0.0.1:{answering} already" in said
    assert "`python -m bikefit.ui --port …` takes another port" in said
    assert not doors.commands


def test_a_tracking_server_serves_its_pages_itself(
    doors: Doors, sweep: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    links = {"comparison": "http://far:5000/mlflow/#/experiments/1/runs?…"}
    monkeypatch.setattr(views, "latest_links", {"http://far:5000/mlflow": links}.get)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://far:5000/mlflow/")
    assert ui.main([]) == 0
    assert not doors.commands
    assert doors.pages == [links["comparison"]]
    assert capsys.readouterr().out == f"comparison: {links['comparison']}\n"


def test_a_tracking_server_that_is_away_is_said(
    doors: Doors, port: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("BIKEFIT_PATIENCE", "0")
    assert ui.main([]) == 1
    assert f"error: http://127.0.0.1:{port} does not answer" in capsys.readouterr().err
    assert not doors.commands
    assert not doors.pages


def test_nobody_listens_on_a_free_port(port: str) -> None:
    assert not ui._is_taken(int(port))
    with socket.create_server(("127.0.0.1", int(port))):
        assert ui._is_taken(int(port))
