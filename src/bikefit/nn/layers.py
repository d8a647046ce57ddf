"""Layers with a strength: dropout and batch normalization.

Each is written for one network and one batch ``(B, D)``, and does the same for every member of a
stack: with tensors ``(M, ...)`` of its own it takes ``(B, D)`` or ``(M, B, D)``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Dropout(nn.Module):
    """Drop each unit with probability p while training (Srivastava et al. 2014).

    ``scaling="inverted"`` multiplies what is kept by 1 / (1 - p) while training and does nothing
    afterwards, as torch does. ``scaling="lecture"`` leaves what is kept as it is and multiplies
    all units by 1 - p afterwards. Both have the same expectation.

    The uniform noise in [0, 1) that decides is drawn by the caller and put into the buffer
    ``noise``: members of a stack that share a seed share it, whatever their p. While it is empty,
    nothing is dropped and a caller outside a stack is told so by ``forward``.

    Args:
        p: probability of dropping a unit, in [0, 1).
        scaling: "inverted" or "lecture".

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
        self.register_buffer("p", torch.tensor(float(p)), persistent=False)
        self.register_buffer("noise", torch.empty(0), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return x with units dropped (training) or as the whole ensemble (evaluation)."""
        p = self.p[..., None, None]
        if not self.training:
            return x * (1.0 - p) if self.scaling == "lecture" else x
        if self.noise.numel() == 0:
            return x
        # floor(noise - p) is -1 where noise < p, else 0: several times quicker than a comparison,
        # whose booleans would have to be turned into numbers again.
        kept = (self.noise - p).floor_()
        if self.scaling == "inverted":
            scale = 1.0 / (1.0 - p)
            return x * torch.addcmul(scale, kept, scale)
        return x * kept.add_(1.0)


class BatchNorm(nn.Module):
    """Normalize each feature over the rows of the batch (Ioffe and Szegedy 2015).

    While training: ŷ = γ (x - μ) / √(σ² + ε) + β with the batch's mean μ and its variance σ²
    (divided by B, not B - 1). In evaluation mode running averages of μ and of the variance
    divided by B - 1 take their place; they move by ``momentum`` at each training step.

    Args:
        features: number of features D.
        eps: ε, keeps the root away from zero.
        momentum: share of the newest batch in the running averages.

    Raises:
        ValueError: a training batch of a single row, whose variance is not defined.

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
        """Return the normalized rows; while training, move the running averages."""
        if self.training and x.shape[-2] < 2:
            raise ValueError(
                "batch normalization needs at least 2 rows in a training batch, got "
                f"{x.shape[-2]}; choose a larger training.batch_size"
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
    """Batch normalization with the statistics of the batch, over any leading axes.

    torch's own knows no leading axes; here every step is one pass over ``(..., B, D)``.
    """

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
        of_bias = gradient.sum(dim=-2)
        of_weight = (gradient * centred).sum(dim=-2) * inverse
        if not ctx.needs_input_grad[0]:
            return None, of_weight, of_bias, None
        scale, rows = weight * inverse, gradient.shape[-2]
        shift, slope = -scale * of_bias / rows, -scale * inverse * of_weight / rows
        of_x = torch.addcmul(shift.unsqueeze(-2), gradient, scale.unsqueeze(-2))
        return of_x.addcmul_(centred, slope.unsqueeze(-2)), of_weight, of_bias, None


class Function(nn.Module):
    """Any function of a tensor as a layer.

    **Shape**: what the function makes of ``(B, D)``.
    """

    def __init__(self, function: object) -> None:
        super().__init__()
        if not callable(function):
            raise TypeError(f"a layer must be callable, got {function!r}")
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        """Return function(x)."""
        return self.function(x)

    def extra_repr(self) -> str:
        """Name the function in the printed network."""
        return getattr(self.function, "__name__", repr(self.function))
