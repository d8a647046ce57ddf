"""`bikefit.sweep` in the process of other code leaves this process as it was."""

from __future__ import annotations

import logging
import multiprocessing
import os
import random
import signal
import sys
import warnings
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import matplotlib as mpl
import mlflow
import numpy as np
import psutil
import pytest
from hydra import initialize_config_dir, version
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

import bikefit
import bikefit.comparison.result
import bikefit.sweeps.command  # other packages add warning filters when they are imported
import commands
from bikefit.sweeps import forkserver as fork_server
from bikefit.tracking import connection

pytestmark = pytest.mark.process
SMALL = ["data=lecture", "network.hidden=[4]", "training.epochs=2", "hydra.launcher.processes=1"]


def count_fork_servers() -> int:
    """Return the number of fork servers of this process."""
    return sum("forkserver" in child.cmdline()[-1] for child in psutil.Process().children())


def process_state() -> dict[str, Any]:
    """Return what other code of the process relies on."""
    loggers = [logging.getLogger(name) for name in (None, "hydra", "mlflow", "alembic", "bikefit")]
    loggers += [logging.getLogger("mlflow.store.db.utils"), logging.getLogger("optuna")]
    run = mlflow.active_run()
    return {
        "logging": [(x.level, x.propagate, x.disabled, list(x.handlers)) for x in loggers],
        "environment": {k: v for k, v in os.environ.items() if not k.startswith("_MLFLOW")},
        "arguments": list(sys.argv),
        "folder": Path.cwd(),
        "streams": (sys.stdout, sys.stderr),
        "signals": [signal.getsignal(x) for x in (signal.SIGINT, signal.SIGTERM)],
        "warnings": list(warnings.filters),
        "start method": multiprocessing.get_start_method(),
        "fork server": (forkserver._forkserver._preload_modules, count_fork_servers()),
        "hydra": (GlobalHydra.instance().hydra, HydraConfig.instance().cfg, version.getbase()),
        "resolver": OmegaConf.create({"a": "${now:%Y}"}).a,
        "mlflow": (mlflow.get_tracking_uri(), run and run.info.run_id),
        "random": (random.getstate(), np.random.get_state()[1].tolist()),
        "matplotlib": dict(mpl.rcParams),
    }


@pytest.mark.slow(seconds=5)
def test_a_sweep_in_a_thread_of_a_notebook(workplace: Path) -> None:
    """The notebook uses Hydra, MLflow, logging and resolvers itself."""
    (workplace / "other").mkdir()
    (workplace / "other/app.yaml").write_text("a: 1\n", encoding="utf-8")
    written = logging.FileHandler(workplace / "notebook.log", mode="w", encoding="utf-8")
    logging.getLogger().addHandler(written)
    resolvers = OmegaConf.has_resolver("now")
    with (
        initialize_config_dir(str(workplace / "other"), version_base="1.2"),
        mlflow.start_run(),
        ThreadPoolExecutor(1) as threads,
    ):
        OmegaConf.register_new_resolver("now", lambda _: "my own", replace=True)
        fork_server.kill()  # that of an earlier test
        before = process_state()
        try:
            result = threads.submit(bikefit.sweep, [*SMALL, "seed=0,1"]).result()
            after = process_state()
            logging.warning("still written")
        finally:
            logging.getLogger().removeHandler(written)
            written.close()
            if not resolvers:
                OmegaConf.clear_resolver("now")
    assert len(result.runs) == 2
    for name, value in before.items():
        assert after[name] == value, name
    assert "still written" in (workplace / "notebook.log").read_text(encoding="utf-8")


def test_the_fork_server_of_other_code_goes_on(workplace: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(1, context) as pool:
        process = pool.submit(os.getpid).result()
        assert len(bikefit.sweep([*SMALL, "seed=0,1"]).runs) == 2
        assert pool.submit(os.getpid).result() == process
    forkserver._forkserver._stop()


def test_options_of_mlflow_hold_during_calls_only(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    retries, timeout = "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"
    monkeypatch.delenv(retries, raising=False)
    monkeypatch.setenv(timeout, "7")
    seen = []

    def call() -> None:
        seen.append((os.environ[retries], os.environ[timeout]))

    connection.RetryingProxy(type("Target", (), {"call": staticmethod(call)})()).call()
    assert seen == [("0", "7")]
    assert retries not in os.environ
    assert os.environ[timeout] == "7"


NOTEBOOK = """
import mlflow, bikefit
mlflow.autolog()
mlflow.set_experiment("mine")
if __name__ == "__main__":
    with mlflow.start_run():
        result = bikefit.sweep({words})
        print(len(result.runs), result.runs["val_loss"].notna().all(), result.ranking["verdict"][0])
    print(sorted(e.name for e in mlflow.search_experiments()), len(mlflow.search_runs()))
"""


@pytest.mark.slow(seconds=12)
def test_autolog_and_optimized_python(workplace: Path) -> None:
    words = [*SMALL, "network=lecture", "seed=0,1", "regularization.l2=0,1e-3"]
    words.remove("network.hidden=[4]")
    (workplace / "notebook.py").write_text(NOTEBOOK.format(words=words), encoding="utf-8")
    done = commands.run("-OO", "notebook.py", cwd=workplace)
    assert done.returncode == 0, done.stderr
    assert "4 True" in done.stdout
    assert "['Default', 'lecture', 'mine'] 1" in done.stdout
