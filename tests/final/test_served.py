"""The registered model behind HTTP, as `mlflow models serve` puts it there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
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
from ports import free_port

ROWS = [
    {"at": "2011-02-05T17:00", "temp": 7, "humidity": 60, "windspeed": 12, "weather": "clear"},
    {"at": "2011-02-06T08:00", "temp": 5.5, "humidity": 70, "windspeed": 0, "weather": "mist",
     "holiday": "yes", "feels_like": 3.0},
    {"at": "2011-02-06T09:00", "temp": 5.5, "humidity": 70, "windspeed": 0, "weather": "sunny"},
]  # fmt: skip


@pytest.fixture
def server(refitted: Path) -> Iterator[str]:
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", MODEL, "--env-manager",
               "local", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]  # fmt: skip
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    # The model carries its own code: the server must not need ours.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"PATH": path}
    log = refitted / "server.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env=environment, start_new_session=True
        )
        try:
            wait(f"http://127.0.0.1:{port}/ping", process, log)
            yield f"http://127.0.0.1:{port}/invocations"
        finally:
            os.killpg(process.pid, 15)
            process.wait(30)


def wait(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(600):
        assert process.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(address, timeout=5)
        except OSError:
            time.sleep(0.5)
        else:
            return
    raise AssertionError(log.read_text())


def ask(address: str, rows: list[dict[str, Any]]) -> Any:
    body = json.dumps({"dataframe_records": rows}).encode()
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)["predictions"]


@pytest.mark.slow(seconds=15)
def test_the_server_answers_raw_rows_as_predict_does(server: str) -> None:
    answers = ask(server, ROWS)
    wanted = load(registry.model_folder(MODEL)).predict(pd.DataFrame(ROWS))
    for answer, row in zip(answers, wanted.to_dict("records"), strict=True):
        assert answer["error"] == row["error"]
        if not row["error"]:
            for key in ("expected", "low", "high"):
                assert answer[key] == pytest.approx(row[key], rel=1e-9)
    assert answers[2]["expected"] is None and "sunny" in answers[2]["error"]
    assert ask(server, ROWS) == answers
    (alone,) = ask(server, ROWS[:1])
    assert alone["expected"] == pytest.approx(answers[0]["expected"], rel=1e-9)
    without = [{k: v for k, v in ROWS[0].items() if k != "temp"}]
    with pytest.raises(urllib.error.HTTPError) as refused:
        ask(server, without)
    assert refused.value.code == 400 and "temp" in refused.value.read().decode()


@pytest.mark.slow
def test_mlflow_loads_it_with_the_same_numbers(refitted: Path) -> None:
    wanted = load(registry.model_folder(MODEL)).predict(pd.DataFrame(ROWS))
    rows = pd.DataFrame(ROWS).astype({"temp": float, "humidity": float, "windspeed": float})
    found = mlflow.pyfunc.load_model(MODEL).predict(rows)
    for key in ("expected", "low", "high"):
        assert found[key].astype(float).tolist() == pytest.approx(wanted[key].tolist(), nan_ok=True)
    assert found["error"].tolist() == wanted["error"].tolist()
