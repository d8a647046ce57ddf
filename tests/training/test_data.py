"""Rows, folds and batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from bikefit.config import ConfigError
from bikefit.data.features import Features
from bikefit.data.featurize import write_table
from bikefit.data.sources import Source
from bikefit.data.table_params import SplitParams
from bikefit.training.data import Batches, Rows
from bikefit.training.evaluation import constant_losses, train_losses
from bikefit.training.folds import Fold, Pool, read_pool
from bikefit.training.module import StackModule
from conftest import make_settings

pytestmark = pytest.mark.usefixtures("workplace")
FULL = Path("data/features/full")


def test_a_last_batch_of_fewer_rows_is_omitted() -> None:
    batches = Batches([(0, torch.arange(9))], batch_size=4)
    assert len(batches) == 2
    epochs = [torch.cat(list(batches), dim=1) for _ in range(20)]
    for epoch in epochs:
        assert epoch.shape == (1, 8)
        assert len(epoch.unique()) == 8  # every row at most once
    omitted = {*range(9)} - set.intersection(*({*e[0].tolist()} for e in epochs))
    assert len(omitted) > 3  # a different row in each epoch


def test_fewer_rows_than_the_batch_size_form_one_batch() -> None:
    (batch,) = Batches([(0, torch.arange(5)), (1, torch.arange(5, 10))], batch_size=64)
    assert batch.shape == (2, 5)
    assert batch[0].sort().values.tolist() == [0, 1, 2, 3, 4]
    assert batch[1].sort().values.tolist() == [5, 6, 7, 8, 9]


def test_the_order_of_rows_depends_on_the_seed_only() -> None:
    def order(seed: int, *others: int) -> torch.Tensor:
        streams = [(s, torch.arange(50)) for s in (*others, seed)]
        return torch.cat(list(Batches(streams, 8)), dim=1)[-1]

    assert torch.equal(order(3), order(3, 1, 2))
    assert not torch.equal(order(3), order(4))


HOURS = pd.DataFrame({"rentals": np.arange(480) % 50 + 1, "x": np.arange(480.0)})
HOURS["timestamp"] = pd.date_range("2011-01-01", periods=480, freq="h")


def write(root: Path, hours: pd.DataFrame) -> None:
    """Write or replace the table `custom`."""
    split_params = SplitParams(kind="days", seed=0, validation=0.2, test=0.2)
    write_table(root / "custom", Source(hours, "rentals"), Features(plain=("x",)), split_params)


def test_a_table_that_changed_is_read_again_without_its_test_rows(tmp_path: Path) -> None:
    write(tmp_path, HOURS)
    assert len(read_pool(tmp_path / "custom").target) == 384
    write(tmp_path, HOURS.assign(x=-HOURS["x"]).iloc[:240])
    (tmp_path / "custom/test.parquet").unlink()
    pool = read_pool(tmp_path / "custom")
    assert (len(pool.target), pool.train_rows) == (192, 144)
    assert pool.features.max() == 0


def test_folds_cover_the_pool_once() -> None:
    settings = make_settings("validation=kfold", "validation.folds=4")
    pool = read_pool(settings.data.path)
    held_out = np.concatenate([fold.validation for fold in pool.folds(settings)])
    assert sorted(held_out) == [*range(len(pool.target))]
    for fold in pool.folds(settings):
        days = [set(pool.keys[rows].astype("M8[D]")) for rows in (fold.train, fold.validation)]
        assert not days[0] & days[1]  # folds have the kind of split of the table


def test_a_fraction_applies_to_training_rows_only() -> None:
    pool = read_pool(FULL)
    whole, half = (pool.folds(make_settings(f"data.fraction={f}"))[0] for f in (1.0, 0.5))
    assert set(half.train) < set(whole.train)
    assert len(half.train) == pytest.approx(len(whole.train) / 2, abs=24)  # whole days
    assert np.array_equal(half.validation, whole.validation)
    settings = make_settings("data=lecture", "data.fraction=0.001")
    with pytest.raises(ConfigError, match=r"1 training and 48 validation rows \(data.fraction"):
        read_pool(settings.data.path).folds(settings)


def test_training_sets_are_drawn_with_replacement_and_share_the_validation_rows() -> None:
    pool = read_pool(FULL)
    sets = pool.folds(make_settings("validation=resample", "validation.sets=3"))
    days = pool.keys[: pool.train_rows].astype("M8[D]")
    assert len(sets) == 3
    for number, drawn in enumerate(sets):
        assert drawn.restandardize
        assert np.array_equal(drawn.validation, np.arange(pool.train_rows, len(pool.target)))
        unique = np.unique(days)
        expected = np.random.default_rng((pool.split_seed, number)).integers(len(unique), size=24)
        assert sorted(days[drawn.train]) == sorted(np.repeat(unique[expected], 24))
    small = pool.folds(make_settings("validation=resample", "data.fraction=0.25"))
    assert [len(drawn.train) for drawn in small] == [6 * 24] * 20
    # a fraction is the size of a set: the sets together have more days than it
    assert len(np.unique(days[np.concatenate([drawn.train for drawn in small])])) == 24


def test_a_row_counts_as_often_as_it_was_drawn() -> None:
    pool = read_pool(FULL)
    drawn = Fold(np.array([0, 0, 0, 1]), np.array([2, 3]), restandardize=True)
    rows = Rows(pool, [drawn])
    assert rows.masks.tolist() == [[[3, 1, 0, 0]], [[0, 0, 1, 1]]]
    assert rows.counts.tolist() == [[4], [2]]
    assert rows.epoch_masks[0].sum() == 2  # as many as validation rows
    target = pool.target
    assert rows.target_mean.item() == pytest.approx((3 * target[0] + target[1]) / 4)
    module = StackModule([make_settings("network=linear")], rows)
    with torch.no_grad():  # a constant prediction
        for parameter in module.stack.parameters():
            parameter.zero_()
    losses = module.loss.rows(torch.zeros(2), torch.from_numpy(target[:2]))[0]
    expected = (3 * losses[0] + losses[1]).item() / 4
    assert module.measure(rows.masks)["train/loss"].item() == pytest.approx(expected)
    assert train_losses(module).item() == pytest.approx(expected)
    assert constant_losses(module)["constant/train/loss"].item() == pytest.approx(expected)


def test_a_loss_that_does_not_suit_the_target_is_refused() -> None:
    def refuse(target: list[float], message: str, *overrides: str) -> None:
        rows = np.zeros((len(target), 1), np.float32)
        keys = np.arange(len(target))
        pool = Pool(rows, np.array(target, np.float32), keys, keys, 4)
        with pytest.raises(ConfigError, match=message):
            pool.folds(make_settings(*overrides))

    refuse([1, 2, 3, 4, -5], "loss=poisson does not suit table .*: it needs .* -5", "loss=poisson")
    refuse([0, 1, 1, 0, 2], "it needs a target of 0 and 1, but there is 2", "loss=bernoulli")
    refuse([0, 0, 0, 0, 1], "both 0 and 1, all are 0 in 4 training rows", "loss=bernoulli")


def test_statistics_are_those_of_the_training_rows_of_the_fold() -> None:
    settings = make_settings("validation=kfold", "validation.folds=3")
    pool = read_pool(settings.data.path)
    folds = pool.folds(settings)
    rows = Rows(pool, folds)
    column = pool.standardized[0]
    for m, fold in enumerate(folds):
        every = torch.arange(len(pool.target)).unsqueeze(0)
        values = rows.read(every, torch.tensor([m]), torch.tensor([0]))
        assert isinstance(values, torch.Tensor)
        train = values[fold.train, column].double()
        assert train.mean().item() == pytest.approx(0, abs=1e-5)
        assert train.std(correction=0).item() == pytest.approx(1, abs=1e-5)
        untouched = [c for c in range(values.shape[1]) if c not in pool.standardized]
        assert torch.equal(values[:, untouched], torch.from_numpy(pool.features[:, untouched]))
        target = pool.target[fold.train]
        assert rows.target_mean[m].item() == pytest.approx(target.mean(), rel=1e-5)
        assert rows.target_std[m].item() == pytest.approx(target.std(), rel=1e-5)
