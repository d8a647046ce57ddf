"""What the settings of a member ask for, as tensors: its network, penalties and weight decay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bikefit.config import ConfigError, Settings
from bikefit.nn.networks import Network, build
from bikefit.nn.penalties import PROXIMAL, LpPenalty
from bikefit.nn.randomness import initialize
from bikefit.nn.stacking import Stack, dropout_widths
from bikefit.training.members import layers


@dataclass(frozen=True)
class Strengths:
    """Strengths of one member by parameter name.

    Args:
        penalty: λ by p of the norm and parameter name; zero strengths are left out.
        proximal: of the steps in `PROXIMAL` by key and parameter name; zeros are left out.
        weight_decay: by parameter name.
    """

    penalty: dict[float, dict[str, float]]
    proximal: dict[str, dict[str, float]]
    weight_decay: dict[str, float]

    def concern(self, metric: str) -> bool:
        """Say whether a member has what a metric measures: others in its stack may be penalised."""
        prefix = "train/penalty/"
        named = [
            name for values in (*self.penalty.values(), self.proximal["l1"]) for name in values
        ]
        blocks = {name.split(".", 1)[0] for name in named}
        return not metric.startswith(prefix) or metric.removeprefix(prefix) in blocks


def check_networks(settings: Sequence[Settings], features: Sequence[int]) -> list[str | None]:
    """Build each distinct network once, so that a wrong layer stops a sweep before it trains.

    Args:
        settings: Settings of each member.
        features: Number of feature columns of each member's table.

    Returns:
        Reason why the network of each member cannot share a stack; None if it can.

    Raises:
        ConfigError: A layer cannot be built; names the layer and both shapes.
    """
    found: dict[str, str | None] = {}
    keys = []
    for member, columns in zip(settings, features, strict=True):
        specs = layers(member, columns)
        keys.append(key := f"{columns} {specs}")
        if key not in found:
            try:
                network = build(specs, columns)
            except ValueError as error:
                raise ConfigError(str(error)) from error
            found[key] = _why_alone(network, columns)
    return [found[key] for key in keys]


def _why_alone(network: Network, features: int) -> str | None:
    stack = Stack([network, network])
    if not stack.mapped():
        return None
    try:
        stack(torch.zeros(2, 4, features)).sum().backward()
    except Exception as error:  # whatever vmap says of a function
        return f"{', '.join(stack.mapped())}: {str(error).strip().splitlines()[0]}"
    return None


def make_network(settings: Settings, features: int) -> Network:
    """Make a member's network: parameters follow from its seed, p of dropout from its settings."""
    specs = layers(settings, features)
    network = initialize(lambda: build(specs, features), settings.seed)
    given = {spec.name: spec.args.get("p") for spec in specs}
    for name, layer in network.dropouts().items():
        layer.p.fill_(_dropout(settings, name.split(".", 1)[0], given[name]))
    return network


def _dropout(settings: Settings, block: str, given: float | None) -> float:
    """Return p of a dropout layer: the block's own, else that in the list, else the general one.

    The input drops only where the settings name it.
    """
    own = settings.regularization.layers.get(block)
    if own is not None and own.dropout is not None:
        return own.dropout
    if given is not None:
        return given
    return 0.0 if block == "input" else settings.regularization.dropout


def strengths(settings: Settings, network: Network) -> Strengths:
    """Spread the strengths of the settings over the parameters of a network."""
    regularization = settings.regularization
    norms = {"l1": 1.0, "l2": 2.0, "lp": regularization.p_norm}
    penalty: dict[float, dict[str, float]] = {}
    proximal: dict[str, dict[str, float]] = {key: {} for key in PROXIMAL}
    decay: dict[str, float] = {}
    for name, parameter in network.named_parameters():
        block = name.split(".", 1)[0]
        # A weight connects units, so it has two axes; biases, scales and shifts have one.
        counts = regularization.on == "all" or parameter.dim() > 1
        decay[name] = regularization.of(block, "weight_decay") if counts else 0.0
        for key, p in norms.items():
            value = regularization.of(block, key) if counts else 0.0
            if value > 0 and key == "l1" and regularization.proximal:
                proximal[key][name] = value
            elif value > 0:
                of_norm = penalty.setdefault(p, {})
                of_norm[name] = of_norm.get(name, 0.0) + value
        for key in (key for key in PROXIMAL if key not in norms):
            if counts and (value := regularization.of(block, key)) > 0:
                proximal[key][name] = value
    return Strengths(penalty, proximal, decay)


def penalties(strengths: Sequence[Strengths], device: torch.device) -> list[LpPenalty]:
    """Gather the members' strengths into one penalty for each p in use."""
    found = []
    for p in sorted({p for member in strengths for p in member.penalty}):
        of_members = [member.penalty.get(p, {}) for member in strengths]
        found.append(LpPenalty(p, _by_name(of_members, device)))
    return found


def proximal_strengths(
    strengths: Sequence[Strengths], device: torch.device
) -> dict[str, dict[str, Tensor]]:
    """Gather the members' strengths of each proximal step, ``(M,)`` by parameter name."""
    keys = strengths[0].proximal
    return {key: _by_name([one.proximal[key] for one in strengths], device) for key in keys}


def _by_name(of_members: Sequence[dict[str, float]], device: torch.device) -> dict[str, Tensor]:
    names = sorted({name for of_member in of_members for name in of_member})
    return {name: _tensor([m.get(name, 0.0) for m in of_members], device) for name in names}


def _tensor(values: Sequence[float], device: torch.device) -> Tensor:
    return torch.tensor(list(values), dtype=torch.float32, device=device)


def dropped_units(stack: Stack, features: int) -> dict[str, int]:
    """Return the width of each dropout layer in which at least one member drops units."""
    buffers = stack.stacked_buffers()
    widths = dropout_widths(stack, features)
    return {name: width for name, width in widths.items() if bool(buffers[f"{name}.p"].any())}
