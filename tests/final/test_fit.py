"""Networks are fitted on all of the rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bikefit.config import Settings
from bikefit.data.table import PartName
from bikefit.data.transformer import Transformer
from bikefit.final import fit
from bikefit.final.data import read_data
from bikefit.training import fit as training
from conftest import SMALL, make_settings

Parts = Mapping[PartName, pd.DataFrame]
Results = list[training.MemberResult]


def make_members(*overrides: str, seeds: int = 1) -> list[Settings]:
    return [make_settings(*SMALL, *overrides, f"seed={seed}") for seed in range(seeds)]


@pytest.fixture
def parts(workplace: Path) -> Parts:
    return read_data(Path("data/features/full")).parts


@pytest.fixture
def transformer() -> Transformer:
    return Transformer.load(Path("data/features/full/transformer.json"))


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Results:
    """The results of all members that are trained."""
    results: Results = []

    def fit_stack(*arguments: Any) -> Results:
        results.extend(training.fit_stack(*arguments))
        return results

    monkeypatch.setattr(fit, "fit_stack", fit_stack)
    return results


def test_all_rows_are_trained_on_for_the_given_epochs(
    parts: Parts, transformer: Transformer, trained: Results
) -> None:
    given = parts["test"]
    ensemble = fit.fit_networks(make_members(seeds=3), transformer, given, "rentals")
    assert {result.train_rows for result in trained} == {len(given)}
    assert {(r.selected, len(r.metrics["val/loss"])) for r in trained} == {(2, 2)}
    means = [network.mean for network in ensemble.networks]
    assert means == pytest.approx([given["rentals"].mean()] * 3)
    position = ensemble.transformer.names.index("temperature")
    standardized = ensemble.transformer.transform(given)[:, position]
    assert (standardized.mean(), standardized.std()) == pytest.approx((0, 1), abs=1e-4)


@pytest.mark.parametrize("loss", ["poisson", "mse"])
def test_networks_predict_as_they_did_in_training(
    parts: Parts, transformer: Transformer, trained: Results, loss: str
) -> None:
    members = make_members(f"loss={loss}", "regularization.batch_norm=before", seeds=2)
    hours = parts["train"]
    ensemble = fit.fit_networks(members, transformer, hours, "rentals")
    day = hours.iloc[:24]
    for result, predicted in zip(trained, ensemble.predict_each(day), strict=True):
        expected = result.predictions["predicted"]
        assert predicted == pytest.approx(expected, rel=1e-4)
    assert not np.allclose(*ensemble.predict_each(day))  # other seeds


@pytest.mark.slow
def test_networks_of_several_shapes_keep_their_order(
    parts: Parts, transformer: Transformer
) -> None:
    (wide,), (first, second) = make_members("network.hidden=[6]"), make_members(seeds=2)
    hours, day = parts["train"], parts["train"].iloc[:24]
    ensemble = fit.fit_networks([first, wide, second], transformer, hours, "rentals")
    pair = fit.fit_networks([first, second], transformer, hours, "rentals").predict_each(day)
    alone = fit.fit_networks([wide], transformer, hours, "rentals").predict_each(day)
    assert ensemble.predict_each(day) == pytest.approx(np.stack([pair[0], alone[0], pair[1]]))
