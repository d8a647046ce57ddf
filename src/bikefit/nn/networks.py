"""Networks of layers in sequence, named by block and part (``hidden1.linear``)."""

from __future__ import annotations

import importlib
import inspect
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
    """Blocks of layers in sequence, with one output per row.

    **Shape**: ``(B, D) -> (B,)``.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the output of each row."""
        return super().forward(x).squeeze(-1)

    @property
    def dropouts(self) -> dict[str, Dropout]:
        """The dropout layers by name."""
        return {n: m for n, m in self.named_modules() if isinstance(m, Dropout)}


@torch.no_grad()
def build(specs: Sequence[LayerSpec], features: int) -> Network:
    """Return the network of a list of layers for rows with ``features`` columns.

    Raises:
        ValueError: A layer is not allowed, does not exist, has the name of another layer or does
            not fit to the layer before it; the message names the layer and both shapes.
    """
    if not specs:
        raise ValueError("no layers: a network needs at least one layer")
    _check_names(specs)
    network, x = Network(), torch.zeros(2, features)
    for block, layers in groupby(specs, key=lambda spec: spec.block):
        parts = nn.Sequential()
        for spec in layers:
            module = _make_layer(spec, x.shape[-1])
            if isinstance(module, Dropout):
                module.width = x.shape[-1]
            x = _checked_output(spec.name, module, x)
            parts.add_module(spec.name.partition(".")[2] or "layer", module)
        network.add_module(block, parts)
    if x.shape != (2, 1):
        raise ValueError(
            f"the last layer, {specs[-1].name!r}, must return (B, 1), it returns {_shape_text(x)}"
        )
    return network


def _check_names(specs: Sequence[LayerSpec]) -> None:
    names = [spec.name for spec in specs]
    blocks = [block for block, _ in groupby(specs, key=lambda spec: spec.block)]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two layers have the name {name!r}: names must be unique")
    for block in blocks:
        if blocks.count(block) > 1:
            raise ValueError(f"the layers of block {block!r} must follow one another")


def _make_layer(spec: LayerSpec, width: int) -> nn.Module:
    """Return a new layer; arguments for its number of inputs have the default ``width``."""
    target = _import_target(spec)
    if not isinstance(target, type):
        if spec.args:
            raise ValueError(f"layer {spec.name!r}: a function takes no arguments, got {spec.args}")
        return Function(target)
    if not issubclass(target, nn.Module):
        raise ValueError(
            f"layer {spec.name!r}: {spec.target} is neither a torch module nor a function"
        )
    inputs = [name for name in inspect.signature(target).parameters if name in INPUT_WIDTHS]
    try:
        return target(**dict.fromkeys(inputs, width) | spec.args)
    except Exception as error:  # modules raise errors of many types
        raise ValueError(f"layer {spec.name!r} ({spec.target}): {error}") from error


def _import_target(spec: LayerSpec) -> Callable[..., Any]:
    """Return the class or function of a layer.

    Names come from data, so they must not run arbitrary code. Of torch and bikefit, only subclasses
    of ``nn.Module`` and the functions that torch lists as functions of tensors are allowed;
    ``torch.load`` is neither.
    """
    module, _, attribute = spec.target.rpartition(".")
    allowed = any(f"{module}.".startswith(f"{name}.") for name in spec.allow)
    if not allowed and module not in (*LAYERS, *FUNCTIONS):
        raise ValueError(
            f"layer {spec.name!r}: {spec.target} is not allowed; layers are from "
            f"{', '.join(LAYERS)}, functions from {', '.join(FUNCTIONS)}; network.allow=[…] on the "
            "command line allows another package"
        )
    try:
        target = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"layer {spec.name!r}: {spec.target} does not exist") from error
    if not callable(target):
        raise ValueError(f"layer {spec.name!r}: {spec.target} cannot be called")
    if not allowed and not _is_safe(module, target):
        raise ValueError(
            f"layer {spec.name!r}: {spec.target} is not allowed: it is neither a torch module nor "
            "a function of tensors"
        )
    return target


def _is_safe(module: str, target: Callable[..., Any]) -> bool:
    """Return whether a target of torch or bikefit is a layer or a function of tensors."""
    if isinstance(target, type):
        return module in LAYERS and issubclass(target, nn.Module)
    functions = torch.overrides.get_overridable_functions()
    listed = functions.get(importlib.import_module(module), []) if module in FUNCTIONS else []
    return any(target is function for function in listed)


def _checked_output(name: str, module: nn.Module, x: Tensor) -> Tensor:
    """Return the output of a new layer for two rows; raise if it does not treat rows separately."""
    module.eval()
    before = _shape_text(x)
    try:
        y, first = module(x), module(x[:1])
    except Exception as error:  # modules raise errors of many types
        raise ValueError(
            f"layer {name!r} does not fit to the layer before it: it received shape {before} and "
            f"expects {_expected(module)}"
        ) from error
    module.train()
    if not isinstance(y, Tensor) or y.shape[:1] != (2,):
        raise ValueError(f"layer {name!r} must keep the rows: {before} became {y!r:.80}")
    if first.shape != (1, *y.shape[1:]):
        raise ValueError(
            f"layer {name!r} must treat each row separately: two rows became {tuple(y.shape)}, "
            f"one row {tuple(first.shape)}"
        )
    return y


def _shape_text(x: Tensor) -> str:
    return f"(B, {', '.join(map(str, x.shape[1:]))})"


def _expected(module: nn.Module) -> str:
    if isinstance(module, nn.Linear):
        return f"(B, {module.in_features})"
    if isinstance(module, BatchNorm):
        return f"(B, {module.weight.numel()})"
    return "another shape"
