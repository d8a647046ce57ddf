"""Networks: layers composed in sequence, named by block and part (``hidden1.linear``)."""

from __future__ import annotations

import importlib
import inspect
import math
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from bikefit.nn.layers import BatchNorm, Dropout, Function
from bikefit.nn.specs import LayerSpec

LAYERS = ("torch.nn", "bikefit.nn.layers")
FUNCTIONS = ("torch", "torch.nn.functional", "torch.special")
INPUT_WIDTHS = ("in_features", "features", "num_features")


class Network(nn.Sequential):
    """Blocks of layers composed in order; its output is one number a row.

    **Shape**: ``(B, D) -> (B,)``.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the network's output f(x) for each row."""
        return super().forward(x).squeeze(-1)

    def dropouts(self) -> dict[str, Dropout]:
        """Map the name of each dropout layer to the layer."""
        return {n: m for n, m in self.named_modules() if isinstance(m, Dropout)}


def build(specs: Sequence[LayerSpec], features: int) -> Network:
    """Make a network from its layers and try it on two rows of ``features`` columns.

    Raises:
        ValueError: a layer that is not allowed, unknown, named twice, or that does not fit on
            the one before it; the message names the layer and both shapes.
    """
    if not specs:
        raise ValueError("no layers: a network needs at least one layer")
    _check_names(specs)
    modules = _compose(specs, features)
    network = Network()
    for block, names in groupby(modules, key=lambda name: name.split(".", 1)[0]):
        parts = nn.Sequential()
        for name in names:
            parts.add_module(name.partition(".")[2] or "layer", modules[name])
        network.add_module(block, parts)
    return network


def _check_names(specs: Sequence[LayerSpec]) -> None:
    names = [spec.name for spec in specs]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"layer {name!r} stands twice in the network: names must be unique")
    blocks = [block for block, _ in groupby(spec.block for spec in specs)]
    for block in blocks:
        if blocks.count(block) > 1:
            raise ValueError(f"the layers of block {block!r} must follow one another")


def _make(spec: LayerSpec, width: int) -> nn.Module:
    """Make one layer; arguments that say how many inputs it has may be left out."""
    target = _locate(spec)
    if not isinstance(target, type):
        if spec.args:
            raise ValueError(f"layer {spec.name!r}: a function takes no arguments, got {spec.args}")
        return Function(target)
    if not issubclass(target, nn.Module):
        raise ValueError(f"layer {spec.name!r}: {spec.target} is no torch module and no function")
    inputs = [name for name in inspect.signature(target).parameters if name in INPUT_WIDTHS]
    args = dict.fromkeys(inputs, width) | spec.args
    try:
        return target(**args)
    except Exception as error:  # whatever a module says of arguments that it cannot use
        raise ValueError(f"layer {spec.name!r} ({spec.target}): {error}") from error


def _locate(spec: LayerSpec) -> Callable[..., Any]:
    """Find what a dotted name stands for: a layer, a function of tensors, or what the user opened.

    A name is data, and data must not choose what runs. So a name is looked up in its own module
    only, never from there in another, and of torch nothing counts but subclasses of ``nn.Module``
    and functions that torch declares as functions of tensors: ``torch.load`` is neither.
    """
    module, _, attribute = spec.target.rpartition(".")
    opened = any(f"{module}.".startswith(f"{name}.") for name in spec.allow)
    if not opened and module not in (*LAYERS, *FUNCTIONS):
        raise ValueError(
            f"layer {spec.name!r}: {spec.target} is not allowed; layers come from "
            f"{', '.join(LAYERS)}, functions from {', '.join(FUNCTIONS)}; network.allow=[…] on the "
            "command line opens another package"
        )
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"layer {spec.name!r}: there is no {spec.target}") from error
    if not callable(found):
        raise ValueError(f"layer {spec.name!r}: {spec.target} cannot be called")
    if not opened and not (_is_layer(module, found) or _is_function(module, found)):
        raise ValueError(
            f"layer {spec.name!r}: {spec.target} is not allowed: it is no torch module and no "
            "function of tensors"
        )
    return found


def _is_layer(module: str, found: Callable[..., Any]) -> bool:
    return module in LAYERS and isinstance(found, type) and issubclass(found, nn.Module)


def _is_function(module: str, found: Callable[..., Any]) -> bool:
    """Say whether torch lists it among the functions that take tensors."""
    if module not in FUNCTIONS or isinstance(found, type):
        return False
    declared = torch.overrides.get_overridable_functions().get(importlib.import_module(module), [])
    return any(found is known for known in declared)


@torch.no_grad()
def _compose(specs: Sequence[LayerSpec], features: int) -> dict[str, nn.Module]:
    """Make the layers one after the other, each tried on what the one before it gives."""
    x = torch.zeros(2, features)
    modules: dict[str, nn.Module] = {}
    for spec in specs:
        modules[spec.name] = _make(spec, x.shape[-1])
        x = _try(spec.name, modules[spec.name], x)
    if x.shape != (2, 1):
        given = _rows(tuple(x.shape))
        raise ValueError(f"the last layer, {specs[-1].name!r}, must give (B, 1), it gives {given}")
    return modules


def _try(name: str, module: nn.Module, x: Tensor) -> Tensor:
    module.eval()
    before = tuple(x.shape)
    try:
        y = module(x)
    except Exception as error:  # and of rows that it cannot take
        raise ValueError(
            f"layer {name!r} does not take what comes before it: it received shape "
            f"{_rows(before)} and expects {_expected(module)}"
        ) from error
    module.train()
    if not isinstance(y, Tensor) or y.shape[:1] != (2,):
        raise ValueError(f"layer {name!r} must keep the rows: {_rows(before)} became {y!r:.80}")
    return y


def _rows(shape: tuple[int, ...]) -> str:
    return f"(B, {', '.join(map(str, shape[1:]))})"


def _expected(module: nn.Module) -> str:
    if isinstance(module, nn.Linear):
        return f"(B, {module.in_features})"
    if isinstance(module, BatchNorm):
        return f"(B, {module.weight.numel()})"
    return "another shape"


def parameter_count(network: nn.Module) -> int:
    """Count the numbers that training changes."""
    return sum(math.prod(p.shape) for p in network.parameters())
