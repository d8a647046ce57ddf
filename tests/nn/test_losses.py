"""Losses, compared with values computed by hand and with scikit-learn."""

import math
from typing import get_args

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, log_loss, mean_poisson_deviance, mean_squared_error

from bikefit.losses import LOSSES, LossName
from bikefit.nn.losses import CLASSES, Bernoulli, Poisson, SquaredError

MEAN, STD = torch.tensor(100.0), torch.tensor(50.0)
TARGET = torch.tensor([0.0, 1.0, 40.0, 700.0])
OUTPUT = torch.tensor([-1.0, 0.3, 0.0, 2.0])
YES = torch.tensor([0.0, 1.0, 1.0, 0.0])


def test_poisson_loss_is_half_the_deviance() -> None:
    loss = Poisson(MEAN, STD)
    rate = loss.predict(OUTPUT)
    torch.testing.assert_close(rate, 100 * OUTPUT.exp())
    expected = mean_poisson_deviance(TARGET.double(), rate.double())
    assert loss.rows(OUTPUT, TARGET).mean().item() == pytest.approx(expected / 2, rel=1e-6)
    assert loss.deviance(OUTPUT, TARGET).mean().item() == pytest.approx(expected, rel=1e-6)


def test_mse_is_in_units_of_the_targets_variance() -> None:
    loss = SquaredError(MEAN, STD)
    prediction = loss.predict(OUTPUT)
    torch.testing.assert_close(prediction, 100 + 50 * OUTPUT)
    expected = mean_squared_error(TARGET, prediction) / 50**2
    assert loss.rows(OUTPUT, TARGET).mean().item() == pytest.approx(expected, rel=1e-6)


def test_the_deviance_of_mse_is_that_of_counts_and_of_at_least_one() -> None:
    loss, below = SquaredError(MEAN, STD), torch.tensor([-3.0])
    deviance = loss.deviance(below, torch.tensor([5.0]))
    assert deviance.item() == pytest.approx(2 * (5 * math.log(5) - 5 + 1))
    assert loss.deviance(below, torch.tensor([-1.0])).isnan()
    assert loss.deviance(below, torch.tensor([0.5])).isnan()


def test_bernoulli_is_the_negative_log_likelihood_of_probabilities() -> None:
    loss = Bernoulli(torch.tensor(0.25), STD)
    probability = loss.predict(OUTPUT)
    torch.testing.assert_close(probability, torch.sigmoid(math.log(0.25 / 0.75) + OUTPUT))
    expected = log_loss(YES, probability.double())
    assert loss.rows(OUTPUT, YES).mean().item() == pytest.approx(expected, rel=1e-6)
    assert loss.correct(OUTPUT, YES).mean().item() == accuracy_score(YES, probability > 0.5)
    assert loss.predict(torch.zeros(1)).item() == pytest.approx(0.25)


def test_bernoulli_is_finite_and_has_gradients_for_extreme_outputs() -> None:
    output = torch.tensor([-200.0, 200.0], requires_grad=True)
    loss = Bernoulli(torch.tensor(0.5), STD).rows(output, torch.tensor([1.0, 0.0]))
    loss.sum().backward()
    assert loss.tolist() == [200.0, 200.0]
    assert output.grad is not None and output.grad.tolist() == [-1.0, 1.0]


@pytest.mark.parametrize("name", get_args(LossName))
def test_a_loss_is_described_and_its_link_has_an_inverse(name: LossName) -> None:
    target = YES if name == "bernoulli" else TARGET
    loss = CLASSES[name](target.mean(), target.std(correction=0))
    torch.testing.assert_close(loss.output(loss.predict(OUTPUT)), OUTPUT)
    rows, predicted = loss.rows(OUTPUT, target), loss.predict(OUTPUT)
    described = LOSSES[name].rows(target.numpy(), predicted.numpy())
    ratio = rows.numpy() / described  # numpy's loss is up to a factor
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-5)
