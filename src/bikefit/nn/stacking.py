"""A stack: M networks of equal shape, trained side by side as one.

Every tensor of the networks gets a leading member axis. Linear layers become batched matrix
products; our own layers and element-by-element activations work on any leading axes as they are;
``torch.func.vmap`` maps every other layer over its members. Members never touch one another:
each has its own parameters, buffers and strengths.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from bikefit.nn.layers import BatchNorm, Dropout
from bikefit.nn.networks import Network
from bikefit.nn.randomness import Noise

# Layers that do the same whatever axes stand before (B, D).
ANY_AXES = (
    BatchNorm, Dropout, nn.ReLU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.Identity,
)  # fmt: skip


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
        self.layers = nn.Sequential()
        for block, parts in networks[0].named_children():
            names = [name for name, _ in parts.named_children()]
            stacked = [
                (name, stack_layer([n.get_submodule(f"{block}.{name}") for n in networks]))
                for name in names
            ]
            self.layers.add_module(block, nn.Sequential(OrderedDict(stacked)))

    def forward(self, x: Tensor, noise: Mapping[str, Tensor | Noise] | None = None) -> Tensor:
        """Return every member's output for its rows.

        Args:
            x: features, ``(B, D)`` for all members or ``(M, B, D)``.
            noise: by the name of a dropout layer, as drawn or as uniform numbers in [0, 1),
                ``(B, D)`` for all members or ``(M, B, D)``; layers that are not named drop
                nothing.
        """
        for name, layer in self.dropouts().items():
            found = (noise or {}).get(name, layer.p.new_empty(0))
            layer.noise = found.uniform(x.device) if isinstance(found, Noise) else found
        output = self.layers(x).squeeze(-1)
        return output.expand(self.size, *output.shape[-1:])

    def subnetworks(self, x: Tensor, noise: Mapping[str, Tensor | Noise]) -> Tensor:
        """Return the output of one thinned network of each member: units dropped, as in training.

        All else is in evaluation mode. Averaged over draws of the noise this is Monte-Carlo model
        averaging (Gal and Ghahramani 2016). Shapes are those of :meth:`forward`.
        """
        self.eval()
        for layer in self.dropouts().values():
            layer.train()
        return self(x, noise)

    def stacked_parameters(self) -> dict[str, nn.Parameter]:
        """Map each parameter's name in the network to its values ``(M, ...)``."""
        return {_dotted(name): value for name, value in self.layers.named_parameters()}

    def stacked_buffers(self) -> dict[str, Tensor]:
        """Map each buffer's name in the network to its values ``(M, ...)``."""
        named = self.layers.named_buffers()
        return {_dotted(name): value for name, value in named if not name.endswith(".noise")}

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
        """Map the name of each dropout layer to the stacked layer."""
        return {n: m for n, m in self.layers.named_modules() if isinstance(m, Dropout)}

    def mapped(self) -> list[str]:
        """Name the layers that only ``vmap`` can stack."""
        return [n for n, m in self.layers.named_modules() if isinstance(m, Mapped)]


def stack_layer(layers: Sequence[nn.Module]) -> nn.Module:
    """Make one layer that does for every member what its own layer does.

    **Shape**: of what it makes: ``(B, D)`` or ``(M, B, D)`` to ``(M, B, E)``; layers without
    tensors of their own keep rows that all members share: ``(B, D)`` to ``(B, E)``.
    """
    if type(layers[0]) is nn.Linear:
        return StackedLinear(layers)  # type: ignore[arg-type]
    if type(layers[0]) in ANY_AXES:
        made = copy.deepcopy(layers[0])
        _take_tensors(made, layers)
        return made
    return Mapped(layers)


class StackedLinear(nn.Module):
    """M linear layers: ``(B, D)`` or ``(M, B, D)`` to ``(M, B, E)``.

    Args:
        layers: the members' layers; weight is ``(M, E, D)``, bias ``(M, E)`` or None.
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        super().__init__()
        self.register_parameter("bias", None)
        _take_tensors(self, layers)

    def forward(self, x: Tensor) -> Tensor:
        """Return x Wᵀ + b of each member."""
        members = x.expand(len(self.weight), *x.shape[-2:])
        if self.bias is None:
            return torch.bmm(members, self.weight.mT)
        return torch.baddbmm(self.bias.unsqueeze(1), members, self.weight.mT)


class Mapped(nn.Module):
    """Any other layer, mapped over its members by ``vmap``.

    Args:
        layers: the members' layers.
    """

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.size = len(layers)
        # In a tuple, where its own tensors do not count as this layer's.
        self.skeleton = (copy.deepcopy(layers[0]).requires_grad_(False),)
        _take_tensors(self, layers)

    def forward(self, x: Tensor) -> Tensor:
        """Return what each member's layer makes of its rows."""
        self.skeleton[0].train(self.training)
        named = (*self.named_parameters(), *self.named_buffers())
        tensors = {_dotted(name): value for name, value in named}
        if self.size == 1:  # without vmap: some functions cannot be mapped
            alone = {name: value[0] for name, value in tensors.items()}
            return self._call(alone, x[0] if x.dim() == 3 else x).unsqueeze(0)
        rows = 0 if x.dim() == 3 else None
        if not tensors and rows is None:
            return self._call(tensors, x)
        return vmap(self._call, in_dims=(0, rows))(tensors, x)

    def _call(self, tensors: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(self.skeleton[0], tensors, (x,))


def _take_tensors(stacked: nn.Module, layers: Sequence[nn.Module]) -> None:
    """Register copies of the layers' tensors, stacked, under the names they have there."""
    parameters, buffers = stack_module_state(list(layers))
    for name, value in parameters.items():
        stacked.register_parameter(_plain(name), nn.Parameter(value.detach().clone()))
    for name, value in buffers.items():
        stacked.register_buffer(_plain(name), value.detach().clone(), persistent=False)


def _plain(name: str) -> str:
    return name.replace(".", "/")  # torch allows no dot in a registered name


def _dotted(name: str) -> str:
    return name.replace("/", ".")


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


@torch.no_grad()
def dropout_widths(network: Network | Stack, features: int) -> dict[str, int]:
    """Map the name of each dropout layer to the number of units it may drop."""
    widths: dict[str, int] = {}
    hooks = [
        layer.register_forward_pre_hook(
            lambda _, x, name=name: widths.update({name: x[0].shape[-1]})
        )
        for name, layer in network.dropouts().items()
    ]
    training = network.training
    device = next(network.parameters()).device
    network.eval()(torch.zeros(2, features, device=device))
    network.train(training)
    for hook in hooks:
        hook.remove()
    return widths
