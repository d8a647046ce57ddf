"""Losses and the links between a network's output and rentals.

Everything here works row by row, on any shape that broadcasts: ``(M, B)`` for a stack. A target
is scaled with the mean m and the standard deviation s of the training rows (bikes/hour), so that
a network's output f starts in the right range:

- ``mse``: prediction μ = m + s f, loss ((y - μ) / s)², in units of the target's variance: a
  constant prediction of the mean costs about 1.
- ``poisson``: prediction μ = m exp(f), loss y ln(y / μ) - y + μ, half the Poisson deviance of
  the row (bikes/hour). Its gradient is that of the negative log-likelihood μ - y ln μ, and it is
  what scikit-learn's PoissonRegressor minimises.
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
    """A data loss with its link, for targets of given mean and standard deviation.

    Args:
        name: mse or poisson.
        mean, std: of the target on the training rows, bikes/hour, ``(M, 1)`` or scalar.
    """

    name: LossName
    mean: Tensor
    std: Tensor

    def predict(self, output: Tensor) -> Tensor:
        """Turn a network's output into rentals (bikes/hour)."""
        if self.name == "mse":
            return self.mean + self.std * output
        return self.mean * output.exp()

    def output(self, prediction: Tensor) -> Tensor:
        """Turn rentals (bikes/hour) back into a network's output."""
        if self.name == "mse":
            return (prediction - self.mean) / self.std
        return (prediction / self.mean).log()

    def rows(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each row, without any penalty."""
        if self.name == "mse":
            return (output - (target - self.mean) / self.std) ** 2
        return half_deviance(target, self.mean * output.exp(), log_rate=self.mean.log() + output)

    def slope(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the derivative of each row's loss with respect to the output."""
        if self.name == "mse":
            return 2.0 * (output - (target - self.mean) / self.std)
        return self.mean * output.exp() - target

    def members(self, part: slice) -> Loss:
        """Return the loss of some members of a stack."""
        return Loss(self.name, self.mean[part], self.std[part])

    def deviance(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the Poisson deviance of each row (bikes/hour).

        The mse loss can predict less than nothing, for which no deviance exists: its predictions
        below 1 bike/hour are counted as 1.
        """
        if self.name == "mse":
            return 2.0 * half_deviance(target, self.predict(output).clamp_min(SMALLEST_RATE))
        return 2.0 * self.rows(output, target)


def half_deviance(target: Tensor, rate: Tensor, log_rate: Tensor | None = None) -> Tensor:
    """Half the Poisson deviance of each row: y ln(y / μ) - y + μ (McCullagh and Nelder 1989).

    Args:
        target: y >= 0, bikes/hour.
        rate: μ > 0, bikes/hour.
        log_rate: ln μ where it is known more exactly than by ``rate.log()``.
    """
    log_rate = rate.log() if log_rate is None else log_rate
    return torch.xlogy(target, target) - target * log_rate - target + rate
