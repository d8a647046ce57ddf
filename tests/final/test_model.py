"""The registered model: averages, intervals, files and errors."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from bikefit.data.bikes.baselines import tree_columns
from bikefit.data.bikes.columns import WEATHER
from bikefit.data.bikes.rows import InputStatistics
from bikefit.data.features import Features
from bikefit.data.inputs import table_inputs
from bikefit.data.transformer import Transformer
from bikefit.errors import DataError
from bikefit.final.interval import CountInterval, ResidualInterval
from bikefit.final.model import Ensemble, Model, load, mean_and_spread
from bikefit.final.trees import TunedTrees
from bikefit.nn.fitted import FittedNetwork
from bikefit.nn.networks import build
from bikefit.nn.specs import mlp
from bikefit.nn.stacking import Stack

FEATURES = Features(one_hot=("weather",), standardized=("temperature",), plain=("working_day",))
ROWS = pd.DataFrame({"temp": [21, 12, 3], "humidity": [60, 70, 80], "windspeed": [12, 0, 6]})
ROWS["at"] = ["2012-10-05T17:00", "2012-10-06T03:00", "2012-10-06T04:00"]
ROWS["weather"] = ["clear", "mist", "clear"]


def make_network(width: int, loss: str, batch_norm: str, hidden: int, seed: int) -> FittedNetwork:
    specs = mlp(width, (hidden,), "relu", batch_norm, "inverted")
    torch.manual_seed(seed)
    network = build(specs, width)
    network(torch.randn(64, width))  # in training mode: running averages move
    for layer in network.dropouts.values():
        layer.p.fill_(0.5)
    state = {name: value[0].numpy() for name, value in Stack([network]).state().items()}
    layers = [{"name": s.name, "_target_": s.target, **s.args} for s in specs]
    return FittedNetwork(layers, state, loss, 180.0, 170.0)  # type: ignore[arg-type]


def make_model(loss: str = "poisson", batch_norm: str = "before") -> Model:
    """Networks of two shapes."""
    categories = {"weather": tuple(WEATHER.values())}
    fitted = Transformer(
        features=FEATURES,
        categories=categories,
        periods={},
        start=date(2011, 1, 1),
        mean={"temperature": 15.0},
        scale={"temperature": 8.0},
    )
    width = len(fitted.names)
    networks = [
        make_network(width, loss, batch_norm, hidden, seed) for seed, hidden in enumerate((8, 8, 5))
    ]
    statistics = InputStatistics("2011-01-01", "2012-12-31", 0.0, (0.0, 1.0, 0.0, 0.0))
    interval = CountInterval(0.05, 2.0, 0.05, 0.95)
    return Model(Ensemble(fitted, networks), interval, statistics, "rentals", "bikes/hour")


def test_average_of_networks_and_trees() -> None:
    members = np.array([[1.0, 4.0], [4.0, 4.0]])
    mean, spread = mean_and_spread(members)
    assert mean.tolist() == [2.5, 4]
    assert spread == pytest.approx([4.5**0.5, 0])
    with_trees = mean_and_spread(members, np.array([6.5, 0.0]), 0.25)
    assert with_trees[0].tolist() == [3.5, 3]
    assert with_trees[1].tolist() == spread.tolist()
    assert mean_and_spread(members[:1])[1].tolist() == [0, 0]


def test_the_bounds_are_whole_numbers_around_the_expected_rentals() -> None:
    answers = make_model().predict(ROWS)
    assert list(answers) == ["expected", "low", "high", "error"]
    assert (answers["error"] == "").all()
    assert (answers["low"] < answers["expected"]).all()
    assert (answers["expected"] < answers["high"]).all()
    assert (answers[["low", "high"]] % 1 == 0).all(axis=None)


def test_members_are_the_networks_in_evaluation_mode() -> None:
    model = make_model()
    hours = pd.DataFrame({"weather": ["mist"], "temperature": [23.0], "working_day": [True]})
    features = torch.tensor([[0.0, 1, 0, 0, 1, 1]])
    members = model.ensemble.predict_each(hours)
    assert members.shape == (3, 1)
    for rentals, fitted, hidden in zip(members, model.ensemble.networks, (8, 8, 5), strict=True):
        network = build(mlp(6, (hidden,), "relu", "before", "inverted"), 6).eval()
        state = {k: torch.from_numpy(v) for k, v in fitted.state.items()}
        network.load_state_dict(state, strict=False)
        assert rentals[0] == pytest.approx(180 * network(features).exp().item(), rel=1e-5)
    assert model.ensemble.predict(hours)[0] == pytest.approx(members.mean(axis=0))


def test_predictions_do_not_depend_on_other_rows_or_on_saving(tmp_path: Path) -> None:
    model = make_model()
    model.save(tmp_path / "model")
    together = load(tmp_path / "model").predict(ROWS)
    pd.testing.assert_frame_equal(together, model.predict(ROWS), rtol=0, atol=0)
    alone = pd.concat([model.predict(ROWS.iloc[[i]]) for i in range(3)])
    pd.testing.assert_frame_equal(together, alone, rtol=1e-12)


def test_trees_are_saved_with_the_networks(tmp_path: Path) -> None:
    networks = make_model()
    days = pd.date_range("2011-01-01", "2011-02-01", freq="h", inclusive="left")
    hours = pd.DataFrame({"at": days.strftime("%Y-%m-%dT%H:%M"), **ROWS.drop(columns="at").iloc[0]})
    rows, errors = networks.inputs.parse(hours)
    assert (errors == "").all()
    tuned = TunedTrees(15, 5, "rentals", "poisson", tree_columns(rows))
    trees = tuned.fit(rows.assign(rentals=100 + 10 * rows["hour"]))
    model = replace(networks, ensemble=replace(networks.ensemble, trees=trees, share=0.5))
    model.save(tmp_path)
    answers = load(tmp_path).predict(ROWS)
    pd.testing.assert_frame_equal(answers, model.predict(ROWS), rtol=0, atol=0)
    alone = trees.predict(networks.inputs.parse(ROWS)[0])
    expected = (networks.predict(ROWS)["expected"] + alone) / 2
    assert answers["expected"].tolist() == pytest.approx(expected.tolist())


def test_an_invalid_row_does_not_affect_the_others() -> None:
    answers = make_model().predict(ROWS.assign(weather=["clear", "sunny", "clear"]))
    assert answers["expected"].isna().tolist() == [False, True, False]
    assert answers["error"].str.contains("sunny").tolist() == [False, True, False]
    valid = make_model().predict(ROWS)
    assert answers["expected"].iloc[[0, 2]].tolist() == valid["expected"].iloc[[0, 2]].tolist()
    none = make_model().predict(ROWS.drop(columns="temp"))
    assert none["expected"].isna().all() and none["error"].str.startswith("temp: missing").all()


def test_a_model_of_yes_and_no_has_a_probability(tmp_path: Path) -> None:
    model = make_model("bernoulli")
    networks = [replace(network, mean=0.2) for network in model.ensemble.networks]
    model = replace(model, ensemble=replace(model.ensemble, networks=networks), interval=None)
    model.save(tmp_path)
    answers = load(tmp_path).predict(ROWS)
    assert list(answers) == ["probability", "error"]
    assert answers["probability"].between(0, 1).all()


def test_a_model_of_any_table_reads_its_columns(tmp_path: Path) -> None:
    table = pd.DataFrame({"weather": ["mist", "clear"], "temperature": [3.0, 20.5]})
    table["working_day"] = [True, False]
    model = make_model("mse")
    inputs = table_inputs(model.ensemble.transformer, table)
    model = replace(model, inputs=inputs, interval=ResidualInterval(-30.0, 40.0, 0.0))
    model.save(tmp_path)
    answers = load(tmp_path).predict(inputs.example(table))
    expected = model.ensemble.predict(table)[0]
    assert answers["expected"].to_numpy() == pytest.approx(expected)
    assert (answers["high"] - answers["expected"]).tolist() == pytest.approx([40, 40])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "bikefit model 4",
            "bikefit model 9",
            "its format is 'bikefit model 9', this version of bikefit reads 'bikefit model 4'",
        ),
        ('"last": "2012-12-31"', '"last": "2012-13-31"', "month must be in 1..12"),
        ('"power": 2.0', '"power": "x"', "model.json.interval.CountInterval.power = 'x': input"),
        ("{", "[", "Expecting"),
    ],
)
def test_a_damaged_description_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    make_model().save(tmp_path)
    text = (tmp_path / "model.json").read_text()
    assert old in text
    (tmp_path / "model.json").write_text(text.replace(old, new))
    with pytest.raises(DataError, match="is not a model of bikefit") as error:
        load(tmp_path)
    assert message in str(error.value)


def test_other_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a model of bikefit"):
        load(tmp_path)
    make_model().save(tmp_path)
    (tmp_path / "weights.safetensors").write_bytes(b"cut")
    with pytest.raises(DataError, match=r"is not a model of bikefit: .*header"):
        load(tmp_path)
