"""A stack computes the same as its members."""

import pytest
import torch

from bikefit.nn.networks import Network, build
from bikefit.nn.randomness import initialize
from bikefit.nn.specs import mlp
from bikefit.nn.stacking import Stack


def network(seed: int, p: float = 0.0, hidden: tuple[int, ...] = (6, 4)) -> Network:
    made = initialize(lambda: build(mlp(5, hidden, "gelu", "before"), 5), seed)
    for layer in made.dropouts.values():
        layer.p.fill_(p)
    return made


@pytest.mark.parametrize("separate_rows", [False, True])
def test_outputs_equal_those_of_the_members(separate_rows: bool) -> None:
    members = [network(0), network(1, 0.4), network(0, 0.2)]
    stack = Stack(members)
    x = torch.randn(3, 7, 5) if separate_rows else torch.randn(7, 5)
    noise = torch.rand(3, 7, 6)
    out = stack(x, {"hidden1.dropout": noise})
    assert out.shape == (3, 7)
    for m, member in enumerate(members):
        member.hidden1.dropout.noise = noise[m]
        torch.testing.assert_close(out[m], member(x[m] if separate_rows else x))
    stacked = stack.stacked_buffers()["hidden1.batch_norm.running_mean"]
    alone = torch.stack([member.hidden1.batch_norm.running_mean for member in members])
    torch.testing.assert_close(stacked, alone)
    stack.eval()
    for m, member in enumerate(members):
        torch.testing.assert_close(stack(x)[m], member.eval()(x[m] if separate_rows else x))


def test_load_restores_the_state() -> None:
    stack = Stack([network(0), network(1)])
    before = stack.state()
    stack(torch.randn(6, 5))  # updates the running averages
    moved = stack.state()["hidden1.batch_norm.running_mean"]
    assert not torch.equal(moved, before["hidden1.batch_norm.running_mean"])
    stack.load(before)
    for name, value in stack.state().items():
        assert torch.equal(value, before[name])


def test_the_state_is_contiguous_and_that_of_the_members() -> None:
    member = network(0)
    state = Stack([member]).state()
    for name, value in member.named_parameters():
        assert state[name].is_contiguous()
        assert torch.equal(state[name][0], value)


def test_members_are_copied_into_an_earlier_state() -> None:
    stack = Stack([network(seed) for seed in range(3)])
    before, state = stack.state(), stack.state()
    tensors = dict(state)
    stack.load({name: value + 1 for name, value in before.items()})
    stack.copy_members(torch.tensor([False, True, False]), state)
    for name, value in state.items():
        assert value is tensors[name]  # in place
        torch.testing.assert_close(value[1], before[name][1] + 1)
        torch.testing.assert_close(value[[0, 2]], before[name][[0, 2]])


def test_a_stack_copies_its_members() -> None:
    member = network(0)
    stack = Stack([member, network(1)])
    with torch.no_grad():
        stack.stacked_parameters()["output.linear.bias"].fill_(9.0)
    assert member.output.linear.bias.item() != 9.0


def test_members_of_different_shapes_raise() -> None:
    with pytest.raises(RuntimeError, match=r"equal size, but got \[6, 5\] .* and \[7, 5\]"):
        Stack([network(0), network(0, hidden=(7, 4))])
    with pytest.raises(RuntimeError, match="same class"):
        Stack([network(0), initialize(lambda: build(mlp(5, [6, 4], "tanh", "before"), 5), 0)])
