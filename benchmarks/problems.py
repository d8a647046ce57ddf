"""Synthetic regression problems: a known function of a few inputs with known noise."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bikefit.losses import LOSSES
from bikefit.training.folds import Pool


@dataclass(frozen=True)
class Problem:
    """A known function with known noise, and the rows drawn from it.

    Args:
        seed: Seed of everything that is drawn.
        loss: mse or poisson.
        inputs: Number D of inputs.
        train_rows: Number of training rows.
        val_rows: Number of validation rows.
        noise: Approximate variance of the noise in units of the variance of the function.
    """

    seed: int
    loss: str
    inputs: int
    train_rows: int
    val_rows: int
    noise: float

    @classmethod
    def draw(cls, seed: int) -> Problem:
        """Return a random problem; even seeds have squared error, odd ones Poisson counts."""
        random = np.random.default_rng([seed, 0])
        return cls(
            seed=seed,
            loss=("mse", "poisson")[seed % 2],
            inputs=int(random.integers(2, 6)),
            train_rows=int(random.choice([100, 200, 400])),
            val_rows=200,
            noise=float(np.exp(random.uniform(np.log(0.05), np.log(1.0)))),
        )

    @cached_property
    def _terms(self) -> tuple[np.ndarray, ...]:
        random = np.random.default_rng([self.seed, 1])
        terms = int(random.integers(2, 6))
        directions = random.normal(0, 1.6 / np.sqrt(self.inputs), (self.inputs, terms))
        return directions, random.uniform(-3, 3, terms), random.normal(0, 1, (terms, 2))

    def _shape(self, x: np.ndarray) -> np.ndarray:
        """Return a sum of a straight line, waves, steps and a product, ``(N,)``."""
        directions, shift, weight = self._terms
        z = x @ directions + shift
        bent = np.where(np.arange(z.shape[1]) % 2 == 0, np.sin(z), np.tanh(2 * z))
        return bent @ weight[:, 0] + 0.3 * x @ directions @ weight[:, 1] + 0.5 * x[:, 0] * x[:, 1]

    @cached_property
    def _moments(self) -> tuple[float, float]:
        shape = self._shape(self.features(2, 20_000))
        return float(shape.mean()), float(shape.std())

    def features(self, stream: int, rows: int) -> np.ndarray:
        """Draw standardized inputs, ``(N, D)``."""
        random = np.random.default_rng([self.seed, stream])
        return random.uniform(-(3**0.5), 3**0.5, (rows, self.inputs))

    def mean(self, x: np.ndarray) -> np.ndarray:
        """Return the known function: the expected target of each row, ``(N,)``."""
        mean, std = self._moments
        shape = (self._shape(x) - mean) / std
        if self.loss == "mse":
            return 10.0 + shape
        return np.exp(0.6 * np.clip(shape, -3, 3)) * 1.4 / self.noise

    def target(self, mean: np.ndarray, stream: int) -> np.ndarray:
        """Draw the target of each row, ``(N,)``."""
        random = np.random.default_rng([self.seed, stream])
        if self.loss == "mse":
            return mean + np.sqrt(self.noise) * random.normal(size=len(mean))
        return random.poisson(mean).astype(float)

    def loss_of(self, target: np.ndarray, predicted: np.ndarray, scale: float) -> np.ndarray:
        """Return the loss of each row as training computes it.

        Args:
            target: Target of each row; broadcasts with `predicted`.
            predicted: Prediction of each row.
            scale: Variance of the training target.
        """
        losses = LOSSES[self.loss].rows(target, predicted)
        return losses / scale if self.loss == "mse" else losses

    def pool(self) -> Pool:
        """Return the rows that a sweep reads: training rows, then validation rows."""
        count = self.train_rows + self.val_rows
        features = self.features(3, count)
        target = self.target(self.mean(features), 4)
        return Pool(
            features.astype(np.float32),
            target.astype(np.float32),
            np.arange(count).astype("M8[h]"),
            np.arange(count) // 24,
            self.train_rows,
        )
