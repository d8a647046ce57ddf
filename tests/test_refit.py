"""The command, on a small sweep: what it writes, registers and says."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pandas as pd
import pytest
import yaml

from bikefit import refit
from bikefit.data.table import read_table
from bikefit.final.report import DELIVERED
from bikefit.tracking import reading, registry

pytestmark = pytest.mark.slow  # a sweep and its refit come first


def report(folder: Path) -> dict:  # type: ignore[type-arg]
    return json.loads((folder / "reports/test.json").read_text())


def test_every_model_is_measured_on_the_test_rows(refitted: Path) -> None:
    found = report(refitted)
    table = read_table(Path("data/features/full"))
    assert found["rows"] == table.rows["test"]
    assert (found["table"], found["split"], found["epochs"]) == ("full", "days", [4])
    assert found["data_version"] == table.data_version
    assert set(found["models"]) == {
        "constant", "hourly mean by working day", "linear Poisson regression",
        "LightGBM, plain columns", "LightGBM, same columns", "our unregularized network",
        "the comparison's winner", "our model", "our networks alone",
    }  # fmt: skip
    for name, figures in found["models"].items():
        assert figures["rmse_low"] < figures["rmse"] < figures["rmse_high"], name
        if name != DELIVERED:
            lead = figures["deviance"] - found["models"][DELIVERED]["deviance"]
            assert figures["lead_deviance"] == pytest.approx(lead)
    target = table.read("test").target
    constant = found["models"]["constant"]
    both = [table.read(part).target for part in ("train", "validation")]
    mean = sum(part.sum() for part in both) / sum(map(len, both))
    assert constant["rmse"] == pytest.approx(math.sqrt(((target - mean) ** 2).mean()), rel=1e-5)
    assert 0.5 < found["interval"]["coverage"] <= 1
    assert found["delivered"] == f"ensemble of {found['networks']} networks"
    assert found["models"]["the comparison's winner"]["rmse"] != found["models"][DELIVERED]["rmse"]


def test_the_model_is_registered_with_all_that_belongs_to_it(refitted: Path) -> None:
    champion = registry.champion("bikefit")
    assert champion is not None
    found = report(refitted)
    assert champion["data.version"] == found["data_version"]
    winner = found["models"][DELIVERED]
    assert float(champion["test/rmse"]) == pytest.approx(winner["rmse"], rel=1e-5)
    run = reading.read_run(champion["run_id"]).iloc[0]
    assert run["status"] == "FINISHED"
    assert run["test/deviance"] == pytest.approx(winner["deviance"])
    networks = yaml.safe_load(reading.read_config(champion["run_id"]))["networks"]
    assert len(networks) == found["networks"]
    assert [one["weight"] for one in networks] == [2, 1, 2]
    assert {one["training"]["epochs"] for one in networks} == {4}
    assert [one["network"]["hidden"] for one in networks] == [[8], [8], [6]]
    assert [one["seed"] for one in networks] == [0, 1, 1]
    predictions = reading.read_artifact(champion["run_id"], "test_predictions.parquet")
    assert predictions is not None
    folder = registry.model_folder("models:/bikefit@champion")
    files = sorted(file.name for file in folder.iterdir())
    assert files == ["model.json", "transformer.json", "trees.txt", "weights.safetensors"]
    around = folder.parents[1]
    assert not [file for file in around.rglob("*") if file.suffix in (".pkl", ".pickle")]
    pins = (around / "requirements.txt").read_text().split()
    assert all("==" in pin and "+" not in pin for pin in pins)
    assert {pin.split("==")[0] for pin in pins} >= {"mlflow", "torch", "safetensors"}
    logged = (around / "MLmodel").read_text()
    assert "signature" in logged and "saved_input_example_info" in logged


def test_a_refit_is_no_run_of_its_sweep(refitted: Path) -> None:
    sweep = json.loads((refitted / "sweep.json").read_text())["sweep"]
    assert len(reading.read_runs(sweep)) == 4


def test_the_document_gets_the_table(refitted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = refitted / "DOCUMENT.md"
    document.write_text("before\n<!-- test -->\n<!-- end of test -->\nafter\n")
    assert refit.main(["--document", str(document)]) == 0
    text = document.read_text()
    assert text.startswith("before") and text.endswith("after\n")
    assert "| **our model** |" in text and f"{report(refitted)['rows']} test rows" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--record", "no.json"], "no.json not found"),
        (["nosuchrun"], "no run nosuchrun in"),
        (["--document", "no.md"], "No such file"),
    ],
)
def test_what_cannot_be_done_is_said(
    refitted: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert refit.main(arguments) == 1
    assert said in capsys.readouterr().err


def test_seeds_are_counted_from_one(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        refit.main(["--seeds", "0"])
    assert "at least 1 is needed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--ensemble", "-1"], "--ensemble -1: a number of steps, or 0 for none"),
        (["--ensemble", "9", "--one-standard-error"], "--ensemble chooses the best average"),
    ],
)
def test_steps_that_make_no_sense_are_refused(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    with pytest.raises(SystemExit):
        refit.main(arguments)
    assert said in capsys.readouterr().err


def test_predictions_of_test_rows_are_kept_in_time_order(refitted: Path) -> None:
    champion = registry.champion("bikefit")
    assert champion is not None
    content = reading.read_artifact(champion["run_id"], "test_predictions.parquet")
    (refitted / "kept.parquet").write_bytes(content or b"")
    kept = pd.read_parquet(refitted / "kept.parquet")
    part = read_table(Path("data/features/full")).read("test")
    assert kept["timestamp"].tolist() == pd.Series(part.timestamps).tolist()
    assert kept["rentals"].tolist() == part.target.tolist()
