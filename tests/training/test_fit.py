"""A stack of M members equals M stacks of one, and a training loop in plain torch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, log_loss, mean_poisson_deviance, roc_auc_score
from torch.nn import functional

import pretended
from bikefit.config import Regularization, Settings
from bikefit.nn import sparse
from bikefit.nn.randomness import derive, generator
from bikefit.training.fit import fit_stack
from bikefit.training.folds import Pool, read_pool
from bikefit.training.members import Member, MemberResult, stack_key
from bikefit.training.strengths import make_network
from conftest import make_settings, train_stack

pytestmark = pytest.mark.usefixtures("workplace")
SMALL = (
    "network.hidden=[8,6] training.epochs=4 training.batch_size=32 "
    "optimizer.schedule=constant optimizer.lr=1e-3 "
)


def settings(overrides: str) -> Settings:
    """Return settings with the given overrides, separated by spaces."""
    return make_settings(*(SMALL + overrides).split())


def key_of(member: Member) -> str:
    return stack_key(member, read_pool(member.settings.data.path))


def assert_equal(result: MemberResult, expected: MemberResult) -> None:
    assert result.selected == expected.selected
    assert result.metrics.keys() >= {"train/loss", "val/loss", "train/penalty"}
    for name, values in expected.metrics.items():
        np.testing.assert_allclose(result.metrics[name], values, rtol=2e-4, err_msg=name)
    for name, value in expected.state.items():
        np.testing.assert_allclose(result.state[name], value, rtol=1e-3, atol=2e-4, err_msg=name)


STACKS = {
    "strengths": [
        "",
        "seed=3",
        "optimizer.lr=1e-2",
        "regularization.l1=1e-3",
        "regularization.l2=1e-2",
        "regularization.dropout=0.4",
        "regularization.weight_decay=0.1",
        "regularization.lp=0.01 regularization.layers.hidden1.l2=0.1",
        "regularization.layers.input.dropout=0.2 regularization.on=weights",
    ],
    "batch_norm": ["", "seed=1", "regularization.dropout=0.3", "regularization.l1=0.01"],
    "momentum": ["", "seed=2", "optimizer.lr=1e-5", "regularization.weight_decay=1"],
    "adamw": ["", "optimizer.lr=3e-3", "regularization.weight_decay=0.5"],
    "early_stopping": [f"regularization.patience={p} seed={s}" for p in (1, 3) for s in (0, 1)],
    "proximal": ["", "regularization.l1=0.3", "regularization.l1=0.3 optimizer.lr=0.01"],
    "averaged": ["", "seed=1", "optimizer.lr=0.01"],
    "folds": ["validation.folds=4 data=lecture"],
    "folds of unequal size": ["validation.folds=3 training.batch_size=200"],
    "training sets": ["", "regularization.l2=0.01"],
}
SHARED = {
    # A column of one value in a batch (December in January) has no gradient under batch norm, and
    # Adam would blow rounding errors up to full steps: this table has none.
    "batch_norm": "data=lecture_raw regularization.batch_norm=before",
    "momentum": "optimizer=sgd optimizer.lr=1e-4 optimizer.momentum=0.9",
    "adamw": "optimizer=adamw",
    "early_stopping": "training.epochs=12 optimizer.lr=0.05",
    "proximal": "regularization.proximal=true optimizer.schedule=one_cycle",
    "averaged": "loss=mse data.fraction=0.5 regularization.dropout=0.3 regularization.averaged=3",
    "folds": "validation=kfold",
    "folds of unequal size": "validation=kfold",
    "training sets": "validation=resample validation.sets=3 data.fraction=0.5",
}


def members_of(name: str, more: str = "") -> list[Member]:
    shared = SHARED.get(name, "")
    return in_each_fold(settings(f"{shared} {overrides} {more}") for overrides in STACKS[name])


def in_each_fold(configs: Iterable[Settings]) -> list[Member]:
    members = []
    for config in configs:
        crossed = config.validation.name != "holdout"
        folds = range(config.validation.networks) if crossed else [None]
        members += [Member(config, fold) for fold in folds]
    return members


@pytest.mark.slow
@pytest.mark.parametrize("name", STACKS)
def test_a_stack_equals_its_members_trained_alone(name: str) -> None:
    members = members_of(name)
    assert len({key_of(member) for member in members}) == 1
    together = train_stack(members)
    for member, result in zip(members, together, strict=True):
        assert_equal(result, train_stack([member])[0])
    assert len({float(r.metrics["val/loss"][-1]) for r in together}) == len(members)


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        "data=rich regularization.l1=0.1 regularization.dropout=0.3",
        "data.fraction=0.5 regularization.l2=0.1 optimizer=adamw regularization.weight_decay=1",
        "validation=kfold validation.folds=3 regularization.l1=0.1 regularization.proximal=true",
        "regularization.batch_norm=before optimizer=sgd regularization.averaged=3",
    ],
)
def test_sparse_rows_train_the_same_networks(
    overrides: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = in_each_fold(
        settings(f"{overrides} training.epochs=2 seed={seed}") for seed in (0, 1)
    )
    results = train_stack(members)
    monkeypatch.setattr(sparse, "DENSEST", 0.0)
    for result, dense in zip(results, train_stack(members), strict=True):
        assert_equal(result, dense)


DEVICES = ["strengths", "batch_norm", "early_stopping", "proximal", "averaged", "folds"]
FEW_STEPS = "training.epochs=2 training.probe=0.5 training.batch_size=128"


@pytest.mark.slow
@pytest.mark.parametrize("name", DEVICES)
def test_results_do_not_depend_on_the_device(name: str) -> None:
    members = members_of(name, FEW_STEPS)
    on_cpu = train_stack(members)
    with pretended.training():
        on_device = train_stack(members)
    for one, other in zip(on_device, on_cpu, strict=True):
        assert_equal(one, other)
        # a difference of two nearly equal losses
        unfinished = [result.final.pop("unfinished", None) for result in (one, other)]
        assert unfinished[0] == pytest.approx(unfinished[1], abs=2e-3)
        assert one.final == pytest.approx(other.final, rel=1e-4)
        np.testing.assert_allclose(
            one.predictions["predicted"], other.predictions["predicted"], rtol=1e-3
        )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("name", DEVICES)
def test_results_on_a_gpu_equal_those_on_the_cpu(name: str) -> None:
    on_gpu = train_stack(members_of(name, f"{FEW_STEPS} trainer.accelerator=gpu"))
    on_cpu = train_stack(members_of(name, FEW_STEPS))
    for one, other in zip(on_gpu, on_cpu, strict=True):
        assert_equal(one, other)


def test_early_stopping_stops_members_at_different_epochs() -> None:
    members = members_of("early_stopping")
    results = train_stack(members)
    for member, result in zip(members, results, strict=True):
        losses = result.metrics["val/loss"]
        patience = member.settings.regularization.patience
        assert result.selected == int(np.argmin(losses)) + 1
        assert len(losses) == min(result.selected + patience, 12)
    assert len({len(result.metrics["val/loss"]) for result in results}) > 1


def test_without_patience_the_last_epoch_is_selected() -> None:
    (result,) = train_stack([Member(settings("optimizer.lr=0.05 training.epochs=12"))])
    assert result.selected == 12 != int(np.argmin(result.metrics["val/loss"])) + 1


def test_a_member_that_diverges_fails_without_the_others() -> None:
    diverging = Member(settings("optimizer=sgd optimizer.lr=1e10"))
    stable = Member(settings("optimizer=sgd optimizer.lr=1e-5"))
    results = train_stack([diverging, stable])
    assert "in epoch 1" in results[0].failure
    assert not results[1].failure
    assert_equal(results[1], train_stack([stable])[0])


def test_predictions_and_constant_losses_are_those_of_the_fold() -> None:
    folds = settings("data=lecture validation=kfold validation.folds=3")
    pool = read_pool(folds.data.path)
    results = train_stack([Member(folds, fold) for fold in range(3)])
    for fold, result in zip(pool.folds(folds), results, strict=True):
        assert (result.train_rows, result.val_rows) == (len(fold.train), len(fold.validation))
        times, rentals, predicted = result.predictions.values()
        order = np.argsort(pool.keys[fold.validation])
        assert np.array_equal(times, pool.keys[fold.validation][order])
        assert np.array_equal(rentals, pool.target[fold.validation][order])
        deviance = mean_poisson_deviance(rentals, predicted)
        assert result.metrics["val/deviance"][-1] == pytest.approx(deviance, rel=1e-4)
        constant = np.full(len(fold.validation), pool.target[fold.train].mean())
        expected = mean_poisson_deviance(pool.target[fold.validation], constant) / 2
        assert result.final["constant/val/loss"] == pytest.approx(expected, rel=1e-5)


def plain_loop(chosen: Settings, pool: Pool) -> dict[str, torch.Tensor]:
    """Train the same network in float64 with torch's functions and optimizers."""
    (fold,) = pool.folds(chosen)
    x, y = torch.from_numpy(pool.features).double(), torch.from_numpy(pool.target).double()
    train = torch.from_numpy(fold.train)
    network = make_network(chosen, x.shape[1]).double()
    r, p = chosen.regularization, dict(network.named_parameters())
    optimizers = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
    extra = {"momentum": chosen.optimizer.momentum} if chosen.optimizer.name == "sgd" else {}
    optimizer = optimizers[chosen.optimizer.name](
        p.values(), lr=chosen.optimizer.lr, weight_decay=r.weight_decay, **extra
    )
    steps = chosen.training.epochs * (len(train) // 32)
    one_cycle = chosen.optimizer.schedule == "one_cycle"
    if one_cycle:
        cycle = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, chosen.optimizer.lr, steps, cycle_momentum=chosen.optimizer.name != "sgd"
        )
    order = generator(chosen.seed, "order of rows")
    noise = {
        k: np.random.SFC64(derive(chosen.seed, f"dropout {k}.dropout"))
        for k in ("hidden1", "hidden2")
    }
    for _ in range(chosen.training.epochs):
        shuffled = train[torch.randperm(len(train), generator=order)]
        for step in range(len(train) // 32):
            rows = shuffled[32 * step : 32 * step + 32]
            f = plain_forward(x[rows], p, r, noise)
            loss = functional.poisson_nll_loss(f + y[train].mean().log(), y[rows])
            optimizer.zero_grad()
            (loss + plain_penalty(p, r)).backward()
            optimizer.step()
            if r.proximal:
                for value in p.values():
                    t = r.l1 * optimizer.param_groups[0]["lr"]
                    value.data = torch.where(value > t, value - t, 0) + torch.where(
                        value < -t, value + t, 0
                    )
            if one_cycle:
                cycle.step()
    return {name: value.detach() for name, value in p.items()}


def plain_forward(
    h: torch.Tensor, p: dict[str, torch.Tensor], r: Regularization, noise: dict[str, Any]
) -> torch.Tensor:
    for block in ("hidden1", "hidden2"):
        h = functional.linear(h, p[f"{block}.linear.weight"], p.get(f"{block}.linear.bias"))
        if r.batch_norm == "before":
            h = (h - h.mean(0)) / (h.var(0, unbiased=False) + 1e-5).sqrt()
            h = h * p[f"{block}.batch_norm.weight"] + p[f"{block}.batch_norm.bias"]
        h = functional.gelu(h)
        if r.dropout:
            drawn = noise[block].random_raw(h.numel() // 4).view(np.int16).reshape(h.mT.shape).T
            h = h * torch.from_numpy(drawn / 2**16 + 0.5 >= r.dropout)
            if r.dropout_scaling == "inverted":
                h = h / (1 - r.dropout)
    return functional.linear(h, p["output.linear.weight"], p["output.linear.bias"])[:, 0]


def plain_penalty(p: dict[str, torch.Tensor], r: Regularization) -> torch.Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for name, value in p.items():
        if r.on == "weights" and not name.endswith("linear.weight"):
            continue
        layer = r.layers.get(name.split(".")[0])
        l2 = r.l2 if layer is None or layer.l2 is None else layer.l2
        l1, sizes = 0 if r.proximal else r.l1, value.abs()
        total = total + l1 * sizes.sum() + l2 * (value**2).sum()
        if r.lp:
            total = total + r.lp * (sizes**r.p_norm).sum()
    return total


@pytest.mark.parametrize(
    "overrides",
    [
        "regularization.l1=1e-2 regularization.l2=1e-2 regularization.dropout=0.3",
        "regularization.batch_norm=before regularization.dropout=0.3 regularization.l2=1e-2",
        "optimizer=sgd optimizer.lr=1e-5 optimizer.momentum=0.9 regularization.weight_decay=0.1",
        "optimizer=sgd optimizer.lr=1e-5 optimizer.momentum=0.9 optimizer.schedule=one_cycle",
        "optimizer=adamw regularization.weight_decay=1",
        "regularization.lp=0.1 regularization.p_norm=1.5 regularization.on=weights",
        "optimizer=sgd optimizer.lr=1e-4 regularization.l1=1 regularization.proximal=true",
        "regularization.l2=0.1 regularization.layers.hidden1.l2=1",
        "regularization.dropout=0.3 regularization.dropout_scaling=lecture "
        "optimizer.schedule=one_cycle",
    ],
)
def test_a_stack_equals_a_plain_loop(overrides: str) -> None:
    chosen, other = (
        settings(f"{overrides} network.hidden=[4,3] training.epochs=2 {seed}")
        for seed in ("", "seed=5")
    )
    result = train_stack([Member(other), Member(chosen)])[1]
    pool = read_pool(chosen.data.path)
    expected = plain_loop(chosen, pool)
    assert result.parameters == sum(value.numel() for value in expected.values())
    for name, value in expected.items():
        np.testing.assert_allclose(result.state[name], value, rtol=2e-3, atol=5e-5, err_msg=name)


def pool_of(data: Any) -> Pool:
    """Return standardized rows of a data set of scikit-learn; a fifth of them for validation."""
    features = (data.data - data.data.mean(0)) / data.data.std(0)
    rows = np.random.default_rng(0).permutation(len(features))
    keys, train = np.arange(len(rows)), len(rows) * 4 // 5
    return Pool(features[rows].astype("f4"), data.target[rows].astype("f4"), keys, keys, train)


def fit_linear(pool: Pool, loss: str, penalty: float) -> MemberResult:
    """Train a linear network with an L2 penalty of its weights until it has converged."""
    overrides = f"network=linear loss={loss} regularization.l2={penalty} regularization.on=weights"
    overrides += " training.epochs=600 training.batch_size=1000 training.probe=0"
    (result,) = fit_stack([Member(make_settings(*overrides.split()))], pool)
    return result


@pytest.mark.slow(seconds=3)
@pytest.mark.parametrize("alpha", [10.0, 100.0])
def test_a_linear_network_is_ridge_regression(alpha: float) -> None:
    pool = pool_of(load_diabetes())
    train, held_out = slice(pool.train_rows), slice(pool.train_rows, None)
    result = fit_linear(pool, "mse", alpha / pool.train_rows)
    ridge = Ridge(alpha=alpha).fit(pool.features[train], pool.target[train])
    expected = ridge.predict(pool.features[held_out])
    np.testing.assert_allclose(result.predictions["predicted"], expected, atol=0.2)
    rmse = np.sqrt(np.mean((expected - pool.target[held_out]) ** 2))
    assert result.metrics["val/rmse"][-1] == pytest.approx(rmse, rel=1e-4)


@pytest.mark.slow(seconds=3)
@pytest.mark.parametrize("strength", [0.01, 0.1])
def test_a_linear_network_is_logistic_regression(strength: float) -> None:
    pool = pool_of(load_breast_cancer())
    train, held_out = slice(pool.train_rows), slice(pool.train_rows, None)
    result = fit_linear(pool, "bernoulli", 1 / (2 * strength * pool.train_rows))
    regression = LogisticRegression(C=strength, tol=1e-8, max_iter=1000)
    regression.fit(pool.features[train].astype(float), pool.target[train])
    probability = regression.predict_proba(pool.features[held_out])[:, 1]
    target = pool.target[held_out]
    np.testing.assert_allclose(result.predictions["predicted"], probability, atol=1e-3)
    assert result.metrics["val/loss"][-1] == pytest.approx(log_loss(target, probability), rel=1e-3)
    assert result.metrics["val/accuracy"][-1] == pytest.approx(
        accuracy_score(target, probability > 0.5)
    )
    assert result.final["best/val/auc"] == pytest.approx(roc_auc_score(target, probability))
    constant = log_loss(target, np.full(len(target), pool.target[train].mean()))
    assert result.final["constant/val/loss"] == pytest.approx(constant, rel=1e-5)
    assert not {"val/rmse", "val/deviance"} & set(result.metrics)
