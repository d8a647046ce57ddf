"""The command `python -m bikefit.refit` on small sweeps: its files, model and output."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from bikefit import refit
from bikefit.data.table import read_table
from bikefit.final import trees
from bikefit.final.evaluate import OUR_MODEL
from bikefit.sweeps.jobs import Job
from bikefit.sweeps.run import train_jobs
from bikefit.tracking import reading, registry, writing
from conftest import SMALL, make_settings
from inline import INLINE

pytestmark = pytest.mark.slow  # a sweep and its refit come first


@pytest.fixture
def quick_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few trees, and networks that are fitted in this process."""
    monkeypatch.setattr(trees, "MOST_TREES", 20)
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")


def read_report() -> dict[str, Any]:
    return json.loads(Path("reports/test.json").read_text())


def make_sweep(*overrides: str) -> str:
    """Train a sweep of two seeds."""
    sweep = writing.start_sweep("full", "sweep", [])
    jobs = [Job(make_settings(*SMALL, *overrides, f"seed={seed}"), str(seed)) for seed in (0, 1)]
    train_jobs(jobs, sweep, engine=INLINE)
    return sweep


def test_every_model_is_measured_on_the_test_rows(refitted: Path) -> None:
    report, table = read_report(), read_table(Path("data/features/full"))
    models = report["models"]
    assert report["rows"] == table.rows["test"]
    assert (report["table"], report["split"]) == ("full", "days")
    assert report["data_version"] == table.data_version
    ours = {"our model", "our networks alone", "the comparison's winner"}
    assert ours | {"LightGBM", "linear Poisson regression"} < set(models)
    for name, figures in models.items():
        assert figures["rmse_low"] < figures["rmse"] < figures["rmse_high"], name
        if name != OUR_MODEL:
            lead = figures["deviance"] - models[OUR_MODEL]["deviance"]
            assert figures["lead_deviance"] == pytest.approx(lead)
    target = table.read("test").target
    fitting = np.concatenate([table.read(part).target for part in ("train", "validation")])
    rmse = np.sqrt(((target - fitting.mean()) ** 2).mean())
    assert models["constant"]["rmse"] == pytest.approx(rmse, rel=1e-5)
    assert 0.5 < report["interval_coverage"] <= 1
    assert "the mean of 3 networks" in report["described"][OUR_MODEL]
    assert models["the comparison's winner"]["rmse"] != models[OUR_MODEL]["rmse"]


def test_the_model_is_registered_with_its_files(refitted: Path) -> None:
    champion, report = registry.champion("bikefit"), read_report()
    assert champion is not None
    assert champion["data.version"] == report["data_version"]
    ours = report["models"][OUR_MODEL]
    assert float(champion["test/rmse"]) == pytest.approx(ours["rmse"], rel=1e-5)
    run = reading.read_run(champion["run_id"]).iloc[0]
    assert run["status"] == "FINISHED"
    assert run["test/deviance"] == pytest.approx(ours["deviance"])
    networks = yaml.safe_load(reading.read_config(champion["run_id"]))["networks"]
    assert {network["training"]["epochs"] for network in networks} == {4}
    assert [network["network"]["hidden"] for network in networks] == [[8]] * 3
    assert {network["regularization"]["l2"] for network in networks} == {0, 1e-3}
    folder = registry.model_folder("models:/bikefit@champion")
    files = sorted(file.name for file in folder.iterdir())
    assert files == ["model.json", "transformer.json", "trees.txt", "weights.safetensors"]
    logged = folder.parents[1]
    assert not [file for file in logged.rglob("*") if file.suffix in (".pkl", ".pickle")]
    pins = (logged / "requirements.txt").read_text().split()
    assert all("==" in pin and "+" not in pin for pin in pins)
    assert {pin.split("==")[0] for pin in pins} >= {"mlflow", "torch", "safetensors"}
    described = (logged / "MLmodel").read_text()
    assert "signature" in described and "saved_input_example_info" in described


def test_predictions_of_the_test_rows_are_stored_with_a_run_outside_the_sweep(
    refitted: Path,
) -> None:
    champion = registry.champion("bikefit")
    assert champion is not None
    content = reading.read_artifact(champion["run_id"], "test_predictions.parquet")
    stored = pd.read_parquet(io.BytesIO(content or b""))
    test = read_table(Path("data/features/full")).read("test")
    assert stored["timestamp"].tolist() == pd.Series(test.keys).tolist()
    assert stored["rentals"].tolist() == test.target.tolist()
    sweep = json.loads(Path("sweep.json").read_text())["sweep"]
    assert len(reading.read_runs(sweep)) == 4


def test_the_table_is_written_to_a_document(refitted: Path) -> None:
    document = refitted / "DOCUMENT.md"
    document.write_text("before\n<!-- test -->\n<!-- end of test -->\nafter\n")
    assert refit.main(["--document", str(document)]) == 0
    text = document.read_text()
    assert text.startswith("before") and text.endswith("after\n")
    assert "| **our model** |" in text and f"{read_report()['rows']} test rows" in text


@pytest.mark.slow(seconds=10)
def test_versions_of_a_cross_validated_sweep_with_the_squared_loss(
    workplace: Path, quick_fits: None, capsys: pytest.CaptureFixture[str]
) -> None:
    linear = ("network=linear", "network.hidden=[]")
    sweep = make_sweep("validation=kfold", "validation.folds=2", "loss=mse", *linear)
    assert refit.main([sweep]) == 0
    printed, report = capsys.readouterr().out, read_report()
    assert "Version 1 of bikefit is the first champion." in printed
    assert report["winner"] == "none · linear"
    # The winner is delivered and the sweep is of linear models, so neither has a row of its own.
    assert not set(report["models"]) & {"the comparison's winner", "our unregularized network"}
    assert "Our model is the mean of 2 networks of none · linear. All values" in printed
    assert refit.main([sweep, "--one-standard-error"]) == 0
    assert "Version 2 of bikefit does not become champion: its" in capsys.readouterr().out
    champion = registry.champion("bikefit")
    assert champion is not None and champion["version"] == "1"
    assert refit.main([sweep, "--promote"]) == 0
    assert "It was promoted on request." in capsys.readouterr().out
    champion = registry.champion("bikefit")
    assert champion is not None and champion["version"] == "3"


@pytest.mark.parametrize(
    ("overrides", "arguments", "message"),
    [
        ("data=lecture", [], "table lecture has no test rows: set featurize.tables"),
        ("validation=kfold", ["--average"], "--average needs a sweep with"),
    ],
)
@pytest.mark.usefixtures("workplace", "quick_fits")
def test_sweeps_that_cannot_be_refitted(
    capsys: pytest.CaptureFixture[str], overrides: str, arguments: list[str], message: str
) -> None:
    assert refit.main([make_sweep(overrides, "validation.folds=2"), *arguments]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--record", "no.json"], "no sweep in no.json"),
        (["nosuchrun"], "no run nosuchrun in"),
        (["--document", "no.md"], "No such file"),
    ],
)
def test_errors_are_printed(
    refitted: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert refit.main(arguments) == 1
    assert message in capsys.readouterr().err


def test_a_sweep_and_a_record_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        refit.main(["sweep", "--record", "sweep.json"])
    assert "not allowed with" in capsys.readouterr().err
