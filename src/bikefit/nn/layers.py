"""Dropout, batch normalization and functions as layers.

Each layer takes a batch ``(B, D)`` of one network. With stacked tensors ``(M, ...)`` it takes
``(B, D)`` or ``(M, B, D)`` and computes the same for every member.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class Dropout(nn.Module):
    """Drop each unit with probability p, 0 <= p < 1, in training mode (Srivastava et al. 2014).

    ``scaling="inverted"`` multiplies the remaining units by 1 / (1 - p) in training mode, as torch
    does. ``scaling="lecture"`` multiplies all units by 1 - p in evaluation mode instead. Both have
    the same expectation. Other arguments raise a ValueError.

    A unit is dropped if its noise, uniform in [0, 1), is below p. The caller sets the buffer
    ``noise`` before each step, so that members with the same seed share it. No unit is dropped
    while it is empty.

    **Shape**: ``(B, D) -> (B, D)``; ``p`` is a scalar, ``noise`` is ``(B, D)``.
    """

    p: Tensor
    noise: Tensor

    def __init__(self, p: float = 0.0, scaling: str = "inverted") -> None:
        super().__init__()
        if not 0.0 <= p < 1.0:
            raise ValueError(f"dropout p = {p}: allowed are 0 <= p < 1")
        if scaling not in ("inverted", "lecture"):
            raise ValueError(f"dropout scaling = {scaling!r}: allowed are 'inverted' and 'lecture'")
        self.scaling = scaling
        self.width = 0  # number of units, set when the layer is built into a network
        self.register_buffer("p", torch.tensor(float(p)), persistent=False)
        self.register_buffer("noise", torch.empty(0), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return x with dropped units in training mode, otherwise the scaled x."""
        p = self.p[..., None, None]
        if not self.training:
            return x * (1.0 - p) if self.scaling == "lecture" else x
        if self.noise.numel() == 0:
            return x
        # Numbers, because products with booleans take several times as long.
        kept = torch.ge(self.noise, p, out=self.noise.new_empty(0))
        return x * (kept.mul_(1.0 / (1.0 - p)) if self.scaling == "inverted" else kept)


class BatchNorm(nn.Module):
    """Normalize each feature over the rows of the batch (Ioffe and Szegedy 2015).

    In training mode ŷ = γ (x - μ) / √(σ² + ε) + β with the mean μ and the variance σ² of the batch
    (divisor B). Evaluation mode uses running averages of μ and of the variance (divisor B - 1), in
    which the newest batch has the weight ``momentum``. ``eps`` is ε.

    **Shape**: ``(B, D) -> (B, D)``; weight (γ), bias (β) and the running averages are ``(D,)``.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, features: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))
        self.register_buffer("running_mean", torch.zeros(features))
        self.register_buffer("running_var", torch.ones(features))

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalized rows; in training mode, also update the running averages.

        A training batch of a single row raises a ValueError: its variance is not defined.
        """
        if self.training and x.shape[-2] < 2:
            raise ValueError(
                "batch normalization needs at least 2 rows in a training batch, got "
                f"{x.shape[-2]}; increase training.batch_size"
            )
        if not self.training:
            scale = self.weight * torch.rsqrt(self.running_var + self.eps)
            shift = self.bias - self.running_mean * scale
            return torch.addcmul(shift.unsqueeze(-2), x, scale.unsqueeze(-2))
        y, mean, variance = _Normalize.apply(x, self.weight, self.bias, self.eps)
        with torch.no_grad():
            unbiased = variance * (x.shape[-2] / (x.shape[-2] - 1))
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(unbiased, self.momentum)
        return y


class _Normalize(torch.autograd.Function):
    """Normalization by the statistics of the batch, for any leading axes (torch has none)."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return y ``(..., B, D)``, mean and variance ``(..., D)``."""
        mean = x.mean(dim=-2)
        centred = x - mean.unsqueeze(-2)
        variance = (centred * centred).mean(dim=-2)
        inverse = torch.rsqrt(variance + eps)
        y = torch.addcmul(bias.unsqueeze(-2), centred, (weight * inverse).unsqueeze(-2))
        ctx.mark_non_differentiable(mean, variance)
        ctx.save_for_backward(centred, inverse, weight)
        return y, mean, variance

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of x ``(..., B, D)``, weight and bias ``(..., D)``."""
        centred, inverse, weight = ctx.saved_tensors
        bias_grad = gradient.sum(dim=-2)
        weight_grad = (gradient * centred).sum(dim=-2) * inverse
        if not ctx.needs_input_grad[0]:
            return None, weight_grad, bias_grad, None
        scale, rows = weight * inverse, gradient.shape[-2]
        shift, slope = -scale * bias_grad / rows, -scale * inverse * weight_grad / rows
        x_grad = torch.addcmul(shift.unsqueeze(-2), gradient, scale.unsqueeze(-2))
        return x_grad.addcmul_(centred, slope.unsqueeze(-2)), weight_grad, bias_grad, None


class Function(nn.Module):
    """Layer that applies a function of a tensor ``(B, D)``."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        """Return function(x)."""
        return self.function(x)
