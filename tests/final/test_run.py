"""The refit of sweeps that are not the usual one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bikefit.errors import DataError
from bikefit.final import trees
from bikefit.final.run import Options, refit
from bikefit.sweeps.jobs import Job, train
from bikefit.tracking import registry, writing
from bikefit.tracking.connection import TrackingError
from conftest import make_settings

SMALL = ("network.hidden=[4]", "training.epochs=2", "training.batch_size=64")


def swept(*overrides: str) -> str:
    """A sweep of two seeds."""
    sweep = writing.start_sweep("full", "sweep", [])
    jobs = [Job(make_settings(*SMALL, *overrides, f"seed={seed}"), str(seed)) for seed in (0, 1)]
    train(jobs, sweep, processes=1)
    return sweep


@pytest.mark.slow(seconds=10)
def test_a_cross_validated_sweep_with_the_squared_loss(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(trees, "MOST_TREES", 20)
    sweep = swept("validation=kfold", "validation.folds=2", "loss=mse", "network=linear",
                  "network.hidden=[]")  # fmt: skip
    options = Options(seeds=1, name="other", processes=1)
    report = refit(sweep, Path("reports"), options)
    assert json.loads(Path("reports/test.json").read_text()) == report
    assert (report["epochs"], report["networks"]) == ([2], 1)
    assert "our unregularized network" not in report["models"]  # the sweep is of linear models
    # The table made up for tests begins its seasons with their months.
    assert report["calendar_disagreements"]["days"] == 40
    refit(sweep, Path("reports"), options)
    assert "Version 2 of other does not become champion: its" in capsys.readouterr().out
    champion = registry.champion("other")
    assert champion is not None and champion["version"] == "1"
    assert report["delivered"] == report["winner"] == "none · linear"  # nothing was selected
    again = Options(seeds=1, name="other", processes=1, promote=True, ensemble=2)
    assert refit(sweep, Path("reports"), again)["why"].count("Greedy selection of 2 among 2") == 1
    assert "It was promoted on request." in capsys.readouterr().out
    champion = registry.champion("other")
    assert champion is not None and champion["version"] == "3"


@pytest.mark.slow
def test_a_table_without_test_rows_is_refused(workplace: Path) -> None:
    with pytest.raises(DataError, match=r"table lecture has no test rows: set featurize.tables"):
        refit(swept("data=lecture"), Path("reports"), Options())


@pytest.mark.slow
def test_runs_that_kept_no_predictions_are_refused_before_any_fit(workplace: Path) -> None:
    sweep = swept("tracking.predictions=false")
    with pytest.raises(TrackingError, match=r"train with tracking.predictions=true"):
        refit(sweep, Path("reports"), Options())


@pytest.mark.slow
def test_trees_need_the_validation_rows_of_the_table(workplace: Path) -> None:
    sweep = swept("validation=kfold", "validation.folds=2")
    with pytest.raises(DataError, match="--trees needs a sweep with holdout validation"):
        refit(sweep, Path("reports"), Options(trees=True))
