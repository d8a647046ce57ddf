"""The whole pipeline through DVC, on a synthetic table, outside git."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

import commands
from conftest import ROOT
from copies import copy_parts
from synthetic import raw_hours

GRIDS = [
    {"network": "linear", "network.hidden": "[]"},
    {"network.hidden": "[2],[8]"},
    {"regularization.dropout": "0.3", "network.hidden": "[8]"},
]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the project without git, with small networks, few trees and a synthetic table."""
    copy_parts(tmp_path, "src", "conf", ".dvc", ".dvcignore", "dvc.yaml", "data/own/README.md")
    (tmp_path / ".dvc/config.local").write_text("[core]\n    no_scm = true\n")
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["download"] |= {"file": "synthetic.csv", "sha256": None}
    for name, table in params["featurize"]["tables"].items():
        table["rows"] = None if name in ("full", "rich") else 240
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    raw_hours(days=20).to_csv(tmp_path / "synthetic.csv", index=False)
    experiment = tmp_path / "conf/experiment/comparison.yaml"
    content = yaml.safe_load(experiment.read_text())
    content["training"] = {"epochs": 2, "batch_size": 64}
    content["hydra"]["sweeper"] = {"params": {"seed": "0,1"}, "grids": GRIDS}
    experiment.write_text("# @package _global_\n" + yaml.safe_dump(content))
    trees = tmp_path / "src/bikefit/final/trees.py"
    code = trees.read_text()
    for many, few in (("TREES = 5000", "TREES = 20"), ("LEAVES = (15, 31, 63)", "LEAVES = (15,)")):
        assert many in code
        code = code.replace(many, few)
    trees.write_text(code)
    return tmp_path


def dvc(folder: Path, *arguments: str) -> str:
    """Run dvc in a folder with the code of that folder, and return its output."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(folder / "src")}
    process = commands.run("-m", "dvc", *arguments, cwd=folder, env=environment)
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


@pytest.mark.slow(seconds=60)
def test_the_pipeline_gives_its_reports_and_runs_only_changed_stages(copy: Path) -> None:
    printed = dvc(copy, "repro")
    assert "has the lowest validation loss" in printed
    table = pd.read_csv(copy / "reports/comparison.csv")
    assert len(table) == 8  # 4 configurations, 2 seeds
    assert table["status"].tolist() == ["FINISHED"] * 8
    assert table["run_id"].is_unique
    assert (table["gap"] - (table["val_loss"] - table["train_loss"])).abs().max() < 1e-9
    metrics = json.loads((copy / "reports/metrics.json").read_text())
    assert (metrics["runs"], metrics["failed"]) == (8, 0)
    best = table.groupby("configuration")["val_loss"].mean().min()
    assert metrics["winner"]["val_loss"] == pytest.approx(best)
    test = json.loads((copy / "reports/test.json").read_text())
    assert test["winner"] == metrics["winner"]["configuration"]
    assert "is the first" in printed  # version of the model, which is now champion
    for picture in ("raw_data.png", "comparison.png", "curves.png"):
        assert (copy / "reports" / picture).read_bytes().startswith(b"\x89PNG")
    assert "winner" in dvc(copy, "metrics", "show")
    stages = ("download", "clean", "look", "featurize", "sweep", "compare", "refit")
    again = dvc(copy, "repro")
    assert all(f"Stage '{stage}' didn't change, skipping" in again for stage in stages)

    # After the store was deleted, the sweep is trained again.
    first = (copy / "data/sweep.json").read_text()
    for file in copy.glob("mlflow.db*"):
        file.unlink()
    assert "has the lowest validation loss" in dvc(copy, "repro", "compare")
    assert (copy / "data/sweep.json").read_text() != first
    assert set(pd.read_csv(copy / "reports/comparison.csv")["run_id"]).isdisjoint(table["run_id"])

    # After a change of the training settings, the stages of the data do not run again.
    (copy / "conf/training/default.yaml").write_text("epochs: 1\nbatch_size: 64\n")
    status = json.loads(dvc(copy, "status", "--json"))
    assert set(status) == {"store", "sweep", "refit"}  # refit has not seen the new sweep
    params = (copy / "params.yaml").read_text()
    (copy / "params.yaml").write_text(params.replace("timeout: 5", "timeout: 9"))
    assert set(json.loads(dvc(copy, "status", "--json"))) == {"download", *status}
