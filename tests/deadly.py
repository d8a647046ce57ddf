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
    """

    def __init__(self, spared: int, marker: str) -> None:
        super().__init__()
        self.spared, self.marker, self.calls = spared, Path(marker), 0

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        if self.calls == 20 and os.getpid() != self.spared and not self.marker.exists():
            self.marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return values
