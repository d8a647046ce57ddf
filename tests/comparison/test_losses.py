from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from bikefit.comparison.losses import losses_by_fold_and_day
from bikefit.comparison.runs import run_table
from bikefit.sweeps.jobs import Job
from bikefit.sweeps.run import train_jobs
from bikefit.tracking import reading, writing
from conftest import make_settings
from inline import INLINE

SMALL = ["network.hidden=[4]", "training.epochs=2", "training.batch_size=64"]


def trained(*configs: list[str]) -> pd.DataFrame:
    sweep = writing.start_sweep("full", "sweep of a test", [])
    jobs = [Job(make_settings(*SMALL, *one), str(i)) for i, one in enumerate(configs)]
    train_jobs(jobs, sweep, engine=INLINE)
    return losses_by_fold_and_day(run_table(reading.read_runs(sweep)))


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["poisson", "mse"])
def test_days_add_up_to_the_loss_and_are_those_of_the_predictions(
    workplace: Path, loss: str
) -> None:
    other = [f"loss={loss}", "tracking.predictions=false", "seed=1"]
    runs = trained([f"loss={loss}"], other)
    days, none = runs["days"]
    assert none == ()
    assert sum(days) == pytest.approx(runs["val_loss"][0], rel=1e-4)
    predictions = reading.read_predictions(runs["run_id"][0])
    assert predictions is not None
    assert len(days) == predictions["timestamp"].dt.date.nunique() > 1
    if loss == "mse":
        squares = (predictions["predicted"] - predictions["target"]).astype(float) ** 2
        by_day = squares.groupby(predictions["timestamp"].dt.date).sum()
        assert list(days) == pytest.approx(list(by_day / by_day.sum() * sum(days)), rel=1e-4)


@pytest.mark.slow
def test_training_sets_have_losses_and_share_their_days(workplace: Path) -> None:
    runs = trained(["validation=resample", "validation.sets=2"])
    (sets,), (days,) = runs["fold_losses"], runs["days"]
    assert sum(sets) / 2 == pytest.approx(runs["val_loss"][0], rel=1e-5)
    assert sum(days) == pytest.approx(runs["val_loss"][0], rel=1e-5)
    predictions = reading.read_predictions(runs["run_id"][0])
    assert predictions is not None
    assert len(predictions) == 2 * predictions["timestamp"].nunique()
    assert len(days) == predictions["timestamp"].dt.date.nunique()


def test_cross_validated_runs_have_folds_and_no_days(workplace: Path) -> None:
    runs = trained(["validation=kfold", "validation.folds=2", "data=lecture"])
    assert runs["days"].tolist() == [()]
    (folds,) = runs["fold_losses"]
    assert len(folds) == 2
    assert sum(folds) / 2 == pytest.approx(runs["val_loss"][0], rel=1e-5)
    assert losses_by_fold_and_day(run_table(pd.DataFrame())).empty
