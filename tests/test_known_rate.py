"""The whole way from a raw table to losses, where the rate behind the counts is known.

Half the deviance of the true rate is what no model can go below, and a Poisson regression by
another library says where the linear model's limit is.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from sklearn.linear_model import PoissonRegressor

from bikefit.data import featurize
from bikefit.data.bikes import clean
from bikefit.data.rows import read_rows
from bikefit.data.table import Table, read_table
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
def known(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Table]:
    """The table of a year with a known rate, in the columns of `full`, prepared by the stages."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    full = params["featurize"]["tables"]["full"]
    params["featurize"]["tables"] = {"known": full | {"source": "known"}}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    Path("data/raw").mkdir(parents=True)
    raw_hours(days=365).to_csv("data/raw/hour.csv", index=False)
    clean.main()
    featurize.main()
    shutil.copy(empty_store, "mlflow.db")
    yield read_table(Path("data/features/known"))


@pytest.mark.slow(seconds=12)
def test_the_truth_is_reached_and_the_linear_model_its_limit(known: Table) -> None:
    common = ("data=known", "trainer.progress=false", "regularization.on=weights")
    jobs = [Job(make_settings(*common, *one), " ".join(one)) for one in MEMBERS]
    losses = train_jobs(jobs, sweep=None, engine=INLINE)
    fitted, held_out = known.read("train"), known.read("validation")
    expected = read_rows(known, "validation")["expected"].to_numpy()
    truth = half_deviance(held_out.target.astype(float), expected)
    assert 0.4 < truth < 0.6  # about a half for Poisson counts that are not small
    assert truth * 0.95 < min(losses) < truth * 1.15
    model = PoissonRegressor(alpha=1e-9, max_iter=10_000, tol=1e-8)
    model.fit(fitted.features.astype(float), fitted.target)
    limit = half_deviance(
        held_out.target.astype(float), model.predict(held_out.features.astype(float))
    )
    assert losses[0] == pytest.approx(limit, rel=0.03)
