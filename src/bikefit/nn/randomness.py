"""All randomness of a member is a function of its own seed.

Each use has a generator of its own (initialization, order of the rows, noise of one dropout
layer), so that what a member draws depends neither on its neighbours in a stack nor on which of
its layers drop units. Members with the same seed draw the same numbers: strengths are compared
with common random numbers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from bikefit.nn.networks import Network


def derive(seed: int, purpose: str) -> int:
    """Return the seed (63 bits) for one purpose, unrelated to those of other purposes."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{purpose}".encode()).digest()[:8]) >> 1


def generator(seed: int, purpose: str) -> torch.Generator:
    """Return a generator for one purpose of one seed."""
    return torch.Generator().manual_seed(derive(seed, purpose))


def states_of(generators: Sequence[torch.Generator]) -> Tensor:
    """Return the states of S generators, ``(S, G)`` bytes."""
    return torch.stack([generator.get_state() for generator in generators])


def set_states(generators: Sequence[torch.Generator], states: Tensor) -> None:
    """Let S generators go on with their states, ``(S, G)`` bytes."""
    for generator, state in zip(generators, states, strict=True):
        generator.set_state(state.clone())  # torch 2.13 crashes with a view of a larger tensor


def initialize(make: Callable[[], Network], seed: int) -> Network:
    """Make a network whose initial parameters follow from the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "initialization"))
        return make()


class DropoutNoise:
    """Uniform noise for the dropout layers of a stack, drawn once for each distinct seed.

    Args:
        seeds: of each member, length M.
        widths: number of units by the name of each dropout layer that drops any.
        device: where the noise is used. It is drawn on the CPU, since a GPU's generators give
            other numbers, and a run is the same run wherever it trains.
        purpose: what the noise is for; each purpose has generators of its own.
    """

    def __init__(
        self, seeds: Sequence[int], widths: dict[str, int], device: torch.device | str,
        purpose: str = "dropout",
    ) -> None:  # fmt: skip
        distinct = sorted(set(seeds))
        self.widths = widths
        self.device = device
        self.generators = {
            name: [generator(seed, f"{purpose} {name}") for seed in distinct] for name in widths
        }
        self.of_member = [distinct.index(seed) for seed in seeds]
        position = torch.tensor(self.of_member, device=device)
        self.position = None if len(distinct) == 1 else position

    def draw(self, rows: int) -> dict[str, Tensor]:
        """Return the next noise by layer: ``(B, D)`` if all share a seed, else ``(M, B, D)``."""
        return {name: self._layer(name, rows) for name in self.widths}

    def state(self) -> dict[str, Tensor]:
        """Map each layer's name to the state of every member's generator, ``(M, G)``."""
        return {
            name: states_of(generators)[self.of_member]
            for name, generators in self.generators.items()
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on where :meth:`state` was asked; members that share a seed have the same state."""
        for name, generators in self.generators.items():
            first = [self.of_member.index(seed) for seed in range(len(generators))]
            set_states(generators, state[name][first])

    def _layer(self, name: str, rows: int) -> Tensor:
        shape = (rows, self.widths[name])
        drawn = [torch.rand(shape, generator=g) for g in self.generators[name]]
        if self.position is None:
            return drawn[0].to(self.device)
        return torch.stack(drawn).to(self.device)[self.position]
