"""A stack: M networks of equal shape, trained side by side as one.

The layers are those of a single network; ``torch.func`` maps them over a leading member axis.
Members never touch one another: each has its own parameters, buffers and strengths.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from bikefit.nn.layers import Dropout
from bikefit.nn.networks import Network


class Stack(nn.Module):
    """M networks of equal shape.

    Args:
        networks: the members, in order. They may differ in the values of parameters and
            buffers, dropout probabilities among them, but not in layers or shapes.

    Raises:
        ValueError: no member, or members of different shapes (names the first that differs).

    **Shape**: features ``(B, D)`` shared by all members, or ``(M, B, D)``; output ``(M, B)``.
    """

    def __init__(self, networks: Sequence[Network]) -> None:
        super().__init__()
        _check_equal(networks)
        self.size = len(networks)
        self.template = copy.deepcopy(networks[0]).requires_grad_(False)
        parameters, buffers = stack_module_state(list(networks))
        for name, value in parameters.items():
            self.register_parameter(_mangle(name), nn.Parameter(value.detach().clone()))
        for name, value in buffers.items():
            if not name.endswith(".noise"):
                self.register_buffer(_mangle(name), value.detach().clone())
        self.parameter_names = tuple(parameters)
        self.buffer_names = tuple(name for name in buffers if not name.endswith(".noise"))

    def forward(self, x: Tensor, noise: Mapping[str, Tensor] | None = None) -> Tensor:
        """Return every member's output for its rows.

        Args:
            x: features, ``(B, D)`` for all members or ``(M, B, D)``.
            noise: uniform noise in [0, 1) by the name of a dropout layer, ``(B, D)`` for all
                members or ``(M, B, D)``; layers that are not named drop nothing.
        """
        self.template.train(self.training)
        return self._map(x, noise)

    def subnetworks(self, x: Tensor, noise: Mapping[str, Tensor]) -> Tensor:
        """Return the output of one thinned network of each member: units dropped, as in training.

        All else is in evaluation mode. Averaged over draws of the noise this is Monte-Carlo model
        averaging (Gal and Ghahramani 2016). Shapes are those of :meth:`forward`.
        """
        self.template.eval()
        for layer in self.dropouts().values():
            layer.train()
        return self._map(x, noise)

    def _map(self, x: Tensor, noise: Mapping[str, Tensor] | None) -> Tensor:
        noise = {f"{name}.noise": value for name, value in (noise or {}).items()}
        if self.size == 1:  # without vmap: some functions cannot be mapped
            return self._single(x, noise)
        noise_dims = {name: _member_axis(value, 2) for name, value in noise.items()}
        mapped = vmap(self._call, in_dims=(0, 0, noise_dims, _member_axis(x, 2)))
        return mapped(self.stacked_parameters(), self.stacked_buffers(), noise, x)

    def _single(self, x: Tensor, noise: dict[str, Tensor]) -> Tensor:
        parameters = {name: value[0] for name, value in self.stacked_parameters().items()}
        buffers = {name: value[0] for name, value in self.stacked_buffers().items()}
        noise = {name: _first(value) for name, value in noise.items()}
        return self._call(parameters, buffers, noise, _first(x)).unsqueeze(0)

    def _call(
        self, parameters: dict[str, Tensor], buffers: dict[str, Tensor], noise: dict[str, Tensor],
        x: Tensor,
    ) -> Tensor:  # fmt: skip
        return functional_call(self.template, (parameters, buffers, noise), (x,))

    def stacked_parameters(self) -> dict[str, Tensor]:
        """Map each parameter's name in the network to its values ``(M, ...)``."""
        return {name: getattr(self, _mangle(name)) for name in self.parameter_names}

    def stacked_buffers(self) -> dict[str, Tensor]:
        """Map each buffer's name in the network to its values ``(M, ...)``."""
        return {name: getattr(self, _mangle(name)) for name in self.buffer_names}

    def state(self) -> dict[str, Tensor]:
        """Map each name to a copy of parameters and buffers, ``(M, ...)`` each."""
        values = {**self.stacked_parameters(), **self.stacked_buffers()}
        return {name: value.detach().clone() for name, value in values.items()}

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take parameters and buffers from what :meth:`state` gave."""
        for name, value in {**self.stacked_parameters(), **self.stacked_buffers()}.items():
            value.copy_(state[name])

    def dropouts(self) -> dict[str, Dropout]:
        """Map the name of each dropout layer to the layer of the template."""
        return self.template.dropouts()


def _mangle(name: str) -> str:
    return name.replace(".", "/")  # torch allows no dot in a registered name


def _member_axis(value: Tensor, dims_without: int) -> int | None:
    return None if value.dim() == dims_without else 0


def _first(value: Tensor) -> Tensor:
    return value if value.dim() == 2 else value[0]


def _check_equal(networks: Sequence[Network]) -> None:
    if not networks:
        raise ValueError("a stack needs at least one member")
    first = _shapes(networks[0])
    for index, network in enumerate(networks):
        shapes = _shapes(network)
        if str(network) != str(networks[0]) or shapes != first:
            differ = sorted(
                k for k in first.keys() | shapes.keys() if first.get(k) != shapes.get(k)
            )
            raise ValueError(
                f"member {index} has another shape than member 0"
                + (f": {differ[0]} is {shapes.get(differ[0])}, not {first.get(differ[0])}" if differ
                   else f": {network} is not {networks[0]}")
            )  # fmt: skip


def _shapes(network: Network) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}
