"""A stack: M networks of equal shape that are trained side by side.

Every tensor of the networks gets a leading member axis. Linear layers become batched matrix
products. The layers of bikefit and element-wise activations work with any leading axes.
``torch.func.vmap`` maps all other layers over the members. Members share no tensors.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from bikefit.nn.layers import BatchNorm, Dropout
from bikefit.nn.networks import Network
from bikefit.nn.randomness import Noise
from bikefit.nn.sparse import SparseProduct, SparseRows

# Layers that work with any leading axes before (B, D).
ELEMENTWISE = (nn.ReLU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.Identity)
ANY_AXES = (BatchNorm, Dropout, *ELEMENTWISE)


class Stack(nn.Module):
    """M networks with equal layers and shapes; others raise a RuntimeError.

    The values of parameters and buffers, such as p of dropout, may differ.

    **Shape**: ``(B, D)`` for all members, or ``(M, B, D)`` -> ``(M, B)``.
    """

    def __init__(self, networks: Sequence[Network]) -> None:
        super().__init__()
        self.size = len(networks)
        self.layers = nn.Sequential()
        for block, parts in networks[0].named_children():
            names = [name for name, _ in parts.named_children()]
            stacked = [
                (name, _stack_layer([n.get_submodule(f"{block}.{name}") for n in networks]))
                for name in names
            ]
            self.layers.add_module(block, nn.Sequential(OrderedDict(stacked)))

    @property
    def reads_sparse(self) -> bool:
        """Whether the stack accepts sparse rows: its first layer is linear, without dropout."""
        dropping = [layer for layer in self.dropouts.values() if layer.p.any()]
        first = next(x for x in self._sequence if x in dropping or not isinstance(x, Dropout))
        return isinstance(first, StackedLinear)

    def forward(
        self, x: Tensor | SparseRows, noise: Mapping[str, Tensor | Noise] | None = None
    ) -> Tensor:
        """Return every member's output for its rows.

        Args:
            x: Features, ``(B, D)`` for all members or ``(M, B, D)``; sparse rows are allowed if
                :attr:`reads_sparse`.
            noise: Noise by name of a dropout layer: integers, or uniform numbers in [0, 1),
                ``(B, D)`` for all members or ``(M, B, D)``. Other layers drop no units.
        """
        for name, dropout in self.dropouts.items():
            values = (noise or {}).get(name, dropout.p.new_empty(0))
            device = dropout.p.device
            dropout.noise = values.uniform(device) if isinstance(values, Noise) else values
        for layer in self._sequence:
            if not (isinstance(x, SparseRows) and isinstance(layer, Dropout)):
                x = layer(x)
        output: Tensor = x.squeeze(-1)  # type: ignore[union-attr]
        return output.expand(self.size, *output.shape[-1:])

    @cached_property
    def _sequence(self) -> list[nn.Module]:
        return [layer for block in self.layers for layer in block.children()]

    def subnetworks(self, x: Tensor | SparseRows, noise: Mapping[str, Tensor | Noise]) -> Tensor:
        """Return the outputs with units dropped, and all other layers in evaluation mode.

        The arguments are those of :meth:`forward`.
        """
        self.eval()
        for layer in self.dropouts.values():
            layer.train()
        return self(x, noise)

    def stacked_parameters(self) -> dict[str, nn.Parameter]:
        """Return the parameters ``(M, ...)`` by their name in the network."""
        return {_dotted(name): value for name, value in self.layers.named_parameters()}

    def stacked_buffers(self) -> dict[str, Tensor]:
        """Return the buffers ``(M, ...)`` by their name in the network."""
        named = self.layers.named_buffers()
        return {_dotted(name): value for name, value in named if not name.endswith(".noise")}

    def state(self) -> dict[str, Tensor]:
        """Return contiguous copies of the parameters and buffers, ``(M, ...)`` by name."""
        # safetensors writes the memory of an array, whatever its strides.
        layout = torch.contiguous_format
        return {k: v.detach().clone(memory_format=layout) for k, v in self._tensors().items()}

    @torch.no_grad()
    def copy_members(self, members: Tensor, state: Mapping[str, Tensor]) -> None:
        """Copy the members of a mask ``(M,)`` into the result of an earlier :meth:`state`."""
        for name, value in self._tensors().items():
            mask = members.view(-1, *[1] * (value.dim() - 1))
            torch.where(mask, value, state[name], out=state[name])

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Set parameters and buffers to the result of :meth:`state`."""
        for name, value in self._tensors().items():
            value.copy_(state[name])

    def _tensors(self) -> dict[str, Tensor]:
        return {**self.stacked_parameters(), **self.stacked_buffers()}

    @cached_property
    def dropouts(self) -> dict[str, Dropout]:
        """The stacked dropout layers by name."""
        return {n: m for n, m in self.layers.named_modules() if isinstance(m, Dropout)}


