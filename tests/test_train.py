"""The command line: help, errors, exit status."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import joblib
import pytest
import yaml

import commands
from bikefit.tracking import connection, reading
from bikefit.tracking.connection import TrackingError

pytestmark = pytest.mark.process

QUICK = ["network.hidden=[4]", "training.epochs=2", "training.batch_size=64"]
ONE_PROCESS = "hydra.launcher.processes=1"
# Prints which slow packages the command has loaded.
LOADED = """
import sys; sys.argv = ['train', *{words}]
from bikefit.train import main
try:
    main()
finally:
    print(sorted({{'torch', 'pytorch_lightning', 'mlflow', 'pandas'}} & {{*sys.modules}}))
"""


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return commands.run("-m", "bikefit.train", *arguments, cwd=folder)


def assert_error(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """Check that a command failed with a message and without a traceback."""
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


def test_help_lists_groups_and_keys_without_slow_imports(tmp_path: Path) -> None:
    done = commands.run("-c", LOADED.format(words=["--help"]), cwd=tmp_path)
    assert "regularization: batch_norm, dropout, early_stopping, l1, l2, none" in done.stdout
    assert "batch_size: 256" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_cfg_job_prints_the_config(tmp_path: Path) -> None:
    done = run(tmp_path, "--cfg", "job", "regularization=l2", "regularization.layers.output.l2=1")
    config = yaml.safe_load(done.stdout)
    assert config["regularization"]["l2"] == 0.001
    assert config["regularization"]["layers"] == {"output": {"l2": 1}}


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("regularization.l3=1", ["Could not override 'regularization.l3'"]),
        ("regularization=l3", ["Could not find 'regularization/l3'", "batch_norm", "dropout"]),
        ("seed=1", ["no table at data/features/full: run `dvc repro featurize`"]),
    ],
)
def test_a_misspelt_key_or_a_missing_table_is_an_error(
    tmp_path: Path, override: str, words: list[str]
) -> None:
    assert_error(run(tmp_path, override), *words)


def test_an_impossible_value_is_an_error_before_training(workplace: Path) -> None:
    done = run(workplace, "-m", *QUICK, "regularization.dropout=0.1,1.5")
    assert_error(done, "regularization.dropout = 1.5: input should be less than 1")
    with pytest.raises(TrackingError, match="no sweep"):
        reading.latest_sweep()


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
def test_the_command_of_a_single_run_does_not_import_torch(workplace: Path) -> None:
    done = commands.run("-c", LOADED.format(words=QUICK), cwd=workplace)
    assert done.stdout.splitlines()[-1] == "['mlflow', 'pandas']"
    (single,) = re.findall(r"\(run (\w+)\)", done.stderr)
    assert len(reading.read_history(single, "val/loss")) == 2


@pytest.mark.slow
def test_a_sweep_from_the_shell(workplace: Path) -> None:
    words = ["tracking.record=out/sweep.json", "regularization=none,dropout", "seed=0,1"]
    done = run(workplace, "-m", *QUICK, ONE_PROCESS, *words)
    assert done.returncode == 0, done.stderr
    assert "has the lowest validation loss" in done.stdout
    sweep = reading.latest_sweep()
    assert yaml.safe_load((workplace / "out/sweep.json").read_text()) == {"runs": 4, "sweep": sweep}
    assert reading.read_runs(sweep)["status"].tolist() == ["FINISHED"] * 4
    files = {path.name for path in workplace.glob("multirun/*/*")}
    assert files == {"0", "1", "2", "3"}
    for noise in ("GPU available", "litlogger", "TPU", "Warning", "💡"):
        assert noise not in done.stderr


@pytest.mark.slow
def test_a_failed_job_is_named_and_the_others_are_trained(workplace: Path) -> None:
    words = ["optimizer=sgd", "optimizer.lr=1e+20,1e-5", "hydra/sweeper=basic"]
    done = run(workplace, "-m", *QUICK, ONE_PROCESS, *words)
    assert_error(done, "failed: optimizer.lr=1e+20: training loss became", "1 of 2 jobs failed")
    sweep = reading.latest_sweep()
    assert reading.read_runs(sweep)["status"].tolist() == ["FAILED", "FINISHED"]
    assert connection.client().get_run(sweep).info.status == "FAILED"
