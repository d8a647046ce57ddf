"""A fitted network: its layers, its parameters, and the link from its output to the target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from bikefit.losses import LossName
from bikefit.nn.losses import CLASSES
from bikefit.nn.networks import LayerSpec, Network, build
from bikefit.nn.stacking import Stack


@dataclass(frozen=True, eq=False)
class FittedNetwork:
    """A fitted network; mean and standard deviation are those of its target in training."""

    layers: Sequence[dict[str, Any]]
    state: dict[str, np.ndarray]  # parameters and buffers by name
    loss: LossName
    mean: float
    std: float

    @torch.no_grad()
    def module(self, features: int) -> Network:
        """Return the torch module for rows of D = ``features`` columns, in evaluation mode."""
        specs = [
            LayerSpec(arguments.pop("name"), arguments.pop("_target_"), arguments)
            for arguments in map(dict, self.layers)
        ]
        network = build(specs, features)
        tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
        for name, value in self.state.items():
            tensors[name].copy_(torch.from_numpy(value))
        return network.eval()

    @torch.no_grad()
    def predict(self, features: torch.Tensor) -> np.ndarray:
        """Return the expected target for features ``(N, D)``, ``(N,)``.

        Networks predict in evaluation mode and in double precision, so that a prediction does not
        depend on the other rows.
        """
        output = _stack(self, features.shape[1])(features)[0]
        loss = CLASSES[self.loss](*(torch.tensor(x).double() for x in (self.mean, self.std)))
        return loss.predict(output).numpy()


@lru_cache(maxsize=256)  # building a network takes longer than predicting a few rows
def _stack(network: FittedNetwork, features: int) -> Stack:
    """Return a stack of one network, in evaluation mode and in double precision."""
    return Stack([network.module(features)]).double().eval()
