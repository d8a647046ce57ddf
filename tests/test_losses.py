"""The losses in numpy."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from bikefit.losses import LOSSES, area_under_roc


@pytest.mark.parametrize("digits", [1, 6])
def test_the_area_under_the_roc_curve_is_that_of_scikit_learn(digits: int) -> None:
    random = np.random.default_rng(0)
    target = (random.random(60) < 0.3).astype(float)
    predicted = (target + random.normal(size=60)).round(digits)  # with 1 digit some are equal
    weights = random.integers(0, 3, (5, 60)).astype(float)
    area = area_under_roc(target, predicted)
    assert area == pytest.approx(roc_auc_score(target, predicted), rel=1e-12)
    expected = [roc_auc_score(target, predicted, sample_weight=row) for row in weights]
    np.testing.assert_allclose(area_under_roc(target, predicted, weights), expected, rtol=1e-12)


def test_the_area_under_the_roc_curve_needs_both_values() -> None:
    assert np.isnan(area_under_roc(np.ones(3), np.arange(3.0)))


def test_predictions_outside_the_range_of_a_loss_are_moved_into_it() -> None:
    target, outside = np.array([5.0, 0.0]), np.array([-3.0, 0.5])
    poisson, bernoulli = LOSSES["poisson"], LOSSES["bernoulli"]
    expected = [5 * np.log(5) - 5 + 1, 1.0]  # as if 1 was predicted
    np.testing.assert_allclose(poisson.rows(target, poisson.valid(outside)), expected)
    losses = bernoulli.rows(np.array([1.0]), bernoulli.valid(np.array([0.0])))
    assert losses.tolist() == pytest.approx([12 * np.log(10)])


@pytest.mark.parametrize(("loss", "top"), [("mse", 30.0), ("poisson", 30.0), ("bernoulli", 1.0)])
def test_the_central_prediction_splits_the_loss_of_any_target(loss: str, top: float) -> None:
    """The mean loss is that of the central prediction plus the mean divergence from it."""
    random, rows = np.random.default_rng(0), LOSSES[loss].rows
    target, predicted = random.random(9) * top, random.random((5, 9)) * top
    central = LOSSES[loss].central(predicted)
    total = rows(target, predicted).mean(axis=0)
    np.testing.assert_allclose(total, rows(target, central) + rows(central, predicted).mean(axis=0))


@pytest.mark.parametrize(
    ("loss", "target", "problem"),
    [
        ("mse", [-1.5, 2.0], ""),
        ("poisson", [0.0, 2.5], ""),
        ("poisson", [-3.0, 2.0], "a target of 0 or more, but the lowest is -3: use loss=mse"),
        ("poisson", [0.0, 0.0], "needs a target above 0, but all are 0"),
        ("bernoulli", [0.0, 1.0], ""),
        ("bernoulli", [0.0, 2.0, 1.0], "of 0 and 1, but there is 2: use loss=mse or poisson"),
        ("bernoulli", [1.0, 1.0], "needs both 0 and 1, all are 1"),
    ],
)
def test_a_target_suits_a_loss_or_has_a_reason(
    loss: str, target: list[float], problem: str
) -> None:
    found = LOSSES[loss].problem(np.array(target))
    assert problem in found and bool(problem) == bool(found)
