"""The registered model behind HTTP, as `mlflow models serve` starts it, and loaded by MLflow."""

from __future__ import annotations

import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest

from bikefit.final.model import load
from bikefit.final.predict import MODEL
from bikefit.tracking import registry
from browsers import serving

ROWS = [
    {"at": "2011-02-05T17:00", "temp": 7.0, "humidity": 60, "windspeed": 12, "weather": "clear"},
    {"at": "2011-02-06T08:00", "temp": 5.5, "humidity": 70, "windspeed": 0, "weather": "mist"},
    {"at": "2011-02-06T09:00", "temp": 5.5, "humidity": 70, "windspeed": 0, "weather": "sunny"},
]
ROWS[1] |= {"holiday": "yes", "feels_like": 3.0}
NUMBERS = ["expected", "low", "high"]


@pytest.fixture
def server(refitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Address of the server, which uses the code that is stored with the model."""
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    command = ("mlflow", "models", "serve", "-m", MODEL, "--env-manager", "local", "--port", "{}")
    with serving(sys.executable, "-m", *command, health="ping", log=tmp_path / "log") as address:
        yield f"{address}/invocations"


def ask(address: str, rows: list[dict[str, Any]]) -> Any:
    body = json.dumps({"dataframe_records": rows}).encode()
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)["predictions"]


@pytest.mark.slow(seconds=15)
def test_the_server_answers_as_predict_does(server: str) -> None:
    answers = ask(server, ROWS)
    expected = load(registry.model_folder(MODEL)).predict(pd.DataFrame(ROWS))
    assert [answer["error"] for answer in answers] == expected["error"].tolist()
    for answer, (_, row) in zip(answers[:2], expected[NUMBERS].iterrows(), strict=False):
        assert [answer[key] for key in NUMBERS] == pytest.approx(row.tolist(), rel=1e-9)
    assert answers[2]["expected"] is None and "sunny" in answers[2]["error"]
    assert ask(server, ROWS) == answers
    (alone,) = ask(server, ROWS[:1])
    assert alone["expected"] == pytest.approx(answers[0]["expected"], rel=1e-9)
    without = [{k: v for k, v in ROWS[0].items() if k != "temp"}]
    with pytest.raises(urllib.error.HTTPError) as refused:
        ask(server, without)
    assert refused.value.code == 400 and "temp" in refused.value.read().decode()


@pytest.mark.slow
def test_mlflow_loads_the_model(refitted: Path) -> None:
    expected = load(registry.model_folder(MODEL)).predict(pd.DataFrame(ROWS))
    rows = pd.DataFrame(ROWS).astype({"temp": float, "humidity": float, "windspeed": float})
    answers = mlflow.pyfunc.load_model(MODEL).predict(rows)
    for key in NUMBERS:
        assert answers[key].astype(float).tolist() == pytest.approx(expected[key], nan_ok=True)
    assert answers["error"].tolist() == expected["error"].tolist()
