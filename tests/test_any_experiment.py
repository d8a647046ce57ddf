"""docs/any_experiment.md: runs of other programs are recorded and judged as the page says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import mlflow
import pandas as pd
import pytest

import bikefit
import commands
from bikefit.comparison.compare import main
from conftest import ROOT

PAGE = (ROOT / "docs/any_experiment.md").read_text()
FILES = {text.splitlines()[0][2:]: text for text in re.findall(r"```python\n(.*?)```", PAGE, re.S)}
COMPARE = "python -m bikefit.compare --experiment "
LINES = [line for line in PAGE.splitlines() if line.startswith("python ")]

pytestmark = pytest.mark.process


def record(folder: Path, name: str) -> None:
    """Run a program of the page in a folder."""
    (command,) = [line for line in LINES if name in line]
    words = [
        str(ROOT / word) if word.startswith("benchmarks/") else word for word in command.split()
    ]
    for file, text in FILES.items():
        (folder / file).write_text(text)
    done = commands.run(*words[1:], cwd=folder)
    assert done.returncode == 0, done.stderr


def compare(experiment: str, *more: str) -> pd.DataFrame:
    """Run the command of the page on an experiment; return its runs by parameters and verdict."""
    (command,) = [line for line in LINES if line.startswith(f"{COMPARE}{experiment} ")]
    assert main([*shlex.split(command)[3:], "--reports", "reports", *more]) == 0
    assert Path("reports/report.html").read_text().count("<figure") >= 2
    return pd.read_csv("reports/comparison.csv")


@pytest.mark.slow(seconds=15)
def test_networks_of_scikit_learn(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(workplace, "networks.py")
    runs = compare("networks")
    verdicts = runs.groupby("parameter.alpha")["verdict"].agg(set).map(", ".join)
    expected = ["overfitting"] * 3 + ["good fit"] * 2 + ["underfitting"]
    assert verdicts.to_dict() == dict(zip([0.01, 0.1, 1, 10, 100, 1000], expected, strict=True))
    assert "Underfitting: make it more flexible" in capsys.readouterr().out
    tags = [run.data.tags for run in mlflow.search_runs(output_format="list", **of("networks"))]
    assert not any("verdict" in one for one in tags)
    compare("networks", "--write-tags")
    tags = [run.data.tags for run in mlflow.search_runs(output_format="list", **of("networks"))]
    assert {one["verdict"] for one in tags} == {"underfitting", "good fit", "overfitting"}
    comparison = bikefit.compare(experiment="networks", train="train_mse", validation="val_mse")
    assert comparison.ranking["seeds"].tolist() == [3] * 6


def of(experiment: str) -> dict[str, list[str]]:
    return {"experiment_names": [experiment]}


@pytest.mark.slow(seconds=20)
def test_trees_with_autologging(workplace: Path) -> None:
    record(workplace, "trees.py")
    runs = compare("trees")
    assert len(runs) == 36
    verdict = runs.groupby(["parameter.max_depth", "parameter.n_estimators"])["verdict"].first()
    assert verdict[1, 3] == verdict[3, 3] == "underfitting"
    assert verdict[3, 10] == "good fit"
    assert verdict[8, 50] == "overfitting"


@pytest.mark.slow(seconds=20)
def test_hydra_with_lightnings_logger(workplace: Path) -> None:
    record(workplace, "hydra_lightning.py")
    runs = compare("full")
    assert len(runs) == 6
    assert runs.groupby("parameter.l2")["verdict"].nunique().tolist() == [1, 1, 1]
    assert runs.loc[runs["parameter.l2"] == 0.1, "train_loss"].min() > runs["train_loss"].min()


def test_wrong_arguments_are_errors(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--experiment", "mine"])
    assert "--experiment needs --train METRIC and --validation METRIC" in capsys.readouterr().err
    assert main(["--experiment", "mine", "--train", "a", "--validation", "b"]) == 1
    error = capsys.readouterr().err
    assert "no experiment 'mine' in sqlite:///" in error
    assert "there are: Default" in error


@pytest.mark.parametrize(
    "option",
    [["--train", "a"], ["--validation", "b"], ["--maximize"], ["--seed", "s"], ["--write-tags"]],
)
def test_options_of_experiments_need_one(
    option: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(option)
    assert f"{option[0]} needs --experiment NAME" in capsys.readouterr().err


def test_nested_runs_and_many_runs(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    client = mlflow.MlflowClient()
    experiment = client.create_experiment("search")
    parent = client.create_run(experiment).info.run_id
    for i in range(4):
        run = client.create_run(experiment, tags={"mlflow.parentRunId": parent}).info.run_id
        client.log_param(run, "depth", i)
        client.log_metric(run, "train", [8.0, 3.0, 1.0, 0.5][i])
        client.log_metric(run, "val", [9.0, 4.0, 4.2, 9.0][i])
        client.set_terminated(run)
    client.set_terminated(parent)
    assert main(["--experiment", "search", "--train", "train", "--validation", "val"]) == 0
    out = capsys.readouterr().out
    assert "1 of 5 runs are left out: they do not have train and val." in out
    assert "With one seed each, the noise is unknown" in out
