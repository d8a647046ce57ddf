"""The rows of a stack as tensors, and the order in which its members read them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from bikefit.nn.randomness import generator
from bikefit.nn.sparse import SparseRows, nonzero_columns
from bikefit.training.folds import Fold, Pool

PIECE = 256  # rows that pass through a stack together: their activations fit into the cache
CHUNK = 64 * PIECE  # rows evaluated together: bounds memory


class Rows(torch.nn.Module):
    """The rows of a stack as tensors on its device, with masks for the rows of each fold.

    Members share the features. Standardizing the standardized columns of the pool again, with the
    statistics of a fold, equals standardizing the raw values with them.

    Args:
        pool: Rows of the table.
        folds: Fold of each of the M members; F of them are distinct.
    """

    def __init__(self, pool: Pool, folds: Sequence[Fold]) -> None:
        super().__init__()
        self.pool, self.folds = pool, list(dict.fromkeys(folds))
        self.restandardize = any(fold.restandardize for fold in folds)
        used = np.unique(np.concatenate([np.r_[fold.train, fold.validation] for fold in folds]))
        # Use the pool itself if all its rows are used: a copy would double the memory.
        features = pool.features if len(used) == len(pool.target) else pool.features[used]
        self.positions = np.full(len(pool.target), -1)  # index of each row of the pool here, or -1
        self.positions[used] = np.arange(len(used))
        self.train_rows = [torch.from_numpy(self.positions[fold.train]) for fold in self.folds]
        masks = np.zeros((2, len(self.folds), len(used)), np.float32)
        shift, scale = np.zeros((2, len(self.folds), features.shape[1]), np.float32)
        scale += 1
        columns = np.array(pool.standardized, dtype=np.intp)
        mean, deviation = np.empty((2, len(self.folds), 1), np.float32)
        for i, fold in enumerate(self.folds):
            np.add.at(masks[0, i], self.positions[fold.train], 1)
            masks[1, i, self.positions[fold.validation]] = 1
            if fold.restandardize and len(columns):
                values = pool.features[np.ix_(fold.train, columns)].astype(np.float64)
                shift[i, columns] = values.mean(axis=0)
                scale[i, columns] = np.where(values.std(axis=0) > 0, values.std(axis=0), 1)
            target = pool.target[fold.train].astype(np.float64)
            mean[i], deviation[i] = target.mean(), target.std() or 1.0
        # After an epoch, as many training rows are evaluated as validation rows.
        epoch_masks = masks.copy()
        for mask, rows, fold in zip(epoch_masks[0], self.train_rows, self.folds, strict=True):
            order = torch.randperm(len(rows), generator=generator(0, "evaluated rows"))
            np.subtract.at(mask, rows[order[len(fold.validation) :]].numpy(), 1)
        fold_of = np.array([self.folds.index(fold) for fold in folds])
        buffers = {
            "features": features,
            "target": pool.target[used],
            "masks": masks,
            "epoch_masks": epoch_masks,
            "fold_of": fold_of,
            "counts": masks.sum(-1, dtype=np.float64)[:, fold_of],
            "shift": shift,
            "scale": scale,
            "target_mean": mean[fold_of],
            "target_std": deviation[fold_of],
        }
        for name, values in buffers.items():
            self.register_buffer(name, torch.from_numpy(values))

    features: Tensor  # (N, D)
    columns: Tensor | None = None  # (N, K): columns of the features that are not zero
    values: Tensor  # (N, K)
    target: Tensor  # (N,)
    masks: Tensor  # (2, F, N): how often a row is in training and in validation
    epoch_masks: Tensor  # (2, F, N): those evaluated after an epoch
    fold_of: Tensor  # (M,)
    counts: Tensor  # (2, M): number of training rows, of validation rows
    shift: Tensor  # (F, D)
    scale: Tensor  # (F, D)
    target_mean: Tensor  # (M, 1)
    target_std: Tensor  # (M, 1)

    def compress(self) -> None:
        """Make :meth:`read` return sparse rows, if few features are not zero."""
        nonzero = self.features != 0
        if self.restandardize:  # standardizing moves zeros
            nonzero[:, list(self.pool.standardized)] = True
        self.columns = nonzero_columns(nonzero)
        if self.columns is not None:
            self.values = self.features.gather(1, self.columns)

    def read(self, rows: Tensor, fold: Tensor, position: Tensor) -> Tensor | SparseRows:
        """Return the features of rows, standardized in their fold.

        Args:
            rows: Row numbers of each of S streams, ``(S, B)``.
            fold: Fold of each stream, ``(S,)``.
            position: Stream of each member, ``(M,)``.

        Returns:
            ``(B, D)`` if members share the rows, otherwise ``(M, B, D)``; sparse rows after
            :meth:`compress`.
        """
        shift, scale = self.shift[fold].unsqueeze(1), self.scale[fold].unsqueeze(1)
        if self.columns is None:
            features = self.features.index_select(0, rows.flatten()).view(*rows.shape, -1)
            if self.restandardize:
                features = (features - shift) / scale
            return features[0] if len(rows) == 1 else features[position]
        shape = (*rows.shape, self.columns.shape[1])
        columns = self.columns.index_select(0, rows.flatten()).view(shape)
        values = self.values.index_select(0, rows.flatten()).view(shape)
        if self.restandardize:
            shift, scale = (
                s.expand(-1, rows.shape[1], -1).gather(2, columns) for s in (shift, scale)
            )
            values = (values - shift) / scale
        return SparseRows(columns, values, position)

    def member_features(self, rows: Tensor) -> Tensor | SparseRows:
        """Return the features of rows ``(C,)`` for all members."""
        folds = torch.arange(len(self.folds), device=self.features.device)
        return self.read(rows.expand(len(folds), -1), folds, self.fold_of)

    def pieces(self, size: int = CHUNK) -> tuple[Tensor, ...]:
        """Return the row numbers in pieces of at most ``size``."""
        return torch.arange(len(self.target), device=self.target.device).split(size)

    def member_masks(self, rows: Tensor) -> Tensor:
        """Return :attr:`masks` of rows ``(C,)`` for each member, ``(2, M, C)``."""
        return self.masks[..., rows][:, self.fold_of]


class Batches:
    """Row numbers ``(S, B)`` of the steps of an epoch, for each distinct seed and fold of a stack.

    Rows are shuffled in each epoch. An incomplete last batch is omitted. With fewer rows than
    ``batch_size``, all rows form one batch.

    Args:
        streams: Seed and training rows of each of the S streams. The numbers of rows must give the
            same number of steps.
        batch_size: Number of rows B of a step.
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
        """Return the states of the random generators, ``(S, G)``."""
        return torch.stack([stream.get_state() for stream in self.generators])

    def restore(self, state: Tensor) -> None:
        """Set the generators to the result of :meth:`state`."""
        for stream, values in zip(self.generators, state, strict=True):
            stream.set_state(values.clone())  # torch 2.13 crashes with a view

    def __iter__(self) -> Iterator[Tensor]:
        used = self.steps * self.batch_size
        shuffled = torch.stack(
            [
                rows[torch.randperm(len(rows), generator=g)[:used]]
                for rows, g in zip(self.rows, self.generators, strict=True)
            ]
        )
        yield from shuffled.split(self.batch_size, dim=1)
