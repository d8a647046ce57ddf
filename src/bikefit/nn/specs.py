"""Networks as lists of layers. Importing this module does not import torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

ACTIVATIONS: dict[str, str] = {
    "relu": "torch.nn.ReLU",
    "gelu": "torch.nn.GELU",
    "silu": "torch.nn.SiLU",
    "tanh": "torch.nn.Tanh",
    "sigmoid": "torch.nn.Sigmoid",
    "identity": "torch.nn.Identity",
}


@dataclass(frozen=True)
class LayerSpec:
    """Description of a layer."""

    name: str  # block.part, such as hidden1.linear; strengths are set by block
    target: str  # dotted name of a torch module, a layer of bikefit or a function (torch.sin)
    args: dict[str, Any] = field(default_factory=dict)  # keyword arguments of a module
    allow: tuple[str, ...] = ()  # packages allowed in addition to torch and bikefit

    @property
    def block(self) -> str:
        """The part of the name before the first dot."""
        return self.name.split(".", 1)[0]


def mlp(
    features: int,
    hidden: Sequence[int],
    activation: str = "relu",
    batch_norm: str = "none",
    dropout_scaling: str = "inverted",
) -> list[LayerSpec]:
    """Return the layers of a multilayer perceptron.

    A hidden layer consists of linear, batch norm (if ``before``), activation, batch norm (if
    ``after``) and dropout. The output layer is linear. A linear layer that is followed by batch
    norm has no bias, because batch norm subtracts the mean. ``hidden`` has the width of each hidden
    layer; it is empty for a linear model.
    """
    specs = [_dropout("input", dropout_scaling)]
    width = features
    for i, units in enumerate(hidden, start=1):
        name = f"hidden{i}"
        norm = LayerSpec(f"{name}.batch_norm", "bikefit.nn.layers.BatchNorm", {"features": units})
        specs += [
            _linear(name, width, units, bias=batch_norm != "before"),
            *([norm] if batch_norm == "before" else []),
            LayerSpec(f"{name}.activation", ACTIVATIONS[activation]),
            *([norm] if batch_norm == "after" else []),
            _dropout(name, dropout_scaling),
        ]
        width = units
    return [*specs, _linear("output", width, 1, bias=True)]


def _linear(block: str, inputs: int, outputs: int, bias: bool) -> LayerSpec:
    args = {"in_features": inputs, "out_features": outputs, "bias": bias}
    return LayerSpec(f"{block}.linear", "torch.nn.Linear", args)


def _dropout(block: str, scaling: str) -> LayerSpec:
    return LayerSpec(f"{block}.dropout", "bikefit.nn.layers.Dropout", {"scaling": scaling})
