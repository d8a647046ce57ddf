"""The quick way through a stack computes what the plain layers compute."""

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from bikefit.nn.fused import Fused, fuse
from bikefit.nn.networks import build
from bikefit.nn.randomness import DropoutNoise, initialize
from bikefit.nn.specs import ACTIVATIONS, LayerSpec, mlp
from bikefit.nn.stacking import Stack
from bikefit.training.strengths import make_network
from conftest import make_settings

COLUMNS, ROWS = 5, 12
SEEDS = [3, 3, 4]


def make(
    activation: str = "relu", norm: str = "none", p: float = 0.4, scaling: str = "inverted",
    hidden: tuple[int, ...] = (7, 6), members: slice = slice(0, 3), first: float = 0.0,
    early: bool = False,
) -> Stack:  # fmt: skip
    networks = []
    for index, seed in list(enumerate(SEEDS))[members]:
        specs = mlp(COLUMNS, hidden, activation, norm, scaling)
        if early:  # linear, dropout, activation, batch norm: as in the lecture's network
            order = ["input.dropout", "linear", "dropout", "activation", "batch_norm"]
            specs.sort(key=lambda spec: (_block(spec), order.index(spec.name.split(".")[1])))
        network = initialize(lambda specs=specs: build(specs, COLUMNS), seed)
        for name, layer in network.dropouts().items():
            layer.p.fill_(first if name.startswith("input") else p * index / 2)
        networks.append(network)
    stack = Stack(networks)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():  # scales and shifts that are not one and zero
        for name, value in stack.stacked_parameters().items():
            if "batch_norm" in name:
                value.add_(0.3 * torch.randn(3, *value.shape[1:], generator=generator)[members])
    return stack.double()


def _block(spec: LayerSpec) -> int:
    return ["input", "hidden1", "hidden2", "output"].index(spec.name.split(".")[0])


def noise_of(stack: Stack, seeds: list[int], skip: tuple[str, ...] = ()) -> Any:
    widths = {"input.dropout": COLUMNS, "hidden1.dropout": 7, "hidden2.dropout": 6}
    there = {k: v for k, v in widths.items() if k in stack.dropouts() and k not in skip}
    return DropoutNoise(seeds, there).draw(ROWS)


