"""Dropout and batch norm, compared with values computed by hand."""

import pytest
import torch

from bikefit.nn.layers import BatchNorm, Dropout, Function


@pytest.mark.parametrize(
    ("scaling", "training", "evaluation"),
    [
        ("inverted", [0.0, 4.0, 8.0, 0.0], [3.0, 3.0, 6.0, 9.0]),
        ("lecture", [0.0, 3.0, 6.0, 0.0], [2.25, 2.25, 4.5, 6.75]),
    ],
)
def test_dropout_scales_in_one_of_the_modes(
    scaling: str, training: list[float], evaluation: list[float]
) -> None:
    layer = Dropout(0.25, scaling)
    layer.noise = torch.tensor([[0.1, 0.25, 0.9, 0.2]])
    x = torch.tensor([[3.0, 3.0, 6.0, 9.0]])
    assert layer(x)[0].tolist() == pytest.approx(training)
    assert layer.eval()(x)[0].tolist() == evaluation


def test_dropout_without_noise_drops_nothing() -> None:
    assert (Dropout(0.5)(torch.ones(2, 3)) == 1).all()


@pytest.mark.parametrize("p", [-0.1, 1.0, 1.5])
def test_probabilities_outside_0_and_1_raise(p: float) -> None:
    with pytest.raises(ValueError, match=f"p = {p}"):
        Dropout(p)


def test_batch_norm_is_the_lectures_formula() -> None:
    layer = BatchNorm(2, eps=0.5)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([2.0, 1.0]))
        layer.bias.copy_(torch.tensor([0.0, 10.0]))
    x = torch.tensor([[1.0, 0.0], [3.0, 4.0]])
    # feature 1: mean 2, variance 1; feature 2: mean 2, variance 4 (both divided by B = 2)
    first, second = 2 / 1.5**0.5, 2 / 4.5**0.5
    expected = torch.tensor([[-first, 10 - second], [first, 10 + second]])
    torch.testing.assert_close(layer(x), expected)


def test_evaluation_uses_the_running_averages() -> None:
    layer = BatchNorm(1, eps=0.5, momentum=0.25)
    layer(torch.tensor([[1.0], [3.0]]))  # mean 2, variance divided by B - 1: 2
    assert layer.running_mean.item() == pytest.approx(0.75 * 0 + 0.25 * 2)
    assert layer.running_var.item() == pytest.approx(0.75 * 1 + 0.25 * 2)
    y = layer.eval()(torch.tensor([[1.0]]))
    assert y.item() == pytest.approx((1 - 0.5) / 1.75**0.5)
    assert layer.running_mean.item() == pytest.approx(0.5)  # not changed in evaluation mode


def test_batch_norm_of_a_single_training_row_raises() -> None:
    layer = BatchNorm(3)
    with pytest.raises(ValueError, match=r"at least 2 rows.*got 1.*batch_size"):
        layer(torch.zeros(1, 3))
    layer.eval()(torch.zeros(1, 3))


def test_functions_are_layers() -> None:
    x = torch.tensor([[0.0, 1.0]])
    torch.testing.assert_close(Function(torch.sin)(x), torch.sin(x))
