"""Peer: the lecture's training loop in plain torch, one network after another, nothing tracked."""

from __future__ import annotations

import torch
from shared import GRID, epochs, loader, network, read, report
from torch import nn
from torch.utils.data import DataLoader


def fit(
    train: DataLoader, validation: DataLoader, l2: float, dropout: float, seed: int, epochs: int
) -> float:
    """Train one network and return its validation loss."""
    torch.manual_seed(seed)
    module = network(train.dataset.tensors[0].shape[1], dropout)
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3)
    for _ in range(epochs):
        module.train()
        for features, target in train:
            loss = nn.functional.mse_loss(module(features), target)
            objective = loss + l2 * sum(p.pow(2).sum() for p in module.parameters())
            optimizer.zero_grad()
            objective.backward()
            optimizer.step()
        validation_loss = evaluate(module, validation)
    return validation_loss


@torch.no_grad()
def evaluate(module: nn.Module, rows: DataLoader) -> float:
    """Return the mean squared error of the rows."""
    module.eval()
    total = sum(
        float(nn.functional.mse_loss(module(features), target, reduction="sum"))
        for features, target in rows
    )
    return total / len(rows.dataset)


if __name__ == "__main__":
    train, validation = read()
    parts = loader(train, 256, True), loader(validation, 1024, False)
    report([fit(*parts, *point, epochs()) for point in GRID])
