"""The losses: their names, the targets that they suit, and their values in numpy.

The gradient needs the same losses in torch, as functions of a network's output:
:mod:`bikefit.nn.losses`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
from scipy.special import expit, logit, rel_entr

LossName = Literal["mse", "poisson", "bernoulli"]
SMALLEST_RATE = 1.0  # predicted counts that are not positive are set to it
SMALLEST_PROBABILITY = 1e-12  # probabilities are at least this far from 0 and 1


def squared_error(target: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return the squared error of each row."""
    return np.asarray((predicted - target) ** 2)


def half_deviance(target: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return half the Poisson deviance of each row, for predictions above 0."""
    logarithm = np.log(np.where(target > 0, target, 1.0) / predicted)
    return np.asarray(target * logarithm - target + predicted)


def positive(predicted: np.ndarray) -> np.ndarray:
    """Return predictions for which a deviance is defined, of at least SMALLEST_RATE if need be."""
    return np.maximum(predicted.astype(float), SMALLEST_RATE if predicted.min() <= 0 else 0.0)


def log_loss(target: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return the negative log-likelihood of each row, for probabilities between 0 and 1.

    If the target is itself a probability, it is the Kullback-Leibler divergence.
    """
    other = 1 - target, 1 - predicted
    return np.asarray(rel_entr(target, predicted) + rel_entr(*other))


def area_under_roc(
    target: np.ndarray, predicted: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """Return the area under the ROC curve; NaN if all targets are equal.

    It is the probability that a row with the target 1 has a higher prediction than a row with the
    target 0, where equal predictions count one half.

    Args:
        target: 0 or 1, ``(N,)``.
        predicted: Any score, ``(N,)``.
        weights: Weights of the rows, ``(..., N)``; the result is ``(...)``.
    """
    order = np.argsort(predicted, kind="stable")
    _, starts = np.unique(predicted[order], return_index=True)  # of rows with equal predictions
    rows = np.ones(len(target)) if weights is None else weights
    ones, zeros = (
        np.add.reduceat((rows * of)[..., order], starts, axis=-1)
        for of in (target > 0, target <= 0)
    )
    lower = np.cumsum(zeros, axis=-1) - zeros / 2
    with np.errstate(invalid="ignore"):
        return np.asarray((ones * lower).sum(axis=-1) / (ones.sum(axis=-1) * zeros.sum(axis=-1)))


def _no_counts(target: np.ndarray) -> str:
    if (target < 0).any():
        return f"needs a target of 0 or more, but the lowest is {target.min():g}: use loss=mse"
    return "" if target.any() else "needs a target above 0, but all are 0"


def _not_yes_or_no(target: np.ndarray) -> str:
    other = target[(target != 0) & (target != 1)]
    if len(other):
        return f"needs a target of 0 and 1, but there is {other[0]:g}: use loss=mse or poisson"
    return "" if target.any() and not target.all() else f"needs both 0 and 1, all are {target[0]:g}"


@dataclass(frozen=True)
class LossDescription:
    """What a loss measures, and of which targets.

    Args:
        measure: Name of the measured quantity.
        in_units: Whether it has the unit of the target.
        rows: Loss of each row from the target and the prediction, up to a constant factor: a
            Bregman divergence.
        valid: Moves predictions into the range in which the loss is finite.
        central: Mean of predictions of several networks, ``(M, N) -> (N,)``, in the dual space of
            the divergence.
        problem: Reason why a target does not suit the loss; "" if it does.
        of_all_rows: Metrics that are not a mean over rows, functions of target and prediction.
    """

    measure: str
    in_units: bool
    rows: Callable[[np.ndarray, np.ndarray], np.ndarray]
    valid: Callable[[np.ndarray], np.ndarray]
    central: Callable[[np.ndarray], np.ndarray]
    problem: Callable[[np.ndarray], str]
    of_all_rows: Mapping[str, Callable[[np.ndarray, np.ndarray], Any]] = field(default_factory=dict)

    def label(self, unit: str) -> str:
        """Return the measure with the unit of the target: "half Poisson deviance, bikes/hour"."""
        return with_unit(self.measure, unit) if self.in_units else self.measure


def with_unit(name: str, unit: str) -> str:
    """Return a name followed by a unit, if there is one: "RMSE, bikes/hour"."""
    return f"{name}, {unit}" if unit else name


LOSSES: Final[dict[str, LossDescription]] = {
    "mse": LossDescription(
        "in units of the target's variance",
        in_units=False,
        rows=squared_error,
        valid=np.asarray,
        central=lambda predicted: predicted.mean(axis=0),
        problem=lambda target: "",
    ),
    "poisson": LossDescription(
        "half Poisson deviance",
        in_units=True,
        rows=half_deviance,
        valid=positive,
        central=lambda predicted: np.exp(np.log(predicted).mean(axis=0)),
        problem=_no_counts,
    ),
    "bernoulli": LossDescription(
        "negative log-likelihood, nats",
        in_units=False,
        rows=log_loss,
        valid=lambda predicted: np.clip(
            predicted.astype(float), SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY
        ),
        central=lambda predicted: expit(logit(predicted).mean(axis=0)),
        problem=_not_yes_or_no,
        of_all_rows={"auc": area_under_roc},
    ),
}
