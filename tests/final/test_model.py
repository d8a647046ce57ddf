"""The registered model: saved, loaded, asked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import lightgbm
import numpy as np
import pandas as pd
import pytest
import torch

from bikefit.data.features import Features
from bikefit.data.transformer import Transformer
from bikefit.errors import DataError
from bikefit.final.interval import Interval
from bikefit.final.model import Ensemble, Model, Networks, average, load
from bikefit.final.rows import InputStatistics
from bikefit.final.trees import FittedTrees
from bikefit.nn.networks import build
from bikefit.nn.specs import mlp
from bikefit.nn.stacking import Stack

FEATURES = Features(one_hot=("weather",), standardized=("temperature",), plain=("working_day",))
ROWS = pd.DataFrame({"temp": [21, 12, 3], "humidity": [60, 70, 80], "windspeed": [12, 0, 6]})
ROWS["at"] = ["2012-10-05T17:00", "2012-10-06T03:00", "2012-10-06T04:00"]
ROWS["weather"] = ["clear", "mist", "clear"]


def make_networks(width: int, loss: str, members: int, batch_norm: str, hidden: int) -> Networks:
    specs = mlp(width, (hidden,), "relu", batch_norm, "inverted")
    networks = []
    for seed in range(members):
        torch.manual_seed(seed)
        network = build(specs, width)
        network(torch.randn(64, width))  # in training mode: running averages move
        for layer in network.dropouts().values():
            layer.p.fill_(0.5)
        networks.append(network)
    state = {name: value.numpy() for name, value in Stack(networks).state().items()}
    layers = [{"name": s.name, "_target_": s.target, **s.args} for s in specs]
    return Networks(layers, state, loss, 180.0, 170.0)  # type: ignore[arg-type]


def make_model(loss: str = "poisson", members: int = 3, batch_norm: str = "before") -> Model:
    """Networks of two shapes: some of 8 units, and one of 5 that counts twice."""
    fitted = Transformer(FEATURES, np.datetime64("2011-01-01"), (15.0,), (8.0,))
    width = len(FEATURES.names)
    stacks = [
        make_networks(width, loss, members, batch_norm, hidden=8),
        make_networks(width, loss, 1, "none", hidden=5),
    ]
    ensemble = Ensemble(fitted, stacks, [1.0] * members + [2.0])
    statistics = InputStatistics("2011-01-01", "2012-12-31", 0.0, (0.0, 1.0, 0.0, 0.0))
    return Model(ensemble, Interval(0.05, 2.0, 0.05, 0.95), statistics)


def test_average_is_weighted() -> None:
    members = np.array([[1.0, 4.0], [4.0, 4.0]])
    mean, spread = average(members, [2, 1])
    assert mean.tolist() == [2, 4]
    # Σ w (x - 2)² / (1 - Σ w²) with weights 2/3 and 1/3: 2 / (4/9)
    assert spread == pytest.approx([4.5**0.5, 0])
    equal = average(members, [3, 3])[1]
    assert equal == pytest.approx(members.std(axis=0, ddof=1))
    assert average(members, [0, 7])[1].tolist() == [0, 0]


def test_the_bounds_are_whole_numbers_around_the_expected_rentals() -> None:
    answers = make_model().predict(ROWS)
    assert list(answers) == ["expected", "low", "high", "error"]
    assert (answers["error"] == "").all()
    assert (answers["low"] < answers["expected"]).all()
    assert (answers["expected"] < answers["high"]).all()
    assert (answers[["low", "high"]] % 1 == 0).all(axis=None)


def test_members_are_the_stacked_networks() -> None:
    model = make_model(members=2)
    hours = pd.DataFrame({"weather": ["mist"], "temperature": [23.0], "working_day": [True]})
    features = torch.tensor([[0.0, 1, 0, 0, 1, 1]])
    members = model.ensemble.members(hours)
    assert members.shape == (3, 1)
    for m, rentals in enumerate(members[:2]):
        network = build(mlp(6, (8,), "relu", "before", "inverted"), 6).eval()
        state = {k: torch.from_numpy(v)[m] for k, v in model.ensemble.stacks[0].state.items()}
        network.load_state_dict(state, strict=False)
        assert rentals[0] == pytest.approx(180 * network(features).exp().item(), rel=1e-5)
    mean, _ = model.ensemble.predict(hours)
    assert mean == pytest.approx((members[0] + members[1] + 2 * members[2]) / 4)


def test_predictions_do_not_depend_on_other_rows_or_on_saving(tmp_path: Path) -> None:
    model = make_model()
    model.save(tmp_path / "model")
    together = load(tmp_path / "model").predict(ROWS)
    pd.testing.assert_frame_equal(together, model.predict(ROWS), rtol=0, atol=0)
    alone = pd.concat([model.predict(ROWS.iloc[[i]]) for i in range(3)])
    pd.testing.assert_frame_equal(together, alone, rtol=1e-12)


def test_trees_are_saved_with_the_networks(tmp_path: Path) -> None:
    given = make_model()
    hour = np.arange(48) % 24
    stump = lightgbm.LGBMRegressor(n_estimators=1, num_leaves=2, verbose=-1)
    stump.fit(pd.DataFrame({"hour": hour}), np.where(hour < 12, 100.0, 300.0))
    fitted = FittedTrees(stump.booster_.model_to_string(), ["hour"], "2011-01-01")
    model = replace(given, ensemble=given.ensemble.with_trees(fitted, 0.5))
    model.save(tmp_path)
    answers = load(tmp_path).predict(ROWS)
    pd.testing.assert_frame_equal(answers, model.predict(ROWS), rtol=0, atol=0)
    trees = stump.predict(pd.DataFrame({"hour": [17, 3, 4]}))
    expected = (given.predict(ROWS)["expected"] + trees) / 2
    assert answers["expected"].tolist() == pytest.approx(expected.tolist())


def test_an_invalid_row_does_not_affect_the_others() -> None:
    answers = make_model().predict(ROWS.assign(weather=["clear", "sunny", "clear"]))
    assert answers["expected"].isna().tolist() == [False, True, False]
    assert answers["error"].str.contains("sunny").tolist() == [False, True, False]
    valid = make_model().predict(ROWS)
    assert answers["expected"].iloc[[0, 2]].tolist() == valid["expected"].iloc[[0, 2]].tolist()
    none = make_model().predict(ROWS.drop(columns="temp"))
    assert none["expected"].isna().all() and none["error"].str.startswith("temp: missing").all()


def test_the_squared_loss_predicts_at_least_one_bike() -> None:
    model = make_model("mse", batch_norm="none")
    for stack in model.ensemble.stacks:
        stack.state["output.linear.bias"] -= 100
    assert (model.predict(ROWS)["expected"] == 1).all()


def test_other_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a model of bikefit"):
        load(tmp_path)
    make_model().save(tmp_path)
    text = (tmp_path / "model.json").read_text().replace("bikefit model 2", "bikefit model 9")
    (tmp_path / "model.json").write_text(text)
    with pytest.raises(DataError, match="its format is 'bikefit model 9'"):
        load(tmp_path)
