"""How far from its expectation an hour may be: counting noise, overdispersion, ensemble spread.

Rentals y of an hour are taken as negative binomial with the predicted mean μ and the variance
μ + s² + α μᵖ: the Poisson noise of counting, the variance s² between the members of the ensemble,
and what the features do not tell (NB-P, Greene 2008). α and p are fitted to held-out rows, and the
two probability levels are set on them so that the nominal share of rows lies inside
(distributional conformal prediction, Chernozhukov et al. 2021).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import betainc, nbdtrik

NOMINAL = 0.9
SMALLEST_MEAN = 1.0  # bikes/hour; the table has no hour without a rental
SMALLEST = 1e-9  # α where p is 2, for data that are no more scattered than Poisson's


@dataclass(frozen=True)
class Interval:
    """Dispersion α, power p and the levels between which the nominal share of rows lies."""

    dispersion: float
    power: float
    lower: float
    upper: float
    nominal: float = NOMINAL

    def bounds(self, mean: np.ndarray, spread: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return lower and upper bound in whole bikes/hour, ``(N,)`` each.

        Args:
            mean: predicted rentals μ > 0, ``(N,)``.
            spread: standard deviation s between the members, ``(N,)``.
        """
        successes, probability = _parameters(mean, spread, self.dispersion, self.power)
        low, high = (_quantile(p, successes, probability) for p in (self.lower, self.upper))
        return low, high

    def coverage(self, target: np.ndarray, mean: np.ndarray, spread: np.ndarray) -> float:
        """Return the share of rows whose rentals lie between their bounds."""
        low, high = self.bounds(mean, spread)
        return float(((low <= target) & (target <= high)).mean())


def calibrate(
    target: np.ndarray, mean: np.ndarray, spread: np.ndarray, nominal: float = NOMINAL
) -> Interval:
    """Set an interval on held-out rows, ``(N,)`` each, in bikes/hour.

    Dispersion and power are those of the highest likelihood; the levels are quantiles of the
    rows' own levels, each in the middle of the step that a whole number makes.
    """
    from scipy.optimize import minimize  # answering a row does without them
    from scipy.stats import nbinom

    def surprise(parameters: np.ndarray) -> float:
        law = nbinom(*_parameters(mean, spread, np.exp(parameters[0]), parameters[1]))
        return -float(law.logpmf(target).mean())

    found = minimize(surprise, x0=(-3.0, 2.0), method="Nelder-Mead").x
    dispersion, power = float(np.exp(found[0])), float(found[1])
    law = nbinom(*_parameters(mean, spread, dispersion, power))
    levels = (law.cdf(target - 1) + law.cdf(target)) / 2
    lower, upper = np.quantile(levels, [(1 - nominal) / 2, (1 + nominal) / 2])
    return Interval(dispersion, power, float(lower), float(upper), nominal)


def _parameters(
    mean: np.ndarray, spread: np.ndarray, dispersion: Any, power: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Return n and p of the negative binomials, as scipy names them."""
    # the squared loss may predict less than nothing, which no count has as its mean
    mean = np.maximum(mean, SMALLEST_MEAN)
    extra = np.maximum(spread**2 + dispersion * mean**power, SMALLEST * mean**2)
    return mean**2 / extra, mean / (mean + extra)


def _quantile(level: float, successes: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Return the smallest counts whose probability of being reached is at least the level.

    What ``scipy.stats.nbinom.ppf`` gives, without the half second that scipy.stats takes to load.
    """
    found = np.maximum(np.ceil(nbdtrik(level, successes, probability)), 0.0)
    below = np.where(found > 0, betainc(successes, np.maximum(found, 1.0), probability), 0.0)
    return np.where(below >= level, found - 1, found)
