"""Properties of the regularizers of the lecture, in trained members."""

from __future__ import annotations

import numpy as np
import pytest

from bikefit.training.members import Member, MemberResult
from conftest import make_settings, train_stack

pytestmark = pytest.mark.usefixtures("workplace")
SMALL = "training.epochs=3 training.batch_size=32"


def train(*configs: str) -> list[MemberResult]:
    """Train a stack whose members have the given overrides, separated by spaces."""
    small = SMALL if "network=custom" in configs[0] else f"{SMALL} network.hidden=[8,6]"
    return train_stack([Member(make_settings(*f"{small} {config}".split())) for config in configs])


def distance(first: MemberResult, second: MemberResult) -> float:
    return max(float(np.abs(first.state[k] - second.state[k]).max()) for k in first.state)


def test_with_sgd_l2_equals_weight_decay_of_twice_the_strength() -> None:
    base = "optimizer=sgd optimizer.lr=1e-4"
    l2, decay, none = train(
        f"{base} regularization.l2=0.5", f"{base} regularization.weight_decay=1.0", base
    )
    assert distance(l2, decay) < 1e-6
    assert distance(l2, none) > 1e-4


def test_with_adam_l2_equals_coupled_decay_and_differs_from_adamw() -> None:
    l2, coupled = train("regularization.l2=0.5", "regularization.weight_decay=1.0")
    (decoupled,) = train("optimizer=adamw regularization.weight_decay=1.0")
    assert distance(l2, coupled) < 1e-4  # both enter Adam through the gradient: 2λθ
    assert distance(coupled, decoupled) > 1e-2


def test_the_proximal_step_makes_exact_zeros_and_the_subgradient_does_not() -> None:
    strong = "regularization.l1=5 optimizer=sgd optimizer.lr=1e-3"
    proximal, subgradient = train(f"{strong} regularization.proximal=true", strong)
    assert proximal.metrics["zeros"][-1] > 0.5
    weights = [v for k, v in proximal.state.items() if k.endswith("linear.weight")]
    fraction = sum(int((w == 0).sum()) for w in weights) / sum(w.size for w in weights)
    assert proximal.metrics["zeros"][-1] == pytest.approx(fraction)
    assert subgradient.metrics["zeros"][-1] == 0.0


def test_the_norm_of_the_weights_is_that_of_the_selected_epoch() -> None:
    (stopped,) = train("regularization.patience=1 optimizer.lr=0.1 training.epochs=20")
    norms = stopped.metrics["weights/norm"]
    weights = [v for k, v in stopped.state.items() if k.endswith("linear.weight")]
    assert len(weights) == 3
    expected = sum((w.astype(float) ** 2).sum() for w in weights) ** 0.5
    assert stopped.selected < len(norms)
    assert norms[stopped.selected - 1] == pytest.approx(expected)


def test_the_penalty_is_logged_in_total_and_by_layer() -> None:
    without, penalized = train(
        "",
        "regularization.l1=0.1 regularization.lp=0.2 regularization.p_norm=3 "
        "regularization.layers.hidden1.l1=0 regularization.layers.output.lp=0",
    )
    by_layer = {"hidden1": 0.0, "hidden2": 0.0, "output": 0.0}
    for name, value in penalized.state.items():
        block, part, *_ = name.split(".")
        if part != "linear":
            continue
        theta = value.astype(np.float64)
        by_layer[block] += (0 if block == "hidden1" else 0.1) * np.abs(theta).sum()
        by_layer[block] += (0 if block == "output" else 0.2) * (np.abs(theta) ** 3).sum()
    for block, value in by_layer.items():
        assert penalized.metrics[f"train/penalty/{block}"][-1] == pytest.approx(value, rel=1e-5)
    assert penalized.metrics["train/penalty"][-1] == pytest.approx(sum(by_layer.values()), rel=1e-5)
    assert not [name for name in without.metrics if name.startswith("train/penalty/")]
    assert without.metrics["train/penalty"][-1] == 0.0


def test_on_weights_leaves_biases_and_batch_norm_alone() -> None:
    heavy = "regularization.l2=1000 regularization.batch_norm=before optimizer=sgd "
    heavy += "optimizer.lr=1e-4"
    weights, everything = train(f"{heavy} regularization.on=weights", heavy)
    scale = "hidden1.batch_norm.weight"
    assert np.abs(weights.state["hidden1.linear.weight"]).max() < 1e-2
    assert np.abs(weights.state[scale]).min() > 0.9
    assert np.abs(everything.state[scale]).max() < 0.1


@pytest.mark.slow
def test_model_averaging_samples_thinned_networks() -> None:
    base = "regularization.dropout=0.4 loss=mse regularization.averaged="
    few, many = (train(f"{base}{n}")[0] for n in (2, 400))
    for one in (few, many):
        assert {name for name in one.final if name.startswith("averaged/")} == {
            f"averaged/val/{name}" for name in ("loss", "rmse", "deviance", "spread")
        }
    assert many.final["averaged/val/spread"] > few.final["averaged/val/spread"] > 0
    # Scaling at test time approximates the mean of many samples.
    assert many.final["averaged/val/rmse"] == pytest.approx(many.metrics["val/rmse"][-1], rel=0.05)
    (none,) = train("regularization.averaged=5")
    assert none.final["averaged/val/spread"] == 0.0
    assert none.final["averaged/val/loss"] == pytest.approx(none.metrics["val/loss"][-1], rel=1e-5)


def layers(*inner: str) -> str:
    linear = "_target_:torch.nn.Linear,out_features"
    first, last = f"{{name:hidden1.linear,{linear}:8}}", f"{{name:output.linear,{linear}:1}}"
    return f"network=custom network.layers=[{','.join([first, *inner, last])}]"


def test_a_list_of_layers_equals_the_short_form() -> None:
    dropout = "{name:hidden1.dropout,_target_:bikefit.nn.layers.Dropout,p:0.3}"
    gelu = "{name:hidden1.activation,_target_:torch.nn.GELU}"
    (short,) = train("network.hidden=[8] regularization.dropout=0.3")
    (listed,) = train(layers(gelu, dropout))
    assert distance(listed, short) == 0.0
    names = [layer["name"] for layer in short.layers]
    assert names == ["input.dropout", *(layer["name"] for layer in listed.layers)]


def test_a_function_is_a_layer_of_a_stack() -> None:
    config = layers("{name:hidden1.wave,_target_:torch.sin}")
    two = train(config, f"{config} seed=1")
    (one,) = train(f"{config} seed=1")
    assert distance(two[1], one) < 1e-5
