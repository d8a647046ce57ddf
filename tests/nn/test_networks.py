"""Networks from lists of layers, and the errors of invalid lists."""

import pytest
import torch

from bikefit.nn.networks import build, parameter_count
from bikefit.nn.specs import LayerSpec, mlp
from bikefit.nn.stacking import dropout_widths

NORMED = "bikefit.nn.layers.BatchNorm"


def test_mlp_lists_the_layers_in_order() -> None:
    names = [spec.name for spec in mlp(5, [8, 4], "relu", "none")]
    assert names == [
        "input.dropout",
        "hidden1.linear", "hidden1.activation", "hidden1.dropout",
        "hidden2.linear", "hidden2.activation", "hidden2.dropout",
        "output.linear",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("where", "parts", "bias"),
    [
        ("before", ["linear", "batch_norm", "activation", "dropout"], False),
        ("after", ["linear", "activation", "batch_norm", "dropout"], True),
    ],
)
def test_batch_norm_before_or_after_the_activation(
    where: str, parts: list[str], bias: bool
) -> None:
    specs = [spec for spec in mlp(5, [8], "tanh", where) if spec.block == "hidden1"]
    assert [spec.name.split(".")[1] for spec in specs] == parts
    assert specs[0].args["bias"] is bias  # batch norm would subtract a bias


def test_parameters_are_counted() -> None:
    assert parameter_count(build(mlp(5, [8, 4]), 5)) == 5 * 8 + 8 + 8 * 4 + 4 + 4 + 1
    assert parameter_count(build(mlp(5, []), 5)) == 5 + 1
    assert parameter_count(build(mlp(5, [8], batch_norm="before"), 5)) == 5 * 8 + 8 + 8 + 8 + 1


def test_a_network_without_hidden_layers_is_linear() -> None:
    network = build(mlp(3, []), 3)
    weight, bias = network.output.linear.weight, network.output.linear.bias
    x = torch.randn(4, 3)
    torch.testing.assert_close(network(x), x @ weight[0] + bias)


def test_a_function_is_a_layer_by_its_name() -> None:
    specs = [
        LayerSpec("hidden1.linear", "torch.nn.Linear", {"in_features": 2, "out_features": 3}),
        LayerSpec("hidden1.wave", "torch.sin"),
        LayerSpec("output.linear", "torch.nn.Linear", {"in_features": 3, "out_features": 1}),
    ]
    network = build(specs, 2)
    x = torch.randn(5, 2)
    expected = network.output.linear(torch.sin(network.hidden1.linear(x)))[:, 0]
    torch.testing.assert_close(network(x), expected)


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        ([], "no layers"),
        (
            [LayerSpec("a.linear", "torch.nn.Linear", {"in_features": 4, "out_features": 1})],
            r"'a.linear'.*received shape \(B, 2\) and expects \(B, 4\)",
        ),
        ([LayerSpec("a.norm", NORMED, {"features": 7})], r"\(B, 2\) and expects \(B, 7\)"),
        (
            [LayerSpec("a.linear", "torch.nn.Linear", {"in_features": 2, "out_features": 3})],
            r"the last layer, 'a.linear', must return \(B, 1\), it returns \(B, 3\)",
        ),
        ([LayerSpec("a.x", "os.system")], "os.system is not allowed"),
        ([LayerSpec("a.x", "torch.nn.Lineal")], "torch.nn.Lineal does not exist"),
        ([LayerSpec("a.x", "torch.nn.Linear", {"width": 3})], "'a.x' .*width"),
        ([LayerSpec("a.x", "torch.sum")], "'a.x' must keep the rows"),
        ([LayerSpec("a.x", "torch.sin")] * 2, "two layers have the name 'a.x'"),
        (
            [LayerSpec(n, "torch.sin") for n in ("a.x", "b.x", "a.y")],
            "block 'a' must follow one another",
        ),
        ([LayerSpec("a.x", "torch.sin", {"out": 3})], "takes no arguments"),
    ],
)
def test_invalid_lists_of_layers_raise(specs: list[LayerSpec], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(specs, 2)


def test_dropout_widths() -> None:
    network = build(mlp(5, [8, 4]), 5)
    widths = {"input.dropout": 5, "hidden1.dropout": 8, "hidden2.dropout": 4}
    assert dropout_widths(network, 5) == widths
