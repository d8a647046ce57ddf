"""All randomness of a member is a function of its own seed.

Each use has a generator of its own (initialization, order of the rows, noise of one dropout
layer), so that what a member draws depends neither on its neighbours in a stack nor on which of
its layers drop units. Members with the same seed draw the same numbers: strengths are compared
with common random numbers.
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

LEVELS = 2**16  # of dropout noise


def derive(seed: int, purpose: str) -> int:
    """Return the seed (63 bits) for one purpose, unrelated to those of other purposes."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{purpose}".encode()).digest()[:8]) >> 1


def generator(seed: int, purpose: str) -> torch.Generator:
    """Return a generator for one purpose of one seed."""
    return torch.Generator().manual_seed(derive(seed, purpose))


def initialize(make: Callable[[], Network], seed: int) -> Network:
    """Make a network whose initial parameters follow from the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "initialization"))
        return make()


@dataclass(frozen=True)
class Noise:
    """The noise of a dropout layer for one step: 16 bits a number, whole numbers k from -2¹⁵.

    They stand for the uniform numbers (k + 2¹⁵) / 2¹⁶ in [0, 1): p is met to 1 / 65,536.

    Args:
        bits: of each of S distinct seeds, ``(S, D, B)``: unit-major, as fused passes read them.
        position: which of them each member uses, ``(M,)``.
    """

    bits: Tensor
    position: Tensor

    def uniform(self, device: torch.device | str = "cpu") -> Tensor:
        """Return uniform numbers: ``(B, D)`` if all members share a seed, else ``(M, B, D)``."""
        numbers = (self.bits.to(device).float().add_(LEVELS / 2) / LEVELS).mT
        return numbers[0] if len(numbers) == 1 else numbers[self.position.to(device)]


class DropoutNoise:
    """Noise for the dropout layers of a stack, drawn once for each distinct seed.

    The numbers come from numpy's SFC64, on the CPU: a GPU's generators give other numbers, and a
    run is the same run wherever it trains.

    Args:
        seeds: of each member, length M.
        widths: number of units by the name of each dropout layer that drops any.
        purpose: what the noise is for; each purpose has generators of its own.
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
        self.of_member = [distinct.index(seed) for seed in seeds]
        self.position = torch.tensor(self.of_member)

    def draw(self, rows: int) -> dict[str, Noise]:
        """Return the next noise of each layer for a batch of B rows."""
        return {name: self._layer(name, rows) for name in self.widths}

    def _layer(self, name: str, rows: int) -> Noise:
        shape = (self.widths[name], rows)
        count = shape[0] * shape[1]
        # a draw of 64 bits is four numbers
        drawn = [g.random_raw(-(-count // 4)).view(np.int16)[:count] for g in self.generators[name]]
        bits = drawn[0] if len(drawn) == 1 else np.stack(drawn)
        return Noise(torch.from_numpy(bits).view(len(drawn), *shape), self.position)

    def state(self) -> dict[str, Tensor]:
        """Map each layer's name to the state of every member's generator, ``(M, 4)`` integers."""
        return {
            name: torch.from_numpy(np.stack([_words(g) for g in found]))[self.of_member]
            for name, found in self.generators.items()
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on where :meth:`state` was asked; members that share a seed have the same state."""
        for name, found in self.generators.items():
            first = [self.of_member.index(seed) for seed in range(len(found))]
            for one, words in zip(found, state[name][first].numpy(), strict=True):
                whole: Any = one.state
                whole["state"]["state"] = words.view(np.uint64).copy()
                one.state = whole


def _words(generator: np.random.SFC64) -> np.ndarray:
    """The four words of a generator of which whole words alone are drawn."""
    whole: Any = generator.state
    return np.asarray(whole["state"]["state"]).view(np.int64)
