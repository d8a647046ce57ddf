"""The command `python -m bikefit.ui`; tracking/test_pages.py tests the pages in a browser."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

import pytest

from bikefit import ui
from bikefit.tracking import views, writing
from stores import settings


@pytest.fixture(autouse=True)
def serve(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Mock:
    """Replace the start of MLflow's server by a mock."""
    called = Mock(return_value=0)
    monkeypatch.setattr(ui.subprocess, "call", called)
    return called


@pytest.mark.parametrize("store", [None, "sqlite:///mlflow.db"])
def test_views_are_listed_and_served(
    serve: Mock,
    store: str | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if store is not None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    sweep = writing.start_sweep("full", "a sweep", [])
    assert ui.main(["--port", "5007"]) == 0
    links = views.view_links(sweep, "http://127.0.0.1:5007")
    assert capsys.readouterr().out.splitlines() == [f"{k}: {v}" for k, v in links.items()]
    expected = ["mlflow", "ui", "--host", "127.0.0.1", "--port", "5007", "--workers", "1"]
    assert serve.call_args.args[0][2:] == expected
    assert serve.call_args.kwargs["env"].get("MLFLOW_BACKEND_STORE_URI") == store


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


def test_a_tracking_server_serves_its_pages_itself(
    serve: Mock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pages, link = "http://far:5000/mlflow", "http://far:5000/mlflow/#/experiments/1/runs?…"
    monkeypatch.setattr(views, "latest_links", {pages: {"comparison": link}}.get)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{pages}/")
    assert ui.main([]) == 0
    serve.assert_not_called()
    assert capsys.readouterr().out == f"comparison: {link}\n"


def test_a_tracking_server_that_does_not_answer_is_an_error(
    serve: Mock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("BIKEFIT_PATIENCE", "0")
    assert ui.main([]) == 1
    assert "127.0.0.1:9 does not answer: Connection refused\n" in capsys.readouterr().err
    assert not serve.called