def _stack_layer(layers: Sequence[nn.Module]) -> nn.Module:
    """Return the stack of the members' layers.

    **Shape** of the result: ``(B, D)`` or ``(M, B, D)`` -> ``(M, B, E)``; if the layers have no
    tensors, ``(B, D)`` -> ``(B, E)``.
    """
    if type(layers[0]) is nn.Linear:
        return StackedLinear(layers)  # type: ignore[arg-type]
    if type(layers[0]) in ANY_AXES:
        stacked = copy.deepcopy(layers[0])
        _stack_tensors(stacked, layers)
        return stacked
    return Mapped(layers)


class StackedLinear(nn.Module):
    """M linear layers: weight ``(M, E, D)``, bias ``(M, E)`` or None.

    **Shape**: ``(B, D)`` or ``(M, B, D)`` -> ``(M, B, E)``.
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        super().__init__()
        self.register_parameter("bias", None)
        _stack_tensors(self, layers)
        # In memory (M, D, E): the sparse product reads the weights of a feature side by side.
        self.weight = nn.Parameter(self.weight.detach().mT.contiguous().mT)

    def forward(self, x: Tensor | SparseRows) -> Tensor:
        """Return x Wᵀ + b of each member."""
        if isinstance(x, SparseRows):
            product = SparseProduct.apply(self.weight.mT, x)
            return product if self.bias is None else product + self.bias.unsqueeze(1)
        members = x.expand(len(self.weight), *x.shape[-2:])
        if self.bias is None:
            return torch.bmm(members, self.weight.mT)
        return torch.baddbmm(self.bias.unsqueeze(1), members, self.weight.mT)


class Mapped(nn.Module):
    """M layers of any class, mapped over the members by ``vmap``."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.size = len(layers)
        # In a tuple, so that torch does not register its tensors.
        self.skeleton = (copy.deepcopy(layers[0]).requires_grad_(False),)
        _stack_tensors(self, layers)

    def forward(self, x: Tensor) -> Tensor:
        """Return the output of each member's layer for its rows."""
        self.skeleton[0].train(self.training)
        named = (*self.named_parameters(), *self.named_buffers())
        tensors = {_dotted(name): value for name, value in named}
        if self.size == 1:  # vmap does not support all functions
            single = {name: value[0] for name, value in tensors.items()}
            return self._call(single, x[0] if x.dim() == 3 else x).unsqueeze(0)
        rows = 0 if x.dim() == 3 else None
        if not tensors and rows is None:
            return self._call(tensors, x)
        return vmap(self._call, in_dims=(0, rows))(tensors, x)

    def _call(self, tensors: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(self.skeleton[0], tensors, (x,))


def _stack_tensors(stacked: nn.Module, layers: Sequence[nn.Module]) -> None:
    """Register stacked copies of the layers' parameters and buffers, under the same names."""
    parameters, buffers = stack_module_state(list(layers))
    for name, value in parameters.items():
        stacked.register_parameter(_slashed(name), nn.Parameter(value.detach().clone()))
    for name, value in buffers.items():
        stacked.register_buffer(_slashed(name), value.detach().clone(), persistent=False)


def _slashed(name: str) -> str:
    return name.replace(".", "/")  # torch does not allow dots in the name of a tensor


def _dotted(name: str) -> str:
    return name.replace("/", ".")
