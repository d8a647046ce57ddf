"""Which networks of a sweep to average: greedy selection, judged on days that it has not seen.

Greedy selection with replacement (Caruana, Niculescu-Mizil, Crew and Ksikes 2004, "Ensemble
selection from libraries of models") starts with nothing and takes, step by step, the network that
lowers the loss of the average most; one that is taken k times counts k times. Since it picks the
lucky ones among many, what it reached on its own rows says nothing: half of the days select, the
other half judge.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bikefit.final.model import average
from bikefit.final.scores import deviances

PARTITIONS = 10  # of the days into two halves, each of which selects once and judges once


@dataclass(frozen=True, eq=False)
class Judged:
    """What the selection is worth on days that it has not seen.

    Args:
        lead: how much lower its mean Poisson deviance is than that of the present choice, mean
            over the halves, bikes/hour.
        error: standard error of that. Halves share days, which a plain standard error would take
            for independent (corrected resampled variance, Nadeau and Bengio 2003).
        mean: what each row is predicted by what was selected on the other half of the days,
            ``(N,)``, bikes/hour.
    """

    lead: float
    error: float
    mean: np.ndarray


def greedy(predicted: np.ndarray, target: np.ndarray, steps: int) -> np.ndarray:
    """Count how often each network is taken, ``(M,)``; among equals the first is.

    Args:
        predicted: expected rentals above 0, ``(M, N)``, bikes/hour.
        target: rentals, ``(N,)``, bikes/hour.
        steps: how many are taken, one after the other.
    """
    counts, total = np.zeros(len(predicted), dtype=int), np.zeros(len(target))
    for step in range(1, steps + 1):
        best = int(np.argmin(_losses((total + predicted) / step, target)))
        counts[best] += 1
        total += predicted[best]
    return counts


def judge(
    predicted: np.ndarray, target: np.ndarray, days: np.ndarray, present: np.ndarray, steps: int
) -> Judged:
    """Compare the selection with a present choice, on halves of the days, again and again.

    Args:
        predicted: as in :func:`greedy`.
        target: rentals, ``(N,)``, bikes/hour.
        days: of the rows, ``(N,)``; two or more different ones.
        present: weights of the networks in the present choice, ``(M,)``. It was made on all days,
            those that judge among them, which is to its advantage.
        steps: of the selection.
    """
    known, day_of = np.unique(days, return_inverse=True)
    draw = np.random.default_rng(0)
    here = average(predicted, present)[0]
    leads, means = [], np.zeros(len(target))
    for _ in range(PARTITIONS):
        first = np.isin(day_of, draw.permutation(len(known))[: len(known) // 2])
        for selecting in (first, ~first):
            judging = ~selecting
            taken = greedy(predicted[:, selecting], target[selecting], steps)
            mean = average(predicted[:, judging], taken)[0]
            leads.append(_losses(here[judging], target[judging]) - _losses(mean, target[judging]))
            means[judging] += mean / PARTITIONS
    variance = np.var(leads, ddof=1) * (1 / len(leads) + 1)  # as many rows judge as select
    return Judged(float(np.mean(leads)), float(np.sqrt(variance)), means)


def _losses(predicted: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Mean Poisson deviance over the last axis."""
    return np.asarray(deviances(target, predicted).mean(axis=-1))
