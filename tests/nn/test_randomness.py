"""A member's random numbers depend on its seed alone."""

import torch

from bikefit.nn.networks import build
from bikefit.nn.randomness import DropoutNoise, derive, generator, initialize
from bikefit.nn.specs import mlp


def test_seeds_of_different_purposes_differ() -> None:
    assert derive(0, "a") == derive(0, "a")
    assert len({derive(seed, purpose) for seed in range(20) for purpose in "abc"}) == 60


def test_initialization_is_a_function_of_the_seed_and_leaves_torchs_state_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, again, other = (initialize(lambda: build(mlp(3, [4]), 3), s) for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    weights = [network.hidden1.linear.weight for network in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_members_with_a_seed_share_noise_whoever_else_is_there() -> None:
    widths = {"hidden1.dropout": 3, "hidden2.dropout": 2}
    alone = DropoutNoise([7], widths, "cpu")
    crowd = DropoutNoise([9, 7, 7], widths, "cpu")
    fewer_layers = DropoutNoise([7], {"hidden2.dropout": 2}, "cpu")
    for _ in range(3):
        one, many, less = alone.draw(4), crowd.draw(4), fewer_layers.draw(4)
        assert many["hidden1.dropout"].shape == (3, 4, 3)
        for name in widths:
            assert torch.equal(many[name][1], one[name])
            assert torch.equal(many[name][2], one[name])
            assert not torch.equal(many[name][0], one[name])
        assert torch.equal(less["hidden2.dropout"], one["hidden2.dropout"])


def test_noise_is_what_the_named_generator_gives() -> None:
    expected = torch.rand((4, 3), generator=generator(7, "dropout hidden1.dropout"))
    drawn = DropoutNoise([7], {"hidden1.dropout": 3}, "cpu").draw(4)["hidden1.dropout"]
    assert torch.equal(drawn, expected)
