"""The noise of a difference between two configurations, the same in ranking, verdicts and figures.

It has two parts. Seeds: initialization, order of the rows and dropout. Validation rows: whole days,
because errors within a day are correlated; configurations are paired by day. With cross-validation,
folds replace the days, because they differ in their training and validation rows. Training sets
that were drawn replace the seeds, because each has a seed.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.special import chdtri, stdtrit

from bikefit.comparison.runs import SETS

CONFIDENCE = 0.95  # two-sided level at which a difference is significant


def differences(runs: pd.DataFrame, loss: str, reference: str) -> pd.DataFrame:
    """Compare the mean loss of each configuration with that of a reference.

    Args:
        runs: One row per run: ``configuration_id``, ``seed``, the column `loss` without missing
            values, and optionally ``days``, what each validation day adds to the
            loss, and ``fold_losses``; these are tuples, empty if unknown. ``repetition`` says what
            ``fold_losses`` are of.
        loss: Name of the column of the loss.
        reference: Id of the reference.

    Returns:
        By id: ``difference``; ``difference_se``, its standard error; ``limit``, the largest
        difference that noise explains (Student's t); and ``within_noise``, whether the difference
        is not larger. The noise is unknown, NaN and NA, if no configuration has two seeds and there
        are no folds; ``within_noise`` is also NA for the reference.
    """
    by_seed = runs.groupby(["configuration_id", "seed"], dropna=False)[loss].mean()
    seeds = by_seed.groupby("configuration_id")
    mean, count = seeds.mean(), seeds.count()
    variance = _moderated(seeds.var() / mean**2, count - 1) * mean**2 / count
    variance = variance + variance[reference]
    folds = _deviations(runs, "fold_losses", reference)
    days = _deviations(runs, "days", reference)
    df = [int((count - 1).sum())]
    k, drawn = len(folds.columns), SETS in set(runs.get("repetition", ()))
    if k > 1 and drawn:
        variance, df = folds.var(axis=1) / k, [k - 1]
    if k > 1 and not drawn:
        # Folds share most of their training rows (Nadeau and Bengio 2003).
        variance = variance.fillna(0.0).add(folds.var(axis=1) * (1 / k + 1 / (k - 1)))
        df.append(k - 1)
    elif len(days.columns) > 1:
        count_days = len(days.columns)
        variance = variance.add(count_days * days.var(axis=1).fillna(0.0))
        df.append(count_days - 1)
    error = np.sqrt(variance).where(mean.index != reference, 0.0)
    # scipy.special has the quantiles of Student's t and of χ²; scipy.stats takes longer to import.
    limit = error * stdtrit(min(n for n in [*df, np.inf] if n > 0), (1 + CONFIDENCE) / 2)
    table = pd.DataFrame(
        {"difference": mean - mean[reference], "difference_se": error, "limit": limit}
    )
    within = (table["difference"] <= limit).astype("boolean")
    return table.assign(within_noise=within.mask(limit.isna() | (mean.index == reference)))


def _moderated(variances: pd.Series, df: pd.Series) -> pd.Series:
    """Return the mean of each variance and of a typical one, because three seeds estimate it badly.

    The typical variance is the median of all, corrected for its bias: each estimate is distributed
    as χ² over its degrees of freedom. It also replaces variances that are unknown.
    """
    repeated = df > 0
    typical = (variances[repeated] * df[repeated] / chdtri(df[repeated], 0.5)).median()
    return ((variances + typical) / 2).fillna(typical)


def _deviations(runs: pd.DataFrame, key: str, reference: str) -> pd.DataFrame:
    """Return the mean losses by day or fold of each configuration, minus those of the reference."""
    values = runs[key] if key in runs else [()] * len(runs)
    rows = [dict(enumerate(losses)) for losses in values]  # their lengths may differ
    table = pd.DataFrame(rows, index=runs["configuration_id"]).groupby(level=0).mean()
    return table - table.loc[reference]
