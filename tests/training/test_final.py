from __future__ import annotations

import numpy as np
import pytest
import torch
from pytorch_lightning.callbacks import LambdaCallback

from bikefit.training.final import unfinished
from bikefit.training.fit import _assemble, fit_stack, train
from bikefit.training.members import Member
from conftest import make_settings

QUICK = ["training.batch_size=64", "training.epochs=10"]


@pytest.fixture(autouse=True)
def root(workplace: object) -> None:
    """Run where the made-up tables are."""


def member(*overrides: str) -> Member:
    return Member(make_settings(*QUICK, *overrides))


def measured(*configs: list[str]) -> list[float]:
    return [r.final["unfinished"] for r in fit_stack([member(*one) for one in configs])]


def test_far_too_low_a_learning_rate_is_unfinished_and_convergence_is_not() -> None:
    slow, converged = measured(
        ["network=linear", "optimizer.lr=1e-4"],
        ["network=linear", "optimizer.lr=0.1", "training.epochs=10"],
    )
    assert slow > 0.1
    assert 0 <= converged < 0.005


@pytest.mark.parametrize(
    "more", [["regularization.dropout=0.5"], ["regularization.batch_norm=before"]]
)
def test_it_is_the_same_at_every_call_and_leaves_the_stack_as_it_was(more: list[str]) -> None:
    one = member("network.hidden=[8]", *more)
    module, data = _assemble([one])
    train(module, data, one.settings, [])
    before = module.stack.state()
    first, second = (unfinished(module)["unfinished"] for _ in range(2))
    assert first == second
    assert 0 <= first < 1
    for name, value in module.stack.state().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    # standing still has no way ahead, whatever units are dropped
    module.halfway = before
    assert unfinished(module)["unfinished"].item() == pytest.approx(0.0, abs=1e-6)
    module.halfway = {}
    assert unfinished(module) == {}


@pytest.mark.parametrize(
    "more", [[], ["regularization.dropout=0.5"], ["regularization.batch_norm=before",
                                                  "regularization.l2=0.01"]]
)  # fmt: skip
def test_a_stack_of_many_equals_singles(more: list[str]) -> None:
    configs = [["network.hidden=[8]", *more, f"seed={s}", f"optimizer.lr={lr}"]
               for s in (0, 1) for lr in (1e-4, 1e-3)]  # fmt: skip
    together = measured(*configs)
    alone = [measured(one)[0] for one in configs]
    np.testing.assert_allclose(together, alone, rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize(("epochs", "middle"), [(5, 2), (4, 2), (1, None)])
def test_halfway_is_the_epoch_in_the_middle(epochs: int, middle: int | None) -> None:
    one = member("network=linear", f"training.epochs={epochs}")
    module, data = _assemble([one])
    states: list[dict[str, torch.Tensor]] = [{}]
    note = LambdaCallback(on_validation_end=lambda *_: states.append(module.stack.state()))
    train(module, data, one.settings, [note])
    assert len(states) == 1 + epochs
    expected = states[middle or 0]
    assert module.halfway.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(module.halfway[name], value)
