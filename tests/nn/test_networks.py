"""Networks from lists of layers, and the errors of invalid lists."""

import operator

import pytest
import torch

from bikefit.nn.networks import build
from bikefit.nn.specs import LayerSpec, mlp

NORMED, LINEAR = "bikefit.nn.layers.BatchNorm", "torch.nn.Linear"


@pytest.mark.parametrize(
    ("where", "parts", "bias"),
    [
        ("before", ["linear", "batch_norm", "activation", "dropout"], False),
        ("after", ["linear", "activation", "batch_norm", "dropout"], True),
        ("none", ["linear", "activation", "dropout"], True),
    ],
)
def test_mlp_lists_the_layers_in_order(where: str, parts: list[str], bias: bool) -> None:
    specs = mlp(5, [8, 4], "tanh", where)
    hidden = [f"hidden{number}.{part}" for number in (1, 2) for part in parts]
    assert [spec.name for spec in specs] == ["input.dropout", *hidden, "output.linear"]
    assert specs[1].args["bias"] is bias  # batch norm would subtract a bias


@pytest.mark.parametrize("target", ["torch.sin", "torch.special.expit", "torch.nn.functional.gelu"])
def test_a_function_is_a_layer_by_its_name(target: str) -> None:
    network = build([LayerSpec("a.x", target)], 1)
    function = operator.attrgetter(target.removeprefix("torch."))(torch)
    torch.testing.assert_close(network(torch.ones(3, 1)), function(torch.ones(3)))


def test_dropout_layers_have_their_number_of_units() -> None:
    widths = {n: layer.width for n, layer in build(mlp(5, [8, 4]), 5).dropouts.items()}
    assert widths == {"input.dropout": 5, "hidden1.dropout": 8, "hidden2.dropout": 4}


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        ([], "no layers"),
        (
            [LayerSpec("a.linear", LINEAR, {"in_features": 4, "out_features": 1})],
            r"'a.linear'.*received shape \(B, 2\) and expects \(B, 4\)",
        ),
        ([LayerSpec("a.norm", NORMED, {"features": 7})], r"\(B, 2\) and expects \(B, 7\)"),
        (
            [LayerSpec("a.linear", LINEAR, {"in_features": 2, "out_features": 3})],
            r"the last layer, 'a.linear', must return \(B, 1\), it returns \(B, 3\)",
        ),
        ([LayerSpec("a.x", "os.system")], "os.system is not allowed"),
        ([LayerSpec("a.x", "torch.nn.Lineal")], "torch.nn.Lineal does not exist"),
        ([LayerSpec("a.x", LINEAR, {"width": 3})], "'a.x' .*width"),
        ([LayerSpec("a.x", "torch.sum")], "'a.x' must keep the rows"),
        ([LayerSpec("a.x", "torch.t")], "'a.x' must treat each row separately"),
        ([LayerSpec("a.x", "torch.squeeze")], "'a.x' must treat each row separately"),
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
