"""The penalty λ Σ|θ|ᵖ and its gradient."""

import pytest
import torch

from bikefit.nn.penalties import LpPenalty


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 3.0])
def test_penalty_is_the_sum_of_powers(p: float) -> None:
    theta = {"a.weight": torch.tensor([[[1.0, -2.0]], [[0.5, 0.0]]]), "a.bias": torch.ones(2, 1)}
    strengths = {"a.weight": torch.tensor([0.1, 10.0]), "a.bias": torch.tensor([0.0, 3.0])}
    values = LpPenalty(p, strengths)(theta)
    assert values["a.weight"].tolist() == pytest.approx([0.1 * (1 + 2**p), 10 * 0.5**p])
    assert values["a.bias"].tolist() == pytest.approx([0.0, 3.0])


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 3.0])
def test_the_gradient_is_that_of_the_formula(p: float) -> None:
    theta = torch.tensor([[1.0, -2.0, 0.0]], requires_grad=True)
    added = torch.nn.Parameter(theta.detach().clone())
    added.grad = torch.zeros_like(added)
    penalty = LpPenalty(p, {"w": torch.tensor([0.1])})
    penalty({"w": theta})["w"].sum().backward()
    penalty.add_gradient({"w": added})
    expected = [0.1 * p, -0.1 * p * 2 ** (p - 1), 0.0]  # at 0: the subgradient 0
    for gradient in (theta.grad, added.grad):
        assert gradient is not None
        assert gradient[0].tolist() == pytest.approx(expected)
