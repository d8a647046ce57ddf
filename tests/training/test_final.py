from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from bikefit.training.callbacks import Halfway
from bikefit.training.final import unfinished
from bikefit.training.fit import _assemble, fit_stack, train
from bikefit.training.members import Member
from bikefit.training.module import StackModule
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
    halfway = Halfway()
    train(module, data, one.settings, [halfway])
    before = module.stack.state()
    first, second = (unfinished(module, halfway.state)["unfinished"] for _ in range(2))
    assert first == second
    assert 0 <= first < 1
    for name, value in module.stack.state().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    # standing still has no way ahead, whatever units are dropped
    assert unfinished(module, before)["unfinished"].item() == pytest.approx(0.0, abs=1e-6)
    assert unfinished(module, {}) == {}


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


@pytest.mark.parametrize(("epochs", "kept"), [(4, [False, True, False]), (1, [False])])
def test_halfway_keeps_the_epoch_in_the_middle(epochs: int, kept: list[bool]) -> None:
    one = member("network=linear")
    module, _ = _assemble([one])
    halfway = Halfway()
    for epoch, is_kept in enumerate(kept):
        with torch.no_grad():
            for value in module.stack.stacked_parameters().values():
                value.fill_(epoch)
        trainer: Any = SimpleNamespace(current_epoch=epoch, max_epochs=epochs)
        assert isinstance(module, StackModule)
        halfway.on_validation_end(trainer, module)
        assert bool(halfway.state) is (is_kept or epoch > 1)
    names = module.stack.stacked_parameters()
    assert all((halfway.state[name] == 1).all() for name in names if halfway.state)
