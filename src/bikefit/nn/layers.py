"""Layers with a strength: dropout and batch normalization.

Each is written for one network and one batch ``(B, D)``; a stack maps them over its members.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


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
        if not self.training:
            return x * (1.0 - self.p) if self.scaling == "lecture" else x
        if self.noise.numel() == 0:
            return x
        kept = x * (self.noise >= self.p)
        return kept / (1.0 - self.p) if self.scaling == "inverted" else kept


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
        if self.training and x.shape[0] < 2:
            raise ValueError(
                "batch normalization needs at least 2 rows in a training batch, got "
                f"{x.shape[0]}; choose a larger training.batch_size"
            )
        return functional.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias,
            training=self.training, momentum=self.momentum, eps=self.eps,
        )  # fmt: skip


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
