"""What is wrong with the address of a store is said with what to write instead."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest

import commands
from bikefit import send, ui
from bikefit.comparison.compare import main as compare
from bikefit.refit import main as refit
from bikefit.tracking import connection, reading
from bikefit.tracking.addresses import database_file, mistake
from bikefit.tracking.connection import TrackingError

FOLDER = "is a folder, in which MLflow no longer stores runs; set MLFLOW_TRACKING_URI=sqlite:///"
WRONG = {
    "file:./mlruns": FOLDER,
    "file:///tmp/mlruns": FOLDER,
    "./mlruns": FOLDER,
    "/tmp/mlruns": FOLDER,
    "mlruns": FOLDER,
    "C:\\mlruns": FOLDER,
    "localhost": "write http://localhost",
    "localhost:5000": "write http://localhost:5000",
    "127.0.0.1:5000": "write http://127.0.0.1:5000",
    "mlflow.example.org/runs": "write http://mlflow.example.org/runs",
    "mlflow.db": "write sqlite:///mlflow.db",
    "runs/mlflow.sqlite": "write sqlite:///runs/mlflow.sqlite",
    "sqlite:mlflow.db": "write sqlite:///mlflow.db",
    "sqlite://mlflow.db": "write sqlite:///mlflow.db",
    "sqlite+pysqlite:///mlflow.db": "write sqlite:///mlflow.db",
    "sqlite://": "write sqlite:///mlflow.db",
    "sqlite:///": "is lost when the command ends",
    "sqlite:///:memory:": "is lost when the command ends",
    "sqlite:///file:mlflow.db?uri=true": "write sqlite:///mlflow.db",
    "sqlite:///{tmp}": "is a folder; write sqlite:///{tmp}/mlflow.db",
    "sqlite:///{tmp}/text": "is no SQLite database",
    "http:/localhost:5000": "write http://localhost:5000",
    "http://": "write http://host:5000",
    "https": "write http://host:5000",
    "http://localhost:port": "cannot be read",
    "http://localhost:99999": "cannot be used: Invalid url",
    "http://[::1": "cannot be read",
    "http://localhost:5000/#/experiments/1": "write http://localhost:5000/",
    "http://localhost:5000?workspace=1": "write http://localhost:5000",
    " http://localhost:5000": "remove them",
    "http://localhost:5000\n": "remove them",
    "'http://localhost:5000'": "remove them",
    "postgres://me:hush@host/runs": "write postgresql://…@host/runs",
    "postgresql://me:hu@sh@host/runs": "write %40 for an @ in the password",
    "postgresql://me:hush@host:port/runs": "cannot be read",
    "mysql+nodriver://me:hush@host/runs": "cannot be read",
    "oracle://me:hush@host/runs": "has the unknown scheme oracle; write sqlite:///mlflow.db, http:",
    "s3://bucket/runs": "has the unknown scheme s3",
}
DRIVERS = {
    "postgresql://me:hush@host/runs": ("psycopg2", r"pip install -c .* -e '\.\[server\]'"),
    "postgresql+psycopg://me:hush@host/runs": ("psycopg", r"pip install 'psycopg\[binary\]'"),
    "mysql://me:hush@host/runs": ("MySQLdb", r"pip install pymysql` and write `mysql\+pymysql:"),
    "mysql+pymysql://me:hush@host/runs": ("pymysql", "pip install pymysql"),
    "mssql+pyodbc://me:hush@host/runs": ("pyodbc", "pip install pyodbc"),
}
RIGHT = (
    *("sqlite:///mlflow.db", "sqlite:////tmp/mlflow.db", "sqlite:///mlflow.db?timeout=60"),
    *("http://localhost:5000", "https://me:hush@mlflow.example.org/runs/", "HTTP://[::1]:5000"),
    *("databricks", "databricks://profile", "plugin:something"),
)


@pytest.mark.parametrize("address", WRONG)
def test_a_wrong_address_is_refused_with_what_to_write(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text").write_text("no database")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address.format(tmp=tmp_path))
    with pytest.raises(TrackingError) as error:
        connection.client()
    assert str(error.value).startswith("MLFLOW_TRACKING_URI=")
    assert WRONG[address].format(tmp=tmp_path) in str(error.value)
    assert not {"hush", "hu@sh"} & set(str(error.value).replace(":", "@").split("@"))
    assert [path.name for path in tmp_path.iterdir()] == ["text"]


@pytest.mark.parametrize("address", DRIVERS)
def test_a_missing_driver_is_named_with_the_command_that_installs_it(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    package, command = DRIVERS[address]
    if importlib.util.find_spec(package):
        monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    with pytest.raises(TrackingError, match=f"needs the package {package}, .*{command}") as error:
        connection.client()
    assert "hush" not in str(error.value)


@pytest.mark.parametrize("address", RIGHT)
def test_a_right_address_is_not_refused(address: str) -> None:
    assert mistake(address, ["databricks", "plugin"]) == ""


def test_runs_of_the_old_file_store_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow uses a folder `mlruns` of earlier versions if no address is set."""
    (tmp_path / "mlruns/0").mkdir(parents=True)
    (tmp_path / "mlruns/0/meta.yaml").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(TrackingError, match=f"URI=file://{tmp_path}/mlruns {FOLDER}"):
        connection.client()


def test_an_address_with_a_query_has_its_files_beside_the_database(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db?timeout=60")
    assert database_file("sqlite:///mlflow.db?timeout=60") == Path("mlflow.db")
    assert connection.client().search_experiments()
    with pytest.raises(TrackingError, match="no sweep"):
        reading.latest_sweep()
    assert {path.name for path in workplace.glob("mlflow.db*")} >= {"mlflow.db", "mlflow.db.lock"}
    assert not list(workplace.glob("*timeout*"))


def test_a_folder_that_cannot_be_written_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////proc/mlflow.db")
    with pytest.raises(TrackingError, match=r"cannot be written: .*; set MLFLOW_TRACKING_URI"):
        connection.client()


COMMANDS = {
    "compare": lambda: compare([]),
    "any experiment": lambda: compare(["--experiment", "a", "--train", "b", "--validation", "c"]),
    "refit": lambda: refit([]),
    "ui": lambda: ui.main([]),
    "send": send.main,
    "predict": lambda: predict_row([f"--{k}={v}" for k, v in ROW.items()]),
}
ROW = {"at": "2012-10-05T17:00", "temp": 21, "humidity": 60, "windspeed": 12, "weather": "clear"}


def predict_row(arguments: list[str]) -> int:
    from bikefit.final.predict import main

    return main(arguments)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_it(
    command: str,
    workplace: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "localhost:5000")
    assert COMMANDS[command]() == 1
    expected = (
        "error: MLFLOW_TRACKING_URI=localhost:5000 has no scheme; write http://localhost:5000\n"
    )
    assert capsys.readouterr().err == expected


@pytest.mark.slow(seconds=10)
@pytest.mark.parametrize("words", [[], ["-m", "seed=0,1"]], ids=["run", "sweep"])
def test_training_says_it_before_anything_is_trained(words: list[str], workplace: Path) -> None:
    given = os.environ | {"MLFLOW_TRACKING_URI": "localhost:5000"}
    done = commands.run("-m", "bikefit.train", *words, cwd=workplace, env=given)
    assert done.returncode == 1
    assert "MLFLOW_TRACKING_URI=localhost:5000 has no scheme" in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    assert not list(workplace.glob("checkpoints/*"))
