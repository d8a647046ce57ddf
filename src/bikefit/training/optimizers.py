"""torch's optimizers for a stack, with a learning rate and weight decay of each member.

SGD, Adam and AdamW work element by element, so one optimizer serves all members: neighbouring
members with equal settings form a parameter group over their slice of the stack.

Weight decay: with plain SGD, L2 with λ equals weight decay with 2λ, because the gradient of λΣθ²
is 2λθ. Adam divides the gradient, including the decay, by its running size. There the two differ,
and both differ from AdamW, which subtracts lr·decay·θ separately (Loshchilov and Hutter 2019).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from bikefit.config import Optimizer as OptimizerSettings

OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
}


class StackSlices:
    """Slices of a stack's parameters, grouped by learning rate and weight decay.

    Args:
        parameters: Parameters ``(M, ...)`` by name.
        lr: Learning rate of each member, length M.
        weight_decay: Decay of each member by parameter name, length M; 0 for other names.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        lr: Sequence[float],
        weight_decay: Mapping[str, Sequence[float]],
    ) -> None:
        self.parameters = parameters
        self.slices: list[tuple[str, slice, nn.Parameter]] = []
        self.groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, parameter in parameters.items():
            settings = list(zip(lr, weight_decay.get(name, [0.0] * len(lr)), strict=True))
            for group, members in groupby(range(len(lr)), key=settings.__getitem__):
                first, *others = members
                part = slice(first, (others or [first])[-1] + 1)
                view = nn.Parameter(parameter.detach()[part])
                self.slices.append((name, part, view))
                self.groups.setdefault(group, []).append(view)

    def take_gradients(self) -> None:
        """Give each slice its part of the stack's gradient and remove it from the stack."""
        for name, part, view in self.slices:
            gradient: Tensor | None = self.parameters[name].grad
            view.grad = None if gradient is None else gradient[part]
        for parameter in self.parameters.values():
            parameter.grad = None

    def make_optimizer(self, settings: OptimizerSettings) -> torch.optim.Optimizer:
        """Return the optimizer of the settings, over all slices."""
        groups = [
            {"params": views, "lr": lr, "weight_decay": decay}
            for (lr, decay), views in self.groups.items()
        ]
        options: dict[str, Any] = {"fused": groups[0]["params"][0].device.type in ("cpu", "cuda")}  # type: ignore[index]
        if settings.name == "sgd":
            options["momentum"] = settings.momentum
        return OPTIMIZERS[settings.name](groups, lr=settings.lr, **options)  # type: ignore[call-arg]

    def state(self, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
        """Return the optimizer's state: ``(M, ...)`` by ``<parameter>/<moment>``.

        The number of steps is repeated for each member.
        """
        state: dict[str, Tensor] = {}
        for name, part, view in self.slices:
            for moment, value in optimizer.state[view].items():
                values = value if value.dim() else value.expand(len(view))
                shape = len(self.parameters[name]), *values.shape[1:]
                whole = state.setdefault(f"{name}/{moment}", values.new_zeros(shape))
                whole[part] = values
        return state

    def restore(self, optimizer: torch.optim.Optimizer, state: Mapping[str, Tensor]) -> None:
        """Set the optimizer's state to the result of :meth:`state`, of the same members.

        The stack may have consisted of more members at that time.
        """
        for name, part, view in self.slices:
            for moment, values in with_prefix(state, name).items():
                # All members of a stack have taken the same number of steps.
                value = values[part][0] if moment == "step" else values[part]
                optimizer.state[view][moment] = value.to(view.device).clone()


def make_schedule(
    optimizer: torch.optim.Optimizer, settings: OptimizerSettings, steps: int
) -> torch.optim.lr_scheduler.OneCycleLR | None:
    """Return the schedule of the learning rate; None for a constant rate.

    One cycle (Smith and Topin 2018): the rate rises to that of the settings in the first 30 % of
    the steps, then falls to almost zero. Adam's β₁ moves in the opposite direction; the momentum of
    SGD is constant.
    """
    if settings.schedule == "constant":
        return None
    rates = [group["lr"] for group in optimizer.param_groups]
    return torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=rates, total_steps=steps, cycle_momentum=settings.name != "sgd"
    )


def restore_schedule(schedule: torch.optim.lr_scheduler.OneCycleLR, steps: int) -> None:
    """Set a schedule to the state after a number of steps."""
    schedule.load_state_dict({"last_epoch": steps - 1, "_step_count": steps + 1})
    schedule.step()


def with_prefix(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the entries whose key starts with ``<prefix>/``, without it."""
    start = f"{prefix}/"
    return {k.removeprefix(start): v for k, v in state.items() if k.startswith(start)}
