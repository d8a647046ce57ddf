"""The probe, and predictions of a trained stack."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bikefit.training import fit
from bikefit.training.callbacks import Selection
from bikefit.training.evaluation import predictions, unfinished
from bikefit.training.fit import make_module, run_probe, run_trainer
from bikefit.training.folds import read_pool
from bikefit.training.members import Member
from conftest import make_settings, train_stack

QUICK = ["training.batch_size=64", "training.epochs=10"]


@pytest.fixture(autouse=True)
def root(workplace: object) -> None:
    """Run where the made-up tables are."""


def member(*overrides: str) -> Member:
    return Member(make_settings(*QUICK, *overrides))


def measured(*configs: list[str]) -> list[float]:
    return [r.final["unfinished"] for r in train_stack([member(*one) for one in configs])]


def test_far_too_low_a_learning_rate_is_unfinished_and_convergence_is_not() -> None:
    slow, converged = measured(
        ["network=linear", "optimizer.lr=1e-4"],
        ["network=linear", "optimizer.lr=0.1", "training.epochs=10"],
    )
    assert slow > 0.1
    assert 0 <= converged < 0.03


@pytest.mark.parametrize(
    "more", [[], ["regularization.dropout=0.5"], ["regularization.batch_norm=before"],
             ["optimizer=sgd", "optimizer.schedule=constant"]]
)  # fmt: skip
def test_a_look_ahead_leaves_the_stack_as_it_was(more: list[str]) -> None:
    one = member("network.hidden=[8]", *more)
    module = make_module([one], read_pool(one.settings.data.path))
    selection = Selection([None])
    run_trainer(module, [selection])
    before, epochs = module.stack.state(), len(module.history)
    looked = run_probe(module, selection)
    assert 0 <= looked["unfinished"].item() < 1
    assert len(module.history) == epochs == 10
    assert module.lr == [one.settings.optimizer.lr]
    assert module.optimizer_settings == one.settings.optimizer
    for name, value in module.stack.state().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    # standing still has no way ahead
    assert unfinished(module, before).item() == 0


def test_it_is_the_lowest_train_loss_along_the_way_that_the_look_ahead_went() -> None:
    """On 1 + shift², from 2.5 to 1.5: two steps lead to 0.5, four past the lowest to -1.5."""
    one = member("network=linear", "loss=mse")
    module = make_module([one], read_pool(one.settings.data.path))
    run_trainer(module, [], max_epochs=1)
    zero = {name: torch.zeros_like(value) for name, value in module.stack.state().items()}
    (bias,) = (name for name in zero if name.endswith("bias"))
    end, there = (zero | {bias: torch.full_like(zero[bias], at)} for at in (2.5, 1.5))
    module.stack.load(there)
    assert unfinished(module, end).item() == pytest.approx((1 + 2.5**2 - 1 - 0.5**2) / (1 + 2.5**2))


@pytest.mark.parametrize(("patience", "times"), [("null", 0), ("1", 2)])
def test_the_probe_evaluates_validation_rows_only_for_members_that_stopped_early(
    patience: str, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluated: list[str] = []
    real = fit.losses
    monkeypatch.setattr(fit, "losses", lambda *given: evaluated.append(given[1]) or real(*given))
    one = member("network=linear", f"regularization.patience={patience}", "optimizer.lr=0.9")
    train_stack([one])
    assert evaluated == ["val"] * times


@pytest.mark.slow
def test_who_stopped_early_is_asked_for_the_validation_loss_and_a_short_training_nothing() -> None:
    def keys(*overrides: str) -> list[list[str]]:
        configs = [[*overrides], [*overrides, "regularization.patience=1"]]
        results = train_stack([member("network.hidden=[8]", *one) for one in configs])
        assert results[1].selected < len(results[0].metrics["val/loss"])
        return [[key for key in r.final if key.startswith("unfinished")] for r in results]

    assert keys("optimizer.lr=0.1", "training.epochs=20") == [["unfinished"], ["unfinished/val"]]
    assert keys("optimizer.lr=0.1", "training.epochs=9") == [[], []]
    assert keys("optimizer.lr=0.1", "training.epochs=20", "training.probe=0") == [[], []]


@pytest.mark.slow
def test_what_a_high_learning_rate_keeps_from_who_stopped_early() -> None:
    """Trained on from the selected epoch at a tenth of the rate, measured by its predictions."""
    one = member("network=linear", "loss=mse", "optimizer=adam", "optimizer.lr=0.3",
                 "optimizer.schedule=constant", "training.epochs=20",
                 "regularization.patience=3")  # fmt: skip
    module = make_module([one], read_pool(one.settings.data.path))
    selection = Selection([3])
    run_trainer(module, [selection])
    assert selection.done == [True] and selection.selected[0] < 20
    end, order = module.stack.state(), module.batches.state()
    looked = run_probe(module, selection)
    for name, value in module.stack.state().items():
        torch.testing.assert_close(value, end[name], rtol=0, atol=0)
    held_out = module.rows.masks[1, 0] > 0

    def val() -> float:
        wrong = predictions(module)[0, held_out] - module.rows.target[held_out]
        return float((wrong.double() ** 2).mean())

    module.batches.restore(order)
    module.stack.load(selection.state)
    high = val()
    shared = module.optimizer_settings.model_copy(update={"schedule": "one_cycle"})
    module.optimizer_settings, module.lr = shared, [0.03]
    run_trainer(module.train(), [], max_epochs=2, limit_val_batches=0)
    assert looked["unfinished/val"].item() == pytest.approx(1 - val() / high, abs=1e-5)
    assert 0.01 < looked["unfinished/val"].item() < 0.5


def test_stopped_in_its_look_ahead_a_stack_is_not_finished() -> None:
    done: list[int] = []
    with_stop = train_stack([member("network=linear")], done.append, lambda: len(done) == 10)
    (failure,) = [result.failure for result in with_stop]
    assert failure is not None and failure.killed
    assert "unfinished" not in with_stop[0].final


@pytest.mark.slow
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
