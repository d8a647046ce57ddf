"""The probe of a trained stack."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from bikefit.training.evaluation import remaining_decrease
from bikefit.training.fit import make_module, run_trainer
from bikefit.training.folds import read_pool
from bikefit.training.members import Member
from conftest import make_settings, train_stack

pytestmark = pytest.mark.usefixtures("workplace")


def member(overrides: str) -> Member:
    """Return a member with the given overrides, separated by spaces."""
    small = "training.batch_size=64 training.epochs=10 network.hidden=[8] "
    return Member(make_settings(*(small + overrides).split()))


LINEAR = "network=linear network.hidden=[]"


def unfinished_of(*configs: str) -> list[float]:
    return [r.final["unfinished"] for r in train_stack([member(config) for config in configs])]


def test_training_with_a_low_learning_rate_is_unfinished_and_converged_training_is_not() -> None:
    slow, converged = unfinished_of(f"{LINEAR} optimizer.lr=1e-4", f"{LINEAR} optimizer.lr=0.1")
    assert slow > 0.1
    assert 0 <= converged < 0.03


def test_unfinished_is_the_largest_decrease_on_the_line_of_the_probe() -> None:
    """The loss is 1 + bias². From 2.5, one step leads to 1.5, two to 0.5, four to -1.5."""
    one = member(f"{LINEAR} loss=mse")
    module = make_module([one], read_pool(one.settings.data.path))
    run_trainer(module, [], max_epochs=1)
    zero = {name: torch.zeros_like(value) for name, value in module.stack.state().items()}
    (bias,) = (name for name in zero if name.endswith("bias"))
    end, probed = (zero | {bias: torch.full_like(zero[bias], at)} for at in (2.5, 1.5))
    module.stack.load(probed)
    assert remaining_decrease(module, probed).item() == 0  # without a step of the probe
    module.stack.load(probed)
    assert remaining_decrease(module, end).item() == pytest.approx(
        (1 + 2.5**2 - 1 - 0.5**2) / (1 + 2.5**2)
    )


@pytest.mark.slow
def test_members_that_stopped_early_and_trainings_of_few_epochs_have_no_probe() -> None:
    def keys(overrides: str) -> list[list[str]]:
        configs = (overrides, f"{overrides} regularization.patience=1")
        results = train_stack([member(f"optimizer.lr=0.1 {one}") for one in configs])
        assert results[1].selected < len(results[0].metrics["val/loss"])
        return [[key for key in r.final if key.startswith("unfinished")] for r in results]

    assert keys("training.epochs=20") == [["unfinished"], []]
    assert keys("training.epochs=9") == [[], []]
    assert keys("training.epochs=20 training.probe=0") == [[], []]


def test_a_stack_stopped_in_its_probe_has_no_probe_metrics() -> None:
    one = member(LINEAR)
    training = one.settings.training
    rows = read_pool(one.settings.data.path).train_rows
    steps = itertools.count(1)
    last = training.epochs * (rows // training.batch_size)
    with_stop = train_stack([one], None, lambda: next(steps) > last)
    assert with_stop[0].killed
    assert "unfinished" not in with_stop[0].final


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    ["regularization.dropout=0.5", "regularization.batch_norm=before regularization.l2=0.01"],
)
def test_the_probe_of_a_stack_equals_those_of_its_members_trained_alone(more: str) -> None:
    configs = [f"{more} seed={s} optimizer.lr={lr}" for s in (0, 1) for lr in (1e-4, 1e-3)]
    together = unfinished_of(*configs)
    alone = [unfinished_of(one)[0] for one in configs]
    np.testing.assert_allclose(together, alone, rtol=1e-2, atol=1e-4)
