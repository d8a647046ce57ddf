"""deploy/: a server with PostgreSQL, and many writers at once."""

from __future__ import annotations

import os
import re
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
import yaml
from mlflow import MlflowClient

import commands
import stores
from bikefit.comparison.compare import main as compare
from bikefit.data.bikes.rows import EXAMPLE, OPTIONAL
from bikefit.final.model import load
from bikefit.tracking import registry, writing
from browsers import serving
from conftest import ROOT

WRITERS, RUNS = 16, 3
WRITE = """
import multiprocessing, sys, stores
from bikefit.tracking import reading, writing

def write(number):
    sweep = writing.start_sweep("full", f"sweep {number}", [])
    for seed in range(int(sys.argv[2])):
        run = stores.add(sweep, stores.settings(seed=seed), stores.result(1.0, 2.0))
        print(f"wrote {run}\\n", end="", flush=True)  # in one write: the pipe is shared
    writing.finish_sweep(sweep, "", {}, "FINISHED")

# Copies of one process that has loaded all: loading it 16 times takes longer than to write.
fork = multiprocessing.get_context("fork")
writers = [fork.Process(target=write, args=[number]) for number in range(int(sys.argv[1]))]
for writer in writers:
    writer.start()
for writer in writers:
    writer.join()
sys.exit(any(writer.exitcode for writer in writers))
"""


def test_the_compose_file_has_the_versions_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    compose = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())
    build = compose["services"]["mlflow"]["build"]["dockerfile_inline"]
    extra = [pin.split(";")[0] for pin in project["optional-dependencies"]["server"]]
    pinned = {*project["dependencies"], *extra}
    named = re.findall(r"\S+==\S+", build)
    assert set(extra) <= set(named)
    assert len(named) == 3
    assert set(named) <= pinned


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of a server that `deploy/server` started in a folder of its own."""
    pytest.importorskip("psycopg2", reason="the extra `server` is not installed")
    if not list(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl")):
        pytest.skip("PostgreSQL is not installed")
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        folder = Path(name)
        folder.chmod(0o755)  # PostgreSQL has a user of its own
        patch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
        patch.setenv("MLFLOW_WORKERS", "2")
        command = (str(ROOT / "deploy/server"), str(folder / "server"), "127.0.0.1", "{}")
        with serving(*command, health="health", log=folder / "log") as address:
            yield address


@pytest.mark.slow(seconds=30)
def test_sixteen_processes_log_at_once(server: str, tmp_path: Path) -> None:
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")])
    given = os.environ | {"MLFLOW_TRACKING_URI": server, "PYTHONPATH": path}
    done = commands.run("-c", WRITE, str(WRITERS), str(RUNS), cwd=tmp_path, env=given)
    assert done.returncode == 0, done.stderr
    written = re.findall("^wrote (.+)$", done.stdout, re.MULTILINE)
    assert len(set(written)) == WRITERS * RUNS
    assert "View run" not in done.stdout
    store = MlflowClient(server)
    for run in written:
        found = store.get_run(run)
        assert found.info.status == "FINISHED"
        assert found.data.metrics["best/val/loss"] == 2.0
        history = store.get_metric_history(run, "val/loss")
        assert [(m.step, m.value) for m in history] == [(1, 4.0), (2, 3.0), (3, 2.0)]
        assert {f.path for f in store.list_artifacts(run)} == {"config.yaml", "network.yaml"}
    with urlopen(server) as page:
        assert b"<title>MLflow</title>" in page.read()


@pytest.mark.slow
def test_an_experiment_of_another_program_is_compared(
    server: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    store = MlflowClient(server)
    experiment = store.create_experiment("theirs")
    for depth, train, validation in ((1, 8.0, 9.0), (3, 3.0, 4.0), (5, 0.5, 9.0)):
        for seed in range(3):
            run = store.create_run(experiment).info.run_id
            store.log_param(run, "depth", depth)
            store.log_param(run, "seed", seed)
            store.log_metric(run, "train", train + 0.01 * seed)
            store.log_metric(run, "val", validation + 0.01 * seed)
            store.set_terminated(run)
    words = ["--experiment", "theirs", "--train", "train", "--validation", "val"]
    assert compare([*words, "--write-tags", "--reports", "reports"]) == 0
    assert "depth=3 has the lowest validation loss: 4.010" in capsys.readouterr().out
    report = (tmp_path / "reports/report.html").read_text()
    assert f"{server}/#/experiments/{experiment}/runs/" in report
    verdicts = {
        (run.data.params["depth"], run.data.tags["verdict"])
        for run in store.search_runs([experiment])
    }
    assert verdicts == {("1", "underfitting"), ("3", "good fit"), ("5", "overfitting")}


@pytest.mark.slow
def test_a_model_is_registered_on_the_server(
    server: str, refitted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = registry.model_folder("models:/bikefit@champion")
    answer = load(folder).predict(EXAMPLE)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    run = writing.start_refit(stores.settings(), "a sweep", "v1", "a configuration", {})
    assert registry.champion("bikefit") is None
    for number in (1, 2):
        requirements, tags = ["mlflow"], {"data.version": "v1"}
        given = (run, "bikefit", folder, EXAMPLE, answer, OPTIONAL, requirements, tags)
        assert registry.register(*given) == number
    registry.promote("bikefit", 2)
    assert registry.champion("bikefit") == {"data.version": "v1", "version": "2", "run_id": run}
    for uri in ("models:/bikefit@champion", "models:/bikefit/1"):
        assert load(registry.model_folder(uri)).predict(EXAMPLE).equals(answer)
