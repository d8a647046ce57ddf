"""Penalties λ‖θ‖ₚᵖ = λ Σ|θ|ᵖ and proximal steps, with a λ per member and parameter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class LpPenalty:
    """Penalty λ Σ|θ|ᵖ of each member of a stack; p = 1 is L1, p = 2 is L2.

    Args:
        p: Exponent, at least 1.
        strengths: λ >= 0 of each member ``(M,)`` by parameter name; other parameters are not
            penalized.
    """

    p: float
    strengths: Mapping[str, Tensor]

    def __call__(self, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the penalty ``(M,)`` of each penalized parameter ``(M, ...)``."""
        return {
            name: strength * _power_sums(parameters[name], self.p)
            for name, strength in self.strengths.items()
        }

    @torch.no_grad()
    def add_gradient(self, parameters: Mapping[str, Tensor]) -> None:
        """Add λ p |θ|ᵖ⁻¹ sign(θ) to the gradients; the subgradient of |θ| at 0 is 0.

        This equals adding the penalty to the objective, in one pass over each parameter.
        """
        for name, strength in self.strengths.items():
            theta = parameters[name]
            slope = _align(self.p * strength, theta)
            if self.p == 1:
                direction = theta.sign()
            elif self.p == 2:
                direction = theta
            else:
                direction = theta.sign() * theta.abs().pow(self.p - 1)
            assert theta.grad is not None
            theta.grad.addcmul_(direction, slope)


def soft_threshold(theta: Tensor, strength: Tensor, lr: Tensor) -> Tensor:
    """Return sign(θ) max(|θ| - ηλ, 0) = θ - min(max(θ, -ηλ), ηλ), the proximal step of L1.

    Unlike a step along the subgradient λ sign(θ), it makes parameters exactly zero (Parikh and
    Boyd 2014, section 6.5.2).

    **Shape**: parameters ``(M, ...)``, strengths λ and learning rates η ``(M,)`` -> ``(M, ...)``.
    """
    limit = _align(strength * lr, theta)
    return theta - theta.clamp(-limit, limit)


# Changes of parameters after each step of the optimizer, by the key of their strength: functions
# of a parameter (M, ...), the strengths (M,), which may be 0, and the learning rates (M,).
PROXIMAL: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {"l1": soft_threshold}


def _align(values: Tensor, theta: Tensor) -> Tensor:
    """Reshape ``(M,)`` so that it broadcasts with ``(M, ...)``."""
    return values.reshape(-1, *[1] * (theta.dim() - 1))


def _power_sums(theta: Tensor, p: float) -> Tensor:
    """Return Σ|θ|ᵖ of each member: ``(M, ...) -> (M,)``."""
    flat = theta.flatten(start_dim=1)
    if p == 1:
        return flat.abs().sum(dim=1)
    if p == 2:
        return torch.linalg.vecdot(flat, flat)
    return flat.abs().pow(p).sum(dim=1)
