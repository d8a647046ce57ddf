"""Networks, penalties and other strengths of a stack, from the settings of its members."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from bikefit.config import ConfigError, Settings
from bikefit.nn.networks import Network, build
from bikefit.nn.penalties import PROXIMAL, LpPenalty
from bikefit.nn.randomness import initialize
from bikefit.nn.stacking import Mapped, Stack
from bikefit.training.members import layer_specs


def stacking_error(settings: Settings, features: int) -> str | None:
    """Return the reason why networks of these settings cannot share a stack; None if they can.

    Raises:
        ConfigError: A layer cannot be built; the message names the layer and both shapes.
    """
    try:
        network = build(layer_specs(settings, features), features)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    stack = Stack([network, network])
    mapped = [name for name, layer in stack.layers.named_modules() if isinstance(layer, Mapped)]
    try:
        stack(torch.zeros(2, 4, features)).sum().backward()
    except Exception as error:  # vmap raises errors of many types
        return f"{', '.join(mapped)}: {str(error).strip().splitlines()[0]}"
    return None


def make_network(settings: Settings, features: int) -> Network:
    """Return the initialized network of a member, with p of its dropout layers set.

    p of a dropout layer is that of ``regularization.layers``, otherwise that of ``network.layers``,
    otherwise ``regularization.dropout``, which does not apply to the input.
    """
    specs = layer_specs(settings, features)
    network = initialize(lambda: build(specs, features), settings.seed)
    regularization = settings.regularization
    listed = {spec.name: spec.args.get("p") for spec in specs}
    for name, layer in network.dropouts.items():
        block = name.split(".", 1)[0]
        general = 0.0 if block == "input" else regularization.dropout
        p = regularization.layers[block].dropout if block in regularization.layers else None
        layer.p.fill_(next(value for value in (p, listed[name], general) if value is not None))
    return network


def make_penalties(
    settings: Sequence[Settings], parameters: Mapping[str, Tensor]
) -> list[LpPenalty]:
    """Return the penalties of M members with parameters ``(M, ...)`` by name, sorted by p."""
    norms = {(1.0, "l1"), (2.0, "l2"), *((s.regularization.p_norm, "lp") for s in settings)}
    return [LpPenalty(p, _tensors(settings, parameters, key, p=p)) for p, key in sorted(norms)]


def proximal_strengths(
    settings: Sequence[Settings], parameters: Mapping[str, Tensor]
) -> dict[str, dict[str, Tensor]]:
    """Return strengths ``(M,)`` of proximal steps, by key of ``PROXIMAL`` and parameter name."""
    return {key: _tensors(settings, parameters, key, proximal=True) for key in PROXIMAL}


def strengths(
    settings: Sequence[Settings],
    parameters: Mapping[str, Tensor],
    key: str,
    p: float | None = None,
    proximal: bool = False,
) -> dict[str, list[float]]:
    """Return the strength of each member by parameter name, without names where all are 0.

    Args:
        settings: Settings of each of the M members.
        parameters: Parameters ``(M, ...)`` by name.
        key: Key of the strength in ``regularization``.
        p: Exponent of ``lp``; members with another exponent have strength 0.
        proximal: Whether ``l1`` applies in proximal steps; other members have strength 0.
    """
    members = [member.regularization for member in settings]
    applies = [
        (key != "lp" or r.p_norm == p) and (key != "l1" or r.proximal == proximal) for r in members
    ]
    result = {}
    for name, parameter in sorted(parameters.items()):
        block = name.split(".", 1)[0]
        # A weight of a member has at least two axes; biases, scales and shifts have one.
        is_weight = parameter.dim() > 2
        values = [
            r.of(block, key) if applied and (is_weight or r.on == "all") else 0.0
            for r, applied in zip(members, applies, strict=True)
        ]
        if any(values):
            result[name] = values
    return result


def _tensors(
    settings: Sequence[Settings], parameters: Mapping[str, Tensor], key: str, **options: Any
) -> dict[str, Tensor]:
    return {
        name: torch.tensor(values, device=parameters[name].device)
        for name, values in strengths(settings, parameters, key, **options).items()
    }
