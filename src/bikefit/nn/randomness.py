"""Random numbers of a member, which depend on its seed only.

Each purpose (initialization, order of the rows, noise of a dropout layer) has a separate generator,
so the numbers depend neither on the other members of a stack nor on which layers drop units.
Members with the same seed have common random numbers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bikefit.nn.networks import Network

LEVELS = 2**16  # number of values of dropout noise


def derive(seed: int, purpose: str) -> int:
    """Return a seed (63 bits) for a purpose; seeds of different purposes are independent."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{purpose}".encode()).digest()[:8]) >> 1


def generator(seed: int, purpose: str) -> torch.Generator:
    """Return a torch generator for a purpose."""
    return torch.Generator().manual_seed(derive(seed, purpose))


def initialize(make: Callable[[], Network], seed: int) -> Network:
    """Return a new network whose initial parameters depend on the seed only."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "initialization"))
        return make()


@dataclass(frozen=True)
class Noise:
    """Noise of a dropout layer for one step, as 16-bit integers k >= -2¹⁵.

    They represent the uniform numbers (k + 2¹⁵) / 2¹⁶ in [0, 1), so p is exact to 1 / 65,536.
    """

    bits: Tensor  # integers of S distinct seeds, (S, D, B)
    position: Tensor  # position of each member's seed, (M,)

    def uniform(self, device: torch.device | str = "cpu") -> Tensor:
        """Return uniform numbers, ``(B, D)`` if all members share a seed, or ``(M, B, D)``."""
        numbers = (self.bits.to(device).mT.contiguous().float() + LEVELS / 2) / LEVELS
        return numbers[0] if len(numbers) == 1 else numbers[self.position.to(device)]


class DropoutNoise:
    """Generators of the noise of a stack's dropout layers, one per layer and distinct seed.

    They are numpy's SFC64 on the CPU, so that results do not depend on the device.

    Args:
        seeds: Seed of each of the M members.
        widths: Number of units of each layer that drops units, by name.
        purpose: Purpose of the noise.
    """

    def __init__(
        self, seeds: Sequence[int], widths: Mapping[str, int], purpose: str = "dropout"
    ) -> None:
        distinct = sorted(set(seeds))
        self.widths = dict(widths)
        self.generators = {
            name: [np.random.SFC64(derive(seed, f"{purpose} {name}")) for seed in distinct]
            for name in widths
        }
        self.position = torch.tensor([distinct.index(seed) for seed in seeds])

    def draw(self, rows: int) -> dict[str, Noise]:
        """Return the noise of each layer for the next batch, of B = ``rows`` rows."""
        return {name: self._layer(name, rows) for name in self.widths}

    def _layer(self, name: str, rows: int) -> Noise:
        shape = (self.widths[name], rows)
        count = shape[0] * shape[1]
        # 64 random bits are four integers.
        drawn = [g.random_raw(-(-count // 4)).view(np.int16)[:count] for g in self.generators[name]]
        bits = drawn[0] if len(drawn) == 1 else np.stack(drawn)
        return Noise(torch.from_numpy(bits).view(len(drawn), *shape), self.position)

    def state(self) -> dict[str, Tensor]:
        """Return the states of the generators by layer name, ``(S, 4)`` integers."""
        states: dict[str, Any] = {n: [g.state for g in gs] for n, gs in self.generators.items()}
        return {
            name: torch.from_numpy(np.stack([s["state"]["state"] for s in of_layer]).view(np.int64))
            for name, of_layer in states.items()
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Set the generators to the result of :meth:`state`."""
        for name, generators in self.generators.items():
            for stream, words in zip(generators, state[name].numpy(), strict=True):
                restored: Any = stream.state
                restored["state"]["state"] = words.view(np.uint64).copy()
                stream.state = restored
