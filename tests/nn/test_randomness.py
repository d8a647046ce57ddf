"""Random numbers of a member depend on its seed only."""

import pytest
import torch

from bikefit.nn.networks import build
from bikefit.nn.randomness import DropoutNoise, derive, initialize
from bikefit.nn.specs import mlp


def test_seeds_of_different_purposes_differ() -> None:
    assert derive(0, "a") == derive(0, "a")
    assert len({derive(seed, purpose) for seed in range(20) for purpose in "abc"}) == 60


def test_initialization_depends_on_the_seed_and_does_not_change_torchs_state() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, again, other = (initialize(lambda: build(mlp(3, [4]), 3), s) for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    weights = [network.hidden1.linear.weight for network in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_members_with_equal_seeds_share_noise_in_any_stack() -> None:
    widths = {"hidden1.dropout": 3, "hidden2.dropout": 2}
    alone = DropoutNoise([7], widths)
    crowd = DropoutNoise([9, 7, 7], widths)
    fewer_layers = DropoutNoise([7], {"hidden2.dropout": 2})
    for _ in range(3):
        one, many, less = (
            {name: noise.uniform() for name, noise in drawn.draw(4).items()}
            for drawn in (alone, crowd, fewer_layers)
        )
        assert many["hidden1.dropout"].shape == (3, 4, 3)
        for name in widths:
            assert torch.equal(many[name][1], one[name])
            assert torch.equal(many[name][2], one[name])
            assert not torch.equal(many[name][0], one[name])
        assert torch.equal(less["hidden2.dropout"], one["hidden2.dropout"])


def test_noise_is_uniform() -> None:
    drawn = DropoutNoise([7], {"hidden1.dropout": 400}).draw(500)["hidden1.dropout"].uniform()
    assert drawn.shape == (500, 400)
    assert drawn.min() >= 0 and drawn.max() < 1
    # standard error of a share p of 200,000 numbers: at most 0.0011
    for p in (0.1, 0.5, 0.9):
        assert (drawn < p).float().mean().item() == pytest.approx(p, abs=0.005)
    neighbours = torch.corrcoef(torch.stack([drawn[1:].flatten(), drawn[:-1].flatten()]))
    assert abs(neighbours[0, 1].item()) < 0.01


def test_noise_continues_after_restoring_its_state() -> None:
    noise = DropoutNoise([7, 8], {"hidden1.dropout": 3})
    noise.draw(4)
    state = noise.state()
    expected = noise.draw(4)["hidden1.dropout"].bits
    other = DropoutNoise([7, 8], {"hidden1.dropout": 3})
    other.restore(state)
    assert torch.equal(other.draw(4)["hidden1.dropout"].bits, expected)
