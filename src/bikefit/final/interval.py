"""How far from its expectation an hour may be: counting noise, overdispersion, ensemble spread.

Rentals y of an hour are taken as negative binomial with the predicted mean μ and the variance
μ + s² + α μ²: the Poisson noise of counting, the variance s² between the members of the ensemble,
and what nobody can know of the day (Hilbe 2011, NB2). The dispersion α and the two probability
levels are set on held-out rows, so that the nominal share of them lies inside (distributional
conformal prediction, Chernozhukov et al. 2021).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.stats import nbinom

NOMINAL = 0.9
SMALLEST = 1e-9  # dispersion of data that are no more scattered than Poisson's


@dataclass(frozen=True)
class Interval:
    """Dispersion α and the probability levels between which the nominal share of rows lies."""

    dispersion: float
    lower: float
    upper: float
    nominal: float = NOMINAL

    def bounds(self, mean: np.ndarray, spread: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return lower and upper bound in whole bikes/hour, ``(N,)`` each.

        Args:
            mean: predicted rentals μ > 0, ``(N,)``.
            spread: standard deviation s between the members, ``(N,)``.
        """
        law = _law(mean, spread, self.dispersion)
        return law.ppf(self.lower), law.ppf(self.upper)

    def coverage(self, target: np.ndarray, mean: np.ndarray, spread: np.ndarray) -> float:
        """Return the share of rows whose rentals lie between their bounds."""
        low, high = self.bounds(mean, spread)
        return float(((low <= target) & (target <= high)).mean())


def calibrate(
    target: np.ndarray, mean: np.ndarray, spread: np.ndarray, nominal: float = NOMINAL
) -> Interval:
    """Set an interval on held-out rows, ``(N,)`` each, in bikes/hour.

    The dispersion makes the mean squared Pearson residual 1; the levels are quantiles of the
    rows' own levels, each in the middle of the step that a whole number makes.
    """

    def excess(dispersion: float) -> float:
        variance = mean + spread**2 + dispersion * mean**2
        return float(((target - mean) ** 2 / variance).mean()) - 1

    dispersion = brentq(excess, 0, 1e3) if excess(0) > 0 > excess(1e3) else SMALLEST
    law = _law(mean, spread, dispersion)
    levels = (law.cdf(target - 1) + law.cdf(target)) / 2
    lower, upper = np.quantile(levels, [(1 - nominal) / 2, (1 + nominal) / 2])
    return Interval(float(dispersion), float(lower), float(upper), nominal)


def _law(mean: np.ndarray, spread: np.ndarray, dispersion: float) -> nbinom:
    extra = np.maximum(spread**2 + dispersion * mean**2, SMALLEST * mean**2)
    return nbinom(mean**2 / extra, mean / (mean + extra))
