"""Data losses, and the links between a network's output and its prediction of the target.

All functions work row by row on shapes that broadcast; ``(M, B)`` for a stack. The mean m and the
standard deviation s of the target on the training rows scale the predictions, so that a network's
output f has the right range from the start, and f = 0 is the best constant prediction:

- ``mse``: prediction μ = m + s f, loss ((y - μ) / s)², in units of the target's variance. The
  constant prediction m has a loss of about 1.
- ``poisson``: prediction μ = m exp(f), loss y ln(y / μ) - y + μ, half the Poisson deviance (in the
  unit of the target), as in scikit-learn's PoissonRegressor. Its gradient is that of the negative
  log-likelihood μ - y ln μ.
- ``bernoulli``: for targets y of 0 and 1, the probability μ of 1 has the log odds
  z = ln(m / (1 - m)) + f; the loss is ln(1 + exp(z)) - y z, the negative log-likelihood (nats).

:data:`bikefit.losses.LOSSES` has their names and the targets that they suit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import softplus

from bikefit.losses import SMALLEST_RATE


class Loss:
    """A data loss with its link; m and s of the members are ``(M, 1)`` or scalar."""

    measures: ClassVar[dict[str, Callable[[Loss, Tensor, Tensor], Tensor]]]

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        self.mean, self.std = mean, std

    def predict(self, output: Tensor) -> Tensor:
        """Return the prediction, in the unit of the target, of a network's output."""
        raise NotImplementedError

    def output(self, prediction: Tensor) -> Tensor:
        """Return the network's output for a prediction; inverse of `predict`."""
        raise NotImplementedError

    def rows(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each row."""
        raise NotImplementedError

    def squared_error(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the squared error of each row."""
        return (self.predict(output) - target) ** 2

    def deviance(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the Poisson deviance of each row, NaN for targets that are not counts.

        Predictions below 1 are replaced by 1, because the deviance of negative predictions is not
        defined.
        """
        rate = self.predict(output).clamp_min(SMALLEST_RATE)
        deviance = 2.0 * half_deviance(target, rate, rate.log())
        return torch.where((target >= 0) & (target == target.round()), deviance, torch.nan)

    def correct(self, output: Tensor, target: Tensor) -> Tensor:
        """Return 1 for each row whose more probable value is the target, otherwise 0."""
        return ((self.predict(output) > 0.5) == (target > 0.5)).to(output.dtype)


# Functions of the loss, the outputs (M, C) and the targets (C,). A metric is the mean over rows of
# its values (M, C), or the root of the mean for names in ROOTS.
MEASURES: dict[str, Callable[[Loss, Tensor, Tensor], Tensor]] = {
    "loss": lambda loss, output, target: loss.rows(output, target),
    "rmse": Loss.squared_error,
    "deviance": lambda loss, output, target: loss.deviance(output, target),
}
ROOTS = {"rmse"}


class SquaredError(Loss):
    """The loss ``mse``."""

    measures = MEASURES

    def predict(self, output: Tensor) -> Tensor:
        """Return m + s f."""
        return self.mean + self.std * output

    def output(self, prediction: Tensor) -> Tensor:
        """Return (μ - m) / s."""
        return (prediction - self.mean) / self.std

    def rows(self, output: Tensor, target: Tensor) -> Tensor:
        """Return ((y - μ) / s)²."""
        return (output - (target - self.mean) / self.std) ** 2


class Poisson(Loss):
    """The loss ``poisson``."""

    measures = MEASURES

    def predict(self, output: Tensor) -> Tensor:
        """Return m exp(f)."""
        return self.mean * output.exp()

    def output(self, prediction: Tensor) -> Tensor:
        """Return ln(μ / m)."""
        return (prediction / self.mean).log()

    def rows(self, output: Tensor, target: Tensor) -> Tensor:
        """Return half the Poisson deviance."""
        return half_deviance(target, self.mean * output.exp(), self.mean.log() + output)

    def deviance(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the Poisson deviance."""
        return 2.0 * self.rows(output, target)


class Bernoulli(Loss):
    """The loss ``bernoulli``."""

    measures: ClassVar = {"loss": MEASURES["loss"], "accuracy": Loss.correct}

    def predict(self, output: Tensor) -> Tensor:
        """Return the probability of the target 1."""
        return (self.mean.logit() + output).sigmoid()

    def output(self, prediction: Tensor) -> Tensor:
        """Return the log odds of μ minus those of m."""
        return prediction.logit(eps=1e-7) - self.mean.logit()

    def rows(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the negative log-likelihood."""
        log_odds = self.mean.logit() + output
        return softplus(log_odds) - target * log_odds


CLASSES: dict[str, type[Loss]] = {"mse": SquaredError, "poisson": Poisson, "bernoulli": Bernoulli}


def half_deviance(target: Tensor, rate: Tensor, log_rate: Tensor) -> Tensor:
    """Return half the Poisson deviance of each row: y ln(y / μ) - y + μ for y >= 0 and μ > 0."""
    return torch.xlogy(target, target) - target * log_rate - target + rate
