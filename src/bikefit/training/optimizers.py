"""torch's optimizers over a stack, each member with its own learning rate and weight decay.

SGD, Adam and AdamW work element by element, so one optimizer serves all members: neighbouring
members with equal settings form a parameter group that looks at their slice of the stack.

Weight decay: with plain SGD, L2 with λ and weight decay with 2λ are the same, since the gradient
of λΣθ² is 2λθ. Adam divides the gradient by its running size and the decay with it, so there the
two differ from one another and from AdamW, which subtracts lr·decay·θ apart from the gradient
(Loshchilov and Hutter 2019).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from bikefit.config import Optimizer as OptimizerSettings
from bikefit.nn.stacking import Stack

OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
}


class StackSlices:
    """The slices of a stack's parameters that an optimizer works on.

    Args:
        stack: M members.
        lr: learning rate of each member, length M.
        weight_decay: decay of each member by parameter name, length M each.
    """

    def __init__(
        self, stack: Stack, lr: Sequence[float], weight_decay: Mapping[str, Sequence[float]]
    ) -> None:
        self.links: list[tuple[nn.Parameter, slice, nn.Parameter]] = []
        self.groups: list[dict[str, object]] = []
        for name, parameter in stack.stacked_parameters().items():
            settings = list(zip(lr, weight_decay[name], strict=True))
            for (rate, decay), members in groupby(range(stack.size), key=settings.__getitem__):
                found = list(members)
                part = slice(found[0], found[-1] + 1)
                view = nn.Parameter(parameter.detach()[part])
                self.links.append((parameter, part, view))
                self.groups.append({"params": [view], "lr": rate, "weight_decay": decay})

    def take_gradients(self) -> None:
        """Point each slice to its part of the stack's gradient and free the stack of it."""
        for parameter, part, view in self.links:
            gradient: Tensor | None = parameter.grad
            view.grad = None if gradient is None else gradient[part]
        for parameter, _, _ in self.links:
            parameter.grad = None


def optimizer_state(
    stack: Stack, slices: StackSlices, optimizer: torch.optim.Optimizer
) -> dict[str, Tensor]:
    """Map ``<parameter>/<moment>`` to its values ``(M, ...)``; a count is one number a member."""
    names = {id(value): name for name, value in stack.stacked_parameters().items()}
    state: dict[str, Tensor] = {}
    for parameter, part, view in slices.links:
        for moment, value in optimizer.state[view].items():
            own = value if value.dim() else value.expand(len(view))
            name = f"{names[id(parameter)]}/{moment}"
            if name not in state:
                state[name] = own.new_zeros(stack.size, *own.shape[1:])
            state[name][part] = own
    return state


def restore_optimizer(
    stack: Stack, slices: StackSlices, optimizer: torch.optim.Optimizer,
    state: Mapping[str, Tensor],
) -> None:  # fmt: skip
    """Give an optimizer what :func:`optimizer_state` found, in a stack that may be cut otherwise.

    Members of a stack have taken equally many steps, so the first one's count is everybody's.
    """
    names = {id(value): name for name, value in stack.stacked_parameters().items()}
    for parameter, part, view in slices.links:
        prefix = f"{names[id(parameter)]}/"
        for name, value in state.items():
            if name.startswith(prefix):
                own = value[part].to(view.device)
                moment = name.removeprefix(prefix)
                optimizer.state[view][moment] = (own[0] if moment == "step" else own).clone()


def restore_schedule(schedule: torch.optim.lr_scheduler.OneCycleLR, steps: int) -> None:
    """Let a schedule go on after some steps: its rates follow from their number alone."""
    schedule.load_state_dict({"last_epoch": steps - 1, "_step_count": steps + 1})
    schedule.step()


def make_optimizer(slices: StackSlices, settings: OptimizerSettings) -> torch.optim.Optimizer:
    """Make the optimizer that the settings name, over all slices."""
    groups = _merge(slices.groups)
    extra: dict[str, Any] = {"momentum": settings.momentum} if settings.name == "sgd" else {}
    device = groups[0]["params"][0].device.type  # type: ignore[index]
    fused = device in ("cpu", "cuda")
    return OPTIMIZERS[settings.name](groups, lr=settings.lr, fused=fused, **extra)  # type: ignore[call-arg]


def make_schedule(
    optimizer: torch.optim.Optimizer, settings: OptimizerSettings, steps: int
) -> torch.optim.lr_scheduler.OneCycleLR | None:
    """Make the learning rate's schedule, None for a constant rate.

    One cycle (Smith and Topin 2018): up to the learning rate of the settings in the first 30 % of
    all steps, then down to almost nothing; Adam's β₁ goes the other way, and
    momentum of sgd stays what it is set to.
    """
    if settings.schedule == "constant":
        return None
    rates = [group["lr"] for group in optimizer.param_groups]
    return torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=rates, total_steps=steps, cycle_momentum=settings.name != "sgd"
    )


def _merge(groups: Sequence[dict[str, object]]) -> list[dict[str, object]]:
    """Put slices with equal settings into one group: fewer, larger calls."""
    merged: dict[tuple[object, object], dict[str, object]] = {}
    for group in groups:
        key = (group["lr"], group["weight_decay"])
        into = merged.setdefault(key, {**group, "params": []})
        into["params"] = [*into["params"], *group["params"]]  # type: ignore[misc]
    return list(merged.values())
