"""Prediction intervals from Poisson noise, overdispersion and the spread of the ensemble.

Rentals of an hour follow a negative binomial distribution with the predicted mean μ and the
variance μ + s² + α μᵖ (NB-P, Greene 2008): Poisson noise, the variance s² between the networks, and
overdispersion. α and p are fitted to validation rows. The two probability levels are set so that
the nominal fraction of these rows is inside (distributional conformal prediction, Chernozhukov et
al. 2021).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import betainc, nbdtrik

from bikefit.losses import SMALLEST_RATE

NOMINAL = 0.9
SMALLEST_DISPERSION = 1e-9  # α at p = 2, for data without overdispersion


@dataclass(frozen=True)
class Interval:
    """Prediction interval: dispersion α, power p, and the probability levels of its bounds."""

    dispersion: float
    power: float
    lower: float
    upper: float

    def bounds(self, mean: np.ndarray, spread: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the lower and upper bound of each row from its μ and s, ``(N,)``, bikes/hour."""
        n, p = _negative_binomial(mean, spread, self.dispersion, self.power)
        return _quantile(self.lower, n, p), _quantile(self.upper, n, p)


def calibrate(target: np.ndarray, mean: np.ndarray, spread: np.ndarray) -> Interval:
    """Return the interval fitted to rentals y, μ and s of validation rows, ``(N,)``, bikes/hour.

    Dispersion and power maximize the likelihood. The levels are quantiles of the distribution
    function at the rentals, halfway between y - 1 and y.
    """
    from scipy.optimize import minimize  # not needed to predict
    from scipy.stats import nbinom

    def negative_log_likelihood(parameters: np.ndarray) -> float:
        n, p = _negative_binomial(mean, spread, np.exp(parameters[0]), parameters[1])
        return -float(nbinom.logpmf(target, n, p).mean())

    log_dispersion, power = minimize(negative_log_likelihood, (-3.0, 2.0), method="Nelder-Mead").x
    dispersion = float(np.exp(log_dispersion))
    distribution = nbinom(*_negative_binomial(mean, spread, dispersion, float(power)))
    levels = (distribution.cdf(target - 1) + distribution.cdf(target)) / 2
    lower, upper = np.quantile(levels, [(1 - NOMINAL) / 2, (1 + NOMINAL) / 2])
    return Interval(dispersion, float(power), float(lower), float(upper))


def _negative_binomial(
    mean: np.ndarray, spread: np.ndarray, dispersion: Any, power: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Return the parameters n and p of ``scipy.stats.nbinom``."""
    mean = np.maximum(mean, SMALLEST_RATE)
    excess = np.maximum(spread**2 + dispersion * mean**power, SMALLEST_DISPERSION * mean**2)
    return mean**2 / excess, mean / (mean + excess)


def _quantile(level: float, n: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Return ``scipy.stats.nbinom.ppf``; importing ``scipy.stats`` takes half a second."""
    count = np.maximum(np.ceil(nbdtrik(level, n, p)), 0.0)
    below = np.where(count > 0, betainc(n, np.maximum(count, 1.0), p), 0.0)
    return np.where(below >= level, count - 1, count)
