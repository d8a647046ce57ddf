"""The functions of the package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import bikefit
from bikefit.config import ConfigError
from bikefit.tracking import reading
from bikefit.tracking.connection import TrackingError

SMALL = [
    "network.hidden=[4]",
    "training.epochs=2",
    "training.batch_size=64",
    "hydra.launcher.processes=1",
]


@pytest.mark.process
def test_the_package_imports_no_other_package() -> None:
    code = "import sys, bikefit; print(*{'torch', 'pandas', 'hydra', 'mlflow'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not done.stdout.strip()


@pytest.mark.process
@pytest.mark.parametrize("name", ["compare", "predict"])
def test_a_function_is_not_hidden_by_the_command_of_the_same_name(name: str) -> None:
    code = f"import bikefit.{name}, bikefit; print(bikefit.{name}.__module__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "bikefit.api\n"


@pytest.mark.slow
def test_sweep_returns_the_comparison(workplace: Path) -> None:
    comparison = bikefit.sweep([*SMALL, "regularization.dropout=0,0.1,0.3", "seed=0,1"])
    assert comparison.sweep == reading.latest_sweep()
    assert comparison.runs["regularization.dropout"].tolist() == [0, 0, 0.1, 0.1, 0.3, 0.3]
    assert comparison.runs["val_loss"].notna().all()
    assert comparison.ranking["seeds"].tolist() == [2, 2, 2]
    assert comparison.ranking["val_loss"].is_monotonic_increasing
    assert set(comparison.ranking["verdict"]) <= {
        "good fit",
        "underfitting",
        "overfitting",
        "undecided",
    }
    best = comparison.runs[
        comparison.runs["configuration"] == comparison.ranking["configuration"][0]
    ]
    last = comparison.learning_curves["winner validation"].tolist()[-1]
    assert last == pytest.approx(best["val_loss"].min())
    assert "validation loss" in comparison.train_against_validation().axes[0].get_ylabel()
    assert [axes.get_title(loc="left") for axes in comparison.curves().axes] == ["dropout p"]
    assert comparison._repr_markdown_().startswith(
        f"**{comparison.ranking['configuration'][0]} has the"
    )

    again = bikefit.compare()
    assert again.name.startswith("sweep ")
    pd.testing.assert_frame_equal(again.ranking, comparison.ranking)


def test_a_wrong_setting_raises_the_error_of_the_settings(workplace: Path) -> None:
    with pytest.raises(ConfigError, match=r"regularization.dropout = 1.5: .* less than 1"):
        bikefit.sweep([*SMALL, "regularization.dropout=0,1.5"])
    with pytest.raises(TrackingError, match="no sweep in"):
        bikefit.compare()


@pytest.mark.slow
def test_a_wrong_row_has_an_error(refitted: Path) -> None:
    row = {"at": "2011-02-05T17:00", "temp": 7, "humidity": 60, "windspeed": 12}
    row["weather"] = "sunny"
    (answer,) = bikefit.predict(row).to_dict("records")
    assert answer["error"].startswith("weather = sunny: must be one of clear, mist")
    with pytest.raises(TrackingError, match="no model models:/absent@champion"):
        bikefit.predict(row, "models:/absent@champion")


@pytest.mark.slow
def test_later_batches_are_trained_after_a_failed_job(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = ["optimizer.lr=1e38,1e-3", "seed=0,1", "hydra.sweeper.max_batch_size=1"]
    comparison = bikefit.sweep([*SMALL, *jobs, "optimizer=sgd"])
    assert len(comparison.runs) == 4
    assert comparison.ranking["failed"].tolist() == [0, 2]
    assert comparison.runs["val_loss"].notna().sum() == 2
    assert capsys.readouterr().err.count("\nfailed: ") == 2
