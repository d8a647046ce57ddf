"""Shared by the peers of the reference sweep: rows, network, grid and report."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
import pandas as pd

GRID = tuple(product((0, 1e-5, 1e-4, 1e-3), (0, 0.1, 0.3), (0, 1)))
"""L2 strength, dropout probability and seed of the 24 runs."""


class Rows(NamedTuple):
    """Features ``(N, D)`` and target ``(N,)`` in standard deviations, float32."""

    features: np.ndarray
    target: np.ndarray


def read() -> tuple[Rows, Rows]:
    """Read training and validation rows from `data/features/full` in the current folder."""
    train, validation = (
        pd.read_parquet(f"data/features/full/{part}.parquet") for part in ("train", "validation")
    )
    mean, std = train["rentals"].mean(), train["rentals"].std(ddof=0)

    def rows(table: pd.DataFrame) -> Rows:
        features = table.drop(columns=["timestamp", "rentals"])
        target = (table["rentals"] - mean) / std
        # Contiguous copies: batches of rows are fetched faster.
        return Rows(np.array(features, np.float32, order="C"), np.array(target, np.float32))

    return rows(train), rows(validation)


def loader(rows: Rows, batch_size: int, shuffle: bool):
    """Return a DataLoader of the rows."""
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    data = TensorDataset(torch.from_numpy(rows.features), torch.from_numpy(rows.target))
    return DataLoader(data, batch_size=batch_size, shuffle=shuffle)


def network(features: int, dropout: float):
    """Return a torch module: two hidden layers of 128 with batch norm, ReLU and dropout."""
    from torch import nn

    def hidden(inputs: int) -> list[nn.Module]:
        return [nn.Linear(inputs, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Dropout(dropout)]

    return nn.Sequential(*hidden(features), *hidden(128), nn.Linear(128, 1), nn.Flatten(0))


def epochs() -> int:
    """Return the option `--epochs` of the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=20)
    return parser.parse_args().epochs


def report(losses: Sequence[float]) -> None:
    """Print the mean validation loss of the runs as JSON."""
    assert len(losses) == len(GRID)
    print(json.dumps({"val_loss": sum(losses) / len(losses)}))
