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
NORMED = mlp(COLUMNS, (7, 6), batch_norm="before")


def make(specs: list[LayerSpec], first: float = 0.0) -> Stack:
    networks = []
    for index, seed in enumerate(SEEDS):
        network = initialize(lambda: build(specs, COLUMNS), seed)
        for name, layer in network.dropouts().items():
            layer.p.fill_(first if name.startswith("input") else 0.2 * index)
        networks.append(network)
    stack = Stack(networks)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():  # scales and shifts that are not one and zero
        for name, value in stack.stacked_parameters().items():
            if "batch_norm" in name:
                value.add_(0.3 * torch.randn(value.shape, generator=generator))
    return stack.double()


def noise_of(stack: Stack, skip: tuple[str, ...] = ()) -> Any:
    widths = {"input.dropout": COLUMNS, "hidden1.dropout": 7, "hidden2.dropout": 6}
    there = {k: v for k, v in widths.items() if k in stack.dropouts() and k not in skip}
    return DropoutNoise(SEEDS, there).draw(ROWS)


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
    noise = noise_of(one, skip)
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
    noise = noise_of(stack)
    standardized = (x - shift[:, None]) / scale[:, None]
    for statistics, seen in ((None, x), ((shift, scale), standardized)):
        stack.eval()
        torch.testing.assert_close(fused.evaluate(x, statistics, 5), stack(seen).detach())
        thinned = fused.evaluate(x, statistics, 5, noise)
        torch.testing.assert_close(thinned, stack.subnetworks(seen, noise).detach())


ORDINARY = product(ACTIVATIONS, ["none", "before", "after"], ["inverted", "lecture"], [False])
EARLY = product(list(ACTIVATIONS)[:-1], ["none", "after"], ["inverted", "lecture"], [True])


@pytest.mark.parametrize(("activation", "norm", "scaling", "early"), [*ORDINARY, *EARLY])
def test_values_gradients_and_averages_are_those_of_the_plain_layers(
    activation: str, norm: str, scaling: str, early: bool
) -> None:
    specs = mlp(COLUMNS, (7, 6), activation, norm, scaling)
    if early:  # dropout before the activation, as in the lecture's network
        parts = ["linear", "dropout", "activation", "batch_norm"]
        inner = [spec for spec in specs if spec.block.startswith("hidden")]
        inner.sort(key=lambda spec: (spec.block, parts.index(spec.name.split(".")[1])))
        specs = [specs[0], *inner, specs[-1]]
    assert_alike(make(specs), make(specs), [0, 0, 1], skip=("input.dropout",))


def test_the_lectures_network_takes_the_quick_way() -> None:
    network = make_network(make_settings("network=lecture"), COLUMNS)
    assert fuse(Stack([network, network])) is not None


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("hidden", [(), (7,)])
@pytest.mark.parametrize("first", [0.0, 0.3])
def test_short_networks_and_dropout_of_the_inputs(
    activation: str, hidden: tuple[int, ...], first: float
) -> None:
    specs = mlp(COLUMNS, hidden, activation)
    assert_alike(make(specs, first), make(specs, first), [0, 0, 0])


def test_a_member_that_diverges_shows_it_and_leaves_the_others_alone() -> None:
    stack = make(NORMED)
    with torch.no_grad():
        stack.stacked_parameters()["hidden1.linear.weight"][0, 0, 0] = float("nan")
    x, slope = rows_of(1)
    outputs = quick(stack, x, [0, 0, 0], noise_of(stack), slope)
    assert outputs[0].isnan().all()
    assert outputs[1:].isfinite().all()


def test_batch_norm_refuses_a_single_row() -> None:
    fused = fuse(make(NORMED))
    assert fused is not None
    with pytest.raises(ValueError, match=r"at least 2 rows.*got 1.*batch_size"):
        fused.forward(rows_of(1)[0][:, :1], [0, 0, 0], {}, slice(0, 3))


DROPOUT = ("bikefit.nn.layers.Dropout", {})
NORM = ("bikefit.nn.layers.BatchNorm", {"features": 3})
TANH, RELU = ("torch.nn.Tanh", {}), ("torch.nn.ReLU", {})


@pytest.mark.parametrize(
    "layers",
    [
        [("torch.sin", {})],
        [("torch.nn.GELU", {"approximate": "tanh"})],
        [("torch.nn.ELU", {})],
        [DROPOUT, NORM],
        [DROPOUT, DROPOUT],
        [TANH, DROPOUT, TANH],
        [RELU, RELU],
    ],
)
def test_other_layers_take_the_plain_way(layers: list[tuple[str, dict[str, Any]]]) -> None:
    inner = [LayerSpec(f"hidden1.layer{i}", *layer) for i, layer in enumerate(layers)]
    first = LayerSpec("hidden1.linear", "torch.nn.Linear", {"out_features": 3})
    last = LayerSpec("output.linear", "torch.nn.Linear", {"out_features": 1})
    network = build([first, *inner, last], 4)
    assert fuse(Stack([network, network])) is None
