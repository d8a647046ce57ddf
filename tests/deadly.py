"""A layer that kills the process it runs in, once: a worker that dies in the middle of a stack."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import torch


class Once(torch.nn.Module):
    """Let everything through; in the 20th call, kill.

    Args:
        spared: number of the process that must not die, the one that trains for comparison.
        marker: a file that the first to die leaves, so that nobody follows.
        node: whether the process that started the worker (a Ray node) dies with it.
    """

    def __init__(self, spared: int, marker: str, node: bool) -> None:
        super().__init__()
        self.spared, self.marker, self.node, self.calls = spared, Path(marker), node, 0

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        if self.calls == 20 and os.getpid() != self.spared and not self.marker.exists():
            self.marker.touch()
            if self.node:
                os.kill(os.getppid(), signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)
        return values
