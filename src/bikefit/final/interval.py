"""Prediction intervals, calibrated on validation rows.

Counts follow a negative binomial distribution with the predicted mean μ and the variance
μ + s² + α μᵖ (NB-P, Greene 2008): Poisson noise, the variance s² between the networks, and
overdispersion. α and p are fitted to validation rows. The two probability levels are set so that
the nominal fraction of these rows is inside (distributional conformal prediction, Chernozhukov et
al. 2021).

For other numbers, the bounds have the same distance from every prediction: quantiles of the
residuals of the validation rows (split conformal prediction, Lei et al. 2018). A probability has no
interval.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import betainc, nbdtrik

from bikefit.losses import SMALLEST_RATE, LossName

NOMINAL = 0.9
SMALLEST_DISPERSION = 1e-9  # α at p = 2, for data without overdispersion
SMALLEST_MEAN = 1e-6


@dataclass(frozen=True)
class CountInterval:
    """Prediction interval of counts.

    Args:
        dispersion, power: α and p.
        lower, upper: Probability levels of the bounds.
        lowest: Predicted means below are replaced by it, see :func:`lowest_mean`.
    """

    dispersion: float
    power: float
    lower: float
    upper: float
    lowest: float = SMALLEST_MEAN

    def bounds(self, mean: np.ndarray, spread: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the lower and upper bound of each row from its μ and s, ``(N,)``."""
        mean = np.maximum(mean, self.lowest)
        n, p = _negative_binomial(mean, spread, self.dispersion, self.power)
        return _quantile(self.lower, n, p), _quantile(self.upper, n, p)


@dataclass(frozen=True)
class ResidualInterval:
    """Prediction interval of numbers: residuals at its bounds, and the lowest bound, if any."""

    low_residual: float
    high_residual: float
    lowest: float | None = None

    def bounds(self, mean: np.ndarray, spread: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the lower and upper bound of each row from its prediction, ``(N,)``."""
        lowest = -np.inf if self.lowest is None else self.lowest
        low, high = mean + self.low_residual, mean + self.high_residual
        return np.maximum(low, lowest), np.maximum(high, lowest)


def lowest_mean(target: np.ndarray) -> float:
    """Return the smallest mean of counts: 1, if no count is lower, otherwise almost 0."""
    return SMALLEST_RATE if target.min() >= SMALLEST_RATE else SMALLEST_MEAN


Interval = CountInterval | ResidualInterval


def calibrate(
    loss: LossName, target: np.ndarray, mean: np.ndarray, spread: np.ndarray
) -> Interval | None:
    """Return the interval fitted to target, μ and s of validation rows, ``(N,)``; None if none."""
    if loss == "bernoulli":
        return None
    if loss == "poisson" and (target % 1 == 0).all():
        return _count_interval(target, mean, spread)
    residuals = np.sort(target - mean)
    # With n residuals, n + 1 ranks of a further one are equally probable.
    rank = max(1, int((len(residuals) + 1) * (1 - NOMINAL) / 2 + 1e-9))  # 1 - 0.9 is below 0.1
    low, high = float(residuals[rank - 1]), float(residuals[-rank])
    return ResidualInterval(low, high, 0.0 if target.min() >= 0 else None)


def _count_interval(target: np.ndarray, mean: np.ndarray, spread: np.ndarray) -> CountInterval:
    """Return the interval whose dispersion and power maximize the likelihood.

    The levels are quantiles of the distribution function at the targets, halfway between y - 1 and
    y.
    """
    from scipy.optimize import minimize  # not needed to predict
    from scipy.stats import nbinom

    lowest = lowest_mean(target)
    mean = np.maximum(mean, lowest)

    def negative_log_likelihood(parameters: np.ndarray) -> float:
        n, p = _negative_binomial(mean, spread, np.exp(parameters[0]), parameters[1])
        return -float(nbinom.logpmf(target, n, p).mean())

    log_dispersion, power = minimize(negative_log_likelihood, (-3.0, 2.0), method="Nelder-Mead").x
    dispersion = float(np.exp(log_dispersion))
    distribution = nbinom(*_negative_binomial(mean, spread, dispersion, float(power)))
    levels = (distribution.cdf(target - 1) + distribution.cdf(target)) / 2
    lower, upper = np.quantile(levels, [(1 - NOMINAL) / 2, (1 + NOMINAL) / 2])
    return CountInterval(dispersion, float(power), float(lower), float(upper), lowest)


def _negative_binomial(
    mean: np.ndarray, spread: np.ndarray, dispersion: Any, power: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Return the parameters n and p of ``scipy.stats.nbinom``."""
    excess = np.maximum(spread**2 + dispersion * mean**power, SMALLEST_DISPERSION * mean**2)
    return mean**2 / excess, mean / (mean + excess)


def _quantile(level: float, n: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Return ``scipy.stats.nbinom.ppf``; importing ``scipy.stats`` takes half a second."""
    count = np.maximum(np.ceil(nbdtrik(level, n, p)), 0.0)
    below = np.where(count > 0, betainc(n, np.maximum(count, 1.0), p), 0.0)
    return np.where(below >= level, count - 1, count)
