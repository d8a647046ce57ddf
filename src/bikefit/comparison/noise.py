"""The noise of a difference between two configurations, the same in ranking, verdicts and figures.

It has three parts. Seeds: initialization, order and dropout; the variance between seeds is pooled
over the configurations of a sweep, because three seeds alone estimate it badly. Validation rows:
whole days, because errors within a day are correlated; configurations are paired by day. Folds, if
a sweep is cross-validated: they have other training and validation rows and replace the days.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import digamma, polygamma
from scipy.stats import t as student

CONFIDENCE = 0.95  # level at which a difference is significant
KNOWN = 1e6  # degrees of freedom of a variance that is as good as known
FEWEST = 4  # configurations whose variances can be compared


@dataclass(frozen=True)
class LossEstimate:
    """The loss of a configuration, or of one run of it, with the quantities that show its noise.

    Args:
        loss: mean over its runs.
        variance: of ``loss``, from the scatter between seeds; 0 for a run, whose loss is a fact,
            NaN where nothing shows it.
        df: degrees of freedom of that variance.
        days: what each validation day adds to the loss, ``(days,)``; empty where not known.
        folds: loss of each fold, ``(folds,)``; empty without cross-validation or where not known.
        fold_error: standard error over the folds, NaN without cross-validation.
        rows: number of validation rows, NaN where not known.
    """

    loss: float
    variance: float
    df: float
    days: np.ndarray
    folds: np.ndarray
    fold_error: float
    rows: float


@dataclass(frozen=True)
class Difference:
    """A difference of two losses with its standard error and the degrees of freedom of that."""

    value: float
    error: float
    df: float

    def limit(self, confidence: float = CONFIDENCE) -> float:
        """Return how large a difference noise alone makes (two-sided, Student's t)."""
        if math.isnan(self.error):
            return math.nan
        return float(student.ppf((1 + confidence) / 2, self.df)) * self.error

    def is_significant(self, confidence: float = CONFIDENCE) -> bool:
        """Return whether the first loss is significantly higher."""
        return self.value > self.limit(confidence)


def difference(one: LossEstimate, other: LossEstimate, level: float = 0.0) -> Difference:
    """Return how much higher the first loss is.

    Args:
        one: of the two.
        other: validated on the same rows.
        level: loss that no network can go below; tells the noise of the rows where losses by day
            are not known.
    """
    value = one.loss - other.loss
    parts = [
        (sample.variance, sample.df) for sample in (one, other) if sample.variance != 0
    ]  # fmt: skip
    parts += _of_folds(one, other) or _of_rows(one, other, level)
    total = sum(variance for variance, _ in parts)
    # Welch and Satterthwaite: the degrees of freedom of a sum of variances.
    spent = sum(variance**2 / df for variance, df in parts)
    return Difference(value, math.sqrt(total), total**2 / spent if spent > 0 else KNOWN)


def _of_folds(one: LossEstimate, other: LossEstimate) -> list[tuple[float, float]]:
    """The variance that folds leave; they share most of their training rows (Nadeau & Bengio 2003).

    Unpaired errors, where the folds themselves are not known, are added, which is cautious.
    """
    count = len(one.folds)
    if count > 1 and count == len(other.folds):
        spread = float(np.var(one.folds - other.folds, ddof=1))
        return [(spread * (1 / count + 1 / (count - 1)), count - 1)]
    errors = [s.fold_error for s in (one, other) if not math.isnan(s.fold_error)]
    return [(error**2, max(count - 1, 1)) for error in errors]


def _of_rows(one: LossEstimate, other: LossEstimate, level: float) -> list[tuple[float, float]]:
    """The variance that the finite number of validation days, or rows, leaves."""
    count = len(one.days)
    if count > 1 and count == len(other.days):
        return [(count * float(np.var(one.days - other.days, ddof=1)), count - 1)]
    if math.isnan(one.rows):
        return []
    # Independent rows: exact for the squared error if the noise is normal, for the Poisson loss to
    # second order, since both networks meet the same noise of the rows.
    return [(4 * max(level, 0.0) * abs(one.loss - other.loss) / one.rows, max(one.rows - 1, 1))]


def estimate_losses(
    runs: pd.DataFrame, assumed: float = math.nan
) -> tuple[dict[str, LossEstimate], list[LossEstimate]]:
    """Estimate the loss of each configuration of a sweep, and of each run.

    Args:
        runs: one row a run that has a loss, all validated on the same rows: ``configuration_id``,
            ``seed``, ``val_loss``, ``days``, ``fold_losses``, ``val_loss_se`` and ``val_rows``, see
            :func:`bikefit.comparison.runs.run_table`.
        assumed: scatter between seeds as a share of the loss, where no configuration has two.

    Returns:
        Estimates by id of the configuration, and of the runs in their order.
    """
    names = runs["configuration_id"]
    by_seed = runs.groupby(["configuration_id", "seed"], dropna=False)["val_loss"].mean()
    scatter = _scatter(by_seed, assumed)
    found: dict[str, LossEstimate] = {}
    for name, group in runs.groupby(names, sort=False):
        variance, df = scatter[name]
        of_seeds = by_seed[name]  # a seed that occurs twice counts once
        loss = float(of_seeds.mean())
        found[str(name)] = LossEstimate(
            loss, variance * loss**2 / len(of_seeds), df, _mean(group["days"]),
            _mean(group["fold_losses"]), float(group["val_loss_se"].mean()),
            float(group["val_rows"].mean()),
        )  # fmt: skip
    facts = [
        LossEstimate(row["val_loss"], 0.0, KNOWN, _mean([row["days"]]), _mean([row["fold_losses"]]),
               row["val_loss_se"], row["val_rows"])
        for row in runs.to_dict("records")
    ]  # fmt: skip
    return found, facts


def _mean(arrays: Sequence[object] | pd.Series) -> np.ndarray:
    """Mean of arrays of equal length; an empty one where one is missing or of another length."""
    known = [np.asarray(array, dtype=float) for array in arrays if array is not None]
    if len(known) < len(arrays) or len({len(array) for array in known}) != 1:
        return np.empty(0)
    return np.asarray(np.mean(known, axis=0))


def _scatter(by_seed: pd.Series, assumed: float) -> Mapping[Hashable, tuple[float, float]]:
    """Variance between seeds relative to the squared loss, and its degrees of freedom."""
    wide = by_seed.unstack("seed")
    relative = wide.div(wide.mean(axis=1), axis=0) - 1
    if len(relative) >= FEWEST:  # common random numbers: what a seed does to all is no difference
        relative = relative - relative.median()
    df = relative.count(axis=1) - 1
    variance = relative.var(axis=1)
    pooled, total = moderated(variance[df > 0].to_numpy(), df[df > 0].to_numpy())
    if not len(pooled):
        return dict.fromkeys(wide.index, (assumed**2, KNOWN))
    known = dict(zip(variance.index[df > 0], zip(pooled, total, strict=True), strict=True))
    prior = (float(np.mean(pooled)), float(np.min(total)))  # of a configuration with one seed
    return {name: known.get(name, prior) for name in wide.index}


def moderated(variances: np.ndarray, df: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shrink variance estimates towards a common prior (empirical Bayes).

    The prior is a scaled inverse χ² distribution whose scale and degrees of freedom are fitted to
    the variances (Smyth 2004, "Linear models and empirical Bayes methods
    for assessing differential expression", section 6.2).

    Args:
        variances: estimates, each with its degrees of freedom.
        df: at least 1 each.

    Returns:
        The shrunken variances and their degrees of freedom, including those of the prior.
    """
    floor = 1e-6 * float(np.max(variances, initial=0.0)) or 1e-12  # equal seeds show no scatter
    s2, d = np.maximum(variances, floor), df.astype(float)
    if len(s2) < FEWEST:
        pooled = np.full(len(s2), np.sum(s2 * d) / np.sum(d)) if len(s2) else s2
        return pooled, np.full(len(s2), np.sum(d))
    e = np.log(s2) - digamma(d / 2) + np.log(d / 2)
    excess = float(np.var(e, ddof=1) - np.mean(polygamma(1, d / 2)))
    if excess <= 0:  # no more scatter than chance makes: one variance for all
        return np.full(len(s2), np.exp(np.mean(e))), np.full(len(s2), KNOWN)
    prior_df = 2 * _inverse_trigamma(excess)
    prior = math.exp(float(np.mean(e)) + float(digamma(prior_df / 2)) - math.log(prior_df / 2))
    return (prior_df * prior + d * s2) / (prior_df + d), prior_df + d


def _inverse_trigamma(value: float) -> float:
    """Solve trigamma(x) = value by Newton's method on 1 / trigamma, which is nearly straight."""
    x = 0.5 + 1 / value
    for _ in range(50):
        trigamma = float(polygamma(1, x))
        step = trigamma * (1 - trigamma / value) / float(polygamma(2, x))
        x += step
        if -step < 1e-10 * x:
            break
    return x