def rows_of(streams: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(streams, ROWS, COLUMNS, generator=generator, dtype=torch.float64)
    return x, torch.randn(len(SEEDS), ROWS, generator=generator, dtype=torch.float64)


def plain(stack: Stack, x: Tensor, streams: list[int], noise: Any, slope: Tensor) -> Tensor:
    output = stack(x[streams], noise)
    (output * slope).sum().backward()
    return output.detach()


def quick(stack: Stack, x: Tensor, streams: list[int], noise: Any, slope: Tensor) -> Tensor:
    fused = fuse(stack)
    assert isinstance(fused, Fused)
    outputs = []
    for part in (slice(0, 2), slice(2, 3)):
        outputs.append(fused.forward(x, streams, noise, part).clone())
        fused.backward(slope[part])
    return torch.cat(outputs)


def assert_equal(one: Stack, two: Stack) -> None:
    for name, parameter in one.stacked_parameters().items():
        torch.testing.assert_close(two.stacked_parameters()[name].grad, parameter.grad, msg=name)
    for name, buffer in one.stacked_buffers().items():
        torch.testing.assert_close(two.stacked_buffers()[name], buffer, msg=name)


def assert_alike(one: Stack, two: Stack, streams: list[int], skip: tuple[str, ...] = ()) -> None:
    """One goes the plain way, two the quick one; of each stream its members read the rows."""
    x, slope = rows_of(max(streams) + 1)
    noise = noise_of(one, SEEDS, skip)
    expected = plain(one, x, streams, noise, slope)
    torch.testing.assert_close(quick(two, x, streams, noise, slope), expected)
    assert_equal(one, two)
    assert_evaluates_alike(one)


def assert_evaluates_alike(stack: Stack) -> None:
    """On rows that each member sees through its own shift and scale."""
    fused = fuse(stack)
    assert fused is not None
    x = rows_of(1)[0][0]
    generator = torch.Generator().manual_seed(2)
    shift = torch.randn(3, COLUMNS, generator=generator, dtype=torch.float64)
    scale = 1 + torch.rand(3, COLUMNS, generator=generator, dtype=torch.float64)
    stack.eval()
    torch.testing.assert_close(fused.evaluate(x, None, 5), stack(x).detach())
    seen = (x - shift[:, None]) / scale[:, None]
    torch.testing.assert_close(fused.evaluate(x, (shift, scale), 5), stack(seen).detach())
    noise = noise_of(stack, SEEDS)
    thinned = fused.evaluate(x, None, 5, noise)
    torch.testing.assert_close(thinned, stack.subnetworks(x, noise).detach())
    thinned = fused.evaluate(x, (shift, scale), 5, noise)
    torch.testing.assert_close(thinned, stack.subnetworks(seen, noise).detach())


@pytest.mark.parametrize(
    ("activation", "norm", "scaling"),
    list(product(ACTIVATIONS, ["none", "before", "after"], ["inverted", "lecture"])),
)
def test_values_gradients_and_averages_are_those_of_the_plain_layers(
    activation: str, norm: str, scaling: str
) -> None:
    one, two = (make(activation, norm, scaling=scaling) for _ in range(2))
    assert_alike(one, two, [0, 0, 1], skip=("input.dropout",))


@pytest.mark.parametrize(
    ("activation", "norm", "scaling"),
    list(product(list(ACTIVATIONS)[:-1], ["none", "after"], ["inverted", "lecture"])),
)
def test_dropout_may_stand_before_the_activation(activation: str, norm: str, scaling: str) -> None:
    one, two = (make(activation, norm, scaling=scaling, early=True) for _ in range(2))
    assert_alike(one, two, [0, 0, 1], skip=("input.dropout",))


def test_the_lectures_network_takes_the_quick_way() -> None:
    network = make_network(make_settings("network=lecture"), COLUMNS)
    assert fuse(Stack([network, network])) is not None


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("hidden", [(), (7,)])
@pytest.mark.parametrize("first", [0.0, 0.3])
def test_short_networks_and_dropout_of_the_inputs(
    activation: str, hidden: tuple[int, ...], first: float
) -> None:
    one, two = (make(activation, hidden=hidden, first=first) for _ in range(2))
    assert_alike(one, two, [0, 0, 0])


@pytest.mark.parametrize("activation", [name for name in ACTIVATIONS if name != "identity"])
@pytest.mark.parametrize("norm", ["none", "before", "after"])
def test_gradients_are_slopes(norm: str, activation: str) -> None:
    """Of the second member's weights, against differences of the outputs."""
    stack = make(activation, norm)
    (x, slope), streams = rows_of(1), [0, 0, 0]
    noise = noise_of(stack, SEEDS)
    weight = stack.stacked_parameters()["hidden1.linear.weight"]
    quick(stack, x, streams, noise, slope)
    assert weight.grad is not None
    found = weight.grad[1, 2].clone()
    for column, expected in enumerate(found):
        outputs = []
        for sign in (1, -1):
            with torch.no_grad():
                weight[1, 2, column] += sign * 1e-6
            outputs.append((quick(stack, x, streams, noise, slope) * slope).sum())
            with torch.no_grad():
                weight[1, 2, column] -= sign * 1e-6
        measured = (outputs[0] - outputs[1]) / 2e-6
        torch.testing.assert_close(measured, expected, rtol=1e-5, atol=1e-7)


def test_a_member_does_not_depend_on_the_others() -> None:
    x, slope = rows_of(1)
    together = make(norm="before")
    outputs = quick(together, x, [0, 0, 0], noise_of(together, SEEDS), slope)
    for m in range(3):
        alone = make(norm="before", members=slice(m, m + 1))
        fused = fuse(alone)
        assert fused is not None
        output = fused.forward(x, [0], noise_of(alone, [SEEDS[m]]), slice(0, 1))
        torch.testing.assert_close(output[0], outputs[m])
        fused.backward(slope[m : m + 1])
        for name, parameter in alone.stacked_parameters().items():
            other = together.stacked_parameters()[name].grad
            assert other is not None
            torch.testing.assert_close(parameter.grad, other[m : m + 1])


def test_a_member_that_diverges_shows_it_and_leaves_the_others_alone() -> None:
    stack = make(norm="before")
    with torch.no_grad():
        stack.stacked_parameters()["hidden1.linear.weight"][0, 0, 0] = float("nan")
    x, slope = rows_of(1)
    outputs = quick(stack, x, [0, 0, 0], noise_of(stack, SEEDS), slope)
    assert outputs[0].isnan().all()
    assert outputs[1:].isfinite().all()


def test_batch_norm_refuses_a_single_row() -> None:
    fused = fuse(make(norm="before"))
    assert fused is not None
    with pytest.raises(ValueError, match=r"at least 2 rows.*got 1.*batch_size"):
        fused.forward(rows_of(1)[0][:, :1], [0, 0, 0], {}, slice(0, 3))


@pytest.mark.parametrize(
    "layers",
    [
        [("hidden1.wave", "torch.sin", {})],
        [("hidden1.activation", "torch.nn.GELU", {"approximate": "tanh"})],
        [("hidden1.activation", "torch.nn.ELU", {})],
        [("hidden1.dropout", "bikefit.nn.layers.Dropout", {}),
         ("hidden1.batch_norm", "bikefit.nn.layers.BatchNorm", {"features": 3})],
        [("hidden1.dropout", "bikefit.nn.layers.Dropout", {}),
         ("hidden1.again", "bikefit.nn.layers.Dropout", {})],
        [("hidden1.activation", "torch.nn.Tanh", {}),
         ("hidden1.dropout", "bikefit.nn.layers.Dropout", {}),
         ("hidden1.again", "torch.nn.Tanh", {})],
        [("hidden1.activation", "torch.nn.ReLU", {}), ("hidden1.again", "torch.nn.ReLU", {})],
    ],
)  # fmt: skip
def test_other_layers_take_the_plain_way(layers: list[tuple[str, str, dict[str, Any]]]) -> None:
    def linear(name: str, inputs: int, outputs: int) -> LayerSpec:
        args = {"in_features": inputs, "out_features": outputs}
        return LayerSpec(f"{name}.linear", "torch.nn.Linear", args)

    inner = [LayerSpec(*layer) for layer in layers]
    network = build([linear("hidden1", 4, 3), *inner, linear("output", 3, 1)], 4)
    assert fuse(Stack([network, network])) is None
