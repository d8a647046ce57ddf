"""Peer: the lecture's loop in plain torch, one network after the other, nothing tracked."""

from __future__ import annotations

import argparse
import json
from itertools import product

import torch
from rows import Rows, read
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def loader(rows: Rows, batch_size: int, shuffle: bool) -> DataLoader:
    """Batches of rows."""
    data = TensorDataset(torch.from_numpy(rows.features), torch.from_numpy(rows.target))
    return DataLoader(data, batch_size=batch_size, shuffle=shuffle)


def fit(
    train: DataLoader, validation: DataLoader, l2: float, dropout: float, seed: int, epochs: int
) -> float:
    """Train one network and return its validation loss."""
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Linear(train.dataset.tensors[0].shape[1], 128), nn.BatchNorm1d(128), nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(128, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Dropout(dropout),
        nn.Linear(128, 1), nn.Flatten(0),
    )  # fmt: skip
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    for _ in range(epochs):
        network.train()
        for features, target in train:
            loss = nn.functional.mse_loss(network(features), target)
            objective = loss + l2 * sum(p.pow(2).sum() for p in network.parameters())
            optimizer.zero_grad()
            objective.backward()
            optimizer.step()
        validation_loss = evaluate(network, validation)
    return validation_loss


@torch.no_grad()
def evaluate(network: nn.Module, rows: DataLoader) -> float:
    """Return the mean loss of rows."""
    network.eval()
    total = sum(
        float(nn.functional.mse_loss(network(features), target, reduction="sum"))
        for features, target in rows
    )
    return total / len(rows.dataset)


def main() -> None:
    """Train the grid."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=20)
    epochs = parser.parse_args().epochs
    train, validation = read()
    parts = loader(train, 256, True), loader(validation, 1024, False)
    losses = [
        fit(*parts, l2, dropout, seed, epochs)
        for l2, dropout, seed in product((0, 1e-5, 1e-4, 1e-3), (0, 0.1, 0.3), (0, 1))
    ]
    print(json.dumps({"runs": len(losses), "val_loss": sum(losses) / len(losses)}))


if __name__ == "__main__":
    main()
