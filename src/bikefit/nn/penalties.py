"""Penalties λ‖θ‖ₚᵖ = λ Σ|θ|ᵖ, with a λ for each member and each parameter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class LpPenalty:
    """λ Σ|θ|ᵖ for every member of a stack; L1 and L2 are p = 1 and p = 2.

    Args:
        p: at least 1, for each member ``(M,)`` or one number for all.
        strengths: λ of each member by the parameter's name, ``(M,)`` each, not negative; a
            parameter that is not named is not penalised.
    """

    p: float
    strengths: Mapping[str, Tensor]

    def __call__(self, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the penalty of each named parameter.

        **Shape**: parameters are ``(M, ...)``, each result is ``(M,)``.
        """
        return {
            name: strength * powers(parameters[name], self.p)
            for name, strength in self.strengths.items()
        }

    @torch.no_grad()
    def add_gradient(self, parameters: Mapping[str, Tensor]) -> None:
        """Add λ p |θ|ᵖ⁻¹ sign(θ) to the gradients; where |θ|ᵖ has a kink, its subgradient 0.

        The same as to add the penalty to the objective, in one pass over each parameter.
        """
        for name, strength in self.strengths.items():
            theta = parameters[name]
            slope = (self.p * strength).reshape(-1, *[1] * (theta.dim() - 1))
            if self.p == 1:
                direction = theta.sign()
            elif self.p == 2:
                direction = theta
            else:
                direction = theta.sign() * theta.abs().pow(self.p - 1)
            assert theta.grad is not None
            theta.grad.addcmul_(direction, slope)


def soft_threshold(theta: Tensor, strength: Tensor, lr: Tensor) -> Tensor:
    """Return sign(θ) max(|θ| - ηλ, 0), the proximal step of an L1 penalty.

    A step along the subgradient λ sign(θ) jumps over zero; this one ends there exactly (Parikh
    and Boyd 2014, section 6.5.2).

    **Shape**: ``(M, ...)``, strengths λ and learning rates η ``(M,)``; ``(M, ...)``.
    """
    t = (strength * lr).reshape(-1, *[1] * (theta.dim() - 1))
    return theta.sign() * (theta.abs() - t).clamp_min(0.0)


# What follows each step of the optimizer, by the key of its strength: it makes a parameter
# (M, ...) of itself, the members' strengths (M,), 0 for none, and their learning rates (M,).
PROXIMAL: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {"l1": soft_threshold}


def powers(theta: Tensor, p: float) -> Tensor:
    """Return Σ|θ|ᵖ of each member: ``(M, ...) -> (M,)``."""
    flat = theta.flatten(start_dim=1)
    if p == 1:
        return flat.abs().sum(dim=1)
    if p == 2:
        return torch.linalg.vecdot(flat, flat)
    return flat.abs().pow(p).sum(dim=1)
