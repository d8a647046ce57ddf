"""torch's optimizers for a stack, with a learning rate and weight decay of each member.

SGD, Adam and AdamW update each element separately, so one optimizer is enough. Slices of
neighbouring members with equal settings are its parameters.

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
from bikefit.training.checkpoints import with_prefix

OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
}


class StackOptimizer:
    """Optimizer of a stack's parameters with settings of each member.

    Args:
        settings: Name and momentum of the optimizer.
        parameters: Parameters ``(M, ...)`` by name.
        lr: Learning rate of each member, length M.
        weight_decay: Weight decay of each member, length M, by parameter name; otherwise 0.
    """

    def __init__(
        self,
        settings: OptimizerSettings,
        parameters: Mapping[str, nn.Parameter],
        lr: Sequence[float],
        weight_decay: Mapping[str, Sequence[float]],
    ) -> None:
        self.slices: list[tuple[nn.Parameter, slice, nn.Parameter]] = []
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, parameter in parameters.items():
            pairs = list(zip(lr, weight_decay.get(name, [0.0] * len(lr)), strict=True))
            for pair, members in groupby(range(len(lr)), key=pairs.__getitem__):
                first, *others = members
                part = slice(first, first + len(others) + 1)
                view = nn.Parameter(_contiguous(parameter.detach()[part]))
                self.slices.append((parameter, part, view))
                groups.setdefault(pair, []).append(view)
        options: dict[str, Any] = {"fused": parameter.device.type in ("cpu", "cuda")}
        if settings.name == "sgd":
            options["momentum"] = settings.momentum
        self.optimizer = OPTIMIZERS[settings.name](
            [{"params": g, "lr": rate, "weight_decay": d} for (rate, d), g in groups.items()],
            **options,
        )

    def take_gradients(self) -> None:
        """Move the gradients of the stack's parameters to the slices, before each step."""
        for parameter, part, view in self.slices:
            view.grad = None if parameter.grad is None else _contiguous(parameter.grad[part])
        for parameter, _, _ in self.slices:
            parameter.grad = None

    def state(self) -> dict[str, Tensor]:
        """Return the moments of each slice by ``<number of the slice>/<name of the moment>``."""
        slices = self.optimizer.state_dict()["state"].items()
        return {f"{i}/{name}": value for i, state in slices for name, value in state.items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Set the moments to the result of :meth:`state`."""
        saved = self.optimizer.state_dict()
        for i in range(len(self.slices)):
            saved["state"][i] = {k: v.clone() for k, v in with_prefix(state, str(i)).items()}
        self.optimizer.load_state_dict(saved)


def _contiguous(values: Tensor) -> Tensor:
    """Return a contiguous view, because torch copies others in each step."""
    return values if values.is_contiguous() else values.mT


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
