"""The command `python -m bikefit.ui`; tracking/test_pages.py looks at the pages in a browser."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bikefit import ui
from bikefit.tracking import views, writing
from ports import free_port
from stores import add, result, settings


class Calls:
    """Calls of MLflow's server and of the browser, instead of both."""

    def __init__(self) -> None:
        self.commands: list[list[str]] = []
        self.stores: list[str | None] = []
        self.opened: list[str] = []

    def serve(self, command: list[str], env: dict[str, str]) -> int:
        self.commands.append(command[2:])
        self.stores.append(env.get("MLFLOW_BACKEND_STORE_URI"))
        return 0

    def open(self, address: str) -> bool:
        self.opened.append(address)
        return True


@pytest.fixture
def calls(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Calls:
    found = Calls()
    monkeypatch.setattr(ui.subprocess, "call", found.serve)
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


@pytest.mark.parametrize("store", [None, "sqlite:///mlflow.db"])
def test_views_are_listed_and_served(
    calls: Calls,
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
    assert calls.commands == [expected]
    assert calls.stores == [store]
    assert not calls.opened


def test_without_a_sweep_the_views_show_all_runs(
    calls: Calls, port: str, capsys: pytest.CaptureFixture[str]
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


@pytest.fixture
def answering(tmp_path: Path) -> Iterator[str]:
    """The port of a server that answers /health."""
    (tmp_path / "health").touch()
    port = str(free_port())
    command = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", port]
    server = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL)
    yield port
    server.kill()
    server.wait()


@pytest.mark.process
def test_the_first_view_is_opened_when_the_server_answers(
    calls: Calls, sweep: str, answering: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ui._open(f"http://127.0.0.1:{answering}", "the comparison")  # waits until it answers
    assert calls.opened == ["the comparison"]
    assert ui.main(["--port", answering]) == 1
    message = capsys.readouterr().err
    assert f"another program, perhaps `make ui`, answers on http://127.0.0.1:{answering}" in message
    assert not calls.commands


@pytest.mark.parametrize("screen", [True, False])
def test_a_browser_is_opened_only_on_a_screen(
    calls: Calls, sweep: str, port: str, monkeypatch: pytest.MonkeyPatch, screen: bool
) -> None:
    class Thread:
        def __init__(self, target: object, args: tuple[str, str], daemon: bool) -> None:
            self.address = args[1]

        def start(self) -> None:
            calls.open(self.address)

    monkeypatch.setattr(ui.threading, "Thread", Thread)
    if not screen:
        for name in ("DISPLAY", "WAYLAND_DISPLAY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(ui.sys, "platform", "linux")
    assert ui.main(["--port", port]) == 0
    comparison = views.view_links(sweep, f"http://127.0.0.1:{port}")["comparison"]
    assert calls.opened == ([comparison] if screen else [])


def test_a_tracking_server_serves_its_pages_itself(
    calls: Calls, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    links = {"comparison": "http://far:5000/mlflow/#/experiments/1/runs?…"}
    monkeypatch.setattr(views, "latest_links", {"http://far:5000/mlflow": links}.get)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://far:5000/mlflow/")
    assert ui.main([]) == 0
    assert not calls.commands
    assert calls.opened == [links["comparison"]]
    assert capsys.readouterr().out == f"comparison: {links['comparison']}\n"


def test_a_tracking_server_that_does_not_answer_is_an_error(
    calls: Calls, port: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("BIKEFIT_PATIENCE", "0")
    assert ui.main([]) == 1
    assert f"error: http://127.0.0.1:{port} does not answer" in capsys.readouterr().err
    assert not calls.commands and not calls.opened


def test_a_listening_port_is_taken(port: str) -> None:
    assert not ui._is_taken(int(port))
    with socket.create_server(("127.0.0.1", int(port))):
        assert ui._is_taken(int(port))
