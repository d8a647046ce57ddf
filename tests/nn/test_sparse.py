"""Outputs and gradients of sparse rows equal those of dense rows."""

from __future__ import annotations

import pytest
import torch

from bikefit.nn.networks import build
from bikefit.nn.randomness import initialize
from bikefit.nn.sparse import SparseRows, nonzero_columns
from bikefit.nn.specs import LayerSpec, mlp
from bikefit.nn.stacking import Stack

COLUMNS, ROWS = 20, 12


def table(rows: int = ROWS) -> torch.Tensor:
    """Return rows with up to 5 nonzero features; column 3 and row 2 are zero everywhere."""
    x = torch.zeros(rows, COLUMNS, dtype=torch.float64)
    x.scatter_(1, torch.rand(rows, COLUMNS).topk(5).indices, torch.randn(rows, 5).double())
    x[:, 3] = x[2] = 0.0
    return x


def stack_of(seeds: list[int], **options: str) -> Stack:
    specs = mlp(COLUMNS, (7, 6), **options)
    return Stack([initialize(lambda: build(specs, COLUMNS), s) for s in seeds]).double()


@pytest.mark.parametrize("batch_norm", ["none", "before"])  # with and without a bias
@pytest.mark.parametrize("position", [[0, 0, 0], [1, 0, 1]])
def test_outputs_and_gradients_equal_those_of_dense_rows(
    position: list[int], batch_norm: str
) -> None:
    dense, sparse = (stack_of([4, 5, 6], batch_norm=batch_norm) for _ in range(2))
    assert sparse.reads_sparse
    streams = torch.stack([table() for _ in range(max(position) + 1)])
    columns = nonzero_columns((streams != 0).flatten(0, 1))
    assert columns is not None and columns.shape[1] == 5
    columns = columns.view(len(streams), ROWS, 5)
    x = SparseRows(columns, streams.gather(2, columns), torch.tensor(position))
    expected, output = dense(streams[position]), sparse(x)
    torch.testing.assert_close(output, expected)
    weights = torch.randn(3, ROWS, dtype=torch.float64)
    for values in (expected, output):
        (values * weights).sum().backward()
    for name, parameter in dense.stacked_parameters().items():
        torch.testing.assert_close(sparse.stacked_parameters()[name].grad, parameter.grad)
    torch.testing.assert_close(sparse.eval()(x), dense.eval()(streams[position]))


def test_a_table_with_many_nonzero_features_is_not_sparse() -> None:
    nonzero = torch.zeros(4, COLUMNS, dtype=torch.bool)
    nonzero[0, :6] = True
    assert nonzero_columns(nonzero) is not None
    nonzero[0, 6] = True  # 7 of 20 features
    assert nonzero_columns(nonzero) is None


def test_dropout_of_the_inputs_and_other_first_layers_read_dense_rows() -> None:
    first = [LayerSpec("wave.sin", "torch.sin"), *mlp(COLUMNS, ())]
    assert not Stack([build(first, COLUMNS)]).reads_sparse
    stack = stack_of([0, 1])
    stack.dropouts["input.dropout"].p[1] = 0.1
    assert not stack.reads_sparse
