from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bikefit.comparison.noise import KNOWN, LossEstimate
from bikefit.comparison.paths import SettingPath, find_evidence, find_paths, path_settings
from bikefit.comparison.runs import configuration_labels

Run = Callable[..., dict[str, Any]]
MLP = "none · mlp "


def with_ids(runs: pd.DataFrame) -> pd.DataFrame:
    """Runs with ids that can be read."""
    return runs.assign(**{"tags.configuration.id": configuration_labels(runs)})


def known(loss: float, variance: float = 0.0) -> LossEstimate:
    return LossEstimate(loss, variance, KNOWN, np.empty(0), np.empty(0), float("nan"), float("nan"))


def test_widths_are_found_and_ordered(run: Run) -> None:
    runs = pd.DataFrame([run(hidden=h, seed=s) for h in ("[64]", "[4]", "[16]") for s in (0, 1)])
    (path,) = find_paths(with_ids(runs))
    assert path == SettingPath(
        "network.width", (4.0, 16.0, 64.0), (MLP + "4", MLP + "16", MLP + "64")
    )
    assert (path.label, path.axis_label, path.direction) == ("width", "width (units per layer)", 1)


def test_widths_of_another_depth_are_another_path(run: Run) -> None:
    hidden = {"[4]": 5.0, "[8]": 6.0, "[4,4]": 3.0, "[8,8]": 2.0, "[8,4]": 1.0}
    found = find_paths(with_ids(pd.DataFrame([run(hidden=h, val=v) for h, v in hidden.items()])))
    widths = [path for path in found if path.key == "network.width"]
    # the one that reaches the lowest loss comes first; layers of different widths have no path
    assert [path.configurations for path in widths] == [
        (MLP + "4×4", MLP + "8×8"), (MLP + "4", MLP + "8"),
    ]  # fmt: skip
    assert [path.fixed for path in widths] == ["depth 2", "depth 1"]
    depths = [path for path in found if path.key == "network.depth"]
    assert [(path.values, path.fixed) for path in depths] == [
        ((1.0, 2.0), "width 8"), ((1.0, 2.0), "width 4"),
    ]  # fmt: skip


def test_strengths_and_what_is_fixed(run: Run) -> None:
    rows = [
        run(f"l2 λ={l2} + dropout p={p}", val=5.0 + l2 - p, run_id=f"{l2} {p}",
            **{"regularization.l2": l2, "regularization.dropout": p})
        for l2 in (0.0, 0.1) for p in (0.0, 0.5)
    ]  # fmt: skip
    found = find_paths(pd.DataFrame(rows))
    assert [(path.key, path.fixed) for path in found] == [
        ("regularization.l2", "dropout 0.5"), ("regularization.l2", "dropout 0"),
        ("regularization.dropout", "l2 0"), ("regularization.dropout", "l2 0.1"),
    ]  # fmt: skip
    assert [path.label for path in found] == ["l2 λ", "l2 λ", "dropout p", "dropout p"]
    assert {path.direction for path in found} == {-1}


def test_a_key_of_one_layer_is_named_with_it(run: Run) -> None:
    key = "regularization.layers.hidden1.dropout"
    rows = [run(f"hidden1 dropout p={p}", **{key: p}) for p in (0.1, 0.3)]
    (path,) = find_paths(pd.DataFrame(rows))
    assert (path.key, path.last, path.label) == (key, "dropout", "hidden1 dropout p")
    assert path.direction == -1


def test_failed_runs_and_settings_that_change_together_make_no_path(run: Run) -> None:
    rows = [run(**{"regularization.l2": x, "optimizer.lr": x}) for x in (0.1, 0.2)]
    assert find_paths(pd.DataFrame(rows)) == []
    failed = run("l2 λ=1", failure="x", **{"regularization.l2": 1.0})
    assert find_paths(pd.DataFrame([run(), failed])) == []
    assert find_paths(pd.DataFrame()) == []


def test_truths_are_no_numbers_and_a_linear_network_has_no_width(run: Run) -> None:
    rows = [
        run(hidden=h, **{"regularization.proximal": p}) for h, p in (("[]", True), ("[8,8]", False))
    ]
    frame = path_settings(pd.DataFrame(rows))
    assert frame["regularization.proximal"].tolist() == ["True", "False"]
    assert frame["network.depth"].tolist() == [0, 2]
    assert frame["network.width"].isna().tolist() == [True, False]


@pytest.mark.parametrize(
    ("key", "sides"),
    [
        ("network.width", {-1: ["a"], 1: ["c"]}),
        ("regularization.l2", {1: ["a"], -1: ["c"]}),
        ("optimizer.lr", {}),
        ("optimizer.momentum", {}),
    ],
)
def test_sides_follow_the_direction(key: str, sides: dict[int, list[str]]) -> None:
    assert SettingPath(key, (1, 2, 3), ("a", "b", "c")).alternatives("b") == sides


def test_an_end_has_one_side() -> None:
    path = SettingPath("regularization.l2", (1, 2, 3), ("a", "b", "c"))
    assert path.alternatives("a") == {-1: ["b", "c"]}
    assert path.alternatives("c") == {1: ["a", "b"]}


def test_evidence_is_the_best_on_each_side() -> None:
    path = SettingPath("network.width", (4, 8, 16, 32, 64), ("a", "b", "c", "d", "e"))
    losses = {"a": 9.0, "b": 4.0, "c": 5.0, "d": 3.0, "e": 6.0}
    others = {name: known(loss, 0.01) for name, loss in losses.items()}
    less, more = find_evidence(
        "c", others["c"], [path, SettingPath("x.l1", (0, 1), ("a", "e"))], others, 0.0
    )
    assert (less.flexibility_change, less.start, less.end, less.gain.value) == (-1, 16, 8, 1.0)
    assert (more.flexibility_change, more.start, more.end, more.gain.value) == (1, 16, 32, 2.0)
    assert more.gain.error == pytest.approx(0.02**0.5)
    assert more.loss == 5.0


def test_evidence_asks_only_those_validated_on_the_same_rows() -> None:
    path = SettingPath("network.width", (4, 8, 16), ("a", "b", "c"))
    (found,) = find_evidence("b", known(5.0), [path], {"a": known(6.0), "b": known(5.0)}, 0.0)
    assert (found.flexibility_change, found.gain.value) == (-1, -1.0)
    assert find_evidence("b", known(5.0), [path], {"b": known(5.0)}, 0.0) == []


def test_evidence_is_clear_beyond_noise_and_a_share_of_the_loss() -> None:
    path = SettingPath("network.width", (4, 8), ("a", "b"))

    def gain(lower: float, variance: float) -> Any:
        (found,) = find_evidence(
            "a", known(10.0), [path], {"b": known(10.0 - lower, variance)}, 0.0
        )
        return found

    # With known variances the 95 % limit is 1.96 standard errors.
    assert gain(0.5, 0.2**2).is_clear(0.02)
    assert not gain(0.5, 0.3**2).is_clear(0.02)
    assert gain(0.5, 0.3**2).is_clear(0.02, confidence=0.8)  # 1.2816 of them: 0.384
    assert not gain(0.5, 0.0).is_clear(0.06)
    assert not gain(-0.5, 0.0).is_clear(0.02)
