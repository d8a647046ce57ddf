"""Checks of settings and their messages, ids and labels."""

import pytest

from bikefit.config import (
    ConfigError,
    configuration_id,
    flat,
    regularization_kind,
    run_name,
)
from conftest import make_settings


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("regularization.dropout=1.5", r"regularization.dropout = 1.5: .*less than 1"),
        ("regularization.l2=-1", r"regularization.l2 = -1.*greater than or equal to 0"),
        ("regularization.p_norm=0.5", r"regularization.p_norm = 0.5.*greater than or equal to 1"),
        ("regularization.batch_norm=maybe", r"batch_norm = 'maybe'.*'none', 'before' or 'after'"),
        ("regularization.patience=0", r"regularization.patience = 0"),
        ("network.hidden=[]", r"at least one width in hidden.*network=linear"),
        ("network.hidden=[8,0]", r"network.hidden.1 = 0.*greater than or equal to 1"),
        ("network.activation=swish", r"network.activation = 'swish'.*'relu'"),
        ("optimizer.lr=0", r"optimizer.lr = 0.*greater than 0"),
        ("optimizer.lr=nan", r"optimizer.lr = nan.*finite"),
        ("loss=l3", r"loss = 'l3'.*'mse', 'poisson' or 'bernoulli'"),
        ("seed=-1", r"seed = -1"),
        ("data.fraction=0", r"data.fraction = 0"),
        ("training.batch_size=half", r"training.batch_size = 'half'.*integer"),
        ("validation=kfold validation.folds=1", "at least 2 folds, got folds=1"),
        ("validation=resample validation.sets=1", "resample needs at least 2 sets, got sets=1"),
        ("regularization.layers.hiden1.l2=1", r"layers.hiden1.*allowed are input, hidden1"),
        ("regularization.layers.hidden1.l3=1", r"hidden1: unknown key l3; allowed: l1, l2"),
    ],
)
def test_an_error_names_the_key_the_value_and_what_is_allowed(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_settings(*override.split())


def test_every_wrong_key_is_listed() -> None:
    with pytest.raises(ConfigError) as error:
        make_settings("regularization.l1=-1", "optimizer.lr=-1")
    assert len(str(error.value).splitlines()) == 2


def test_strengths_of_a_layer_replace_general_strengths() -> None:
    r = make_settings(
        "regularization.l2=0.1",
        "regularization.layers.hidden1.l2=0",
        "regularization.l1=3",
        "regularization.layers.hidden2.dropout=0.5",
    ).regularization
    assert [r.of(block, "l2") for block in ("hidden1", "hidden2", "output")] == [0.0, 0.1, 0.1]
    assert r.of("hidden1", "l1") == 3
    assert [r.of(block, "dropout") for block in ("hidden1", "hidden2")] == [0.0, 0.5]


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ([], "none · mlp 256×256 · seed 0"),
        (
            ["regularization=batch_norm", "regularization.weight_decay=0.1"],
            "weight decay λ=0.1 + batch norm before · mlp 256×256 · seed 0",
        ),
        (["regularization.dropout=0.3", "seed=1"], "dropout p=0.3 · mlp 256×256 · seed 1"),
        (["network.hidden=[8]", "network.activation=relu"], "none · mlp 8 relu · seed 0"),
        (["network=linear", "regularization=l1"], "l1 λ=0.001 · linear · seed 0"),
        (
            ["regularization.lp=1e-4", "regularization.p_norm=3", "regularization.patience=4"],
            "l3 λ=0.0001 + early stopping 4 · mlp 256×256 · seed 0",
        ),
        (
            ["regularization.layers.hidden1.l2=0.01", "data.fraction=0.25"],
            "hidden1 l2 λ=0.01 · mlp 256×256 · seed 0 · 25% of rows",
        ),
    ],
)
def test_names_of_runs(overrides: list[str], name: str) -> None:
    assert run_name(make_settings(*overrides)) == name


def test_parameters_are_settings_that_determine_results() -> None:
    values = flat(make_settings("regularization.layers.hidden1.l2=0.5"))
    assert values["network.hidden"] == "[256,256]"
    assert values["regularization.layers.hidden1.l2"] == 0.5
    assert not [key for key in values if key.startswith(("trainer", "tracking"))]
    assert "regularization.patience" not in values


@pytest.mark.parametrize("override", ["seed=1", "trainer.accelerator=gpu", "rerun=true"])
def test_configurations_do_not_depend_on_seed_and_device(override: str) -> None:
    assert configuration_id(make_settings(override)) == configuration_id(make_settings())


def test_configurations_depend_on_other_settings() -> None:
    def id_of(*overrides: str) -> str:
        return configuration_id(make_settings(*overrides))

    assert id_of() != id_of("optimizer.lr=0.5")
    layer = "{name: a, _target_: torch.nn.Linear, out_features: 1}"
    dropout = "{name: b, _target_: bikefit.nn.layers.Dropout, p: 0.5}"
    plain, dropped = f"network.layers=[{layer}]", f"network.layers=[{layer},{dropout}]"
    assert id_of("network=custom", plain) != id_of("network=custom", dropped)


@pytest.mark.parametrize(
    ("overrides", "kind"),
    [
        ("", "none"),
        ("l2=0.1", "l2"),
        ("l2=0.1 dropout=0.3", "l2 + dropout"),
        ("layers.hidden1.dropout=0.3", "dropout"),
        ("batch_norm=before patience=5", "batch norm + early stopping"),
    ],
)
def test_the_kind_of_regularization_has_no_strengths(overrides: str, kind: str) -> None:
    settings = make_settings(*(f"regularization.{override}" for override in overrides.split()))
    assert regularization_kind(settings) == kind
