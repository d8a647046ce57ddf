"""The rows of a stack as tensors, and the order in which its members read them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from bikefit.nn.randomness import generator, set_states, states_of
from bikefit.training.folds import Fold, Pool

PIECE = 256  # rows that go through a stack at once: activations stay in the cache
CHUNK = 64 * PIECE  # rows measured at once: bounds memory


class Rows(torch.nn.Module):
    """The rows of a stack as tensors on its device, with what each member sees of them.

    Members share the features; a fold's own column statistics are applied as an affine map,
    since standardizing standardized columns again with the fold's mean and deviation equals
    fitting them on the fold's raw values.

    Args:
        pool: where the rows come from.
        folds: the F distinct folds of the stack.
        fold_of: fold of each of the M members.
    """

    def __init__(self, pool: Pool, folds: Sequence[Fold], fold_of: Sequence[int]) -> None:
        super().__init__()
        self.pool, self.folds = pool, folds
        used = np.unique(np.concatenate([rows for f in folds for rows in (f.train, f.validation)]))
        # The pool itself where all of it is used: a copy would double a long table's memory.
        features = pool.features if len(used) == len(pool.target) else pool.features[used]
        self.register_buffer("features", torch.from_numpy(features), persistent=False)
        self.register_buffer("target", torch.from_numpy(pool.target[used]), persistent=False)
        self.place = np.full(len(pool.target), -1)  # of each row of the pool among the used ones
        self.place[used] = np.arange(len(used))
        self.train_rows = [torch.from_numpy(self.place[fold.train]) for fold in folds]
        masks = torch.zeros(2, len(folds), len(used))
        for i, fold in enumerate(folds):
            masks[0, i, self.place[fold.train]] = 1.0
            masks[1, i, self.place[fold.validation]] = 1.0
        self.register_buffer("masks", masks, persistent=False)
        self.register_buffer("fold_of", torch.tensor(list(fold_of)), persistent=False)
        counts = masks.sum(-1, dtype=torch.float64)[:, self.fold_of]
        self.register_buffer("counts", counts, persistent=False)
        shift, scale = _statistics(pool, folds)
        self.refit = any(fold.refit for fold in folds)
        self.register_buffer("shift", shift, persistent=False)
        self.register_buffer("scale", scale, persistent=False)
        targets = [pool.target[fold.train].astype(np.float64) for fold in folds]
        mean = torch.tensor([[t.mean()] for t in targets], dtype=torch.float32)
        std = torch.tensor([[t.std() or 1.0] for t in targets], dtype=torch.float32)
        self.register_buffer("target_mean", mean[self.fold_of], persistent=False)
        self.register_buffer("target_std", std[self.fold_of], persistent=False)

    features: Tensor  # (N, D)
    target: Tensor  # (N,)
    masks: Tensor  # (2, F, N): training, validation
    fold_of: Tensor  # (M,)
    counts: Tensor  # (2, M): training rows, validation rows
    shift: Tensor  # (F, D)
    scale: Tensor  # (F, D)
    target_mean: Tensor  # (M, 1)
    target_std: Tensor  # (M, 1)

    def standardized(self, features: Tensor, fold: Tensor) -> Tensor:
        """Apply the statistics of each fold: ``(S, B, D)`` with the folds ``(S,)``."""
        if not self.refit:
            return features
        return (features - self.shift[fold].unsqueeze(1)) / self.scale[fold].unsqueeze(1)

    def seen(self, rows: slice) -> Tensor:
        """Return the features of rows as members see them: ``(C, D)`` or ``(M, C, D)``."""
        features = self.features[rows]
        if not self.refit:
            return features
        every = torch.arange(len(self.shift), device=features.device)
        mapped = self.standardized(features.expand(len(every), -1, -1), every)
        return mapped[0] if len(every) == 1 else mapped[self.fold_of]

    def chunk(self, start: int) -> tuple[Tensor, Tensor]:
        """Return target ``(C,)`` and masks ``(2, M, C)`` of a chunk of rows for evaluation."""
        rows = slice(start, start + CHUNK)
        return self.target[rows], self.masks[:, self.fold_of, rows]


def _statistics(pool: Pool, folds: Sequence[Fold]) -> tuple[Tensor, Tensor]:
    """Mean and deviation of the standardized columns on each fold's training rows, ``(F, D)``."""
    columns = np.array(pool.standardized, dtype=np.intp)
    shift = np.zeros((len(folds), pool.features.shape[1]))
    scale = np.ones_like(shift)
    for i, fold in enumerate(folds):
        if fold.refit and len(columns):
            values = pool.features[np.ix_(fold.train, columns)].astype(np.float64)
            shift[i, columns] = values.mean(axis=0)
            deviation = values.std(axis=0)
            scale[i, columns] = np.where(deviation > 0, deviation, 1.0)
    return torch.from_numpy(shift).float(), torch.from_numpy(scale).float()


class Batches:
    """The order of batches: row numbers ``(S, B)`` for each distinct seed and fold of a stack.

    Each epoch shuffles anew. A last batch with fewer rows is left out, so that every step of
    every member has the same shape; its rows come up in later shuffles. With fewer rows than
    ``batch_size`` all of them form one batch.

    Args:
        streams: seed and training rows of each of the S streams, enough in each for equally many
            steps.
        batch_size: rows B of a step.
    """

    def __init__(self, streams: Sequence[tuple[int, Tensor]], batch_size: int) -> None:
        self.rows = [rows for _, rows in streams]
        self.generators = [generator(seed, "order of rows") for seed, _ in streams]
        count = len(self.rows[0])
        self.batch_size = min(batch_size, count)
        self.steps = count // self.batch_size

    def __len__(self) -> int:
        return self.steps

    def state(self) -> Tensor:
        """Return the states of the generators between two epochs, ``(S, G)``."""
        return states_of(self.generators)

    def restore(self, state: Tensor) -> None:
        """Go on with the epoch that follows where :meth:`state` was asked."""
        set_states(self.generators, state)

    def __iter__(self) -> Iterator[Tensor]:
        used = self.steps * self.batch_size
        shuffled = torch.stack(
            [
                rows[torch.randperm(len(rows), generator=g)[:used]]
                for rows, g in zip(self.rows, self.generators, strict=True)
            ]
        )
        yield from shuffled.split(self.batch_size, dim=1)


class StackData(pl.LightningDataModule):
    """Gives row numbers to the module, which holds the rows: nothing is copied row by row.

    Args:
        batches: row numbers of each training step.
        rows: number of rows to evaluate after each epoch.
    """

    def __init__(self, batches: Batches, rows: int) -> None:
        super().__init__()
        self.batches, self.rows = batches, rows

    def train_dataloader(self) -> Batches:
        """Return the training steps of an epoch."""
        return self.batches

    def val_dataloader(self) -> list[int]:
        """Return where each chunk of the evaluation starts."""
        return list(range(0, self.rows, CHUNK))

    def transfer_batch_to_device(self, batch: Any, device: torch.device, index: int) -> Any:
        """Move row numbers; where a chunk starts stays a plain number."""
        return batch.to(device) if isinstance(batch, Tensor) else batch
