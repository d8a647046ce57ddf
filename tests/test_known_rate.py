"""The whole way from a raw table to losses, where the rate behind the counts is known.

Half the deviance of the true rate is what no model can go below, and a Poisson regression by
another library says where the linear model's limit is.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.linear_model import PoissonRegressor

from bikefit.data import featurize
from bikefit.data.bikes import clean
from bikefit.data.table import read_table
from bikefit.sweeps.jobs import Job
from bikefit.sweeps.run import train_jobs
from conftest import ROOT, make_settings
from inline import INLINE
from synthetic import raw_hours

MEMBERS = (
    ("network=linear",),
    ("network.hidden=[16]", "regularization.l2=0.01"),
    ("network.hidden=[64,64]", "regularization.l2=0.03"),
)


def half_deviance(count: np.ndarray, rate: np.ndarray) -> float:
    logarithm = np.log(np.where(count > 0, count, 1) / rate)
    return float(np.mean(count * logarithm - count + rate))


@pytest.fixture
def known(
    tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[pd.Series]:
    """A folder with a year of Poisson counts, prepared by the stages; the rate by timestamp."""
    raw = raw_hours(days=365)
    hour, working = raw["hr"], raw["workingday"] == 1
    rush = np.exp(-((hour - 8) ** 2) / 6) + np.exp(-((hour - 17) ** 2) / 8)
    leisure = np.exp(-((hour - 14) ** 2) / 25)
    rate = np.exp(3 + 2 * np.where(working, rush, leisure) + 1.5 * raw["temp"] - raw["hum"])
    casual, registered = np.random.default_rng(1).poisson([0.3 * rate, 0.7 * rate])
    # no hour without a rental, as in the real table
    raw = raw.assign(casual=casual, registered=np.maximum(registered, 1 - casual))
    raw["cnt"] = raw["casual"] + raw["registered"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["featurize"]["tables"] = {"full": params["featurize"]["tables"]["full"]}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    Path("data/raw").mkdir(parents=True)
    raw.to_csv("data/raw/hour.csv", index=False)
    clean.main()
    featurize.main()
    shutil.copy(empty_store, "mlflow.db")
    time = pd.to_datetime(raw["dteday"]) + pd.to_timedelta(hour, "h")
    yield rate.set_axis(pd.DatetimeIndex(time))


@pytest.mark.slow(seconds=12)
def test_the_truth_is_reached_and_the_linear_model_its_limit(known: pd.Series) -> None:
    common = ("trainer.progress=false", "regularization.on=weights")
    jobs = [Job(make_settings(*common, *one), " ".join(one)) for one in MEMBERS]
    losses = train_jobs(jobs, sweep=None, engine=INLINE)
    table = read_table(Path("data/features/full"))
    fitted, held_out = table.read("train"), table.read("validation")
    truth = half_deviance(
        held_out.target.astype(float), known[pd.DatetimeIndex(held_out.keys)].to_numpy()
    )
    assert 0.4 < truth < 0.6  # about a half for Poisson counts that are not small
    assert truth * 0.95 < min(losses) < truth * 1.05
    model = PoissonRegressor(alpha=1e-9, max_iter=10_000, tol=1e-8)
    model.fit(fitted.features.astype(float), fitted.target)
    limit = half_deviance(
        held_out.target.astype(float), model.predict(held_out.features.astype(float))
    )
    assert losses[0] == pytest.approx(limit, rel=0.03)
