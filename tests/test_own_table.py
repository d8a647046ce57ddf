"""docs/own_table.md: its commands, executed, give its figures and those of scikit-learn."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss, root_mean_squared_error

import bikefit
from bikefit import refit
from bikefit.comparison.result import Comparison
from bikefit.data import featurize
from bikefit.data.describe import describe
from bikefit.data.rows import read_rows
from bikefit.data.table import Table, read_table
from bikefit.final import trees
from bikefit.final.predict import main as predict
from bikefit.final.predict import open_model
from bikefit.sweeps.jobs import Job
from bikefit.sweeps.run import train_jobs
from bikefit.tracking import registry, writing
from conftest import ROOT, SMALL, make_settings
from inline import INLINE

PAGE = (ROOT / "docs/own_table.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"```(python)\n(.*?)```", PAGE, re.DOTALL))
COMMANDS = re.findall(r"^python -m bikefit\.(\w+) (.*)$", PAGE, re.MULTILINE)

pytestmark = [pytest.mark.slow(seconds=20), pytest.mark.process]


@pytest.fixture(scope="module")
def folder(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project whose tables are those of the page, as the current folder."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "data/own").mkdir(parents=True)
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    (folder / "mlflow.db").write_bytes(empty_store.read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setenv("LOKY_MAX_CPU_COUNT", "1")
        patch.setattr(trees, "MOST_TREES", 30)
        exec(BLOCKS["python"], {})  # writes the files
        texts = [
            describe(Path(file), target)
            for file, _, target in (words.split() for name, words in COMMANDS if name == "describe")
        ]
        assert texts[0] in PAGE
        params["featurize"]["tables"] = yaml.safe_load("\n".join(texts))
        Path("params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
        featurize.main()
        yield folder


def sweep(table: str) -> Comparison:
    """Run the sweep of a table with the command of the page."""
    (command,) = (words for name, words in COMMANDS if name == "train" and table in words)
    return bikefit.sweep([*shlex.split(command)[1:], "hydra.launcher.processes=1"])


@pytest.fixture(scope="module")
def diabetes(folder: Path) -> Comparison:
    return sweep("diabetes")


@pytest.fixture(scope="module")
def breast_cancer(folder: Path) -> Comparison:
    return sweep("breast_cancer")


def parts(name: str) -> tuple[Table, Any, Any]:
    table = read_table(Path("data/features") / name)
    return table, table.read("train"), table.read("validation")


def strengths(comparison: Comparison) -> list[float]:
    return sorted(comparison.runs["regularization.l2"].astype(float))


def test_a_tuned_linear_network_equals_tuned_ridge_regression(diabetes: Comparison) -> None:
    table, train, validation = parts("diabetes")
    assert (table.target, table.time) == ("target", False)
    errors = {}
    for strength in strengths(diabetes)[1:]:
        ridge = Ridge(alpha=len(train) * strength).fit(train.features, train.target)
        predicted = ridge.predict(validation.features)
        errors[strength] = root_mean_squared_error(validation.target, predicted)
    best, chosen = diabetes.ranking.iloc[0], min(errors, key=lambda key: errors[key])
    assert f"λ={chosen:g} " in best["configuration"]
    assert best["val_rmse"] == pytest.approx(errors[chosen], rel=5e-4)
    assert f"RMSE\n{errors[chosen]:.1f}," in PAGE and f"# RMSE {best['val_rmse']:.1f}\n" in PAGE
    shown = f"# {best['configuration']} has the lowest validation loss: {best['val_loss']:.4f}\n"
    assert shown in PAGE


def test_a_tuned_linear_network_equals_tuned_logistic_regression(breast_cancer: Comparison) -> None:
    _, train, validation = parts("breast_cancer")
    losses = {}
    for strength in strengths(breast_cancer)[1:]:
        model = LogisticRegression(C=1 / (2 * len(train) * strength), tol=1e-8, max_iter=10_000)
        model.fit(train.features.astype(float), train.target)
        probability = model.predict_proba(validation.features.astype(float))[:, 1]
        losses[strength] = log_loss(validation.target, probability)
    best, chosen = breast_cancer.ranking.iloc[0], min(losses, key=lambda key: losses[key])
    assert f"λ={chosen:g} " in best["configuration"]
    assert best["val_loss"] == pytest.approx(losses[chosen], rel=5e-4)
    assert f"log loss {losses[chosen]:.4f}:" in PAGE
    assert f"{best['configuration']} has the lowest validation loss: {best['val_loss']:.4f}" in PAGE
    assert f"# accuracy {best['val_accuracy']:.3f}, AUC {best['val_auc']:.3f}\n" in PAGE
    ranking = breast_cancer.ranking.set_index("configuration")
    plain = ranking.loc["none · linear"]
    assert plain["verdict"] == "overfitting" and best["verdict"] == "good fit"
    text = f"loss is {plain['val_loss']:.3f}, with a train loss of {plain['train_loss']:.3f}."
    assert text in PAGE


def test_the_model_of_numbers_is_registered_and_predicts_a_row(
    diabetes: Comparison, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refit.main([diabetes.sweep]) == 0
    report = json.loads(Path("reports/test.json").read_text())
    assert set(report["models"]) >= {"our model", "constant", "ridge regression", "LightGBM"}
    assert report["models"]["our model"]["rmse"] < report["models"]["constant"]["rmse"]
    assert "(RMSE)" in capsys.readouterr().out
    (row,) = (words for name, words in COMMANDS if name == "predict" and "--row" in words)
    assert predict(shlex.split(row)) == 0
    pattern = r"target: (\d+).* expected, from (\d+).* to (\d+).* in 9 of 10 such rows"
    values = re.findall(pattern, capsys.readouterr().out) + re.findall(pattern, PAGE)
    assert np.abs(np.subtract(*np.array(values, float))).max() <= 2
    assert predict([*shlex.split(row)[:2], "--row", "age=590", "sex=3"]) == 1
    shown = capsys.readouterr().err
    assert "age = 590: must be a number from" in shown and "sex = 3: must be one of" in shown
    folder = registry.model_folder("models:/bikefit-diabetes@champion").parents[1]
    served = mlflow.pyfunc.load_model(str(folder))
    names = served.metadata.get_input_schema().input_names()
    assert sorted(names) == sorted(["age", "sex", "bmi", "bp", *(f"s{i}" for i in range(1, 7))])
    rows = pd.read_csv("data/own/diabetes.csv")[names].head(3)
    answers = bikefit.predict(rows, "models:/bikefit-diabetes@champion")
    assert served.predict(rows)["expected"].astype(float).tolist() == answers["expected"].tolist()


def test_the_model_of_yes_and_no_predicts_a_file(
    breast_cancer: Comparison, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refit.main([breast_cancer.sweep, "--average"]) == 0
    report = json.loads(Path("reports/test.json").read_text())
    assert report["interval_coverage"] is None and report["loss"] == "bernoulli"
    assert report["models"]["our model"]["auc"] > 0.97
    assert "| logistic regression |" in capsys.readouterr().out
    (file,) = (words for name, words in COMMANDS if name == "predict" and "--input" in words)
    assert predict(shlex.split(file)) == 0
    answers = pd.read_csv("answers.csv")
    right = (answers["probability"] > 0.5) == (answers["target"] > 0)
    assert len(answers) == 569 and right.mean() > 0.95


def make_hours(days: int) -> pd.DataFrame:
    """Return hours with counts that depend on hour and temperature."""
    random = np.random.default_rng(0)
    time = pd.Series(pd.date_range("2011-01-01", periods=24 * days, freq="h"))
    temperature = (10 + 5 * random.normal(size=len(time))).round(1)
    hour = time.dt.hour
    rate = np.exp(3 + np.sin((hour - 9) / 24 * 2 * np.pi) + 0.02 * temperature)
    return pd.DataFrame({"time": time, "temp": temperature, "count": random.poisson(rate)})


def daily() -> pd.DataFrame:
    """Return days in the form of `day.csv` of the archive."""
    days = make_hours(60).resample("D", on="time").agg({"temp": "mean", "count": "sum"})
    dates = days.index.strftime("%Y-%m-%d")
    table = pd.DataFrame({"instant": range(1, 61), "dteday": dates, "season": 1, "yr": 0})
    table["holiday"] = (table["instant"] % 17 == 0).astype(int)
    table["temp"] = (days["temp"] / 41).round(6).to_numpy()
    return table.assign(cnt=days["count"].to_numpy())


def competition() -> pd.DataFrame:
    """Return hours in the form of a competition: `datetime` and `count`."""
    hours = make_hours(20)
    times = hours["time"].dt.strftime("%Y-%m-%d %H:%M:%S")
    weather = (hours.index % 3 + 1).to_numpy()
    return hours.assign(time=times, weather=weather).rename(columns={"time": "datetime"})


def city() -> pd.DataFrame:
    """Return hours of another city: dates with slashes, an hour, other names of the weather."""
    hours = make_hours(20)
    names = {"temp": "Temperature(C)", "count": "Rented Bike Count"}
    table = hours.rename(columns=names).assign(
        Date=hours["time"].dt.strftime("%d/%m/%Y"),
        Hour=hours["time"].dt.hour,
        Snowfall=np.where(hours["temp"] < 5, 0.4, 0.0),
        Holiday=np.where(hours["time"].dt.day % 3 == 0, "Holiday", "No Holiday"),
    )
    return table.drop(columns="time")


@pytest.mark.parametrize(
    ("make", "target", "time", "one_hot"),
    [
        (daily, "cnt", "dteday", ["weekday"]),
        (competition, "count", "datetime", ["weather", "hour", "weekday"]),
        (city, "Rented Bike Count", "Date", ["Holiday", "weekday"]),
    ],
)
def test_other_tables_of_bikes_get_to_a_prediction(
    workplace: Path,
    monkeypatch: pytest.MonkeyPatch,
    make: Any,
    target: str,
    time: str,
    one_hot: list[str],
) -> None:
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    monkeypatch.setattr(trees, "MOST_TREES", 20)
    (workplace / "data").unlink()
    Path("data/own").mkdir(parents=True)
    make().to_csv("data/own/rides.csv", index=False)
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    text = describe(Path("data/own/rides.csv"), target)
    params["featurize"]["tables"] = yaml.safe_load(text)
    section = params["featurize"]["tables"]["rides"]
    assert (section["time"], section["one_hot"]) == (time, one_hot)
    Path("params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
    featurize.main()
    sweep = writing.start_sweep("rides", "sweep", [])
    small = (*SMALL[1:], "data.name=rides", "network=linear", "regularization.on=weights")
    jobs = [Job(make_settings(*small, f"seed={seed}"), str(seed)) for seed in (0, 1)]
    train_jobs(jobs, sweep, engine=INLINE)
    assert refit.main([sweep]) == 0
    report = json.loads(Path("reports/test.json").read_text())
    assert (report["target"], report["loss"], report["block"]) == (target, "poisson", "days")
    assert 0.5 < report["interval_coverage"] <= 1
    model = open_model("models:/bikefit-rides@champion")
    example = model.inputs.example(read_rows(read_table(Path("data/features/rides")), "test"))
    answers = bikefit.predict(example, "models:/bikefit-rides@champion")
    assert (answers["error"] == "").all()
    assert (answers["low"] <= answers["expected"]).all()
    assert (answers["expected"] <= answers["high"]).all()
