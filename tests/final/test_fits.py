"""Fitting again on rows that nobody holds out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bikefit.data.table import read_table
from bikefit.final import fits
from bikefit.final.choice import Choice
from bikefit.training import fit as training
from conftest import make_settings


def make_choice(*given: str, seeds: int = 1) -> Choice:
    small = ("network.hidden=[4]", "training.epochs=2", "training.batch_size=64")
    members = tuple(make_settings(*small, *given, f"seed={seed}") for seed in range(seeds))
    return Choice("s", "c", members, (1.0,) * seeds, runs=(), why="")


@pytest.fixture
def clean_hours(workplace: Path) -> pd.DataFrame:
    return pd.read_parquet("data/clean/hours.parquet")


def test_parts_are_those_of_the_table(clean_hours: pd.DataFrame) -> None:
    table = read_table(Path("data/features/full"))
    parts = fits.parts(table, clean_hours)
    for name, rows in parts.items():
        assert rows["rentals"].tolist() == table.read(name).target.tolist()  # type: ignore[arg-type]
    assert sum(map(len, parts.values())) == len(clean_hours)


def test_every_row_given_is_trained_on_and_no_other(
    clean_hours: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def spy(members: list[training.Member], pool: training.Pool) -> list[training.MemberResult]:
        seen.extend(members)
        results = training.fit_stack(members, pool)
        seen.append(results[0])
        return results

    monkeypatch.setattr(fits, "fit_stack", spy)
    table = read_table(Path("data/features/full"))
    given = fits.parts(table, clean_hours)["test"]
    ensemble = fits.fit(make_choice(seeds=3), table, given)[0]
    *members, first = seen
    assert [m.settings.seed for m in members] == [0, 1, 2]
    assert (first.train_rows, first.selected, len(first.metrics["val/loss"])) == (len(given), 2, 2)
    (stack,) = ensemble.stacks
    assert stack.mean == pytest.approx(given["rentals"].mean())
    position = ensemble.transformer.features.names.index("temperature")
    standardized = ensemble.transformer.transform(given)[:, position]
    assert (standardized.mean(), standardized.std()) == pytest.approx((0, 1), abs=1e-4)


@pytest.mark.parametrize("loss", ["poisson", "mse"])
def test_the_ensemble_predicts_what_its_members_predicted_in_training(
    clean_hours: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, loss: str
) -> None:
    results: list[training.MemberResult] = []
    monkeypatch.setattr(
        fits, "fit_stack", lambda *given: results.extend(training.fit_stack(*given)) or results
    )
    table = read_table(Path("data/features/full"))
    choice = make_choice(f"loss={loss}", "regularization.batch_norm=before", seeds=2)
    ensemble = fits.fit(choice, table, clean_hours)[0]
    day = clean_hours[clean_hours["timestamp"].isin(results[0].predictions[0])]
    for result, predicted in zip(results, ensemble.members(day), strict=True):
        wanted = result.predictions[2] if loss == "poisson" else result.predictions[2].clip(1)
        assert predicted == pytest.approx(wanted, rel=1e-4)
    assert not np.allclose(*ensemble.members(day))  # another seed, another network


@pytest.mark.slow
def test_networks_of_several_shapes_keep_their_weights(clean_hours: pd.DataFrame) -> None:
    table = read_table(Path("data/features/full"))
    wide, narrow = make_choice("network.hidden=[6]"), make_choice(seeds=2)
    first, second = narrow.members
    mixed = replace(narrow, members=(first, *wide.members, second), weights=(1.0, 5.0, 2.0))
    found = fits.fit(mixed, table, clean_hours)[0]
    # those of equal layers stand together, and their weights with them
    assert [len(stack.state["output.linear.bias"]) for stack in found.stacks] == [2, 1]
    assert found.weights == [1, 2, 5]
    day = clean_hours.iloc[:24]
    alone = [fits.fit(one, table, clean_hours)[0].members(day) for one in (narrow, wide)]
    assert found.members(day) == pytest.approx(np.concatenate(alone))
    mean = (alone[0][0] + 2 * alone[0][1] + 5 * alone[1][0]) / 8
    assert found.predict(day)[0] == pytest.approx(mean)
