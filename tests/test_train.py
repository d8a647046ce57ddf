"""The command line: help, errors, exit status."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import joblib
import pytest
import yaml

import commands
from bikefit.tracking import connection, reading
from bikefit.tracking.connection import TrackingError

pytestmark = pytest.mark.process

QUICK = ["network.hidden=[4]", "training.epochs=2", "training.batch_size=64"]


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return commands.run("-m", "bikefit.train", *arguments, cwd=folder)


def test_help_names_groups_and_keys_and_loads_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys; sys.argv = ['train', '--help']\n"
        "from bikefit.train import main\n"
        "try:\n    main()\n"
        "finally:\n    print(sorted({'torch', 'mlflow', 'pandas'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "regularization: batch_norm, dropout, early_stopping, l1, l2, none" in done.stdout
    assert "batch_size: 256" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_cfg_job_is_the_config(tmp_path: Path) -> None:
    done = run(tmp_path, "--cfg", "job", "regularization=l2", "regularization.layers.output.l2=1")
    config = yaml.safe_load(done.stdout)
    assert config["regularization"]["l2"] == 0.001
    assert config["regularization"]["layers"] == {"output": {"l2": 1}}


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("regularization.l3=1", ["Could not override 'regularization.l3'"]),
        ("regularisation=l1", ["Could not override 'regularisation'"]),
        ("regularization=l3", ["Could not find 'regularization/l3'", "batch_norm", "dropout"]),
    ],
)
def test_a_misspelt_key_is_named(tmp_path: Path, override: str, words: list[str]) -> None:
    done = run(tmp_path, override)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


def test_an_impossible_value_stops_a_whole_sweep_before_training(workplace: Path) -> None:
    done = run(workplace, "-m", *QUICK, "regularization.dropout=0.1,1.5")
    assert done.returncode == 1
    assert "regularization.dropout = 1.5: input should be less than 1" in done.stderr
    assert "Traceback" not in done.stderr
    with pytest.raises(TrackingError, match="no sweep"):
        reading.latest_sweep()


def test_a_missing_table_says_what_to_do(tmp_path: Path) -> None:
    done = run(tmp_path, *QUICK)
    assert done.returncode == 1
    assert "no table at data/features/full: run `dvc repro featurize`" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_bug_shows_its_traceback(workplace: Path) -> None:
    code = (
        f"import sys; sys.argv = ['train', *{QUICK}]\n"
        "import bikefit.data.table as table\n"
        "from bikefit.train import main\n"
        "def broken(path): raise ValueError('a bug')\n"
        "table.read_table = broken\n"
        "main()"
    )
    done = commands.run("-c", code, cwd=workplace)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "in broken" in done.stderr
    assert "ValueError: a bug" in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(joblib.cpu_count() == 1, reason="one core trains in the command's process")
def test_a_plain_run_leaves_to_its_worker_what_training_loads(workplace: Path) -> None:
    code = (
        f"import sys; sys.argv = ['train', *{QUICK}]\n"
        "from bikefit.train import main\n"
        "try:\n    main()\n"
        "finally:\n    print(sorted({'torch', 'pytorch_lightning', 'mlflow'} & {*sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=workplace, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "['mlflow']"
    (run,) = re.findall(r"\(run (\w+)\)", done.stderr)
    assert len(reading.read_history(run, "val/loss")) == 2


@pytest.mark.slow
def test_a_sweep_from_the_shell(workplace: Path) -> None:
    done = run(
        workplace,
        "-m",
        *QUICK,
        "hydra.launcher.processes=1",
        "tracking.record=out/sweep.json",
        "regularization=none,dropout",
        "seed=0,1",
    )
    assert done.returncode == 0, done.stderr
    assert "has the lowest validation loss" in done.stdout
    sweep = reading.latest_sweep()
    assert yaml.safe_load((workplace / "out/sweep.json").read_text()) == {"runs": 4, "sweep": sweep}
    assert reading.read_runs(sweep)["status"].tolist() == ["FINISHED"] * 4
    assert sorted(p.name for p in next((workplace / "multirun").iterdir()).iterdir()) == [
        "0",
        "1",
        "2",
        "3",
        "multirun.yaml",
    ]
    for noise in ("GPU available", "litlogger", "TPU", "Warning", "💡"):
        assert noise not in done.stderr


@pytest.mark.slow
def test_a_failed_job_is_named_and_the_others_are_trained(workplace: Path) -> None:
    done = run(
        workplace,
        "-m",
        *QUICK,
        "hydra.launcher.processes=1",
        "optimizer=sgd",
        "optimizer.lr=1e+20,1e-5",
        "hydra/sweeper=basic",
    )
    assert done.returncode == 1
    assert "failed: optimizer.lr=1e+20: training loss became" in done.stderr
    assert "1 of 2 jobs failed" in done.stderr
    assert "Traceback" not in done.stderr
    sweep = reading.latest_sweep()
    assert reading.read_runs(sweep)["status"].tolist() == ["FAILED", "FINISHED"]
    assert connection.client().get_run(sweep).info.status == "FAILED"


@pytest.mark.slow
def test_ctrl_c_ends_a_sweep_with_status_130(workplace: Path) -> None:
    words = ["-m", *QUICK[::2], "training.epochs=10000", "hydra.launcher.processes=1", "seed=0,1"]
    process = commands.start(["-m", "bikefit.train", *words], cwd=workplace)
    while not list(workplace.glob("checkpoints/*")):
        assert process.poll() is None
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(60) == 130
    sweep = reading.latest_sweep()
    assert connection.client().get_run(sweep).info.status == "KILLED"
