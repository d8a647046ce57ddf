"""Networks in words: lists of layers, written and compared without torch."""

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
    """One layer in words: its name, what makes it, and the arguments for that.

    Args:
        name: ``block.part``, e.g. ``hidden1.linear``; the block is what strengths refer to.
        target: dotted name of a torch module, a layer of ours or a function, e.g. ``torch.sin``.
        args: keyword arguments of a module; a function takes none.
        allow: packages that the user opened beside torch and ours.
    """

    name: str
    target: str
    args: dict[str, Any] = field(default_factory=dict)
    allow: tuple[str, ...] = ()

    @property
    def block(self) -> str:
        """The part of the name before the first dot."""
        return self.name.split(".", 1)[0]


def mlp(
    features: int, hidden: Sequence[int], activation: str = "relu", batch_norm: str = "none",
    dropout_scaling: str = "inverted",
) -> list[LayerSpec]:  # fmt: skip
    """Write a multilayer perceptron as a list of layers.

    Per hidden layer: linear, batch norm (before the activation, if chosen), activation, batch
    norm (after, if chosen), dropout; then a linear output of one number. A linear layer whose
    output goes straight into a batch norm has no bias, since the batch mean would take it out
    again. Without hidden layers this is a linear model.

    Args:
        features: number of input columns.
        hidden: width of each hidden layer; empty for a linear model.
        activation: relu, gelu, silu, tanh, sigmoid or identity.
        batch_norm: none, before or after the activation.
        dropout_scaling: see :class:`~bikefit.nn.layers.Dropout`.
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
