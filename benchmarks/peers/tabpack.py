"""Peer: the modules of TabPack (Gorishniy et al. 2026), all networks in one pack, nothing tracked.

TabPack has weight decay of AdamW in place of the L2 penalty, and no batch norm. The package
`tabpackage` 0.0.1.dev0 is empty, so it needs a checkout of github.com/yandex-research/tabpack and
Python 3.12.
"""

from __future__ import annotations

import argparse
import sys

import torch
from shared import GRID, Rows, read, report
from torch import Tensor, nn


def make_pack(features: int) -> nn.Module:
    """Return 24 networks with the sizes and dropout probabilities of the grid."""
    from project.nn import LinearPack, MLPBackbonePack, PackView

    count = len(GRID)

    class Pack(nn.Module):
        """Networks side by side: ``(B, D)`` or ``(M, B, D) -> (M, B)``."""

        def __init__(self) -> None:
            super().__init__()
            self.view = PackView(pack_size=count)
            self.backbone = MLPBackbonePack(
                d_in=features,
                n_blocks=2,
                d_block=128,
                dropout=[float(dropout) for _, dropout, _ in GRID],
                pack_size=count,
            )
            self.output = LinearPack(128, 1, pack_size=count)

        def forward(self, x: Tensor) -> Tensor:
            return self.output(self.backbone(self.view(x))).squeeze(-1)

    return Pack()


def train(rows: Rows, validation: Rows, epochs: int) -> list[float]:
    """Train the pack as TabPack does, each network with its own batches; return its losses."""
    from project.optim import AdamWPack

    torch.manual_seed(0)
    x, y, held_out, target = map(torch.from_numpy, (*rows, *validation))
    pack = make_pack(x.shape[1])
    decay = [float(l2) for l2, _, _ in GRID]
    optimizer = AdamWPack(
        pack.parameters(), lr=1e-3, weight_decay=decay, pack_size=len(GRID), shared_step=True
    )
    for _ in range(epochs):
        pack.train()
        for batch in torch.rand(len(GRID), len(x)).argsort(dim=1).split(256, dim=1):
            loss = (pack(x[batch]) - y[batch]).square().mean(dim=1).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        pack.eval()
        with torch.inference_mode():
            output = torch.cat([pack(piece) for piece in held_out.split(1024)], dim=1)
        losses = (output - target).square().mean(dim=1)
    return losses.tolist()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--checkout", required=True, help="folder of TabPack's repository")
    options = parser.parse_args()
    sys.path.append(f"{options.checkout}/src")
    report(train(*read(), options.epochs))
