"""Penalty and Poisson loss agree with the Poisson regression of scikit-learn."""

from __future__ import annotations

import pytest
from sklearn.linear_model import PoissonRegressor
from sklearn.metrics import mean_poisson_deviance

from bikefit.tracking.writing import summarize
from bikefit.training.folds import read_pool
from bikefit.training.members import Member
from conftest import make_settings, train_stack


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [0.1, 1.0])
def test_the_linear_model_equals_poisson_regression(workplace: object, alpha: float) -> None:
    """scikit-learn minimizes half the mean deviance + α/2 ‖w‖², so λ = α/2 on weights."""
    overrides = (
        "data=lecture network=linear validation=kfold validation.folds=4 training.epochs=300 "
        "training.batch_size=1000 optimizer.lr=0.2 optimizer.schedule=one_cycle "
        f"regularization.on=weights regularization.l2={alpha / 2}"
    )
    settings = make_settings(*overrides.split())
    pool = read_pool(settings.data.path)
    results = train_stack([Member(settings, fold) for fold in range(4)])
    for fold, result in zip(pool.folds(settings), results, strict=True):
        model = PoissonRegressor(alpha=alpha, solver="newton-cholesky", max_iter=1000)
        model.fit(pool.features[fold.train], pool.target[fold.train])
        metrics = summarize(result)
        for part, rows in (("train", fold.train), ("val", fold.validation)):
            expected = mean_poisson_deviance(pool.target[rows], model.predict(pool.features[rows]))
            assert metrics[f"best/{part}/deviance"] == pytest.approx(expected, abs=0.02)
        weights = result.state["output.linear.weight"][0]
        assert weights == pytest.approx(model.coef_, abs=0.03)
