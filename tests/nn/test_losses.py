"""Losses, compared with values computed by hand and with scikit-learn."""

import math

import pytest
import torch
from sklearn.metrics import mean_poisson_deviance, mean_squared_error

from bikefit.nn.losses import Loss

MEAN, STD = torch.tensor(100.0), torch.tensor(50.0)
TARGET = torch.tensor([0.0, 1.0, 40.0, 700.0])
OUTPUT = torch.tensor([-1.0, 0.3, 0.0, 2.0])


def test_poisson_loss_is_half_the_deviance() -> None:
    loss = Loss("poisson", MEAN, STD)
    rate = loss.predict(OUTPUT)
    torch.testing.assert_close(rate, 100 * OUTPUT.exp())
    expected = mean_poisson_deviance(TARGET.double(), rate.double())
    assert loss.rows(OUTPUT, TARGET).mean().item() == pytest.approx(expected / 2, rel=1e-6)
    assert loss.deviance(OUTPUT, TARGET).mean().item() == pytest.approx(expected, rel=1e-6)


def test_mse_is_in_units_of_the_targets_variance() -> None:
    loss = Loss("mse", MEAN, STD)
    prediction = loss.predict(OUTPUT)
    torch.testing.assert_close(prediction, 100 + 50 * OUTPUT)
    expected = mean_squared_error(TARGET, prediction) / 50**2
    assert loss.rows(OUTPUT, TARGET).mean().item() == pytest.approx(expected, rel=1e-6)


def test_deviance_replaces_negative_predictions_by_one() -> None:
    deviance = Loss("mse", MEAN, STD).deviance(torch.tensor([-3.0]), torch.tensor([5.0]))
    assert deviance.item() == pytest.approx(2 * (5 * math.log(5) - 5 + 1))
