"""The answers of docs/exercises.md are computed: statements, and numbers with a tolerance."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from bikefit.nn.networks import build
from bikefit.training.members import Member, MemberResult, layer_specs
from conftest import ROOT, make_settings, train_stack

PAGE = (ROOT / "docs/exercises.md").read_text()
EXERCISES = re.split(r"^## \d\. ", PAGE, flags=re.MULTILINE)
TOLERANCE = 0.1  # of losses in the page, relative: the machine that renews reports/ may differ


def blocks(text: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def answer(exercise: int) -> list[list[str]]:
    """Return the cells of the table in an answer."""
    text = EXERCISES[exercise].split("<details")[1]
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def numbers(text: str) -> list[float]:
    return [
        float(number.replace(",", "")) for number in re.findall(r"\d+(?:,\d{3})*(?:\.\d+)?", text)
    ]


def compared(**settings: object) -> list[float]:
    """Return mean train and validation loss in the default comparison of a large network."""
    runs = pd.read_csv(ROOT / "reports/comparison.csv")
    chosen = {
        "network.hidden": "[128,128]",
        "regularization.l2": 0.0,
        "regularization.dropout": 0.0,
        "regularization.batch_norm": "none",
        "regularization.weight_decay": 0.0,
        "regularization.l1": 0.0,
        "training.epochs": 30,
        "data.fraction": 1.0,
        "optimizer.schedule": "one_cycle",
    } | settings
    for key, value in chosen.items():
        runs = runs[runs[key] == value]
    assert len(runs) == 3, chosen
    return runs[["train_loss", "val_loss"]].mean().tolist()


def close(given: list[float], expected: list[float]) -> bool:
    return bool(np.allclose(given, expected, rtol=TOLERANCE))


def train(*configs: str) -> list[MemberResult]:
    small = ["training.epochs=8", "training.batch_size=64", "network.hidden=[16]"]
    return train_stack([Member(make_settings(*small, *one.split())) for one in configs])


def test_1_parameters_are_counted_and_do_not_decide(workplace: Path) -> None:
    columns = len(json.loads(Path("data/features/rich/table.json").read_text())["feature_names"])

    def parameters(*overrides: str) -> int:
        network = build(layer_specs(make_settings(*overrides), columns), columns)
        return sum(p.numel() for p in network.parameters())

    losses = {}
    for hidden, count, *shown in answer(1):
        width = json.loads(hidden)[0]
        assert numbers(count) == [parameters(f"network.hidden={hidden}")]
        assert numbers(count) == [width**2 + (columns + 3) * width + 1]
        losses[hidden] = compared(**{"network.hidden": hidden})
        assert close([float(loss) for loss in shown], losses[hidden])
    assert columns == 380
    assert parameters("network.hidden=[128,128]", "regularization.batch_norm=before") == 65_665
    validation = [loss for _, loss in losses.values()]
    assert sorted(validation) == validation
    penalized = compared(**{"regularization.l2": 0.1})
    assert close(penalized, [2.50, 3.22])
    assert penalized[1] < min(validation)


def test_2_settings_move_the_losses_as_the_arrows_say() -> None:
    keys = {
        "l2": "regularization.l2",
        "dropout": "regularization.dropout",
        "epochs": "training.epochs",
    }
    for change, train_arrow, validation_arrow, *shown in answer(2):
        name, *_ = change.split()
        values = [float(text) for text in re.findall(r"[\d.]+", change.removeprefix("l2"))]
        before, after = (compared(**{keys[name]: value}) for value in values)
        assert close([*numbers(shown[0]), *numbers(shown[1])], [*before, *after])
        arrows = ["↑" if b > a else "↓" for a, b in zip(before, after, strict=True)]
        assert [train_arrow, validation_arrow] == arrows, change


def test_3_the_order_of_dropout_matters_unless_the_activation_is_homogeneous(
    capsys: pytest.CaptureFixture[str], workplace: Path
) -> None:
    exec(blocks(EXERCISES[3])[0], {"torch": torch})
    printed = [float(line.split()[1]) for line in capsys.readouterr().out.splitlines()]
    table = answer(3)
    assert printed == pytest.approx([float(row[1]) for row in table], abs=0.01)
    functions = (torch.relu, torch.nn.functional.gelu, torch.tanh, torch.sigmoid)
    x = torch.linspace(-3, 3, 50)
    for function, row in zip(functions, table, strict=True):
        at_zero = bool(function(torch.zeros(1)) == 0)
        homogeneous = bool(torch.allclose(function(2 * x), 2 * function(x)))
        assert row[2:] == ["yes" if fact else "no" for fact in (at_zero, homogeneous)]

    def loss(activation: str, *order: str) -> float:
        part = {
            "dropout": "{name: hidden1.dropout, _target_: bikefit.nn.layers.Dropout, p: 0.3}",
            "activation": f"{{name: hidden1.activation, _target_: torch.nn.{activation}}}",
        }
        first = "{name: hidden1.linear, _target_: torch.nn.Linear, out_features: 16}"
        last = "{name: output.linear, _target_: torch.nn.Linear, out_features: 1}"
        layers = f"network.layers=[{','.join([first, *(part[name] for name in order), last])}]"
        settings = make_settings("network=custom", layers, "training.epochs=3")
        (result,) = train_stack([Member(settings)])
        return float(result.metrics["val/loss"][-1])

    orders = ("dropout", "activation"), ("activation", "dropout")
    relu, gelu = ([loss(name, *order) for order in orders] for name in ("ReLU", "GELU"))
    assert relu[0] == pytest.approx(relu[1], rel=1e-5)
    assert gelu[0] != pytest.approx(gelu[1], rel=1e-3)


def test_4_only_proximal_steps_make_zeros(workplace: Path) -> None:
    lasso = "regularization.l1=1 regularization.proximal=true"
    results = train("regularization.l2=1", "regularization.l1=1", lasso)
    l2, l1, proximal = (float(one.metrics["zeros"][-1]) for one in results)
    assert l2 == l1 == 0
    assert proximal > 0.1

    def small(result: MemberResult) -> float:
        weights = [v.ravel() for v in result.state.values() if v.ndim > 1]
        return float((np.abs(np.concatenate(weights)) < 1e-3).mean())

    (none,) = train("")
    assert small(results[1]) > small(none)


def test_5_the_norm_grows_and_early_stopping_keeps_it_small(workplace: Path) -> None:
    constant = "optimizer.schedule=constant optimizer.lr=3e-2 training.epochs=40"
    stopped, whole, penalized = train(
        f"{constant} regularization.patience=3", constant, f"{constant} regularization.l2=0.1"
    )
    norms = whole.metrics["weights/norm"]
    assert (np.diff(norms) > 0).mean() > 0.9
    assert stopped.selected < 40
    assert stopped.metrics["weights/norm"][stopped.selected - 1] < norms[-1]
    assert penalized.metrics["weights/norm"][-1] < norms[-1] / 2


def test_6_more_rows_lower_the_validation_loss() -> None:
    plain, penalized = (
        [
            compared(**{"regularization.l2": l2, "data.fraction": fraction})
            for fraction in (0.1, 0.2, 0.4, 0.7, 1.0)
        ]
        for l2 in (0.0, 0.1)
    )
    for row, left, right in zip(answer(6), plain, penalized, strict=True):
        assert close([float(cell) for cell in row[1:]], [*left, *right])
    for losses in (plain, penalized):
        validation = [loss for _, loss in losses]
        assert sorted(validation, reverse=True) == validation
        gaps = [val - train for train, val in losses]
        assert sorted(gaps, reverse=True) == gaps
    assert sorted(train for train, _ in penalized) == [train for train, _ in penalized]
    gains = [left[1] - right[1] for left, right in zip(plain, penalized, strict=True)]
    assert min(gains[1:]) > 1.2
    assert abs(gains[0]) < 0.3


@pytest.mark.process
@pytest.mark.slow(seconds=60)
def test_all_lines_of_the_page_run(workplace: Path, quick: list[str]) -> None:
    names: dict[str, object] = {}
    for block in blocks(PAGE):
        line = next((line for line in block.splitlines() if line.startswith("DATA = ")), "")
        exec(block.replace(line, f"DATA = {quick[1:]}") if line else block, names)
    assert len(names["rows"].runs) == 30  # type: ignore[attr-defined]
