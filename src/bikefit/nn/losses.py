"""Data losses, and the links between a network's output and rentals.

All functions work row by row on shapes that broadcast; ``(M, B)`` for a stack. The mean m and the
standard deviation s of the target on the training rows (bikes/hour) scale the predictions, so that
a network's output f has the right range from the start:

- ``mse``: prediction μ = m + s f, loss ((y - μ) / s)², in units of the target's variance. The
  constant prediction m has a loss of about 1.
- ``poisson``: prediction μ = m exp(f), loss y ln(y / μ) - y + μ, half the Poisson deviance
  (bikes/hour), as in scikit-learn's PoissonRegressor. Its gradient is that of the negative
  log-likelihood μ - y ln μ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

LossName = Literal["mse", "poisson"]
SMALLEST_RATE = 1.0  # bikes/hour; the table has no hour without a rental


@dataclass(frozen=True)
class Loss:
    """Data loss with its link."""

    name: LossName
    mean: Tensor  # m and s of the members, (M, 1) or scalar
    std: Tensor

    def predict(self, output: Tensor) -> Tensor:
        """Return the prediction (bikes/hour) of a network's output."""
        if self.name == "mse":
            return self.mean + self.std * output
        return self.mean * output.exp()

    def output(self, prediction: Tensor) -> Tensor:
        """Return the network's output for a prediction (bikes/hour); inverse of `predict`."""
        if self.name == "mse":
            return (prediction - self.mean) / self.std
        return (prediction / self.mean).log()

    def rows(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each row."""
        if self.name == "mse":
            return (output - (target - self.mean) / self.std) ** 2
        return half_deviance(target, self.mean * output.exp(), self.mean.log() + output)

    def deviance(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the Poisson deviance of each row (bikes/hour).

        With the mse loss, predictions below 1 bike/hour are replaced by 1, because the deviance
        of negative predictions is not defined.
        """
        if self.name == "mse":
            rate = self.predict(output).clamp_min(SMALLEST_RATE)
            return 2.0 * half_deviance(target, rate, rate.log())
        return 2.0 * self.rows(output, target)


def half_deviance(target: Tensor, rate: Tensor, log_rate: Tensor) -> Tensor:
    """Return half the Poisson deviance of each row: y ln(y / μ) - y + μ for y >= 0 and μ > 0."""
    return torch.xlogy(target, target) - target * log_rate - target + rate
